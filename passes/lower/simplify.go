package lower

import (
	"math"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// A rewrite returns what takes the place of a node's only output, nil where it does not apply.
type rewrite func(b *ir.Builder, n *ir.Node) *ir.Value

// simplify shortens what backward graphs and fake quantization bring: fewer passes over memory.
func simplify(g *ir.Graph) error {
	if err := apply(g, scaledAndBack, negationLast); err != nil {
		return err
	}
	for _, f := range []func(*ir.Graph) error{fakeQuantization, innerProducts, jointMasks} {
		if err := f(g); err != nil {
			return err
		}
	}
	return apply(g, roundByAddition)
}

func apply(g *ir.Graph, rewrites ...rewrite) error {
	b := ir.NewBuilder(g, Info.Name, op.InferNode)
	for n := g.First(); n != nil; {
		next := n.Next()
		if len(n.Outputs()) == 1 && n.Domain == "" && n.Output(0).DType() == ir.Float32 {
			b.Before, b.Site = n, n.Output(0).Name()
			for _, r := range rewrites {
				v := r(b, n)
				if b.Err() != nil {
					return b.Err()
				}
				if v == nil {
					continue
				}
				if err := g.ReplaceAllUses(n.Output(0), v); err != nil {
					return err
				}
				if err := removeWith(g, n); err != nil {
					return err
				}
				break
			}
		}
		n = next
	}
	return b.Err()
}

// removeWith removes n, and what it alone read.
func removeWith(g *ir.Graph, n *ir.Node) error {
	in := slices.Clone(n.Inputs())
	if err := g.Remove(n); err != nil {
		return err
	}
	for _, v := range in {
		if v == nil || v.Producer() == nil || v.Producer().Graph() != g || slices.ContainsFunc(v.Producer().Outputs(), func(o *ir.Value) bool { return o.Used() || o.IsOutput() }) {
			continue
		}
		if err := removeWith(g, v.Producer()); err != nil {
			return err
		}
	}
	return nil
}

// number is the value of a constant of one element.
func number(v *ir.Value) (float64, bool) {
	if v == nil || v.Init() == nil || v.IsInput() || v.Init().Len() != 1 {
		return 0, false
	}
	x, err := v.Init().Floats()
	return x[0], err == nil
}

// from is the node, of the given operator, that computes v.
func from(v *ir.Value, name string) *ir.Node {
	if v == nil || v.Producer() == nil || !v.Producer().Is(name) {
		return nil
	}
	return v.Producer()
}

// magic is 1.5 * 2^23: a float plus magic has no digits after the point, and ties go to even numbers as in Round.
const magic = 3 << 22

// roundByAddition: Round is several times slower in onnxruntime than two additions, which round numbers up to 2^22 the same way.
func roundByAddition(b *ir.Builder, n *ir.Node) *ir.Value {
	if !n.Is("Round") {
		return nil
	}
	c := from(n.Input(0), "Clip")
	if c == nil {
		return nil
	}
	lo, okLo := number(c.Input(1))
	hi, okHi := number(c.Input(2))
	if !okLo || !okHi || math.Max(math.Abs(lo), math.Abs(hi)) > 1<<22 {
		return nil
	}
	m := b.Float(magic)
	return b.Op("Sub", []*ir.Value{b.Op("Add", []*ir.Value{n.Input(0), m}), m})
}

// scaledAndBack: (a*s*mask)/s, the cotangent on its way through fake quantization of step size s, is a*mask.
func scaledAndBack(b *ir.Builder, n *ir.Node) *ir.Value {
	if !n.Is("Div") {
		return nil
	}
	s := n.Input(1)
	m := from(n.Input(0), "Mul")
	if m == nil {
		return nil
	}
	for i := range 2 {
		inner := from(m.Input(i), "Mul")
		if inner == nil {
			continue
		}
		for k := range 2 {
			if inner.Input(k) == s && same(inner.Input(1-k), m.Output(0)) {
				return b.Op("Mul", []*ir.Value{inner.Input(1 - k), m.Input(1 - i)})
			}
		}
	}
	return nil
}

func same(a, b *ir.Value) bool {
	x, okX := a.StaticDims()
	y, okY := b.StaticDims()
	return okX && okY && slices.Equal(x, y)
}

// negationLast: the sum of a negation is the negation of a sum.
func negationLast(b *ir.Builder, n *ir.Node) *ir.Value {
	if !n.Is("ReduceSum") {
		return nil
	}
	x := from(n.Input(0), "Neg")
	if x == nil || len(x.Output(0).Uses()) != 1 {
		return nil
	}
	in := append([]*ir.Value{x.Input(0)}, n.Inputs()[1:]...)
	return b.Op("Neg", []*ir.Value{b.Op("ReduceSum", in, n.Attrs()...)})
}
