package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"mqatc/runtime/ort"
	"mqatc/runtime/task/score"
)

type scoreResult = score.Score

// inputShapes reads --input-shape NAME=1x3x640x640.
func inputShapes(c *cli.Context) (map[string][]int64, error) {
	out := map[string][]int64{}
	for _, s := range c.StringSlice("input-shape") {
		name, dims, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, usagef("--input-shape %q: write NAME=1x3x640x640", s)
		}
		var d []int64
		for _, part := range strings.Split(dims, "x") {
			n, err := strconv.ParseInt(part, 10, 64)
			if err != nil || n < 1 {
				return nil, usagef("--input-shape %q: %q is no size", s, part)
			}
			d = append(d, n)
		}
		out[name] = d
	}
	return out, nil
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// libraryID names the build of the loaded library.
func libraryID() string {
	l, ok := ort.Opened()
	if !ok {
		return ""
	}
	sum, err := fileSHA256(l.Path)
	if err != nil {
		return l.Version
	}
	return l.Version + " " + sum
}
