package pass

import "mqatc/onnx/ir"

// Visible reports whether name v, written inside graph g, means v: no graph on the way hides it behind a value of that name.
func Visible(v *ir.Value, g *ir.Graph) bool { return g.Resolve(v.Name()) == v }

// CanReplace reports whether every reader of old, graph outputs included, can read v instead.
func CanReplace(old, v *ir.Value) bool {
	if old == v || old.Graph() != v.Graph() {
		return false
	}
	for _, u := range old.Uses() {
		if !Visible(v, u.Node.Graph()) {
			return false
		}
	}
	if !old.IsOutput() {
		return true
	}
	if v.IsOutput() || v.IsInput() || v.IsInitializer() {
		return false
	}
	for _, u := range v.Uses() {
		if !Visible(old, u.Node.Graph()) {
			return false
		}
	}
	return true
}

// Replace lets every reader of old read v; see CanReplace. v takes the name of a graph output that it replaces, and a type where
// it has none.
func Replace(old, v *ir.Value) error {
	if v.Type.Kind == ir.KindUnknown {
		v.Type = old.Type.Clone()
	}
	return old.Graph().ReplaceAllUses(old, v)
}

// Graphs lists g and the graphs inside it, outer before inner.
func Graphs(g *ir.Graph) []*ir.Graph {
	out := []*ir.Graph{g}
	for n := g.First(); n != nil; n = n.Next() {
		for _, s := range n.Subgraphs() {
			out = append(out, Graphs(s)...)
		}
	}
	return out
}

// Count is the number of nodes of g and of the graphs inside it.
func Count(g *ir.Graph) int {
	n := 0
	for _, s := range Graphs(g) {
		n += s.NumNodes()
	}
	return n
}
