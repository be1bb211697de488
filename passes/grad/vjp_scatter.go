package grad

import "mqatc/onnx/ir"

func vjpScatterElements(c *call, i int) *ir.Value {
	axis := ir.AInt("axis", c.n.Int("axis", 0))
	return c.scattered(i,
		func(x *ir.Value) *ir.Value { return c.Op("GatherElements", []*ir.Value{x, c.in(1)}, axis) },
		func(x, up *ir.Value, more ...ir.Attr) *ir.Value {
			return c.Op("ScatterElements", []*ir.Value{x, c.in(1), up}, append(more, axis)...)
		})
}

func vjpScatterND(c *call, i int) *ir.Value {
	return c.scattered(i,
		func(x *ir.Value) *ir.Value { return c.op("GatherND", x, c.in(1)) },
		func(x, up *ir.Value, more ...ir.Attr) *ir.Value {
			return c.Op("ScatterND", []*ir.Value{x, c.in(1), up}, more...)
		})
}

// scattered is the gradient of a scatter, given how to read where it writes and how to write there. Reduction none writes each
// element at most once; mul divides by each factor, so none may be zero; max and min give the cotangent to the data and updates
// that attain the result, in equal shares.
func (c *call) scattered(i int, read func(x *ir.Value) *ir.Value, write func(x, up *ir.Value, more ...ir.Attr) *ir.Value) *ir.Value {
	x, up, y, dy := c.in(0), c.in(2), c.out(0), c.dy()
	if i == 1 {
		return nil
	}
	switch red := c.n.Str("reduction", "none"); red {
	case "none":
		if i == 2 {
			return read(dy)
		}
		return write(dy, c.zeros(up))
	case "add":
		if i == 2 {
			return read(dy)
		}
		return dy
	case "mul":
		if i == 2 {
			return c.div(read(c.mul(dy, y)), up)
		}
		return c.div(c.mul(dy, y), x)
	case "max", "min":
		hit := func(k int) *ir.Value {
			if k == 2 {
				return c.mask(c.op("Equal", up, read(y)))
			}
			return c.mask(c.op("Equal", x, y))
		}
		share := c.once("share", func() *ir.Value {
			return c.div(dy, c.op("Max", write(hit(0), hit(2), ir.AString("reduction", "add")), c.num(1)))
		})
		if i == 2 {
			return c.mul(read(share), hit(2))
		}
		return c.mul(share, hit(0))
	default:
		return c.fail("reduction %q", red)
	}
}

// accumulated adds g to a tensor by a scatter. onnxruntime's CPU provider has none that adds 16-bit floats: those are added in float32.
func (c *call) accumulated(op string, onto, at, g *ir.Value, more ...ir.Attr) *ir.Value {
	narrow := g.DType()
	more = append(more, ir.AString("reduction", "add"))
	if narrow != ir.Float16 && narrow != ir.BFloat16 {
		return c.Op(op, []*ir.Value{onto, at, g}, more...)
	}
	to := func(v *ir.Value, d ir.DType) *ir.Value { return c.Op("Cast", []*ir.Value{v}, ir.AInt("to", int64(d))) }
	return to(c.Op(op, []*ir.Value{to(onto, ir.Float32), at, to(g, ir.Float32)}, more...), narrow)
}
