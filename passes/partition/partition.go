// Package partition divides a network into modules (backbone, feature aggregation, heads) from the graph itself.
//
// The structure comes first: strides along the paths, taps, merges of scales, outputs (structure.go). Evidence that an exporter
// left (scope metadata, scopes in node names, dotted initializer names; evidence.go) is weighed against it: a label takes the
// role that most of its weights have in the structure. A file may override both (file.go). What is found can be merged or divided to a
// given number of modules (count.go), cut into models that run in turn (split.go), and looked at by module and resolution (blocks.go).
package partition

import (
	"errors"
	"sort"

	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// Module is one part of the network that gets one bit width.
type Module struct {
	Name, Role   string
	Params       int64 // elements of trained tensors, each counted once
	Layers       int   // quantizable weights
	MACs         int64 // multiply-accumulates at batch 1; 0 where a shape is not known
	Nodes        []*ir.Node
	Weights      []weights.Param // every trained tensor that belongs to the module, biases and norms included
	Initializers []*ir.Value     // the values of Weights
	Inputs       []*ir.Value     // cut values that come in from other modules or the graph's inputs
	Outputs      []*ir.Value     // values read by other modules or the graph's outputs
}

// Quantizable lists the module's weights that are quantized: those of rank 2 and more.
func (m *Module) Quantizable() []weights.Param {
	var out []weights.Param
	for _, w := range m.Weights {
		if w.Kind == weights.Weight {
			out = append(out, w)
		}
	}
	return out
}

// Elements counts the elements of the quantizable weights.
func (m *Module) Elements() int64 {
	n := int64(0)
	for _, w := range m.Quantizable() {
		n += w.Elements()
	}
	return n
}

// Partition is a division of a model's trained tensors into modules, in graph order.
type Partition struct {
	Params  int64
	Method  string // metadata, scopes, names, structure or file
	Note    string // why, where the network shows no modular structure
	Modules []*Module
	Outside []weights.Param // trained tensors in no module
}

// ErrNothing is returned by Find for a graph without trained tensors.
var ErrNothing = errors.New("partition: the graph has no trained tensor: no Conv, ConvTranspose, Gemm or MatMul with constant weights")

// Options steer Find.
type Options struct {
	File  *File // --modules FILE; nil finds the modules
	Split bool  // --heads split: one module per group of outputs instead of one for all heads
	Count int   // --modules auto:K: merges or divides what is found to K modules (count.go); 0 leaves it
}

// Find divides the graph of m. It needs no shapes, but uses them where they are known.
func Find(m *ir.Model, o Options) (*Partition, error) {
	g := m.Graph
	params := weights.Find(g)
	if len(params) == 0 {
		return nil, ErrNothing
	}
	if o.File != nil {
		return o.File.apply(g, params)
	}
	f := newFlow(g, params)
	label, note := f.structure(o.Split)
	method := "structure"
	names := map[string]string{}
	if note == "" {
		if ev := findEvidence(g, params); ev != nil {
			if l, n, ok := ev.reconcile(f, label); ok {
				label, names, method = l, n, ev.method
			}
		}
	}
	if o.Count > 0 {
		return f.counted(params, label, names, method, note, o.Count)
	}
	p := assemble(g, params, f, label, names)
	p.Method, p.Note = method, note
	return p, nil
}

// assemble makes modules out of the label of each weighted node, in graph order.
func assemble(g *ir.Graph, params []weights.Param, f *flow, label map[*ir.Node]string, names map[string]string) *Partition {
	p := &Partition{}
	byLabel := map[string]*Module{}
	module := func(l string) *Module {
		m := byLabel[l]
		if m == nil {
			m = &Module{Name: l, Role: roleOf(l)}
			if n := names[l]; n != "" {
				m.Name = n
			}
			byLabel[l] = m
			p.Modules = append(p.Modules, m)
		}
		return m
	}
	for _, w := range params {
		p.Params += w.Elements()
		l := label[w.Nodes[0]]
		if l == "" {
			p.Outside = append(p.Outside, w)
			continue
		}
		m := module(l)
		m.Weights = append(m.Weights, w)
		m.Initializers = append(m.Initializers, w.Value)
		m.Params += w.Elements()
		if w.Kind == weights.Weight {
			m.Layers++
		}
	}
	owner := spread(g, f, label)
	unknown := map[*Module]bool{}
	for n := g.First(); n != nil; n = n.Next() {
		if m := byLabel[owner[n]]; m != nil {
			m.Nodes = append(m.Nodes, n)
			k, ok := MACs(n)
			m.MACs += k
			unknown[m] = unknown[m] || !ok
		}
	}
	for _, m := range p.Modules {
		if unknown[m] {
			m.MACs = 0
		}
		m.cuts(func(n *ir.Node) bool { return byLabel[owner[n]] == m }, f)
	}
	return p
}

// spread gives every data-carrying node without weights the label of its latest labelled producer.
func spread(g *ir.Graph, f *flow, label map[*ir.Node]string) map[*ir.Node]string {
	rank := map[string]int{}
	owner := map[*ir.Node]string{}
	for n := g.First(); n != nil; n = n.Next() {
		l := label[n]
		if l != "" && rank[l] == 0 {
			rank[l] = len(rank) + 1
		}
		if l == "" && f.data[n] {
			for _, v := range n.Inputs() {
				if v == nil || v.Producer() == nil {
					continue
				}
				if c := owner[v.Producer()]; c != "" && (l == "" || rank[c] > rank[l]) {
					l = c
				}
			}
		}
		owner[n] = l
	}
	for n := g.Last(); n != nil; n = n.Prev() {
		if owner[n] != "" || !f.data[n] {
			continue
		}
		for _, o := range n.Outputs() {
			for _, u := range o.Uses() {
				if l := owner[u.Node]; l != "" && (owner[n] == "" || rank[l] < rank[owner[n]]) {
					owner[n] = l
				}
			}
		}
	}
	return owner
}

func (m *Module) cuts(inside func(*ir.Node) bool, f *flow) {
	seen := map[*ir.Value]bool{}
	for _, n := range m.Nodes {
		for _, v := range n.Inputs() {
			if v == nil || seen[v] || v.IsInitializer() || (v.Producer() != nil && (inside(v.Producer()) || !f.data[v.Producer()])) {
				continue
			}
			seen[v] = true
			m.Inputs = append(m.Inputs, v)
		}
		for _, o := range n.Outputs() {
			out := o.IsOutput()
			for _, u := range o.Uses() {
				out = out || (f.data[u.Node] && !inside(u.Node))
			}
			if out && !seen[o] {
				seen[o] = true
				m.Outputs = append(m.Outputs, o)
			}
		}
	}
}

// MACs counts the multiply-accumulates of a node at batch 1: those of Conv, ConvTranspose, Gemm and MatMul, none for other
// operators. It is not ok where a shape that it needs is not known.
func MACs(n *ir.Node) (count int64, ok bool) {
	switch {
	case n.Is("LSTM"), n.Is("GRU"), n.Is("RNN"):
		return recurrentMACs(n)
	case n.Is("Conv"), n.Is("ConvTranspose"), n.Is("DeformConv"), n.Is("Gemm"), n.Is("MatMul"):
	default:
		return 0, true
	}
	out, x := n.Output(0), n.Input(0)
	if out == nil || x == nil {
		return 0, false
	}
	if n.Is("ConvTranspose") {
		a, ok1 := PerImage(x.Shape())
		b, ok2 := weightSize(n.Input(1), 1)
		return a * b, ok1 && ok2 && len(x.Shape()) > 2
	}
	per, ok := PerImage(out.Shape())
	if !ok {
		return 0, false
	}
	if n.Is("Conv") || n.Is("DeformConv") {
		k, ok := weightSize(n.Input(1), 1)
		return per * k, ok
	}
	s := x.Shape()
	if len(s) == 0 {
		return 0, false
	}
	k := s[len(s)-1]
	if n.Int("transA", 0) != 0 {
		k = s[0]
	}
	return per * k.Size, k.Known()
}

// recurrentMACs are those of all steps of one sequence.
func recurrentMACs(n *ir.Node) (int64, bool) {
	x, w, r := n.Input(0), n.Input(1), n.Input(2)
	if x == nil || len(x.Shape()) != 3 {
		return 0, false
	}
	steps := x.Shape()[0]
	if n.Int("layout", 0) != 0 {
		steps = x.Shape()[1]
	}
	a, okW := weightSize(w, 0)
	b, okR := weightSize(r, 0)
	return steps.Size * (a + b), steps.Known() && okW && okR
}

// PerImage multiplies the sizes behind the first, which counts as the batch; it is not ok where one is not known.
func PerImage(s ir.Shape) (int64, bool) {
	if !s.HasRank() {
		return 0, false
	}
	if len(s) > 1 {
		s = s[1:]
	}
	dims, ok := s.Static()
	if !ok {
		return 0, false
	}
	n, err := ir.NumElements(dims)
	return n, err == nil
}

// weightSize multiplies the sizes of a weight from one dimension on.
func weightSize(w *ir.Value, from int) (int64, bool) {
	if w == nil {
		return 0, false
	}
	d, ok := w.StaticDims()
	if !ok || len(d) <= from {
		return 0, false
	}
	n, err := ir.NumElements(d[from:])
	return n, err == nil
}

func roleOf(label string) string {
	if r := class(label); r != "" {
		return r
	}
	return "stage"
}

// SortBySize orders module indices by ascending number of quantizable elements: the paper's SORT_SIZE.
func (p *Partition) SortBySize() []int {
	idx := make([]int, len(p.Modules))
	for i := range idx {
		idx[i] = i
	}
	sort.SliceStable(idx, func(a, b int) bool { return p.Modules[idx[a]].Elements() < p.Modules[idx[b]].Elements() })
	return idx
}
