package grad

import "mqatc/onnx/ir"

// vjpAveragePool spreads the cotangent, divided by how many elements each window counts, over the windows: a ConvTranspose of
// every plane with a kernel of ones.
func vjpAveragePool(c *call, _ int) *ir.Value {
	x, dy := c.in(0), c.dy()
	w, ok := c.window(x, c.out(0), nil)
	if !ok {
		return nil
	}
	xd, yd := c.dims(x), c.dims(c.out(0))
	if c.Err() != nil {
		return nil
	}
	share := make([]float64, product(w.out))
	at, same := make([]int64, len(w.out)), true
	for p := range share {
		unravel(int64(p), w.out, at)
		share[p] = 1 / float64(w.counted(at, c.n.Int("count_include_pad", 0) != 0))
		same = same && share[p] == share[0]
	}
	kernel := c.filled(1, append([]int64{1, 1}, w.kernel...)...)
	if same {
		kernel = c.filled(share[0], append([]int64{1, 1}, w.kernel...)...)
	} else {
		dy = c.mul(dy, c.floats(share, w.out...))
	}
	planes := c.reshape(x, append([]int64{xd[0] * xd[1], 1}, w.in...)...)
	g := c.adjoint(c.reshape(dy, append([]int64{yd[0] * yd[1], 1}, w.out...)...), kernel, planes, w, 1)
	return c.reshape(g, xd...)
}

// counted is the number of elements the window at position at counts: those inside the input, or with includePad inside the
// padded input (a window that ceil_mode lets reach further counts no more than that).
func (w *window) counted(at []int64, includePad bool) int64 {
	n := int64(1)
	for i := range at {
		lo, hi := int64(0), w.in[i]
		if includePad {
			lo = -w.lo[i]
			if w.hi != nil {
				hi += w.hi[i]
			} else {
				hi += max(w.trailing(i), 0)
			}
		}
		m := int64(0)
		for t := int64(0); t < w.kernel[i]; t++ {
			x := at[i]*w.strides[i] + t*w.dilations[i] - w.lo[i]
			if x >= lo && x < hi {
				m++
			}
		}
		n *= max(m, 1)
	}
	return n
}

// vjpMaxPool adds each cotangent to the element its window took, by the operator's own Indices: where windows overlap, an
// element gets the sum.
func vjpMaxPool(c *call, _ int) *ir.Value {
	x := c.in(0)
	if len(c.cots) > 1 && c.cots[1] != nil {
		return c.fail("no rule for output Indices")
	}
	idx, y := c.out(1), c.out(0)
	if columns := c.n.Int("storage_order", 0) != 0; idx == nil || columns {
		var at []ir.Attr
		for _, a := range c.n.Attrs() {
			if a.Name != "storage_order" {
				at = append(at, a)
			}
		}
		again := c.Node(ir.NodeSpec{Op: "MaxPool", Inputs: []*ir.Value{x}, Attrs: at}, 2)
		y, idx = again[0], again[1]
	}
	u := unpooled{x, c.reshape(y, -1), c.reshape(idx, -1), c.reshape(c.dy(), -1)}
	g := c.scatterFlat(x, u.idx, u.dy)
	c.shared.pooled[g] = u
	return g
}

// unpooled is how the cotangent of x, of which windows took y at idx, was made of dy; all but x are flat.
type unpooled struct{ x, y, idx, dy *ir.Value }

// masked is dy * f(y) for a function of each element of y. What a MaxPool scattered is masked before that, while it is small, and by what
// the windows took, so that y is not needed for it.
func (c *call) masked(dy, y *ir.Value, f func(*ir.Value) *ir.Value) *ir.Value {
	if u, ok := c.shared.pooled[dy]; ok && u.x == y {
		return c.scatterFlat(y, u.idx, c.mul(u.dy, f(u.y)))
	}
	return c.mul(dy, f(y))
}

// scatters are how many there are at most for one pooling.
const scatters = 16

// atATime is how many of updates are scattered at a time where that is to take little memory, 0 for all: onnxruntime's kernel copies the
// indices, as int64.
func (c *call) atATime(updates *ir.Value) int64 {
	if d, ok := updates.StaticDims(); c.frugal && ok && c.dt == ir.Float32 && 8*d[0] > frugalIndices {
		return max(frugalIndices/8, (d[0]+scatters-1)/scatters)
	}
	return 0
}

// scatterFlat adds updates to a zero tensor of the shape of like, at indices into its flat form.
func (c *call) scatterFlat(like, idx, updates *ir.Value) *ir.Value {
	sum := c.reshape(c.zeros(like), -1)
	part := c.atATime(updates)
	if part == 0 {
		return c.like(c.accumulated("ScatterElements", sum, idx, updates, ir.AInt("axis", 0)), like)
	}
	n := c.dims(updates)[0]
	for i := int64(0); i < n; i += part {
		some := func(v *ir.Value) *ir.Value {
			return c.slice(v, []int64{i}, []int64{min(i+part, n)}, []int64{0}, []int64{1})
		}
		sum = c.accumulated("ScatterElements", sum, some(idx), some(updates), ir.AInt("axis", 0))
	}
	return c.like(sum, like)
}

// powerSum gives the p-th root of the sums that sum makes of |x|^p.
func (c *call) powerSum(x *ir.Value, sum func(*ir.Value) *ir.Value) *ir.Value {
	switch p := float64(c.n.Int("p", 2)); p {
	case 1:
		return sum(c.op("Abs", x))
	case 2:
		return c.op("Sqrt", c.op("Max", sum(c.square(x)), c.num(1e-30)))
	default:
		s := c.op("Max", sum(c.op("Pow", c.op("Abs", x), c.num(p))), c.num(1e-30))
		return c.op("Pow", s, c.num(1/p))
	}
}

// lpPool sums over windows by convolving every plane with ones.
func lpPool(c *call) *ir.Value {
	x := c.in(0)
	w, ok := c.window(x, c.out(0), nil)
	xd, yd := c.dims(x), c.dims(c.out(0))
	if !ok || c.Err() != nil {
		return nil
	}
	rank := len(w.kernel)
	pads := append(append([]int64{}, w.lo...), repeat(0, rank)...)
	cut := make([]int64, rank)
	for i := range cut {
		pads[rank+i] = max(w.trailing(i), 0)
		cut[i] = min(w.in[i], w.in[i]+w.trailing(i))
	}
	ones := c.filled(1, append([]int64{1, 1}, w.kernel...)...)
	return c.powerSum(x, func(v *ir.Value) *ir.Value {
		v = c.reshape(v, append([]int64{xd[0] * xd[1], 1}, w.in...)...)
		if !equal(cut, w.in) {
			v = c.slice(v, repeat(0, rank), cut, seq(2, rank+2), repeat(1, rank))
		}
		return c.reshape(c.Op("Conv", []*ir.Value{v, ones}, append(w.attrs(1), ir.AInts("pads", pads...))...), yd...)
	})
}

func globalLpPool(c *call) *ir.Value {
	return c.powerSum(c.in(0), func(v *ir.Value) *ir.Value { return c.sum(v, true, seq(2, c.rank(v))...) })
}

// vjpMaxUnpool reads the cotangent where each element was put.
func vjpMaxUnpool(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	return c.op("Gather", c.reshape(c.dy(), -1), c.in(1))
}
