package grad

import "mqatc/onnx/ir"

// vjpLoss covers NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: with labels l, element weights m (class weight, 0 where
// l is ignore_index) and cotangent dy, the loss -sum(m log p[l])/d gives p's logarithm -onehot(l) m dy/d, and scores
// (softmax - onehot(l)) m dy/d. d is sum(m) for reduction mean, 1 otherwise.
func vjpLoss(c *call, i int) *ir.Value {
	if i != 0 {
		return c.fail("class weights are constants to the gradient")
	}
	x := c.in(0)
	rank := c.rank(x)
	softmax := c.n.Op == "SoftmaxCrossEntropyLoss"
	var g *ir.Value
	if c.cots[0] != nil {
		g = c.lossGrad(x, c.cots[0], rank, softmax)
	}
	if len(c.cots) < 2 || c.cots[1] == nil {
		return g
	}
	// The second output is the logarithm of the softmax.
	dlog := c.cots[1]
	h := c.sub(dlog, c.mul(c.op("Exp", c.out(1)), c.sum(dlog, true, 1)))
	if g == nil {
		return h
	}
	return c.add(g, h)
}

func (c *call) lossGrad(x, dy *ir.Value, rank int, softmax bool) *ir.Value {
	classes := c.along(x, 1)
	labels := c.int64(c.in(1))
	var m *ir.Value // [N, d1, ...]; nil stands for ones
	if a := c.n.Attr("ignore_index"); a != nil {
		ignored := c.op("Equal", labels, c.Const(ir.ScalarInt64(a.I)))
		m = c.op("Where", ignored, c.num(0), c.num(1))
		labels = c.op("Where", ignored, c.Const(ir.ScalarInt64(0)), labels)
	}
	if w := c.in(2); w != nil {
		each := c.op("Gather", w, labels)
		if m != nil {
			each = c.mul(each, m)
		}
		m = each
	}
	d := dy
	switch red := c.n.Str("reduction", "mean"); red {
	case "mean":
		switch {
		case m != nil:
			d = c.div(dy, c.sum(m, false, seq(0, rank-1)...))
		default:
			count := c.Op("Cast", []*ir.Value{c.op("Size", labels)}, ir.AInt("to", int64(c.dt)))
			d = c.div(dy, count)
		}
	case "sum", "none":
	default:
		return c.fail("reduction %q", red)
	}
	if m != nil {
		d = c.mul(m, d)
	}
	if len(d.Shape()) == rank-1 && rank > 1 {
		d = c.op("Unsqueeze", d, c.Int64s(1))
	}
	hot := c.Op("OneHot", []*ir.Value{labels, c.Const(ir.ScalarInt64(classes)), c.floats([]float64{0, 1}, 2)}, ir.AInt("axis", 1))
	if !softmax {
		return c.neg(c.mul(hot, d))
	}
	p := c.Op("Softmax", []*ir.Value{x}, ir.AInt("axis", 1))
	return c.mul(c.sub(p, hot), d)
}
