package op

import (
	"errors"
	"fmt"

	"mqatc/onnx/ir"
)

// InferNode sets the types of n's outputs from the types of its inputs and the values of those that are small constants, which
// it finds by walking producers. Inputs must have types already. What inference leaves open of a type that an output already
// has is kept, where the rank agrees. An error names the node, the operator and the shapes.
func InferNode(n *ir.Node) error { return newRun(0).node(n) }

// ConstInts is the value of v, as int64 in row-major order, if it is a small integer or bool tensor that follows from
// initializers and known shapes.
func ConstInts(v *ir.Value) ([]int64, bool) {
	p := newRun(0).part(v)
	if p == nil {
		return nil, false
	}
	return p.ints()
}

// ConstFloats is the value of v in row-major order if it is a small tensor of numbers that follows from initializers and shapes.
func ConstFloats(v *ir.Value) ([]float64, bool) {
	p := newRun(0).part(v)
	if p == nil {
		return nil, false
	}
	return p.floats()
}

// ClearTypes forgets the types of all node outputs of g and its subgraphs, so that they can be inferred anew. Outputs of operators
// without a row lose their sizes only.
func ClearTypes(g *ir.Graph) {
	for n := g.First(); n != nil; n = n.Next() {
		inferable := Lookup(n.Domain, n.Op) != nil
		for _, o := range n.Outputs() {
			if inferable {
				o.Type = ir.Type{}
			}
			o.Type.Shape = nil
		}
		for _, s := range n.Subgraphs() {
			ClearTypes(s)
		}
	}
}

func newRun(opset int64) *run { return &run{opset: opset, lookup: Lookup, graph: inferGraph} }

func inferGraph(r *run, g *ir.Graph) error {
	for n := g.First(); n != nil; n = n.Next() {
		if err := r.node(n); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) node(n *ir.Node) error {
	if n == nil {
		return fmt.Errorf("no node to infer")
	}
	if f := r.local[keyOf(n)]; f != nil {
		return r.call(n, f)
	}
	s := r.lookup(n.Domain, n.Op)
	if s == nil {
		if r.merge && n.Domain != "" {
			return nil
		}
		_, err := Find(n.Domain, n.Op)
		return fmt.Errorf("node %v: %w", n, err)
	}
	c := &Ctx{Node: n, run: r, types: make([]ir.Type, len(n.Outputs()))}
	err := r.check(s, n)
	if err == nil && s.Infer != nil {
		err = s.Infer(c)
	}
	if err != nil {
		return fmt.Errorf("node %v (inputs %s): %w", n, describe(n), err)
	}
	return r.assign(n, c.types)
}

// assign joins inferred types with those of n's outputs.
func (r *run) assign(n *ir.Node, types []ir.Type) error {
	for i, o := range n.Outputs() {
		t, err := r.settle(o, types[i])
		if err != nil {
			return fmt.Errorf("node %v (inputs %s): output %q: %w", n, describe(n), o.Name(), err)
		}
		o.Type = t
	}
	return nil
}

// settle joins an inferred type with the one that the value has.
func (r *run) settle(o *ir.Value, t ir.Type) (ir.Type, error) {
	old := o.Type
	if t.Kind == ir.KindUnknown || old.Kind == ir.KindUnknown {
		if t.Kind == ir.KindUnknown {
			return old, nil
		}
		return checked(t)
	}
	if r.merge {
		j, err := mergeTypes(t, old)
		if err != nil {
			var ofShape shapeError
			return t, &ConflictError{Value: o.Name(), Inferred: t.String(), File: old.String(), OfShape: errors.As(err, &ofShape), Reason: err}
		}
		if o.IsOutput() && o.Graph().Outer() == nil {
			keepSymbols(j.Shape, old.Shape)
		}
		return checked(j)
	}
	if t.Kind == ir.KindTensor && old.Kind == ir.KindTensor {
		if t.Elem == ir.Undefined {
			t.Elem = old.Elem
		}
		t.Shape = keepKnown(t.Shape, old.Shape)
		t.Denote = old.Denote
	}
	return checked(t)
}

// checked refuses a shape whose number of elements does not fit an int64.
func checked(t ir.Type) (ir.Type, error) {
	if dims, ok := t.Shape.Static(); ok {
		if _, err := ir.NumElements(dims); err != nil {
			return t, err
		}
	}
	return t, nil
}

// keepKnown fills the unknown dimensions of s from old.
func keepKnown(s, old ir.Shape) ir.Shape {
	if s == nil {
		return old.Clone()
	}
	if len(s) != len(old) {
		return s
	}
	for i := range s {
		if !s[i].Known() && s[i].Symbol == "" {
			s[i] = old[i]
		}
	}
	return s
}

// check compares the node with its row: numbers of inputs and outputs, attributes and their kinds, and the opset.
func (r *run) check(s *Schema, n *ir.Node) error {
	if r.opset > 0 && s.Domain == "" && s.VersionAt(r.opset) == 0 {
		if s.Since() > r.opset {
			return fmt.Errorf("the model's opset is %d, the operator exists from %d on", r.opset, s.Since())
		}
		return fmt.Errorf("the model's opset is %d, the operator is withdrawn from %d on", r.opset, s.Deprecated)
	}
	in := n.Inputs()
	if len(in) < s.MinIn || len(in) > s.MaxIn {
		return fmt.Errorf("%d inputs, takes %s", len(in), span(s.MinIn, s.MaxIn))
	}
	for i := 0; i < s.MinIn && !s.Gaps; i++ {
		if in[i] == nil {
			return fmt.Errorf("input %d is required", i)
		}
	}
	if k := len(n.Outputs()); k < s.MinOut || k > s.MaxOut {
		return fmt.Errorf("%d outputs, gives %s", k, span(s.MinOut, s.MaxOut))
	}
	for _, a := range n.Attrs() {
		spec := s.Attr(a.Name)
		if spec == nil {
			if s.Domain == "" && !r.legacy() {
				return fmt.Errorf("the operator has no attribute %q", a.Name)
			}
			continue
		}
		if a.Ref == "" && a.Kind != spec.Kind {
			return fmt.Errorf("attribute %q is of kind %v, must be %v", a.Name, kindName(a.Kind), kindName(spec.Kind))
		}
		if a.Ref == "" && a.Kind == ir.AttrTensor && a.T == nil || a.Kind == ir.AttrGraph && a.G == nil {
			return fmt.Errorf("attribute %q is empty", a.Name)
		}
	}
	for _, spec := range s.Attrs {
		if spec.Required && n.Attr(spec.Name) == nil {
			return fmt.Errorf("attribute %q is missing", spec.Name)
		}
	}
	return nil
}

func span(lo, hi int) string {
	switch {
	case lo == hi:
		return fmt.Sprint(lo)
	case hi == Many:
		return fmt.Sprintf("%d or more", lo)
	}
	return fmt.Sprintf("%d to %d", lo, hi)
}

func kindName(k ir.AttrKind) string {
	names := []string{"undefined", "float", "int", "string", "tensor", "graph", "floats", "ints", "strings", "tensors", "graphs",
		"sparse tensor", "sparse tensors", "type", "types"}
	if k >= 0 && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprint(int32(k))
}
