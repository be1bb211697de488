package op

import (
	"errors"

	"mqatc/onnx/ir"
)

// InferAnew is InferModel for files whose shapes may be outdated, as after somebody changed an input's size: where one contradicts the
// graph, the shapes of all computed values are forgotten and inferred once more, and the first contradiction is returned as stale.
// Outputs keep of their declared shapes what agrees. Contradictions of element types and of kinds stay errors.
func InferAnew(m *ir.Model, inputShapes map[string][]int64) (stale *ConflictError, err error) {
	var declared []ir.Type
	if m != nil && m.Graph != nil {
		for _, o := range m.Graph.Outputs() {
			declared = append(declared, o.Type.Clone())
		}
	}
	err = InferModel(m, inputShapes)
	if !errors.As(err, &stale) || !stale.OfShape {
		return nil, err
	}
	// What nodes without a row give is known from the file alone: it is given up last.
	for _, opaque := range []bool{false, true} {
		forgetShapes(m, m.Graph, opaque)
		if err = InferModel(m, nil); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	for i, o := range m.Graph.Outputs() {
		if t, err := mergeTypes(o.Type.Clone(), declared[i]); err == nil {
			keepSymbols(t.Shape, declared[i].Shape)
			o.Type = t
		}
	}
	return stale, nil
}

// forgetShapes drops the shapes of the values that nodes of g and its subgraphs compute, and those of the subgraphs' inputs. Outputs
// of nodes that have neither a row nor a function in m are spared unless opaque is set.
func forgetShapes(m *ir.Model, g *ir.Graph, opaque bool) {
	known := map[funcKey]bool{}
	for _, f := range m.Functions {
		known[funcKey{f.Domain, f.Name, f.Overload}] = true
	}
	var walk func(*ir.Graph)
	walk = func(g *ir.Graph) {
		if g.Outer() != nil {
			for _, v := range g.Inputs() {
				forgetShape(&v.Type)
			}
		}
		for n := g.First(); n != nil; n = n.Next() {
			if opaque || known[keyOf(n)] || Lookup(n.Domain, n.Op) != nil {
				for _, o := range n.Outputs() {
					forgetShape(&o.Type)
				}
			}
			for _, s := range n.Subgraphs() {
				walk(s)
			}
		}
	}
	walk(g)
}

func forgetShape(t *ir.Type) {
	t.Shape = nil
	if t.Inner != nil {
		in := t.Inner.Clone()
		forgetShape(&in)
		t.Inner = &in
	}
}
