package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"mqatc/testmodels/cubesat"
)

func dataCommand() *cli.Command {
	return &cli.Command{
		Name: "data", Usage: "make a dataset",
		Subcommands: []*cli.Command{{
			Name: "cubesat", Usage: "render the cube satellite as a BOP dataset with masks and poses",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "o", Usage: "output folder", Required: true},
				&cli.IntFlag{Name: "images", Value: 1000, Usage: "number of images"},
				&cli.IntFlag{Name: "size", Value: 96, Usage: "width and height in pixels"},
				&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "seed of the images"},
				&cli.BoolFlag{Name: "even", Usage: "as many near as medium and far images exactly"},
			},
			Action: func(c *cli.Context) error {
				if err := noArgs(c); err != nil {
					return err
				}
				p := newProgress(c.App.ErrWriter)
				defer p.Close()
				cfg := cubesat.Config{Size: c.Int("size"), Seed: c.Uint64("seed"), EvenBins: c.Bool("even")}
				err := cubesat.Write(c.String("o"), cfg, c.Int("images"), 0, func(done, total int) { p.Update("render", done, total, "") })
				if err != nil {
					return withHint(fmt.Errorf("data: %w", err), "name a new or empty folder with -o")
				}
				p.Line("%d images in %s", c.Int("images"), c.String("o"))
				return nil
			},
		}},
	}
}
