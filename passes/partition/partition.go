// Package partition divides a network into modules (backbone, feature aggregation, heads) from the graph itself.
//
// The structure comes first: strides along the paths, taps, merges of scales, outputs (structure.go). Evidence that an exporter
// left (scope metadata, scopes in node names, dotted initializer names; evidence.go) is weighed against it: a label takes the
// role that most of its weights have in the structure. A file may override both (file.go).
package partition

import (
	"fmt"
	"sort"

	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// Roles of modules.
const (
	Backbone = "backbone"
	FPN      = "fpn"
	Decoder  = "decoder"
	Head     = "head"
)

// Module is one part of the network that gets one bit width.
type Module struct {
	Name, Role   string
	Params       int64 // elements of trained tensors, each counted once
	Layers       int   // quantizable weights
	MACs         int64 // multiply-accumulates at batch 1; 0 where shapes are not known
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

// Options steer Find.
type Options struct {
	File  *File // --modules FILE; nil finds the modules
	Split bool  // --heads split: one module per group of outputs instead of one for all heads
}

// Find divides the graph of m. It needs no shapes, but uses them where they are known.
func Find(m *ir.Model, o Options) (*Partition, error) {
	g := m.Graph
	params := weights.Find(g)
	if len(params) == 0 {
		return nil, fmt.Errorf("partition: the graph has no trained tensor: no Conv, ConvTranspose, Gemm or MatMul with constant weights")
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
	for n := g.First(); n != nil; n = n.Next() {
		if m := byLabel[owner[n]]; m != nil {
			m.Nodes = append(m.Nodes, n)
			m.MACs += macs(n)
		}
	}
	for _, m := range p.Modules {
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

// macs counts the multiply-accumulates of a node at batch 1, 0 where shapes are not known.
func macs(n *ir.Node) int64 {
	out := n.Output(0)
	if out == nil {
		return 0
	}
	s := out.Shape()
	per := int64(1)
	for i, d := range s {
		if i == 0 && len(s) > 1 {
			continue
		}
		if !d.Known() {
			return 0
		}
		per *= d.Size
	}
	switch {
	case n.Is("Conv"):
		if w := n.Input(1); w != nil {
			if d, ok := w.StaticDims(); ok && len(d) > 2 && len(s) > 2 {
				k, err := ir.NumElements(d[1:])
				if err == nil {
					return per * k
				}
			}
		}
	case n.Is("ConvTranspose"):
		x, w := n.Input(0), n.Input(1)
		if x == nil || w == nil {
			return 0
		}
		xs, ok1 := x.StaticDims()
		d, ok2 := w.StaticDims()
		if ok1 && ok2 && len(xs) > 2 {
			a, err1 := ir.NumElements(xs[1:])
			b, err2 := ir.NumElements(d[1:])
			if err1 == nil && err2 == nil {
				return a * b
			}
		}
	case n.Is("Gemm"), n.Is("MatMul"):
		if x := n.Input(0); x != nil && len(x.Shape()) > 0 {
			k := x.Shape()[len(x.Shape())-1]
			if n.Int("transA", 0) != 0 {
				k = x.Shape()[0]
			}
			if k.Known() {
				return per * k.Size
			}
		}
	}
	return 0
}

func roleOf(label string) string {
	for _, r := range []string{Backbone, FPN, Decoder, Head} {
		if label == r {
			return r
		}
	}
	if len(label) > 4 && label[:4] == Head {
		return Head
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
