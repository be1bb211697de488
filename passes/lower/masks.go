package lower

import (
	"math"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// jointMasks joins the mask of a quantizer of values that are not negative with that of the activation before it: a cotangent passes where
// x is below the quantizer's bound, then where it is positive, or between 0 and the activation's own bound.
func jointMasks(g *ir.Graph) error {
	b := ir.NewBuilder(g, Info.Name, op.InferNode)
	for _, n := range g.Nodes() {
		if n.Graph() != g || !n.Is("Mul") {
			continue
		}
		for i := range 2 {
			ok, err := jointMask(b, n, n.Input(i), n.Input(1-i))
			if err != nil {
				return err
			}
			if ok {
				break
			}
		}
	}
	return nil
}

// jointMask gives n = a * mask one mask.
func jointMask(b *ir.Builder, n *ir.Node, a, mask *ir.Value) (bool, error) {
	s := stepOf(mask)
	if s == nil || only(mask, "Mul") == nil || only(a, "Mul") == nil || !same(a, n.Output(0)) {
		return false, nil
	}
	x := s
	var end *ir.Value // of the activation
	if m := from(s, "Mul"); m != nil {
		if only(s, "HardSigmoid") == nil {
			return false, nil
		}
		for i := range 2 {
			if d := from(m.Input(1-i), "Sub"); d != nil && d.Input(1) == m.Input(i) && product(dimsOf(d.Input(0))) == 1 {
				x, end = m.Input(i), d.Input(0)
			}
		}
	}
	if end == nil && !nonNegative(x) {
		return false, nil
	}
	bound, dy := belowBound(a, x)
	if bound == nil {
		return false, nil
	}
	b.Before, b.Site = n, n.Output(0).Name()
	if end != nil {
		bound = b.Op("Min", []*ir.Value{bound, end})
	}
	both := b.Op("HardSigmoid", []*ir.Value{b.Op("Mul", []*ir.Value{x, b.Op("Sub", []*ir.Value{bound, x})})}, ir.AFloat("alpha", maxSlope), ir.AFloat("beta", 0))
	v := b.Op("Mul", []*ir.Value{dy, both})
	if err := b.Err(); err != nil {
		return false, err
	}
	if err := b.G.ReplaceAllUses(n.Output(0), v); err != nil {
		return false, err
	}
	return true, removeWith(b.G, n)
}

// stepOf is the value of which v is 1 where it is positive and 0 elsewhere.
func stepOf(v *ir.Value) *ir.Value {
	n := from(v, "HardSigmoid")
	if n == nil || n.Float("alpha", 0.2) < stepSlope || n.Float("beta", 0.5) != 0 {
		return nil
	}
	return n.Input(0)
}

// stepSlope is the slope from which on a HardSigmoid is a step, and maxSlope the one that is given to them.
const (
	stepSlope = 1e30
	maxSlope  = math.MaxFloat32 / 4
)

// leakyOf is the value of which v is the slope of act, a LeakyRelu.
func leakyOf(v *ir.Value, act *ir.Node) *ir.Value {
	n := from(v, "Max")
	if n == nil || len(n.Inputs()) != 2 {
		return nil
	}
	for i := range 2 {
		if a, ok := number(n.Input(1 - i)); ok && float32(a) == act.Float("alpha", 0.01) {
			return stepOf(n.Input(i))
		}
	}
	return nil
}

// betweenOf is the value x of which v is 1 where 0 < x < k: the step of x * (k - x).
func betweenOf(v *ir.Value, k float64) *ir.Value {
	s := stepOf(v)
	if s == nil {
		return nil
	}
	m := from(s, "Mul")
	if m == nil {
		return nil
	}
	for i := range 2 {
		if d := from(m.Input(1-i), "Sub"); d != nil && d.Input(1) == m.Input(i) {
			if c, ok := number(d.Input(0)); ok && c == k {
				return m.Input(i)
			}
		}
	}
	return nil
}

// belowBound: a is dy where x is below a bound of one element.
func belowBound(a, x *ir.Value) (bound, dy *ir.Value) {
	m := from(a, "Mul")
	if m == nil {
		return nil, nil
	}
	for i := range 2 {
		if s := stepOf(m.Input(i)); s != nil && same(m.Input(1-i), a) {
			if d := from(s, "Sub"); d != nil && d.Input(1) == x && product(dimsOf(d.Input(0))) == 1 {
				return d.Input(0), m.Input(1 - i)
			}
		}
	}
	return nil, nil
}
