package target

import (
	"math"

	"mqatc/onnx/ir"
)

// clips turns DequantizeLinear, Clip, QuantizeLinear with one scale and zero point on both sides into a Clip of the integers, which
// rounds nothing: bounds must lie on the grid. Bounded activation functions (ReLU6) otherwise run in float between two integer
// convolutions.
func (e *emitter) clips() error {
	for _, n := range e.g.Nodes() {
		lo, hi, ok := clipBounds(n)
		d := dequantizer(n.Input(0))
		if !ok || d == nil || d.Graph() != e.g || len(n.Input(0).Uses()) != 1 || n.Input(0).IsOutput() {
			continue
		}
		uses := n.Output(0).Uses()
		if len(uses) != 1 || n.Output(0).IsOutput() || !uses[0].Node.Is("QuantizeLinear") || uses[0].Index != 0 {
			continue
		}
		q := uses[0].Node
		scale, zero, dtype, ok := perTensor(d)
		s2, z2, t2, ok2 := perTensor(q)
		if !ok || !ok2 || scale != s2 || zero != z2 || dtype != t2 {
			continue
		}
		least, most := int64(0), int64(255)
		if dtype == ir.Int8 {
			least, most = -128, 127
		}
		bounds := []*ir.Value{d.Input(0)}
		e.b.Before, e.b.Site = n, n.Output(0).Name()
		for _, b := range []float64{lo, hi} {
			k := b/float64(scale) + float64(zero)
			if math.IsInf(b, 0) || k < float64(least) || k > float64(most) {
				k = float64(least)
				if b == hi {
					k = float64(most)
				}
			}
			if k != math.Trunc(k) {
				ok = false
				break
			}
			if k == float64(least) && b == lo || k == float64(most) && b == hi {
				bounds = append(bounds, nil)
				continue
			}
			t, err := ir.PackInts(dtype, []int64{int64(k)})
			if err != nil {
				return err
			}
			bounds = append(bounds, e.b.Const(t))
		}
		if !ok {
			continue
		}
		for len(bounds) > 1 && bounds[len(bounds)-1] == nil {
			bounds = bounds[:len(bounds)-1]
		}
		out := d.Input(0)
		if len(bounds) > 1 {
			out = e.b.Op("Clip", bounds)
		}
		if err := e.b.Err(); err != nil {
			return err
		}
		if q.Output(0).IsOutput() {
			continue
		}
		if err := e.g.ReplaceUses(q.Output(0), out); err != nil {
			return err
		}
		if err := removeDead(e.g, q); err != nil {
			return err
		}
	}
	return nil
}

// saturated removes Clips from 0 to a bound at which, or below, the quantizer that alone reads them saturates.
func (e *emitter) saturated() error {
	for _, n := range e.g.Nodes() {
		hi := bound(n)
		if hi == 0 || n.Output(0).IsOutput() || len(n.Output(0).Uses()) != 1 {
			continue
		}
		x := n.Input(0)
		if n.Is("Min") {
			x = x.Producer().Input(0)
		}
		if dequantizer(x) != nil {
			continue // clips does it without another rounding
		}
		q := n.Output(0).Uses()[0].Node
		if !q.Is("QuantizeLinear") || q.Input(0) != n.Output(0) {
			continue
		}
		scale, zero, dtype, ok := perTensor(q)
		if !ok || zero != 0 || dtype != ir.Uint8 || 255*float64(scale) > hi*(1+1e-6) {
			continue
		}
		if err := e.g.ReplaceUses(n.Output(0), n.Input(0)); err != nil {
			return err
		}
		if err := removeDead(e.g, n); err != nil {
			return err
		}
	}
	return nil
}

// perTensor reads the one scale, zero point and integer type of a QuantizeLinear or DequantizeLinear.
func perTensor(n *ir.Node) (scale float32, zero int64, dtype ir.DType, ok bool) {
	s, err := constFloats(n.Input(1))
	if err != nil || len(s) != 1 {
		return 0, 0, 0, false
	}
	z := n.Input(2)
	if z == nil {
		return s[0], 0, ir.Uint8, n.Is("QuantizeLinear")
	}
	if z.Init() == nil {
		return 0, 0, 0, false
	}
	v, err := z.Init().Ints()
	if err != nil || len(v) != 1 {
		return 0, 0, 0, false
	}
	return s[0], v[0], z.Init().DType(), true
}
