package cli

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/fit"
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

// memoryLine says what a training is foreseen to take.
func memoryLine(m fit.Memory) string {
	mb := func(n int64) string { return fmt.Sprintf("%.4g", float64(n)/1e6) }
	line := fmt.Sprintf("memory: about %s MB at the peak of a step: values %s, weights and states %s, batch %s, constants and graph %s",
		mb(m.Total()), mb(m.Values), mb(m.States), mb(m.Feeds), mb(m.Constants+m.Graph))
	if m.Parts > 1 {
		line += fmt.Sprintf("; its images are trained in %d parts side by side", m.Parts)
	}
	return line
}
