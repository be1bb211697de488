package clean

import (
	"mqatc/onnx/ir"
	"mqatc/passes/pass"
)

// constants turns Constant nodes into initializers. One that is itself an output of its graph stays: an output needs a producer in
// runtimes that check it.
func constants(c *pass.Ctx, g *ir.Graph) (bool, error) {
	changed := false
	for _, n := range g.Nodes() {
		if !n.Is("Constant") || len(n.Outputs()) != 1 || n.Output(0) == nil || n.Output(0).IsOutput() || len(n.Attrs()) != 1 {
			continue
		}
		a := &n.Attrs()[0]
		if a.Ref != "" {
			continue
		}
		t, sparse, err := constant(a)
		if err != nil {
			return changed, c.Errorf(n, "attribute %q: %w", a.Name, err)
		}
		if t == nil && sparse == nil {
			continue
		}
		old := n.Output(0)
		name := old.Name()
		if err := g.Rename(old, g.FreshName(name+"_old")); err != nil {
			return changed, c.Errorf(n, "%w", err)
		}
		var v *ir.Value
		if sparse != nil {
			v, err = g.AddSparse(name, sparse)
		} else {
			v, err = g.AddInitializer(name, t)
		}
		if err != nil {
			return changed, c.Errorf(n, "%w", err)
		}
		v.Doc, v.Meta, v.Extra, v.Quant = old.Doc, old.Meta, old.Extra, old.Quant
		if len(v.Meta) == 0 {
			v.Meta = n.Meta
		}
		if len(old.Uses()) > 0 {
			if err := g.ReplaceUses(old, v); err != nil {
				return changed, c.Errorf(n, "%w", err)
			}
		}
		if err := g.Remove(n); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// constant is the value of a Constant node's attribute; both results are nil for an attribute that is none of the operator's.
func constant(a *ir.Attr) (*ir.Tensor, *ir.Sparse, error) {
	var t *ir.Tensor
	var err error
	switch {
	case a.Name == "value" && a.Kind == ir.AttrTensor && a.T != nil:
		c := *a.T
		c.Name = ""
		t = &c
	case a.Name == "sparse_value" && a.Kind == ir.AttrSparse:
		return nil, a.Sparse, nil
	case a.Name == "value_float" && a.Kind == ir.AttrFloat:
		t = ir.ScalarFloat32(a.F)
	case a.Name == "value_int" && a.Kind == ir.AttrInt:
		t = ir.ScalarInt64(a.I)
	case a.Name == "value_floats" && a.Kind == ir.AttrFloats:
		t, err = ir.FromFloat32s(append([]float32{}, a.Floats...), int64(len(a.Floats)))
	case a.Name == "value_ints" && a.Kind == ir.AttrInts:
		t = ir.VectorInt64(append([]int64{}, a.Ints...)...)
	case a.Name == "value_string" && a.Kind == ir.AttrString:
		t, err = ir.NewStrings(nil, [][]byte{a.S})
	case a.Name == "value_strings" && a.Kind == ir.AttrStrings:
		t, err = ir.NewStrings([]int64{int64(len(a.Strings))}, a.Strings)
	}
	return t, nil, err
}
