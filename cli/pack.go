package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"mqatc/runtime/pack"
)

func packCommand() *cli.Command {
	return &cli.Command{
		Name: "pack", Usage: "write the packed weights of a result again, with their description and C header", ArgsUsage: "OUT",
		Description: "OUT is a folder that quantize wrote, or its weights.json. FILE.json and FILE.h are written beside FILE.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "o", Usage: "file for the packed weights", Required: true, TakesFile: true},
			&cli.BoolFlag{Name: "exact", Usage: "store 3, 5, 6 and 7 bits as such and ternary weights in 1.6 bits"},
		},
		Action: func(c *cli.Context) error {
			from, err := oneArg(c, "result folder")
			if err != nil {
				return err
			}
			b, err := pack.Read(from)
			if err != nil {
				return packError(err)
			}
			defer b.Close()
			write := pack.Containers
			if c.Bool("exact") {
				write = pack.Exact
			}
			d, err := write(b, c.String("o"))
			if err != nil {
				return withHint(fmt.Errorf("pack: %w", err), "name a file in a folder that exists and can be written with -o")
			}
			n := int64(0)
			for _, t := range d.Tensors {
				n += t.Bytes
			}
			fmt.Fprintf(c.App.ErrWriter, "%d tensors, %s bytes in %s\n", len(d.Tensors), grouped(n), c.String("o"))
			return nil
		},
	}
}

func unpackCommand() *cli.Command {
	return &cli.Command{
		Name: "unpack", Usage: "write packed weights as float arrays, one NAME.npy for each tensor", ArgsUsage: "WEIGHTS.bin",
		Flags: []cli.Flag{&cli.StringFlag{Name: "o", Usage: "output folder", Required: true}},
		Action: func(c *cli.Context) error {
			from, err := oneArg(c, "weights file")
			if err != nil {
				return err
			}
			files, err := pack.Unpack(from, c.String("o"))
			if err != nil {
				return packError(err)
			}
			fmt.Fprintf(c.App.ErrWriter, "%d arrays in %s\n", len(files), c.String("o"))
			return nil
		},
	}
}

func packError(err error) error {
	return withHint(fmt.Errorf("pack: %w", err), "give weights.bin with its weights.json beside it, as quantize writes them")
}
