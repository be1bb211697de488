package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/frontend"
	"mqatc/onnx/ir"
	"mqatc/passes/partition"
	"mqatc/passes/pass"
)

// digestBelow is the size in bytes of models whose digest costs no time that anybody would notice.
const digestBelow = 64 << 20

var digestFlag = &cli.BoolFlag{Name: "digest", Usage: "tell the SHA-256 of models over 64 MiB too"}

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "say what is in a model", ArgsUsage: "MODEL",
		Description: "MODEL is an ONNX file or a pass dump NAME.onnxtxt.",
		Flags:       []cli.Flag{jsonFlag, shapeFlag, digestFlag},
		Action: func(c *cli.Context) error {
			path, err := oneArg(c, "model")
			if err != nil {
				return err
			}
			shapes, err := inputShapes(c)
			if err != nil {
				return err
			}
			src, err := frontend.Read(path)
			if err != nil {
				return err
			}
			d, err := inspect(c.Context, src, shapes)
			if err != nil {
				return err
			}
			if c.Bool("digest") || src.Bytes <= digestBelow {
				if d.SHA256, err = src.Digest(); err != nil {
					return err
				}
			}
			for _, n := range d.Notes {
				fmt.Fprintf(c.App.ErrWriter, "note: %s\n", n)
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, d)
			}
			return inspectTable(c.App.Writer, d)
		},
	}
}

// inspection is what inspect --json prints. Figures that need shapes are null where the model's operators are not all known.
type inspection struct {
	Path      string            `json:"path"`
	SHA256    string            `json:"sha256,omitempty"` // of models over 64 MiB with --digest only
	Bytes     int64             `json:"bytes"`            // external data included
	IR        int64             `json:"ir_version"`
	Opsets    []opsetDoc        `json:"opsets"`
	Producer  string            `json:"producer"`
	Graph     string            `json:"graph"`
	Inputs    []valueDoc        `json:"inputs"`
	Outputs   []valueDoc        `json:"outputs"`
	Nodes     int               `json:"nodes"`
	Operators []operatorDoc     `json:"operators"` // by descending count
	ByType    []typeBytes       `json:"constants"` // by descending bytes
	Params    *int64            `json:"params"`    // elements of trained tensors, each once
	Payload   *int64            `json:"payload"`   // their bytes
	MACs      *int64            `json:"macs"`
	Method    string            `json:"method,omitempty"`
	Modules   []moduleDoc       `json:"modules"`
	Metadata  map[string]string `json:"metadata"`
	Notes     []string          `json:"notes,omitempty"`
}

type opsetDoc struct {
	Domain  string `json:"domain"`
	Version int64  `json:"version"`
}

type valueDoc struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Shape []any  `json:"shape"` // sizes, symbols, or null where nothing is known
}

type operatorDoc struct {
	Name   string `json:"name"`
	Domain string `json:"domain"`
	Count  int    `json:"count"`
}

type typeBytes struct {
	Type    string `json:"type"`
	Tensors int    `json:"tensors"`
	Bytes   int64  `json:"bytes"`
}

func inspect(ctx context.Context, src *frontend.Source, shapes map[string][]int64) (*inspection, error) {
	m := src.Model
	d := &inspection{Path: src.Path, Bytes: src.Bytes, IR: m.IRVersion, Graph: m.Graph.Name, Modules: []moduleDoc{},
		Producer: strings.TrimSpace(m.Producer + " " + m.ProducerVersion), Metadata: map[string]string{}}
	for _, o := range m.Opsets {
		d.Opsets = append(d.Opsets, opsetDoc{domainName(o.Domain), o.Version})
	}
	for _, kv := range m.Meta {
		d.Metadata[kv.Key] = kv.Value
	}
	for _, v := range m.Graph.Inputs() {
		if !v.IsInitializer() {
			d.Inputs = append(d.Inputs, valueOf(v))
		}
	}
	d.count(m)
	f, err := frontend.Prepare(ctx, src, frontend.Options{InputShapes: shapes, NoFold: true})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if len(shapes) > 0 {
			return nil, err
		}
		if errors.Is(err, partition.ErrNothing) {
			d.Params, d.Payload = new(int64), new(int64)
		} else {
			d.Notes = append(d.Notes, "modules and sizes are left out: "+err.Error())
		}
		for _, v := range m.Graph.Outputs() {
			d.Outputs = append(d.Outputs, valueOf(v))
		}
		return d, nil
	}
	d.Notes = append(d.Notes, f.Inferred...)
	for _, v := range f.Model.Graph.Outputs() {
		d.Outputs = append(d.Outputs, valueOf(v))
	}
	p := f.AsRead
	macs, known := int64(0), true
	for _, mod := range p.Modules {
		macs += mod.MACs
		known = known && (mod.MACs > 0 || mod.Layers == 0)
	}
	d.Params, d.Payload = &p.Params, &f.PayloadBefore
	if known {
		d.MACs = &macs
	}
	doc := partitionDocument(p)
	d.Method, d.Modules = doc.Method, doc.Modules
	return d, nil
}

// count tells operators and constants, those of subgraphs included.
func (d *inspection) count(m *ir.Model) {
	ops, types := map[operatorDoc]int{}, map[string]*typeBytes{}
	constant := func(t *ir.Tensor) {
		if t == nil {
			return
		}
		name := t.DType().String()
		if types[name] == nil {
			types[name] = &typeBytes{Type: name}
		}
		types[name].Tensors++
		n := int64(len(t.Raw()))
		for _, s := range t.Strings() {
			n += int64(len(s))
		}
		types[name].Bytes += n
	}
	for _, g := range pass.Graphs(m.Graph) {
		for _, v := range g.Initializers() {
			constant(v.Init())
			if s := v.SparseInit(); s != nil {
				constant(s.Values)
			}
		}
		for n := g.First(); n != nil; n = n.Next() {
			d.Nodes++
			ops[operatorDoc{Name: n.Op, Domain: domainName(n.Domain)}]++
			if n.Is("Constant") {
				if a := n.Attr("value"); a != nil {
					constant(a.T)
				}
			}
		}
	}
	for o, k := range ops {
		o.Count = k
		d.Operators = append(d.Operators, o)
	}
	sort.Slice(d.Operators, func(i, j int) bool {
		a, b := d.Operators[i], d.Operators[j]
		if a.Count != b.Count {
			return a.Count > b.Count
		}
		return a.Domain+" "+a.Name < b.Domain+" "+b.Name
	})
	for _, t := range types {
		d.ByType = append(d.ByType, *t)
	}
	slices.SortFunc(d.ByType, func(a, b typeBytes) int {
		if a.Bytes != b.Bytes {
			return int(min(max(b.Bytes-a.Bytes, -1), 1))
		}
		return strings.Compare(a.Type, b.Type)
	})
}

func domainName(d string) string {
	if d == "" {
		return "ai.onnx"
	}
	return d
}

func valueOf(v *ir.Value) valueDoc {
	d := valueDoc{Name: v.Name(), Type: v.Type.String()}
	if v.Type.Kind == ir.KindTensor {
		d.Type = v.DType().String()
	}
	if v.Shape().HasRank() {
		d.Shape = []any{}
	}
	for _, x := range v.Shape() {
		switch {
		case x.Known():
			d.Shape = append(d.Shape, x.Size)
		case x.Symbol != "":
			d.Shape = append(d.Shape, x.Symbol)
		default:
			d.Shape = append(d.Shape, nil)
		}
	}
	return d
}

func (v valueDoc) String() string {
	if v.Shape == nil {
		return v.Type + " of unknown rank"
	}
	parts := make([]string, len(v.Shape))
	for i, x := range v.Shape {
		parts[i] = "?"
		if x != nil {
			parts[i] = fmt.Sprint(x)
		}
	}
	return v.Type + "[" + strings.Join(parts, ", ") + "]"
}

func inspectTable(out io.Writer, d *inspection) error {
	w := table(out)
	fmt.Fprintf(w, "file\t%s\n", d.Path)
	fmt.Fprintf(w, "size\t%s bytes\n", grouped(d.Bytes))
	if d.SHA256 != "" {
		fmt.Fprintf(w, "sha256\t%s\n", d.SHA256)
	}
	if d.Producer != "" {
		fmt.Fprintf(w, "producer\t%s\n", d.Producer)
	}
	var opsets []string
	for _, o := range d.Opsets {
		opsets = append(opsets, fmt.Sprintf("%s %d", o.Domain, o.Version))
	}
	fmt.Fprintf(w, "opset\t%s (IR %d)\n", strings.Join(opsets, ", "), d.IR)
	for i, v := range d.Inputs {
		fmt.Fprintf(w, "%s\t%s  %s\n", first(i, "inputs"), v.Name, v)
	}
	for i, v := range d.Outputs {
		fmt.Fprintf(w, "%s\t%s  %s\n", first(i, "outputs"), v.Name, v)
	}
	if d.Params != nil {
		fmt.Fprintf(w, "parameters\t%s in %s bytes\n", grouped(*d.Params), grouped(*d.Payload))
	}
	if d.MACs != nil {
		fmt.Fprintf(w, "MACs\t%s per image\n", grouped(*d.MACs))
	}
	for i, t := range d.ByType {
		fmt.Fprintf(w, "%s\t%s: %d tensors, %s bytes\n", first(i, "constants"), t.Type, t.Tensors, grouped(t.Bytes))
	}
	keys := make([]string, 0, len(d.Metadata))
	for k := range d.Metadata {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for i, k := range keys {
		fmt.Fprintf(w, "%s\t%s = %s\n", first(i, "metadata"), k, clipped(oneLine(d.Metadata[k]), 90))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d nodes\n", d.Nodes)
	if err := columns(out, d.Operators); err != nil {
		return err
	}
	if len(d.Modules) == 0 {
		return nil
	}
	fmt.Fprintf(out, "\nmodules, found by %s\n", methodName(d.Method))
	w = table(out)
	for _, m := range d.Modules {
		macs := "-"
		if m.MACs > 0 || m.Layers == 0 {
			macs = grouped(m.MACs)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s parameters\t%d layers\t%s MACs\n", m.Name, m.Role, grouped(m.Params), m.Layers, macs)
	}
	return w.Flush()
}

// columns prints operators with their counts, four to a line.
func columns(out io.Writer, ops []operatorDoc) error {
	w := table(out)
	for i := 0; i < len(ops); i += 4 {
		var cells []string
		for _, o := range ops[i:min(i+4, len(ops))] {
			name := o.Name
			if o.Domain != domainName("") {
				name = o.Domain + "." + name
			}
			cells = append(cells, fmt.Sprintf("%5d\t%s", o.Count, name))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func first(i int, label string) string {
	if i > 0 {
		return ""
	}
	return label
}

func clipped(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return s
}
