package cli

import (
	"strconv"

	"github.com/urfave/cli/v2"

	"mqatc/passes/memory"
)

var recomputeFlag = &cli.StringFlag{Name: "recompute",
	Usage: "compute values of the forward pass again where the backward pass needs them instead of keeping them: in N segments, or auto for the least memory; the results are the same"}

// recompute reads --recompute: 0 where it is not given.
func recompute(c *cli.Context) (int, error) {
	s := c.String("recompute")
	switch s {
	case "":
		return 0, nil
	case "auto":
		return memory.Auto, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > memory.MostSegments {
		return 0, usagef("--recompute %q: auto, or a number of segments from 1 to %d", s, memory.MostSegments)
	}
	return n, nil
}
