package target

import (
	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// compact drops names of nodes, documentation and inferred types, and shortens the names of values other than inputs, outputs and
// trained tensors.
func (e *emitter) compact() error {
	m := e.out.Model
	m.Doc, e.g.Doc, e.g.Meta, e.g.Extra, m.Extra = "", "", nil, nil, nil
	keep := map[*ir.Value]bool{}
	for _, p := range weights.Find(e.g) {
		keep[p.Value] = true
	}
	for _, w := range e.out.Weights {
		keep[e.g.Value(w.Name)] = true
	}
	for n := e.g.First(); n != nil; n = n.Next() {
		if b := dequantizer(n.Input(2)); b != nil && e.integer[n] {
			if v, _, err := storedBias(b); err == nil {
				keep[v] = true
			}
		}
	}
	taken := map[string]bool{}
	collectNames(e.g, taken)
	final := map[string]string{}
	serial := 0
	rename := func(v *ir.Value) error {
		v.Doc, v.Meta, v.Extra = "", nil, nil
		if v.Name() == "" || keep[v] || v.IsInput() || v.IsOutput() {
			return nil
		}
		for {
			short := letters(serial)
			serial++
			if !taken[short] {
				old := v.Name()
				final[old] = short
				return e.g.Rename(v, short)
			}
		}
	}
	for _, v := range e.g.Initializers() {
		if err := rename(v); err != nil {
			return err
		}
	}
	for n := e.g.First(); n != nil; n = n.Next() {
		n.Name, n.Doc, n.Meta = "", "", nil
		for _, o := range n.Outputs() {
			if !o.IsOutput() && n.Domain == "" {
				o.Type = ir.Type{}
			}
			if err := rename(o); err != nil {
				return err
			}
		}
	}
	for i, l := range e.out.Integer {
		if s, ok := final[l.Output]; ok {
			e.out.Integer[i].Output = s
		}
	}
	return nil
}

// collectNames gathers the names of all values of g and its subgraphs.
func collectNames(g *ir.Graph, into map[string]bool) {
	for _, v := range append(append([]*ir.Value(nil), g.Inputs()...), g.Initializers()...) {
		into[v.Name()] = true
	}
	for n := g.First(); n != nil; n = n.Next() {
		for _, o := range n.Outputs() {
			into[o.Name()] = true
		}
		for _, s := range n.Subgraphs() {
			collectNames(s, into)
		}
	}
}

// letters numbers names a, b, ... z, aa, ab, ...
func letters(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return letters(i/26-1) + string(rune('a'+i%26))
}
