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

// vjpBatchNorm: with given statistics, or with those of the batch (training_mode=1).
func vjpBatchNorm(c *call, i int) *ir.Value {
	x, rank := c.in(0), c.rank(c.in(0))
	if rank < 2 {
		return c.fail("input of rank %d", rank)
	}
	eps := float64(c.n.Float("epsilon", 1e-5))
	if c.n.Int("training_mode", 0) != 0 {
		return c.batchTraining(i, x, rank, eps)
	}
	if !c.onlyFirst() {
		return nil
	}
	if i == 2 {
		return c.overChannel(c.dy())
	}
	scale := c.perChannel(c.in(1), rank)
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

// batchTraining also has the cotangents of the running statistics m*old + (1-m)*batch, the variance being that of the batch itself.
func (c *call) batchTraining(i int, x *ir.Value, rank int, eps float64) *ir.Value {
	keep := float64(c.n.Float("momentum", 0.9))
	axes := append([]int64{0}, seq(2, rank)...)
	cot := func(k int) *ir.Value {
		if k < len(c.cots) {
			return c.cots[k]
		}
		return nil
	}
	if i > 2 {
		if d := cot(i - 2); d != nil {
			return c.scale(d, keep)
		}
		return nil
	}
	var g *ir.Value
	if c.dy() != nil {
		if i == 2 {
			return c.overChannel(c.dy())
		}
		xhat, rstd := c.standardized(x, axes, eps)
		if i == 1 {
			return c.overChannel(c.mul(c.dy(), xhat))
		}
		g = c.throughNorm(c.mul(c.dy(), c.perChannel(c.in(1), rank)), xhat, rstd, axes)
	}
	if i != 0 {
		return nil
	}
	for k := 1; k <= 2; k++ {
		d := cot(k)
		if d == nil {
			continue
		}
		dims := c.dims(x)
		if c.Err() != nil {
			return nil
		}
		share := (1 - keep) * float64(dims[1]) / float64(product(dims))
		part := c.expand(c.perChannel(c.scale(d, share), rank), x)
		if k == 2 {
			part = c.mul(c.scale(part, 2), c.sub(x, c.mean(x, axes)))
		}
		if g == nil {
			g = part
		} else {
			g = c.add(g, part)
		}
	}
	return g
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

// rootMeanSquare gives x / rms(x) * scale, and 1 / rms(x).
func rootMeanSquare(c *call) []*ir.Value {
	y, r := c.overRMS(c.in(0), c.in(1), c.n.Int("axis", -1))
	return []*ir.Value{y, r}
}

func (c *call) overRMS(x, scale *ir.Value, axis int64) (y, rstd *ir.Value) {
	rank := c.rank(x)
	axes := seq(int(c.axis(axis, rank)), rank)
	if c.Err() != nil {
		return nil, nil
	}
	eps := float64(c.n.Float("epsilon", 1e-5))
	rstd = c.op("Reciprocal", c.op("Sqrt", c.add(c.mean(c.square(x), axes), c.num(eps))))
	return c.mul(c.mul(x, rstd), scale), rstd
}

// skipped is the sum of x, skip and the bias, the input of onnxruntime's fused normalizations.
func (c *call) skipped(bias int) *ir.Value {
	s := c.add(c.in(0), c.in(1))
	if b := c.in(bias); b != nil {
		s = c.add(s, b)
	}
	return s
}

func skipRootMeanSquare(c *call) []*ir.Value {
	s := c.skipped(3)
	y, _ := c.overRMS(s, c.in(2), -1)
	return []*ir.Value{y, nil, nil, s}
}

func skipLayerNorm(c *call) []*ir.Value {
	s := c.skipped(4)
	axes := []int64{int64(c.rank(s) - 1)}
	xc := c.sub(s, c.mean(s, axes))
	eps := float64(c.n.Float("epsilon", 1e-12))
	y := c.mul(c.div(xc, c.op("Sqrt", c.add(c.mean(c.square(xc), axes), c.num(eps)))), c.in(2))
	if b := c.in(3); b != nil {
		y = c.add(y, b)
	}
	return []*ir.Value{y, nil, nil, s}
}

// meanVariance is (x - mean) / (deviation + 1e-9) over axes, by default all but the channels.
func meanVariance(c *call) *ir.Value {
	axes := append([]int64{}, c.n.Ints("axes")...)
	if len(axes) == 0 {
		axes = []int64{0, 2, 3}
	}
	rank := c.rank(c.in(0))
	for i := range axes {
		axes[i] = c.axis(axes[i], rank)
	}
	if c.Err() != nil {
		return nil
	}
	xc := c.sub(c.in(0), c.mean(c.in(0), axes))
	return c.div(xc, c.add(c.op("Sqrt", c.mean(c.square(xc), axes)), c.num(1e-9)))
}

// localResponse divides by (bias + alpha/size * sum of squares over the nearest channels) ^ beta.
func localResponse(c *call) *ir.Value {
	x, size := c.in(0), c.n.Int("size", 0)
	d := c.dims(x)
	if c.Err() != nil || len(d) < 3 || size < 1 {
		return c.fail("size %d for an input of shape %v", size, x.Shape())
	}
	lo := (size - 1) / 2
	planes := c.reshape(c.square(x), d[0], 1, d[1], product(d[2:]))
	ones := c.filled(float64(c.n.Float("alpha", 1e-4))/float64(size), 1, 1, size, 1)
	s := c.Op("Conv", []*ir.Value{planes, ones}, ir.AInts("pads", lo, 0, size-1-lo, 0))
	base := c.add(c.reshape(s, d...), c.num(float64(c.n.Float("bias", 1))))
	return c.mul(x, c.op("Pow", base, c.num(-float64(c.n.Float("beta", 0.75)))))
}
