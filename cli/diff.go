package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/frontend"
	"mqatc/onnx/text"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "show what changed between two pass dumps or models, by site", ArgsUsage: "A B",
		Description: "Lines begin with - for what is gone, + for what is new and ~ for what is changed. Nothing is printed where nothing changed.",
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("diff takes two models, got %d arguments", c.NArg())
			}
			a, err := frontend.Read(c.Args().Get(0))
			if err != nil {
				return err
			}
			b, err := frontend.Read(c.Args().Get(1))
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.App.Writer, text.Diff(a.Model, b.Model))
			return err
		},
	}
}
