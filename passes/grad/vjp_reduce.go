package grad

import "mqatc/onnx/ir"

// reduced returns the axes of a reduction, given as attribute (before opset 13 or 18) or input; known is false when they are
// computed at run time. Without axes it is all of them, or none with noop_with_empty_axes.
func (c *call) reduced() (axes []int64, known bool) {
	rank := c.rank(c.in(0))
	axes = c.n.Ints("axes")
	if v := c.in(1); v != nil {
		a, ok := constInts(v)
		if !ok {
			return nil, false
		}
		axes = a
	}
	if len(axes) == 0 {
		if c.n.Int("noop_with_empty_axes", 0) != 0 {
			return nil, true
		}
		return seq(0, rank), true
	}
	out := make([]int64, len(axes))
	for i, a := range axes {
		out[i] = c.axis(a, rank)
	}
	return out, true
}

// kept gives v, the result of the reduction or its cotangent, the reduced dimensions back with size 1.
func (c *call) kept(v *ir.Value) *ir.Value {
	if c.n.Int("keepdims", 1) != 0 {
		return v
	}
	axes, known := c.reduced()
	if !known {
		return c.fail("axes computed at run time need keepdims=1")
	}
	if len(axes) == 0 {
		return v
	}
	if dims, ok := c.in(0).StaticDims(); ok {
		d := append([]int64{}, dims...)
		for _, a := range axes {
			d[a] = 1
		}
		return c.reshape(v, d...)
	}
	return c.op("Unsqueeze", v, c.Int64s(axes...))
}

func vjpReduceSum(c *call, _ int) *ir.Value { return c.expand(c.kept(c.dy()), c.in(0)) }

// count is how many elements of x make one of y.
func (c *call) count(x, y *ir.Value) (float64, *ir.Value) {
	a, okA := x.StaticDims()
	b, okB := y.StaticDims()
	if okA && okB && product(b) > 0 {
		return float64(product(a) / product(b)), nil
	}
	q := c.op("Div", c.op("Size", x), c.op("Size", y))
	return 0, c.Op("Cast", []*ir.Value{q}, ir.AInt("to", int64(c.dt)))
}

func (c *call) divCount(v *ir.Value) *ir.Value {
	n, late := c.count(c.in(0), c.out(0))
	if late != nil {
		return c.div(v, late)
	}
	return c.scale(v, 1/n)
}

func vjpReduceMean(c *call, _ int) *ir.Value { return c.expand(c.divCount(c.kept(c.dy())), c.in(0)) }

// vjpReduceMax gives the cotangent to the elements that attain the result, in equal shares.
func vjpReduceMax(c *call, _ int) *ir.Value {
	axes, known := c.reduced()
	if !known {
		return c.fail("axes computed at run time")
	}
	hit := c.mask(c.op("Equal", c.in(0), c.kept(c.out(0))))
	return c.mul(hit, c.div(c.kept(c.dy()), c.sum(hit, true, axes...)))
}

// vjpReduceProd divides the product by each element, so no element may be zero.
func vjpReduceProd(c *call, _ int) *ir.Value {
	return c.div(c.kept(c.mul(c.dy(), c.out(0))), c.in(0))
}

func vjpReduceL1(c *call, _ int) *ir.Value { return c.mul(c.kept(c.dy()), c.sign(c.in(0))) }

// vjpReduceL2 gives 0 where the norm is 0.
func vjpReduceL2(c *call, _ int) *ir.Value {
	n := c.op("Max", c.kept(c.out(0)), c.num(1e-18))
	return c.mul(c.div(c.kept(c.dy()), n), c.in(0))
}

func vjpReduceSumSquare(c *call, _ int) *ir.Value {
	return c.mul(c.scale(c.kept(c.dy()), 2), c.in(0))
}

func vjpReduceLogSum(c *call, _ int) *ir.Value {
	return c.expand(c.kept(c.mul(c.dy(), c.op("Exp", c.neg(c.out(0))))), c.in(0))
}

func vjpReduceLogSumExp(c *call, _ int) *ir.Value {
	return c.mul(c.kept(c.dy()), c.op("Exp", c.sub(c.in(0), c.kept(c.out(0)))))
}

func vjpGlobalAveragePool(c *call, _ int) *ir.Value { return c.expand(c.divCount(c.dy()), c.in(0)) }

func vjpGlobalMaxPool(c *call, _ int) *ir.Value {
	hit := c.mask(c.op("Equal", c.in(0), c.out(0)))
	return c.mul(hit, c.div(c.dy(), c.sum(hit, true, seq(2, c.rank(c.in(0)))...)))
}

func vjpCumSum(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	return c.Op("CumSum", []*ir.Value{c.dy(), c.in(1)},
		ir.AInt("exclusive", c.n.Int("exclusive", 0)), ir.AInt("reverse", 1-c.n.Int("reverse", 0)))
}
