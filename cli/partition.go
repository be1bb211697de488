package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/frontend"
	"mqatc/compiler/picture"
	"mqatc/onnx/ir"
	"mqatc/passes/partition"
)

func partitionCommand() *cli.Command {
	return &cli.Command{
		Name: "partition", Usage: "divide a network into modules: backbone, feature aggregation, heads", ArgsUsage: "MODEL",
		Description: "MODEL is an ONNX file or a pass dump NAME.onnxtxt. The file that -o writes is what --modules takes, here and elsewhere.",
		Flags: []cli.Flag{
			modulesFlag, headsFlag, jsonFlag,
			&cli.StringFlag{Name: "o", Usage: "write the modules to this YAML file", TakesFile: true},
			&cli.StringFlag{Name: "svg", Usage: "draw the modules, their resolutions, widths and cuts into this file", TakesFile: true},
			&cli.StringFlag{Name: "split", Usage: "write one ONNX file for each module, and order.json that says how they run in turn, into this folder"},
			shapeFlag, ortLibFlag, dumpFlag, stopFlag,
		},
		Action: func(c *cli.Context) error {
			path, err := oneArg(c, "model")
			if err != nil {
				return err
			}
			o, err := frontOptions(c)
			if err != nil {
				return err
			}
			o.NoFold = o.Dump == "" && o.StopAfter == ""
			f, err := loadFront(c, path, o)
			if o.NoFold && errors.Is(err, partition.ErrNothing) {
				o.NoFold = false
				f, err = loadFront(c, path, o)
			}
			if err != nil {
				return err
			}
			defer f.Close()
			if f.AsRead == nil {
				return nil
			}
			return showPartition(c, f)
		},
	}
}

func showPartition(c *cli.Context, f *frontend.Front) error {
	p := f.AsRead
	var err error
	files := map[string][]byte{}
	if o := c.String("o"); o != "" {
		if files[o], err = p.File(); err != nil {
			return fmt.Errorf("partition: %w", err)
		}
	}
	if o := c.String("svg"); o != "" {
		if files[o], err = picture.Draw(filepath.Base(f.Source.Path), p, f.ReadModel.Graph); err != nil {
			return err
		}
	}
	if dir := c.String("split"); dir != "" {
		if err := writeSplit(dir, p, f.ReadModel); err != nil {
			return err
		}
	}
	for _, o := range slices.Sorted(maps.Keys(files)) {
		if err := writeFile(o, files[o]); err != nil {
			return fmt.Errorf("partition: %w", err)
		}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, partitionDocument(p))
	}
	return partitionTable(c.App.Writer, p)
}

// partitionDoc is what partition --json prints.
type partitionDoc struct {
	Params  int64       `json:"params"`
	Method  string      `json:"method"`
	Modules []moduleDoc `json:"modules"`
}

type moduleDoc struct {
	Name         string   `json:"name"`
	Role         string   `json:"role"`
	Params       int64    `json:"params"`
	Layers       int      `json:"layers"`
	Nodes        int      `json:"nodes"`
	MACs         int64    `json:"macs"` // of one image; 0 where a shape is not known
	Initializers []string `json:"initializers"`
	Inputs       []string `json:"inputs"`
	Outputs      []string `json:"outputs"`
}

func partitionDocument(p *partition.Partition) partitionDoc {
	d := partitionDoc{Params: p.Params, Method: p.Method, Modules: []moduleDoc{}}
	for _, m := range p.Modules {
		d.Modules = append(d.Modules, moduleDoc{m.Name, m.Role, m.Params, m.Layers, len(m.Nodes), m.MACs, valueNames(m.Initializers),
			valueNames(m.Inputs), valueNames(m.Outputs)})
	}
	return d
}

func valueNames(vs []*ir.Value) []string {
	out := []string{}
	for _, v := range vs {
		out = append(out, v.Name())
	}
	return out
}

func partitionTable(out io.Writer, p *partition.Partition) error {
	w := table(out)
	fmt.Fprintln(w, "module\trole\tparams\tlayers\tnodes\tMACs\tinputs\toutputs")
	layers, nodes, macs, known := 0, 0, int64(0), true
	for _, m := range p.Modules {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", m.Name, m.Role, grouped(m.Params), m.Layers, len(m.Nodes), macsOf(m), few(m.Inputs), few(m.Outputs))
		layers, nodes, macs = layers+m.Layers, nodes+len(m.Nodes), macs+m.MACs
		known = known && (m.MACs > 0 || m.Layers == 0)
	}
	total := "-"
	if known {
		total = grouped(macs)
	}
	fmt.Fprintf(w, "all\t\t%s\t%d\t%d\t%s\n", grouped(p.Params), layers, nodes, total)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "found by %s\n", methodName(p.Method))
	for i, t := range p.Outside {
		if i == 0 {
			fmt.Fprintf(out, "trained tensors in no module: %d\n", len(p.Outside))
		}
		if i == 8 {
			fmt.Fprintln(out, "  ...")
			break
		}
		fmt.Fprintf(out, "  %s\n", t.Value.Name())
	}
	return nil
}

func methodName(m string) string {
	switch m {
	case "metadata":
		return "the exporter's scope metadata, checked against the structure"
	case "scopes":
		return "scopes in node names, checked against the structure"
	case "names":
		return "dotted weight names, checked against the structure"
	case "file":
		return "the modules file"
	}
	return "structure: strides, taps, merges of scales, outputs"
}

func macsOf(m *partition.Module) string {
	if m.MACs == 0 && m.Layers > 0 {
		return "-"
	}
	return grouped(m.MACs)
}

// few lists the names of some values, shortened to what fits a table.
func few(vs []*ir.Value) string {
	const most, width = 3, 24
	var out []string
	for i, v := range vs {
		if i == most {
			out = append(out, fmt.Sprintf("+%d", len(vs)-most))
			break
		}
		r := []rune(v.Name())
		if len(r) > width {
			r = append([]rune{'…'}, r[len(r)-width+1:]...)
		}
		out = append(out, string(r))
	}
	return strings.Join(out, " ")
}

// grouped writes a number with a thin mark between thousands.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	if n < 0 {
		return "-" + grouped(-n)
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
