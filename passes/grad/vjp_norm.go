package grad

import "mqatc/onnx/ir"

// standardized gives (x - mean) / sqrt(variance + eps) over axes, and 1 / sqrt(variance + eps). They are computed anew from x so
// that the gradient can be differentiated.
func (c *call) standardized(x *ir.Value, axes []int64, eps float64) (xhat, rstd *ir.Value) {
	mean := func(v *ir.Value) *ir.Value { return c.mean(v, axes) }
	xc := c.once("xc", func() *ir.Value { return c.sub(x, mean(x)) })
	rstd = c.once("rstd", func() *ir.Value {
		return c.op("Reciprocal", c.op("Sqrt", c.add(mean(c.square(xc)), c.num(eps))))
	})
	return c.once("xhat", func() *ir.Value { return c.mul(xc, rstd) }), rstd
}

// mean averages over axes and keeps them.
func (c *call) mean(v *ir.Value, axes []int64) *ir.Value {
	n := float64(1)
	dims := c.dims(v)
	for _, a := range axes {
		if int(a) < len(dims) {
			n *= float64(dims[a])
		}
	}
	return c.scale(c.sum(v, true, axes...), 1/n)
}

// throughNorm pulls the cotangent g of xhat back to x.
func (c *call) throughNorm(g, xhat, rstd *ir.Value, axes []int64) *ir.Value {
	a := c.sub(g, c.mean(g, axes))
	b := c.mul(xhat, c.mean(c.mul(g, xhat), axes))
	return c.mul(rstd, c.sub(a, b))
}

// perChannel shapes a [C] value so that it broadcasts over [N, C, ...] of the given rank.
func (c *call) perChannel(v *ir.Value, rank int) *ir.Value {
	shape := repeat(1, rank)
	shape[1] = -1
	if d, ok := v.StaticDims(); ok && len(d) == 1 {
		shape[1] = d[0]
	}
	return c.reshape(v, shape...)
}

// overChannel sums a [N, C, ...] value to [C].
func (c *call) overChannel(v *ir.Value) *ir.Value {
	return c.sum(v, false, append([]int64{0}, seq(2, c.rank(v))...)...)
}

// onlyFirst makes sure that only the first output carries a cotangent.
func (c *call) onlyFirst() bool {
	for i, ct := range c.cots {
		if i > 0 && ct != nil {
			c.fail("no rule for output %d", i)
			return false
		}
	}
	return true
}

// vjpBatchNorm: with given statistics, or with those of the batch (training_mode=1), which takes no gradient through the running
// ones.
func vjpBatchNorm(c *call, i int) *ir.Value {
	x, rank := c.in(0), c.rank(c.in(0))
	if rank < 2 || !c.onlyFirst() {
		return c.fail("input of rank %d", rank)
	}
	eps := float64(c.n.Float("epsilon", 1e-5))
	if i == 2 {
		return c.overChannel(c.dy())
	}
	scale := c.perChannel(c.in(1), rank)
	if c.n.Int("training_mode", 0) != 0 {
		axes := append([]int64{0}, seq(2, rank)...)
		xhat, rstd := c.standardized(x, axes, eps)
		switch i {
		case 0:
			return c.throughNorm(c.mul(c.dy(), scale), xhat, rstd, axes)
		case 1:
			return c.overChannel(c.mul(c.dy(), xhat))
		}
		return nil
	}
	rstd := c.once("rstd", func() *ir.Value {
		v := c.op("Reciprocal", c.op("Sqrt", c.add(c.in(4), c.num(eps))))
		return c.perChannel(v, rank)
	})
	centred := func() *ir.Value {
		return c.once("sum(dy*xc)", func() *ir.Value {
			return c.overChannel(c.mul(c.dy(), c.sub(x, c.perChannel(c.in(3), rank))))
		})
	}
	flat := func(v *ir.Value) *ir.Value { return c.reshape(v, -1) }
	switch i {
	case 0:
		return c.mul(c.dy(), c.mul(scale, rstd))
	case 1:
		return c.mul(centred(), flat(rstd))
	case 3:
		return c.neg(c.mul(c.overChannel(c.dy()), c.mul(c.in(1), flat(rstd))))
	}
	r := flat(rstd)
	return c.scale(c.mul(c.mul(centred(), c.in(1)), c.mul(r, c.square(r))), -0.5)
}

func vjpInstanceNorm(c *call, i int) *ir.Value {
	rank := c.rank(c.in(0))
	if i == 2 {
		return c.overChannel(c.dy())
	}
	axes := seq(2, rank)
	xhat, rstd := c.standardized(c.in(0), axes, float64(c.n.Float("epsilon", 1e-5)))
	if i == 1 {
		return c.overChannel(c.mul(c.dy(), xhat))
	}
	return c.throughNorm(c.mul(c.dy(), c.perChannel(c.in(1), rank)), xhat, rstd, axes)
}

func vjpLayerNorm(c *call, i int) *ir.Value {
	rank := c.rank(c.in(0))
	first := c.axis(c.n.Int("axis", -1), rank)
	if c.Err() != nil || !c.onlyFirst() {
		return nil
	}
	if i == 2 {
		return c.unbroadcast(c.dy(), c.in(2))
	}
	axes := seq(int(first), rank)
	xhat, rstd := c.standardized(c.in(0), axes, float64(c.n.Float("epsilon", 1e-5)))
	if i == 1 {
		return c.unbroadcast(c.mul(c.dy(), xhat), c.in(1))
	}
	return c.throughNorm(c.mul(c.dy(), c.in(1)), xhat, rstd, axes)
}

// vjpGroupNorm takes scale and bias per channel (opset 21) or per group (opset 18).
func vjpGroupNorm(c *call, i int) *ir.Value {
	dims := c.dims(c.in(0))
	groups := c.n.Int("num_groups", 0)
	if len(dims) < 2 || groups < 1 || dims[1]%groups != 0 {
		return c.fail("%d groups of an input of shape %v", groups, c.in(0).Shape())
	}
	grouped := []int64{dims[0], groups, product(dims[1:]) / groups}
	xhat, rstd := c.standardized(c.reshape(c.in(0), grouped...), []int64{2}, float64(c.n.Float("epsilon", 1e-5)))
	affine := dims
	if s := c.dims(c.in(1)); len(s) == 1 && s[0] == groups {
		affine = grouped
	}
	dy := c.reshape(c.dy(), affine...)
	switch i {
	case 1:
		return c.overChannel(c.mul(dy, c.reshape(xhat, affine...)))
	case 2:
		return c.overChannel(dy)
	}
	g := c.reshape(c.mul(dy, c.perChannel(c.in(1), len(affine))), grouped...)
	return c.reshape(c.throughNorm(g, xhat, rstd, []int64{2}), dims...)
}

// vjpLpNorm: y = x / norm(x) along one axis.
func vjpLpNorm(c *call, _ int) *ir.Value {
	x, y, dy := c.in(0), c.out(0), c.dy()
	a := c.axis(c.n.Int("axis", -1), c.rank(x))
	along := c.sum(c.mul(dy, y), true, a)
	if c.n.Int("p", 2) == 1 {
		norm := c.sum(c.op("Abs", x), true, a)
		return c.div(c.sub(dy, c.mul(c.sign(x), along)), norm)
	}
	norm := c.op("Sqrt", c.sum(c.square(x), true, a))
	return c.div(c.sub(dy, c.mul(y, along)), norm)
}
