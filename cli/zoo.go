package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/task"
	"mqatc/testmodels/zoo"
)

func zooCommand() *cli.Command {
	return &cli.Command{
		Name: "zoo", Usage: "build a network with seeded weights", ArgsUsage: "NAME",
		Description: "Networks:\n" + zooList(),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "o", Usage: "file to write", Required: true},
			&cli.IntFlag{Name: "size", Usage: "input width and height in pixels; 0 is the network's own"},
			&cli.Float64Flag{Name: "width", Value: 1, Usage: "factor on all channel counts"},
			&cli.BoolFlag{Name: "anonymous", Usage: "replace every name by a meaningless one and keep no metadata, the task neither"},
			seedFlag,
		},
		Action: func(c *cli.Context) error {
			name, err := oneArg(c, "network name")
			if err != nil {
				return err
			}
			a, ok := zoo.Find(name)
			if !ok {
				return usagef("no network is called %q; there are %s", name, strings.Join(zooNames(), ", "))
			}
			o := zoo.Options{Seed: c.Uint64("seed"), Height: c.Int("size"), Width: c.Int("size"), Factor: c.Float64("width")}
			if o.Factor == 0 {
				return usageError(errors.New("--width 0: a factor on channel counts"))
			}
			if err := a.Check(o); err != nil {
				return usageError(err)
			}
			m, err := a.Build(o)
			if err != nil {
				return err
			}
			if c.Bool("anonymous") {
				_, err = m.Anonymize()
			} else {
				err = keepZooTask(m, a.Task)
			}
			if err != nil {
				return err
			}
			_, err = format.Save(m, c.String("o"), format.SaveOptions{})
			return err
		},
	}
}

func keepZooTask(m *ir.Model, name string) error {
	t, err := task.Lookup(name)
	if err != nil {
		return err
	}
	return t.Keep(m)
}

func zooNames() []string {
	var out []string
	for _, a := range zoo.Table {
		out = append(out, a.Name)
	}
	return out
}

func zooList() string {
	s := ""
	for _, a := range zoo.Table {
		size := fmt.Sprint(a.Width)
		if a.Height != a.Width {
			size = fmt.Sprintf("%dx%d", a.Width, a.Height)
		}
		s += fmt.Sprintf("  %-13s%s; %s pixels\n", a.Name, a.About, size)
	}
	return s
}
