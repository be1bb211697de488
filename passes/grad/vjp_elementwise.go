package grad

import (
	"math"

	"mqatc/onnx/ir"
)

func vjpAdd(c *call, _ int) *ir.Value { return c.dy() }

func vjpSub(c *call, i int) *ir.Value {
	if i == 1 {
		return c.neg(c.dy())
	}
	return c.dy()
}

func vjpMul(c *call, i int) *ir.Value { return c.mul(c.dy(), c.in(1-i)) }

func vjpDiv(c *call, i int) *ir.Value {
	q := c.once("dy/b", func() *ir.Value { return c.div(c.dy(), c.in(1)) })
	if i == 0 {
		return q
	}
	return c.neg(c.mul(q, c.out(0)))
}

// vjpPow: d(a^b) = b a^(b-1) da + a^b log(a) db; the second part is 0 where a <= 0.
func vjpPow(c *call, i int) *ir.Value {
	a, b := c.in(0), c.in(1)
	if i == 1 {
		one := c.num(1)
		pos := c.op("Greater", a, c.num(0))
		log := c.op("Where", pos, c.op("Log", c.op("Where", pos, a, one)), c.num(0))
		return c.mul(c.dy(), c.mul(c.out(0), log))
	}
	if e, ok := constFloats(b); ok && len(e) == 1 {
		return c.powConst(a, e[0])
	}
	if b.DType() != c.dt {
		b = c.Op("Cast", []*ir.Value{b}, ir.AInt("to", int64(c.dt)))
	}
	return c.mul(c.dy(), c.mul(b, c.op("Pow", a, c.sub(b, c.num(1)))))
}

func (c *call) powConst(a *ir.Value, e float64) *ir.Value {
	switch e {
	case 0:
		return nil
	case 1:
		return c.dy()
	case 2:
		return c.mul(c.dy(), c.scale(a, 2))
	case 3:
		return c.mul(c.dy(), c.scale(c.square(a), 3))
	case 0.5:
		return c.div(c.scale(c.dy(), 0.5), c.out(0))
	}
	return c.mul(c.dy(), c.scale(c.op("Pow", a, c.num(e-1)), e))
}

func vjpMean(c *call, _ int) *ir.Value { return c.scale(c.dy(), 1/float64(len(c.n.Inputs()))) }

// vjpMinMax gives the cotangent to the inputs that attain the result, in equal shares.
func vjpMinMax(c *call, i int) *ir.Value {
	n := len(c.n.Inputs())
	switch n {
	case 1:
		return c.dy()
	case 2:
		wins := c.once("wins", func() *ir.Value {
			d := c.sub(c.in(0), c.in(1))
			if c.n.Op == "Min" {
				d = c.sub(c.in(1), c.in(0))
			}
			return c.half(d)
		})
		if i == 1 {
			wins = c.sub(c.num(1), wins)
		}
		return c.mul(c.dy(), wins)
	}
	hit := func(k int) *ir.Value { return c.mask(c.op("Equal", c.in(k), c.out(0))) }
	share := c.once("share", func() *ir.Value {
		s := hit(0)
		for k := 1; k < n; k++ {
			s = c.add(s, hit(k))
		}
		return c.div(c.dy(), s)
	})
	return c.mul(share, hit(i))
}

// vjpMod: a - b q, with q = a/b rounded to zero (fmod) or down, constant around a and b.
func vjpMod(c *call, i int) *ir.Value {
	if i == 0 {
		return c.dy()
	}
	q := c.div(c.in(0), c.in(1))
	if c.n.Int("fmod", 0) != 0 {
		q = c.mul(c.op("Sign", q), c.op("Floor", c.op("Abs", q)))
	} else {
		q = c.op("Floor", q)
	}
	return c.neg(c.mul(c.dy(), q))
}

func vjpWhere(c *call, i int) *ir.Value {
	switch i {
	case 1:
		return c.op("Where", c.in(0), c.dy(), c.num(0))
	case 2:
		return c.op("Where", c.in(0), c.num(0), c.dy())
	}
	return nil
}

// vjpClip passes the cotangent strictly between the bounds and gives the rest to the bounds. What lies between is read off the output,
// so that nothing needs the input any more.
func vjpClip(c *call, i int) *ir.Value {
	x, y, lo, hi := c.in(0), c.out(0), c.in(1), c.in(2)
	switch i {
	case 1:
		return c.mul(c.dy(), c.step(c.sub(lo, x)))
	case 2:
		return c.mul(c.dy(), c.step(c.sub(x, hi)))
	}
	if unbounded(lo) {
		lo = nil
	}
	if unbounded(hi) {
		hi = nil
	}
	switch {
	case lo == nil && hi == nil:
		return c.dy()
	case hi == nil:
		return c.mul(c.dy(), c.step(c.sub(y, lo)))
	case lo == nil:
		return c.mul(c.dy(), c.step(c.sub(hi, y)))
	}
	return c.mul(c.dy(), c.between(y, lo, hi))
}

// between is 1 where lo < x < hi and 0 elsewhere.
func (c *call) between(x, lo, hi *ir.Value) *ir.Value {
	a, okA := constFloats(lo)
	b, okB := constFloats(hi)
	if okA && okB && len(a) == 1 && len(b) == 1 && x.DType() == ir.Float32 && a[0] < b[0] && math.Min(math.Abs(a[0]), math.Abs(b[0])) > (b[0]-a[0])/4 {
		return c.within(x, a[0], b[0])
	}
	if okA && len(a) == 1 && a[0] == 0 {
		return c.step(c.mul(x, c.sub(hi, x)))
	}
	return c.step(c.mul(c.sub(x, lo), c.sub(hi, x)))
}

// within is between for bounds on both sides of 0: half - |x - middle| > 0, in fewer operators. The slope is a power of two, so that
// nothing is rounded before the difference.
func (c *call) within(x *ir.Value, lo, hi float64) *ir.Value {
	const slope = 1 << 100
	if mid := (lo + hi) / 2; mid != 0 {
		x = c.sub(x, c.num(mid))
	}
	return c.Op("HardSigmoid", []*ir.Value{c.op("Abs", x)}, ir.AFloat("alpha", -slope), ir.AFloat("beta", float32((hi-lo)/2*slope)))
}

// unbounded reports whether a bound is a constant so large that products with it may overflow; it never binds.
func unbounded(v *ir.Value) bool {
	x, ok := constFloats(v)
	return ok && len(x) == 1 && math.Abs(x[0]) > 1e15
}

func vjpNeg(c *call, _, _, dy *ir.Value) *ir.Value { return c.neg(dy) }

func vjpAbs(c *call, x, _, dy *ir.Value) *ir.Value { return c.mul(dy, c.sign(x)) }

// sign is -1, 0 or 1.
func (c *call) sign(x *ir.Value) *ir.Value {
	if x.DType() != ir.Float32 {
		return c.op("Sign", x)
	}
	return c.sub(c.scale(c.half(x), 2), c.num(1))
}

func vjpSqrt(c *call, _, y, dy *ir.Value) *ir.Value { return c.div(c.scale(dy, 0.5), y) }
func vjpExp(c *call, _, y, dy *ir.Value) *ir.Value  { return c.mul(dy, y) }
func vjpLog(c *call, x, _, dy *ir.Value) *ir.Value  { return c.div(dy, x) }

func vjpReciprocal(c *call, _, y, dy *ir.Value) *ir.Value { return c.neg(c.mul(dy, c.square(y))) }

func vjpErf(c *call, x, _, dy *ir.Value) *ir.Value {
	return c.mul(dy, c.scale(c.op("Exp", c.neg(c.square(x))), 2/math.SqrtPi))
}

func vjpSin(c *call, x, _, dy *ir.Value) *ir.Value { return c.mul(dy, c.op("Cos", x)) }
func vjpCos(c *call, x, _, dy *ir.Value) *ir.Value { return c.neg(c.mul(dy, c.op("Sin", x))) }

func vjpTan(c *call, _, y, dy *ir.Value) *ir.Value {
	return c.mul(dy, c.add(c.square(y), c.num(1)))
}

func vjpAsin(c *call, x, _, dy *ir.Value) *ir.Value {
	return c.div(dy, c.op("Sqrt", c.sub(c.num(1), c.square(x))))
}

func vjpAcos(c *call, x, y, dy *ir.Value) *ir.Value { return c.neg(vjpAsin(c, x, y, dy)) }

func vjpAtan(c *call, x, _, dy *ir.Value) *ir.Value {
	return c.div(dy, c.add(c.square(x), c.num(1)))
}

func vjpSinh(c *call, x, _, dy *ir.Value) *ir.Value { return c.mul(dy, c.op("Cosh", x)) }
func vjpCosh(c *call, x, _, dy *ir.Value) *ir.Value { return c.mul(dy, c.op("Sinh", x)) }

func vjpAsinh(c *call, x, _, dy *ir.Value) *ir.Value {
	return c.div(dy, c.op("Sqrt", c.add(c.square(x), c.num(1))))
}

func vjpAcosh(c *call, x, _, dy *ir.Value) *ir.Value {
	return c.div(dy, c.op("Sqrt", c.sub(c.square(x), c.num(1))))
}

func vjpAtanh(c *call, x, _, dy *ir.Value) *ir.Value {
	return c.div(dy, c.sub(c.num(1), c.square(x)))
}

// vjpRound is the straight-through estimator: with Div, Clip, Round and Mul it yields the gradients of LSQ (Esser et al. 2020,
// equations 3 and 5).
func vjpRound(_ *call, _, _, dy *ir.Value) *ir.Value { return dy }
