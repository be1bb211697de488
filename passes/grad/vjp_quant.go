package grad

import "mqatc/onnx/ir"

// quantParam shapes a scale or zero point so that it broadcasts over x: a scalar, or one element per index of the axis.
func (c *call) quantParam(p, x *ir.Value) *ir.Value {
	if c.n.Int("block_size", 0) != 0 {
		return c.fail("block_size %d", c.n.Int("block_size", 0))
	}
	if p.DType() != c.dt {
		p = c.Op("Cast", []*ir.Value{p}, ir.AInt("to", int64(c.dt)))
	}
	d := c.dims(p)
	if product(d) == 1 {
		return c.reshape(p)
	}
	rank := c.rank(x)
	axis := c.axis(c.n.Int("axis", 1), rank)
	if c.Err() != nil || len(d) != 1 {
		return c.fail("scale of shape %v", p.Shape())
	}
	shape := repeat(1, rank)
	shape[axis] = d[0]
	return c.reshape(p, shape...)
}

// vjpQuantize is the straight-through estimator: dx = dy/s where x/s + z rounds to a representable integer, 0 where it
// saturates. Scale and zero point are constants.
func vjpQuantize(c *call, i int) *ir.Value {
	if i != 0 {
		return c.fail("scale and zero point of QuantizeLinear are constants to the gradient")
	}
	t := c.out(0).DType()
	bits := t.Bits()
	if t == ir.Undefined || t.IsFloat() || bits == 0 || bits > 16 {
		return c.fail("output of type %v", t)
	}
	lo, hi := 0.0, float64(int64(1)<<bits-1)
	switch t {
	case ir.Int2, ir.Int4, ir.Int8, ir.Int16:
		lo, hi = -float64(int64(1)<<(bits-1)), float64(int64(1)<<(bits-1)-1)
	case ir.Uint2, ir.Uint4, ir.Uint8, ir.Uint16:
	default:
		return c.fail("output of type %v", t)
	}
	x := c.in(0)
	s := c.quantParam(c.in(1), x)
	v := c.div(x, s)
	if z := c.in(2); z != nil {
		v = c.add(v, c.quantParam(z, x))
	}
	inside := c.between(v, c.num(lo-0.5), c.num(hi+0.5))
	return c.mul(c.div(c.dy(), s), inside)
}

// vjpDequantize: the cotangent of the integer is dy*s. Scale and zero point are constants.
func vjpDequantize(c *call, i int) *ir.Value {
	if i != 0 {
		return c.fail("scale and zero point of DequantizeLinear are constants to the gradient")
	}
	return c.mul(c.dy(), c.quantParam(c.in(1), c.in(0)))
}
