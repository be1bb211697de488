package grad

import (
	"math"

	"mqatc/onnx/ir"
)

func vjpRelu(c *call, _, y, dy *ir.Value) *ir.Value { return c.masked(dy, y, c.step) }

func vjpLeakyRelu(c *call, x, y, dy *ir.Value) *ir.Value {
	alpha := float64(c.n.Float("alpha", 0.01))
	if alpha >= 0 && alpha <= 1 { // x and y have one sign, and nothing needs x any more
		return c.masked(dy, y, func(y *ir.Value) *ir.Value { return c.op("Max", c.step(y), c.num(alpha)) })
	}
	return c.mul(dy, c.add(c.scale(c.step(x), 1-alpha), c.num(alpha)))
}

func vjpThresholdedRelu(c *call, x, _, dy *ir.Value) *ir.Value {
	return c.mul(dy, c.step(c.sub(x, c.num(float64(c.n.Float("alpha", 1))))))
}

func vjpPRelu(c *call, i int) *ir.Value {
	x, slope := c.in(0), c.in(1)
	if i == 1 {
		return c.mul(c.dy(), c.sub(x, c.op("Relu", x)))
	}
	pos := c.step(x)
	return c.mul(c.dy(), c.add(pos, c.mul(slope, c.sub(c.num(1), pos))))
}

// negative is gain where x > 0 and f elsewhere.
func (c *call) negative(x, f *ir.Value, gain float64) *ir.Value {
	pos := c.step(x)
	return c.add(c.scale(pos, gain), c.mul(c.sub(c.num(1), pos), f))
}

func vjpElu(c *call, x, y, dy *ir.Value) *ir.Value {
	alpha := float64(c.n.Float("alpha", 1))
	return c.mul(dy, c.negative(x, c.add(y, c.num(alpha)), 1))
}

func vjpSelu(c *call, x, y, dy *ir.Value) *ir.Value {
	alpha, gamma := float64(c.n.Float("alpha", 1.67326319217681884765625)), float64(c.n.Float("gamma", 1.05070102214813232421875))
	return c.mul(dy, c.negative(x, c.add(y, c.num(alpha*gamma)), gamma))
}

func vjpCelu(c *call, x, y, dy *ir.Value) *ir.Value {
	alpha := float64(c.n.Float("alpha", 1))
	return c.mul(dy, c.negative(x, c.add(c.scale(y, 1/alpha), c.num(1)), 1))
}

// vjpGelu: exact form y = x P(x) with P(x) = (1+erf(x/sqrt 2))/2, or the tanh approximation.
func vjpGelu(c *call, x, _, dy *ir.Value) *ir.Value {
	if c.n.Str("approximate", "none") == "tanh" {
		k := math.Sqrt(2 / math.Pi)
		x2 := c.square(x)
		t := c.op("Tanh", c.mul(x, c.add(c.scale(x2, k*0.044715), c.num(k))))
		inner := c.add(c.scale(x2, 3*k*0.044715), c.num(k))
		d := c.mul(c.mul(x, inner), c.sub(c.num(1), c.square(t)))
		return c.mul(dy, c.scale(c.add(c.add(t, c.num(1)), d), 0.5))
	}
	p := c.scale(c.add(c.op("Erf", c.scale(x, math.Sqrt2/2)), c.num(1)), 0.5)
	density := c.scale(c.op("Exp", c.scale(c.square(x), -0.5)), 1/math.Sqrt(2*math.Pi))
	return c.mul(dy, c.add(p, c.mul(x, density)))
}

func vjpMish(c *call, x, _, dy *ir.Value) *ir.Value {
	t := c.op("Tanh", c.op("Softplus", x))
	d := c.mul(c.mul(x, c.op("Sigmoid", x)), c.sub(c.num(1), c.square(t)))
	return c.mul(dy, c.add(t, d))
}

func vjpSigmoid(c *call, _, y, dy *ir.Value) *ir.Value {
	return c.masked(dy, y, func(y *ir.Value) *ir.Value { return c.mul(y, c.sub(c.num(1), y)) })
}

// vjpHardSigmoid treats a slope of stepSlope or more as a step function, whose gradient is zero.
func vjpHardSigmoid(c *call, _, y, dy *ir.Value) *ir.Value {
	alpha := float64(c.n.Float("alpha", 0.2))
	if math.Abs(alpha) >= 0.5*stepSlope || alpha == 0 {
		return nil
	}
	inside := c.step(c.mul(y, c.sub(c.num(1), y)))
	return c.mul(dy, c.scale(inside, alpha))
}

// vjpHardSwish: y = x h(x) with h the HardSigmoid of slope 1/6.
func vjpHardSwish(c *call, x, _, dy *ir.Value) *ir.Value {
	h := c.Op("HardSigmoid", []*ir.Value{x}, ir.AFloat("alpha", 1.0/6), ir.AFloat("beta", 0.5))
	inside := c.step(c.mul(h, c.sub(c.num(1), h)))
	return c.mul(dy, c.add(h, c.mul(c.scale(x, 1.0/6), inside)))
}

func vjpTanh(c *call, _, y, dy *ir.Value) *ir.Value {
	return c.masked(dy, y, func(y *ir.Value) *ir.Value { return c.sub(c.num(1), c.square(y)) })
}

func vjpSoftplus(c *call, x, _, dy *ir.Value) *ir.Value { return c.mul(dy, c.op("Sigmoid", x)) }

func vjpSoftsign(c *call, x, _, dy *ir.Value) *ir.Value {
	return c.div(dy, c.square(c.add(c.op("Abs", x), c.num(1))))
}

func vjpSoftmax(c *call, x, y, dy *ir.Value) *ir.Value {
	a := c.axis(c.n.Int("axis", -1), c.rank(x))
	return c.mul(y, c.sub(dy, c.sum(c.mul(dy, y), true, a)))
}

func vjpLogSoftmax(c *call, x, y, dy *ir.Value) *ir.Value {
	a := c.axis(c.n.Int("axis", -1), c.rank(x))
	return c.sub(dy, c.mul(c.op("Exp", y), c.sum(dy, true, a)))
}

func vjpShrink(c *call, x, _, dy *ir.Value) *ir.Value {
	return c.mul(dy, c.step(c.sub(c.op("Abs", x), c.num(float64(c.n.Float("lambd", 0.5))))))
}

// vjpSwish: y = x sigmoid(alpha x), with alpha 1 in ONNX and 1.702 in onnxruntime's QuickGelu.
func vjpSwish(c *call, x, y, dy *ir.Value) *ir.Value {
	def := float32(1)
	if c.n.Op == "QuickGelu" {
		def = 1.702
	}
	alpha := float64(c.n.Float("alpha", def))
	s := c.op("Sigmoid", c.scale(x, alpha))
	return c.mul(dy, c.add(s, c.mul(c.scale(y, alpha), c.sub(c.num(1), s))))
}

func biasGelu(c *call) *ir.Value {
	x := c.add(c.in(0), c.in(1))
	return c.mul(x, c.scale(c.add(c.op("Erf", c.scale(x, math.Sqrt2/2)), c.num(1)), 0.5))
}

func fastGelu(c *call) *ir.Value {
	x := c.in(0)
	if b := c.in(1); b != nil {
		x = c.add(x, b)
	}
	k := math.Sqrt(2 / math.Pi)
	t := c.op("Tanh", c.mul(x, c.add(c.scale(c.square(x), k*0.044715), c.num(k))))
	return c.mul(x, c.scale(c.add(t, c.num(1)), 0.5))
}
