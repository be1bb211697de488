package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"mqatc/passes"
)

func passesCommand() *cli.Command {
	return &cli.Command{
		Name: "passes", Usage: "list the passes in the order in which they run",
		Flags: []cli.Flag{jsonFlag},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, passDocument())
			}
			for i, p := range passes.Table {
				kind := "changes results"
				if p.Exact {
					kind = "exact"
				}
				fmt.Fprintf(c.App.Writer, "%2d  %s (%s)\n", i+1, p.Name, kind)
				for _, l := range wrapped(p.Doc, 100) {
					fmt.Fprintf(c.App.Writer, "    %s\n", l)
				}
				for _, o := range p.After {
					for k, l := range wrapped(fmt.Sprintf("after %s: %s", o.Pass, o.Why), 98) {
						fmt.Fprintf(c.App.Writer, "    %s%s\n", []string{"- ", "  "}[min(k, 1)], l)
					}
				}
			}
			return nil
		},
	}
}

type passDoc struct {
	Name  string     `json:"name"`
	Doc   string     `json:"doc"`
	Exact bool       `json:"exact"`
	After []afterDoc `json:"after"`
}

type afterDoc struct {
	Pass string `json:"pass"`
	Why  string `json:"why"`
}

func passDocument() []passDoc {
	out := []passDoc{}
	for _, p := range passes.Table {
		d := passDoc{Name: p.Name, Doc: p.Doc, Exact: p.Exact, After: []afterDoc{}}
		for _, o := range p.After {
			d.After = append(d.After, afterDoc{o.Pass, o.Why})
		}
		out = append(out, d)
	}
	return out
}

// wrapped breaks text into lines of at most width characters, words kept whole.
func wrapped(s string, width int) []string {
	var out []string
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && len(line)+1+len(word) > width {
			out = append(out, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(out, line)
}
