package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

const (
	maxCalls  = 64      // functions that call each other
	maxInside = 1 << 18 // nodes of function bodies in one inference; calls beyond them keep the file's types
)

// funcKey is what a node calls a function of the model by.
type funcKey struct{ domain, name, overload string }

func keyOf(n *ir.Node) funcKey { return funcKey{n.Domain, n.Op, n.Overload} }

// call infers the outputs of n, which calls f, on a copy of f's body: inputs have the types and values of n's, attributes that
// refer to f's are n's or f's defaults.
func (r *run) call(n *ir.Node, f *ir.Function) error {
	if r.calls >= maxCalls {
		return fmt.Errorf("node %v: functions of the model call each other more than %d deep, or in a circle", n, maxCalls)
	}
	if len(n.Inputs()) > len(f.Graph.Inputs()) || len(n.Outputs()) > len(f.Graph.Outputs()) {
		return fmt.Errorf("node %v: %d inputs and %d outputs, the function has %d and %d", n, len(n.Inputs()), len(n.Outputs()),
			len(f.Graph.Inputs()), len(f.Graph.Outputs()))
	}
	if r.inside += f.Graph.NumNodes() + 1; r.inside > maxInside {
		return nil
	}
	body, _, err := f.Graph.Clone()
	if err != nil {
		return fmt.Errorf("node %v: %w", n, err)
	}
	ClearTypes(body)
	if !bindAttrs(body, n, f) {
		return nil
	}
	if err := r.bindInputs(body, n); err != nil {
		return fmt.Errorf("node %v: %w", n, err)
	}
	opset := r.opset
	r.opset = 0
	for _, o := range f.Opsets {
		if o.Domain == "" {
			r.opset = o.Version
		}
	}
	r.calls++
	err = r.graph(r, body)
	r.calls--
	r.opset = opset
	if err != nil {
		return fmt.Errorf("node %v: in the function: %w", n, err)
	}
	types := make([]ir.Type, len(n.Outputs()))
	for i, o := range n.Outputs() {
		out := body.Outputs()[i]
		types[i] = out.Type.Clone()
		if p := r.part(out); p != nil && r.parts != nil {
			r.parts[o] = p
		}
	}
	return r.assign(n, types)
}

// bindInputs gives the inputs of a function's body what is known of n's; those that n leaves out are taken from the body's nodes.
func (r *run) bindInputs(body *ir.Graph, n *ir.Node) error {
	for i, v := range body.Inputs() {
		in := n.Input(i)
		if in == nil {
			for _, u := range append([]ir.Use(nil), v.Uses()...) {
				if err := u.Node.Graph().SetInput(u.Node, u.Index, nil); err != nil {
					return err
				}
			}
			continue
		}
		v.Type = in.Type.Clone()
		if p := r.part(in); p != nil && r.parts != nil {
			r.parts[v] = p
		}
	}
	return nil
}

// bindAttrs replaces references to attributes of f, subgraphs included, by what node n gives or f's defaults, and drops those that
// neither has. It reports false when one is a graph, which cannot be in two places.
func bindAttrs(g *ir.Graph, n *ir.Node, f *ir.Function) bool {
	for m := g.First(); m != nil; m = m.Next() {
		for _, a := range append([]ir.Attr(nil), m.Attrs()...) {
			if a.Ref == "" {
				continue
			}
			v := n.Attr(a.Ref)
			for i := range f.AttrDefaults {
				if v == nil && f.AttrDefaults[i].Name == a.Ref {
					v = &f.AttrDefaults[i]
				}
			}
			switch {
			case v == nil:
				m.RemoveAttr(a.Name)
			case v.G != nil || len(v.Graphs) > 0:
				return false
			default:
				b := *v
				b.Name = a.Name
				m.SetAttr(b)
			}
		}
		for _, s := range m.Subgraphs() {
			if !bindAttrs(s, n, f) {
				return false
			}
		}
	}
	return true
}
