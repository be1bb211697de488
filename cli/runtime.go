package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"mqatc/runtime/ort"
)

func runtimeCommand() *cli.Command {
	return &cli.Command{
		Name:  "runtime",
		Usage: "find or install the onnxruntime library",
		Subcommands: []*cli.Command{
			{
				Name: "info", Usage: "say which library is used, its version, providers and newest opset",
				Flags: []cli.Flag{jsonFlag, ortLibFlag},
				Action: func(c *cli.Context) error {
					if err := noArgs(c); err != nil {
						return err
					}
					if err := openRuntime(c); err != nil {
						return err
					}
					inf, err := ort.Info()
					if err != nil {
						return fmt.Errorf("runtime: %w", err)
					}
					if c.Bool("json") {
						return printJSON(c.App.Writer, inf)
					}
					w := table(c.App.Writer)
					fmt.Fprintf(w, "library\t%s\n", inf.Library.Path)
					fmt.Fprintf(w, "found by\t%s\n", inf.Library.Source)
					fmt.Fprintf(w, "version\t%s\n", inf.Version)
					fmt.Fprintf(w, "providers\t%s\n", strings.Join(inf.Providers, ", "))
					fmt.Fprintf(w, "newest opset\t%d\n", inf.MaxOpset)
					fmt.Fprintf(w, "newest IR\t%d\n", inf.MaxIR)
					fmt.Fprintf(w, "sha256\t%s\n", inf.SHA256)
					for _, n := range inf.Library.Notes {
						fmt.Fprintf(w, "passed over\t%s\n", n)
					}
					return w.Flush()
				},
			},
			{
				Name: "install", Usage: "install the pinned version into the user's cache through npm or pip",
				Action: func(c *cli.Context) error {
					if err := noArgs(c); err != nil {
						return err
					}
					l, err := ort.Install(c.Context, ort.Options{Progress: c.App.ErrWriter})
					if err != nil {
						return fmt.Errorf("runtime install: %w", err)
					}
					fmt.Fprintln(c.App.Writer, l.Path)
					return nil
				},
			},
		},
	}
}

// openRuntime loads onnxruntime for a command, installing it on a machine that has none.
func openRuntime(c *cli.Context) error {
	err := ort.Open(c.Context, ort.Options{LibraryPath: c.String("ort-lib"), Progress: c.App.ErrWriter})
	if err != nil {
		return fmt.Errorf("runtime: %w", err)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", raw)
	return err
}

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 8, 2, ' ', 0) }
