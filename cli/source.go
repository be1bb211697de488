package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"mqatc/compiler/problem"
	"mqatc/testmodels/cubesat"
)

// generated is the prefix of --data values that name rendered data instead of a folder: cubesat:IMAGES[:SEED].
const generated = "cubesat:"

// withData puts --data and --eval-data into the options of a problem, rendering what is named cubesat:IMAGES[:SEED].
func withData(o problem.Options, data, eval string, size int, w io.Writer) (problem.Options, error) {
	p := newProgress(w)
	defer p.Close()
	render := func(s string, even bool) (*cubesat.Set, error) {
		n, seed, found := strings.Cut(strings.TrimPrefix(s, generated), ":")
		images, err := strconv.Atoi(n)
		k := uint64(1)
		if err == nil && found {
			k, err = strconv.ParseUint(seed, 10, 64)
		}
		if err != nil {
			return nil, usagef("%q: rendered data is named cubesat:IMAGES[:SEED]", s)
		}
		return cubesat.Generate(cubesat.Config{Size: size, Seed: k, EvenBins: even}, images, 0, func(done, total int) { p.Update("render", done, total, "") })
	}
	o.Data, o.Eval = data, eval
	if strings.HasPrefix(data, generated) {
		set, err := render(data, false)
		if err != nil {
			return o, fmt.Errorf("data: %w", err)
		}
		o.Data, o.TrainSource = "", set.Source()
	}
	if strings.HasPrefix(eval, generated) {
		set, err := render(eval, true)
		if err != nil {
			return o, fmt.Errorf("evaluation data: %w", err)
		}
		o.Eval, o.EvalSource = "", set.Source()
	}
	return o, nil
}
