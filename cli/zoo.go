package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/task"
	"mqatc/testmodels/cubesat"
)

// architectures are the networks that `zoo` builds.
var architectures = []struct {
	name, about string
	size        int
	build       func(seed uint64, size int, width float64) (*ir.Model, error)
	task        string
}{
	{"cubesat", "pose network of the cube satellite: backbone, pyramid, shared heads", 96, cubesat.Network, "cubesat"},
}

func zooCommand() *cli.Command {
	return &cli.Command{
		Name: "zoo", Usage: "build a network with seeded weights", ArgsUsage: "NAME",
		Description: "Networks:\n" + zooList(),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "o", Usage: "file to write", Required: true},
			&cli.IntFlag{Name: "size", Usage: "input width and height in pixels; 0 is the network's own"},
			&cli.Float64Flag{Name: "width", Value: 1, Usage: "factor on all channel counts"},
			seedFlag,
		},
		Action: func(c *cli.Context) error {
			name, err := oneArg(c, "network name")
			if err != nil {
				return err
			}
			for _, a := range architectures {
				if a.name != name {
					continue
				}
				size := c.Int("size")
				if size == 0 {
					size = a.size
				}
				m, err := a.build(c.Uint64("seed"), size, c.Float64("width"))
				if err != nil {
					return fmt.Errorf("zoo: %w", err)
				}
				t, err := task.Lookup(a.task)
				if err != nil {
					return err
				}
				if err := t.Keep(m); err != nil {
					return err
				}
				_, err = format.Save(m, c.String("o"), format.SaveOptions{})
				return err
			}
			return usagef("no network is called %q; there are:\n%s", name, zooList())
		},
	}
}

func zooList() string {
	s := ""
	for _, a := range architectures {
		s += fmt.Sprintf("  %s  %s\n", a.name, a.about)
	}
	return s
}
