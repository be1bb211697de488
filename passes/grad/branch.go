package grad

import (
	"fmt"

	"mqatc/onnx/ir"
)

// branches adds the cotangents of the values that the branches of an If read from outside: an If on the same condition, whose
// branches compute what the original ones do and the gradient of that.
func (e *engine) branches(n *ir.Node, cots []*ir.Value) error {
	wrt := e.captured(n, nil)
	if len(wrt) == 0 {
		return nil
	}
	spec := ir.NodeSpec{Op: "If", Inputs: []*ir.Value{n.Input(0)}}
	for _, name := range []string{"then_branch", "else_branch"} {
		a := n.Attr(name)
		if a == nil || a.G == nil {
			e.b.Fail(fmt.Errorf("If without %s", name))
			return e.b.Err()
		}
		s, err := e.branch(a.G, cots, wrt)
		if err != nil {
			return err
		}
		spec.Attrs = append(spec.Attrs, ir.AGraph(name, s))
	}
	for i, v := range e.b.Node(spec, len(wrt)) {
		if e.b.Err() != nil {
			return e.b.Err()
		}
		if wrt[i].Type.Shape != nil {
			v.Type = wrt[i].Type.Clone()
		}
		e.parts[wrt[i]] = append(e.parts[wrt[i]], v)
	}
	return nil
}

// captured lists the active values that graphs inside n read, in the order of reading.
func (e *engine) captured(n *ir.Node, have []*ir.Value) []*ir.Value {
	add := func(v *ir.Value) {
		if v == nil || !e.active[v] || v.Graph() == nil || !sees(e.g, v.Graph()) {
			return
		}
		for _, h := range have {
			if h == v {
				return
			}
		}
		have = append(have, v)
	}
	for _, s := range n.Subgraphs() {
		for _, m := range s.Nodes() {
			for _, v := range m.Inputs() {
				add(v)
			}
			have = e.captured(m, have)
		}
		for _, v := range s.Outputs() {
			add(v)
		}
	}
	return have
}

func sees(g, of *ir.Graph) bool {
	for h := g; h != nil; h = h.Outer() {
		if h == of {
			return true
		}
	}
	return false
}

// branch is a graph with the nodes of src whose outputs are the cotangents of wrt, given those of the outputs of src.
func (e *engine) branch(src *ir.Graph, cots, wrt []*ir.Value) (*ir.Graph, error) {
	g := ir.NewSubgraph(src.Name+"_grad", e.g)
	vals, err := g.Inline(src, nil, e.opt.Pass)
	if err != nil {
		return nil, err
	}
	in := &engine{g: g, opt: e.opt, b: ir.NewBuilder(g, e.opt.Pass, e.b.Infer), active: map[*ir.Value]bool{}, flows: map[*ir.Value]bool{},
		parts: map[*ir.Value][]*ir.Value{}, shared: newShared()}
	in.b.Site = e.b.Site
	for _, v := range wrt {
		in.active[v] = true
	}
	nodes := g.Nodes()
	for _, n := range nodes {
		in.mark(n)
	}
	for i, o := range src.Outputs() {
		v := vals[o]
		if v == nil {
			v = o
		}
		if i < len(cots) && cots[i] != nil && in.active[v] {
			in.parts[v] = append(in.parts[v], cots[i])
		}
	}
	for i := len(nodes) - 1; i >= 0; i-- {
		if err := in.visit(nodes[i]); err != nil {
			return nil, err
		}
	}
	in.b.Site = e.b.Site
	var outs []*ir.Value
	for _, v := range wrt {
		ct := in.total(v)
		if ct == nil {
			c := &call{Builder: in.b, dt: v.DType()}
			ct = c.zeros(v)
		}
		outs = append(outs, in.b.Op("Identity", []*ir.Value{ct}))
	}
	if err := in.b.Err(); err != nil {
		return nil, err
	}
	return g, g.SetOutputs(outs...)
}
