package train

import (
	"fmt"
	"strconv"
	"strings"
)

// splitArgs reads NAME or NAME:number,number,...
func splitArgs(text string) (name string, args []float64, err error) {
	name, rest, has := strings.Cut(strings.TrimSpace(text), ":")
	if !has {
		return name, nil, nil
	}
	for _, s := range strings.Split(rest, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil {
			return name, nil, fmt.Errorf("train: %q: %q is no number", text, s)
		}
		args = append(args, v)
	}
	return name, args, nil
}
