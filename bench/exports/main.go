// Command exports reads what export.py made and prints a table: whether each file loads, how many nodes carry the exporter's scopes
// before and after saving, how many values have an open shape, and whether onnxruntime gives the same bits for the file as exported
// and as saved.
//
// usage: go run ./bench/exports OUT
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"text/tabwriter"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
)

// row is a file of index.json.
type row struct {
	File    string `json:"file"`
	Dynamic string `json:"dynamic"`
	Side    int64  `json:"side"`
	Error   string `json:"error"`
}

// outcome is a line of the table.
type outcome struct {
	nodes, scoped, kept int
	values              int
	open                int // values without a static shape that do not depend on data
	data                int // values whose shape depends on data
	run                 string
	bad                 bool
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: exports OUT")
		os.Exit(2)
	}
	bad, err := table(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "exports:", err)
		os.Exit(1)
	}
	if bad > 0 {
		fmt.Fprintf(os.Stderr, "exports: %d files fall short\n", bad)
		os.Exit(1)
	}
}

func table(dir string) (bad int, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return 0, err
	}
	var index struct {
		Torch string `json:"torch"`
		Rows  []row  `json:"rows"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return 0, err
	}
	if err := ort.Open(context.Background(), ort.Options{}); err != nil {
		return 0, err
	}
	temp, err := os.MkdirTemp("", "exports")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(temp)
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "torch %s\tnodes\tscoped\tkept\tvalues\topen\tby data\tonnxruntime\n", index.Torch)
	refused := 0
	for _, r := range index.Rows {
		if r.Error != "" {
			refused++
			continue
		}
		o, err := look(filepath.Join(dir, r.File), filepath.Join(temp, "saved.onnx"), r)
		if err != nil {
			fmt.Fprintf(w, "%s\t%v\n", r.File, err)
			bad++
			continue
		}
		if o.bad {
			bad++
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", r.File, o.nodes, o.scoped, o.kept, o.values, o.open, o.data, o.run)
	}
	fmt.Fprintf(w, "%d files, %d that the exporter refused\n", len(index.Rows)-refused, refused)
	return bad, w.Flush()
}

func look(path, saved string, r row) (*outcome, error) {
	m, err := format.Load(path)
	if err != nil {
		return nil, err
	}
	o := &outcome{scoped: scoped(m.Graph)}
	if _, err := format.Save(m, saved, format.SaveOptions{ExternalFile: filepath.Base(saved) + ".data"}); err != nil {
		return nil, fmt.Errorf("save: %w", err)
	}
	back, err := format.Load(saved)
	if err != nil {
		return nil, fmt.Errorf("as saved: %w", err)
	}
	o.kept = scoped(back.Graph)
	if err := op.InferModel(m, nil); err != nil {
		if _, refusal := ort.NewSessionFile(path, ort.SessionOptions{Threads: 1}); refusal != nil {
			return &outcome{run: fmt.Sprintf("refused by both: %v", err)}, nil
		}
		return nil, err
	}
	count(m.Graph, map[*ir.Value]bool{}, o)
	var same bool
	if o.run, same, err = compare(path, saved, m, r); err != nil {
		return nil, err
	}
	o.bad = !same || o.kept != o.scoped || r.Dynamic == "" && o.open > 0
	return o, nil
}

// scoped counts nodes with the metadata that today's exporter writes.
func scoped(g *ir.Graph) int {
	n := 0
	for _, node := range g.Nodes() {
		if _, ok := node.Meta.Get("pkg.torch.onnx.name_scopes"); ok {
			n++
		}
		for _, s := range node.Subgraphs() {
			n += scoped(s)
		}
	}
	return n
}

// byData are operators whose outputs' sizes depend on values that only running the network tells.
var byData = map[string]bool{"NonZero": true, "NonMaxSuppression": true, "Unique": true, "Compress": true, "If": true, "Loop": true, "Scan": true}

// count tells values of an open shape that follows from data from those whose shape could have been known.
func count(g *ir.Graph, tainted map[*ir.Value]bool, o *outcome) {
	for _, n := range g.Nodes() {
		o.nodes++
		for _, s := range n.Subgraphs() {
			count(s, tainted, o)
		}
		from := byData[n.Op]
		for _, v := range n.Inputs() {
			from = from || v != nil && tainted[v]
		}
		for _, v := range n.Outputs() {
			if v == nil {
				continue
			}
			o.values++
			static := isStatic(v)
			// Integers of a known shape carry on what sizes were computed from.
			tainted[v] = from && (!static || v.DType() == ir.Int64 || v.DType() == ir.Int32)
			if static {
				continue
			}
			if from {
				o.data++
			} else {
				o.open++
			}
		}
	}
}

func isStatic(v *ir.Value) bool {
	_, ok := v.Shape().Static()
	return ok
}

// compare runs both files on the same image.
func compare(path, saved string, m *ir.Model, r row) (string, bool, error) {
	feeds, err := image(m, r.Side)
	if err != nil {
		return "", false, err
	}
	want, refusal := run(path, feeds)
	got, err := run(saved, feeds)
	switch {
	case refusal != nil && err != nil:
		return "refuses both", true, nil
	case refusal != nil || err != nil:
		return fmt.Sprintf("as exported: %v; as saved: %v", refusal, err), false, nil
	case len(got) != len(want):
		return "other outputs", false, nil
	}
	for name, t := range want {
		if got[name] == nil || !bytes.Equal(got[name].Raw(), t.Raw()) {
			return fmt.Sprintf("%s differs", name), false, nil
		}
	}
	return "same bits", true, nil
}

func run(path string, feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
	s, err := ort.NewSessionFile(path, ort.SessionOptions{Threads: 1})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Run(feeds, nil)
}

func image(m *ir.Model, side int64) (map[string]*ir.Tensor, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 3*side*side)
	for i := range x {
		x[i] = rng.Float32()
	}
	t, err := ir.FromFloat32s(x, 1, 3, side, side)
	if err != nil {
		return nil, err
	}
	for _, v := range m.Graph.Inputs() {
		if !v.IsInitializer() {
			return map[string]*ir.Tensor{v.Name(): t}, nil
		}
	}
	return nil, fmt.Errorf("no input")
}
