package fold

import (
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/clean"
	"mqatc/passes/pass"
)

// A folded value may take smallBytes, or up to growth times the bytes of the constants that it is computed from.
const (
	smallBytes = 4096
	growth     = 4
	maxRounds  = 16
)

// Constants replaces values that follow from initializers by initializers, and where shapes is set also those that follow from
// fixed shapes. Types must have been inferred; they are inferred anew as more becomes known.
func Constants(c *pass.Ctx, m *ir.Model, shapes bool) (bool, error) {
	changed := false
	for range maxRounds {
		if err := c.Cancelled(); err != nil {
			return changed, err
		}
		did := false
		if shapes {
			for _, g := range pass.Graphs(m.Graph) {
				d, err := fromShapes(c, g)
				if err != nil {
					return changed, err
				}
				did = did || d
			}
		}
		d, err := evaluated(c, m)
		if err != nil {
			return changed, err
		}
		if did = did || d; !did {
			break
		}
		changed = true
		if _, err := clean.Dead(m.Graph); err != nil {
			return changed, err
		}
		if err := op.InferModel(m, nil); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// fromShapes replaces small integer values that follow from constants and known sizes: Shape, Size, and what is computed from them.
func fromShapes(c *pass.Ctx, g *ir.Graph) (bool, error) {
	changed := false
	for _, n := range g.Nodes() {
		for _, o := range n.Outputs() {
			if o.Name() == "" || o.IsOutput() || len(o.Uses()) == 0 || o.DType() != ir.Int64 && o.DType() != ir.Int32 {
				continue
			}
			dims, ok := o.StaticDims()
			if !ok {
				continue
			}
			v, ok := op.ConstInts(o)
			if size, err := ir.NumElements(dims); !ok || err != nil || size != int64(len(v)) {
				continue
			}
			t, err := ir.PackInts(o.DType(), v, dims...)
			if err != nil {
				return changed, c.Errorf(n, "its value %v: %w", v, err)
			}
			if err := become(o, t); err != nil {
				return changed, c.Errorf(n, "%w", err)
			}
			changed = true
		}
	}
	return changed, nil
}

// become lets the readers of o read an initializer, which takes the name of o.
func become(o *ir.Value, t *ir.Tensor) error {
	g, name := o.Graph(), o.Name()
	if err := g.Rename(o, g.FreshName(name+"_folded")); err != nil {
		return err
	}
	v, err := g.AddInitializer(name, t)
	if err != nil {
		return err
	}
	v.Doc, v.Meta = o.Doc, o.Meta.Clone()
	return g.ReplaceUses(o, v)
}

// evaluated runs the nodes that read only initializers and replaces what others read of them.
func evaluated(c *pass.Ctx, m *ir.Model) (bool, error) {
	names := frontier(m.Graph)
	if len(names) == 0 {
		return false, nil
	}
	if c.Env.Eval == nil {
		c.Note("%d constant values are left, as there is no evaluator", len(names))
		return false, nil
	}
	got, err := evaluate(c, m, names)
	if err != nil && len(names) > 1 {
		got = map[string]*ir.Tensor{}
		for _, name := range names {
			one, err := evaluate(c, m, []string{name})
			if err != nil {
				c.Note("%q is constant but cannot be computed: %v", name, err)
				continue
			}
			got[name] = one[name]
		}
	} else if err != nil {
		c.Note("%q is constant but cannot be computed: %v", names[0], err)
	}
	changed := false
	for _, name := range names {
		t, o := got[name], m.Graph.Value(name)
		if t == nil {
			continue
		}
		if want, ok := o.StaticDims(); !ok || !slices.Equal(want, t.Dims()) || o.DType() != t.DType() {
			c.Note("%q is constant, but evaluates to %v where %v was inferred", name, t.Type(), o.Type)
			continue
		}
		if err := become(o, t); err != nil {
			return changed, c.Errorf(o.Producer(), "%w", err)
		}
		changed = true
	}
	return changed, nil
}

// frontier names the values that follow from initializers and that something else reads.
func frontier(g *ir.Graph) []string {
	leaf := map[*ir.Value]int64{}
	folded := map[*ir.Node]bool{}
	size := func(v *ir.Value) (int64, bool) {
		if t := v.Init(); t != nil && !v.IsInput() && v.Graph() == g {
			return int64(len(t.Raw())), true
		}
		s, ok := leaf[v]
		return s, ok
	}
	for n := g.First(); n != nil; n = n.Next() {
		if !foldable(n) {
			continue
		}
		base, ok := int64(0), len(n.Inputs()) > 0
		for _, v := range n.Inputs() {
			if v == nil {
				continue
			}
			s, known := size(v)
			ok = ok && known
			base += s
		}
		for _, o := range n.Outputs() {
			ok = ok && (o.Name() == "" || fits(o, base))
		}
		if !ok {
			continue
		}
		folded[n] = true
		for _, o := range n.Outputs() {
			leaf[o] = base
		}
	}
	var names []string
	for n := g.First(); n != nil; n = n.Next() {
		if !folded[n] {
			continue
		}
		for _, o := range n.Outputs() {
			for _, u := range o.Uses() {
				if !folded[u.Node] {
					names = append(names, o.Name())
					break
				}
			}
		}
	}
	return names
}

// foldable reports whether a node may be computed at compile time. Quantization stays as it is written: folding it would store
// floats for integers.
func foldable(n *ir.Node) bool {
	s := op.Lookup(n.Domain, n.Op)
	if s == nil || !s.Foldable() || len(n.Subgraphs()) > 0 || n.Overload != "" {
		return false
	}
	switch n.Op {
	case "Constant", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Dropout":
		return false
	}
	for _, v := range n.Inputs() {
		if v != nil && v.DType().Bits() < 8 {
			return false
		}
	}
	return true
}

// fits reports whether o, which is computed from base bytes of constants, is a tensor of known size and small enough to store.
func fits(o *ir.Value, base int64) bool {
	dims, ok := o.StaticDims()
	if !ok || o.IsOutput() || o.Type.Kind != ir.KindTensor {
		return false
	}
	n, err := ir.NumElements(dims)
	if err != nil {
		return false
	}
	bytes, err := ir.PackedSize(o.DType(), n)
	return err == nil && bytes <= max(smallBytes, growth*base)
}

// evaluate computes constant values of m by name.
func evaluate(c *pass.Ctx, m *ir.Model, names []string) (map[string]*ir.Tensor, error) {
	part, err := m.Clone()
	if err != nil {
		return nil, err
	}
	g := part.Graph
	outs := make([]*ir.Value, len(names))
	for i, name := range names {
		outs[i] = g.Value(name)
	}
	if err := g.SetOutputs(outs...); err != nil {
		return nil, err
	}
	if _, err := clean.Dead(g); err != nil {
		return nil, err
	}
	for _, v := range append([]*ir.Value(nil), g.Inputs()...) {
		if err := g.RemoveInput(v); err != nil {
			return nil, err
		}
	}
	part.Functions, part.Extra = nil, nil
	return c.Run(part, nil)
}
