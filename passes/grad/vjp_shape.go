package grad

import (
	"math"

	"mqatc/onnx/ir"
)

func vjpIdentity(c *call, _ int) *ir.Value { return c.dy() }

// noInput is the rule of operators whose inputs have no gradient.
func noInput(*call, int) *ir.Value { return nil }

// vjpDropout covers inference and ratio 0, where Dropout is the identity, and training where the mask is an output.
func vjpDropout(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	v := c.in(2)
	if v == nil {
		return c.dy()
	}
	t := constTensor(v)
	if t == nil {
		return c.fail("training_mode is not a constant")
	}
	if x, err := t.Ints(); err == nil && len(x) == 1 && x[0] == 0 {
		return c.dy()
	}
	ratio := []float64{0.5}
	if r := c.in(1); r != nil {
		var ok bool
		if ratio, ok = constFloats(r); !ok || len(ratio) != 1 {
			return c.fail("ratio is not a constant")
		}
	}
	m := c.out(1)
	switch {
	case ratio[0] == 0:
		return c.dy()
	case m == nil || m.Name() == "":
		return c.fail("training_mode is on and the mask is no output")
	}
	return c.scale(c.mul(c.dy(), c.mask(m)), 1/(1-ratio[0]))
}

func vjpCast(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	to := c.in(0).DType()
	if !to.IsFloat() || to == c.dt {
		return c.dy()
	}
	return c.Op("Cast", []*ir.Value{c.dy()}, ir.AInt("to", int64(to)))
}

func vjpReshape(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	return c.like(c.dy(), c.in(0))
}

func vjpTranspose(c *call, _ int) *ir.Value {
	r := c.rank(c.in(0))
	perm := c.n.Ints("perm")
	if len(perm) == 0 {
		for i := r - 1; i >= 0; i-- {
			perm = append(perm, int64(i))
		}
	}
	inv := make([]int64, len(perm))
	for i, p := range perm {
		if p < 0 || int(p) >= len(perm) {
			return c.fail("perm %v", perm)
		}
		inv[p] = int64(i)
	}
	return c.transpose(c.dy(), inv...)
}

// along is the static size of v along an axis; an error without.
func (c *call) along(v *ir.Value, axis int64) int64 {
	if s := v.Shape(); int(axis) < len(s) && axis >= 0 && s[axis].Known() {
		return s[axis].Size
	}
	if c.Err() == nil {
		c.fail("needs the static size of %q %v along axis %d", v.Name(), v.Type, axis)
	}
	return 1
}

// vjpConcat slices the cotangent; offsets along the axis are computed at run time where sizes are not static.
func vjpConcat(c *call, i int) *ir.Value {
	axis := c.axis(c.n.Int("axis", 0), c.rank(c.out(0)))
	ins := c.n.Inputs()
	static := true
	for _, v := range ins[:i+1] {
		static = static && len(v.Shape()) > int(axis) && v.Shape()[axis].Known()
	}
	if static {
		lo := int64(0)
		for _, v := range ins[:i] {
			lo += c.along(v, axis)
		}
		return c.slice(c.dy(), []int64{lo}, []int64{lo + c.along(ins[i], axis)}, []int64{axis}, []int64{1})
	}
	size := func(v *ir.Value) *ir.Value { return c.op("Gather", c.op("Shape", v), c.Int64s(axis)) }
	lo := c.Int64s(0)
	for _, v := range ins[:i] {
		lo = c.add(lo, size(v))
	}
	return c.op("Slice", c.dy(), lo, c.add(lo, size(ins[i])), c.Int64s(axis))
}

func vjpSplit(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	axis := c.axis(c.n.Int("axis", 0), c.rank(c.in(0)))
	var parts []*ir.Value
	for k, ct := range c.cots {
		if ct == nil {
			o := c.out(k)
			if o == nil {
				return c.fail("output %d is absent", k)
			}
			ct = c.zeros(o)
		}
		parts = append(parts, ct)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return c.Op("Concat", parts, ir.AInt("axis", axis))
}

// vjpSlice undoes the slice axis by axis: turned round where the step was negative, spread where it was not 1, then padded.
func vjpSlice(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	x, g := c.in(0), c.dy()
	rank := c.rank(x)
	starts, okS := constInts(c.in(1))
	if _, okE := constInts(c.in(2)); !okS || !okE {
		return c.fail("starts and ends must be constants")
	}
	axes, steps := seq(0, len(starts)), repeat(1, len(starts))
	if v := c.in(3); v != nil {
		a, ok := constInts(v)
		if !ok || len(a) != len(starts) {
			return c.fail("axes must be constants, as many as starts")
		}
		axes = a
	}
	if v := c.in(4); v != nil {
		s, ok := constInts(v)
		if !ok || len(s) != len(starts) {
			return c.fail("steps must be constants, as many as starts")
		}
		steps = s
	}
	lo, hi := repeat(0, rank), repeat(0, rank)
	for k := range starts {
		a := c.axis(axes[k], rank)
		if c.Err() != nil {
			return nil
		}
		if unsliced(x, c.out(0), a) && steps[k] > 0 {
			continue
		}
		dim, m := c.along(x, a), c.along(c.out(0), a)
		if c.Err() != nil {
			return nil
		}
		if m == 0 {
			return c.zeros(x)
		}
		start, step := clampStart(starts[k], steps[k], dim), steps[k]
		if step < 0 {
			g = c.reverse(g, a)
			start, step = start+(m-1)*step, -step
		}
		if step > 1 && m > 1 {
			g = c.spread(g, a, m, step)
			m = (m-1)*step + 1
		}
		lo[a], hi[a] = start, dim-start-m
	}
	return c.pad(g, lo, hi)
}

// unsliced reports whether the slice keeps all of axis a.
func unsliced(x, y *ir.Value, a int64) bool {
	if len(x.Shape()) <= int(a) || len(y.Shape()) <= int(a) {
		return false
	}
	d, e := x.Shape()[a], y.Shape()[a]
	return d.Size == e.Size && d.Symbol == e.Symbol && (d.Known() || d.Symbol != "")
}

func clampStart(start, step, dim int64) int64 {
	if start < 0 {
		start += dim
	}
	if step < 0 {
		return min(max(start, 0), dim-1)
	}
	return min(max(start, 0), dim)
}

func (c *call) reverse(v *ir.Value, axis int64) *ir.Value {
	return c.slice(v, []int64{-1}, []int64{math.MinInt32}, []int64{axis}, []int64{-1})
}

// spread puts step-1 zeros between the m elements along an axis.
func (c *call) spread(v *ir.Value, axis, m, step int64) *ir.Value {
	dims := c.dims(v)
	if c.Err() != nil {
		return v
	}
	pre, post := dims[:axis], dims[axis+1:]
	split := append(append(append([]int64{}, pre...), m, 1), post...)
	lo, hi := repeat(0, len(split)), repeat(0, len(split))
	hi[axis+1] = step - 1
	v = c.pad(c.reshape(v, split...), lo, hi)
	v = c.reshape(v, append(append(append([]int64{}, pre...), m*step), post...)...)
	return c.slice(v, []int64{0}, []int64{(m-1)*step + 1}, []int64{axis}, []int64{1})
}

func vjpExpand(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	return c.dy()
}

func vjpTile(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	reps, ok := constInts(c.in(1))
	dims := c.dims(c.in(0))
	if !ok || len(reps) != len(dims) {
		return c.fail("repeats must be constants, one per dimension")
	}
	var split, axes []int64
	for k, r := range reps {
		if r != 1 {
			axes = append(axes, int64(len(split)))
			split = append(split, r)
		}
		split = append(split, dims[k])
	}
	if len(axes) == 0 {
		return c.dy()
	}
	return c.sum(c.reshape(c.dy(), split...), false, axes...)
}

func vjpDepthToSpace(c *call, _ int) *ir.Value {
	b := c.n.Int("blocksize", 0)
	if c.n.Str("mode", "DCR") == "DCR" {
		return c.Op("SpaceToDepth", []*ir.Value{c.dy()}, ir.AInt("blocksize", b))
	}
	d := c.dims(c.in(0))
	if len(d) != 4 || b < 1 || d[1]%(b*b) != 0 {
		return c.fail("input of shape %v with blocksize %d", c.in(0).Shape(), b)
	}
	g := c.reshape(c.dy(), d[0], d[1]/(b*b), d[2], b, d[3], b)
	return c.reshape(c.transpose(g, 0, 1, 3, 5, 2, 4), d...)
}

func vjpSpaceToDepth(c *call, _ int) *ir.Value {
	return c.Op("DepthToSpace", []*ir.Value{c.dy()}, ir.AInt("blocksize", c.n.Int("blocksize", 0)), ir.AString("mode", "DCR"))
}

func vjpTrilu(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	in := []*ir.Value{c.dy()}
	if k := c.in(1); k != nil {
		in = append(in, k)
	}
	return c.Op("Trilu", in, ir.AInt("upper", c.n.Int("upper", 1)))
}

// vjpPad undoes one dimension after the other: constant padding is cut off, the other modes' copies are added to their source.
func vjpPad(c *call, i int) *ir.Value {
	x, dy := c.in(0), c.dy()
	rank := c.rank(x)
	pads, ok := constInts(c.in(1))
	if !ok {
		return c.fail("pads must be constants")
	}
	axes := seq(0, rank)
	if v := c.in(3); v != nil {
		if axes, ok = constInts(v); !ok {
			return c.fail("axes must be constants")
		}
	}
	if len(pads) != 2*len(axes) {
		return c.fail("%d pads for %d axes", len(pads), len(axes))
	}
	lo, hi := repeat(0, rank), repeat(0, rank)
	for k, a := range axes {
		a = c.axis(a, rank)
		if c.Err() != nil {
			return nil
		}
		lo[a], hi[a] = pads[k], pads[len(axes)+k]
	}
	mode := c.n.Str("mode", "constant")
	if i == 2 {
		whole := c.sum(dy, false, seq(0, rank)...)
		return c.like(c.sub(whole, c.sum(c.cut(dy, x, lo, hi), false, seq(0, rank)...)), c.in(2))
	}
	if i != 0 {
		return nil
	}
	if mode == "constant" {
		return c.cut(dy, x, lo, hi)
	}
	for a := 0; a < rank; a++ {
		if lo[a] == 0 && hi[a] == 0 {
			continue
		}
		dim := c.along(x, int64(a))
		idx := make([]int64, 0, max(dim+lo[a]+hi[a], 0))
		for p := -lo[a]; p < dim+hi[a]; p++ {
			q, err := padSource(mode, p, dim)
			if err != nil {
				return c.Fail(err)
			}
			idx = append(idx, q)
		}
		dy = c.gatherBack(dy, idx, int64(a), dim)
	}
	return dy
}

// cut takes the padding lo, hi off g, putting zeros where it was negative.
func (c *call) cut(g, x *ir.Value, lo, hi []int64) *ir.Value {
	var axes, starts, ends []int64
	plo, phi := repeat(0, len(lo)), repeat(0, len(lo))
	for a := range lo {
		plo[a], phi[a] = max(-lo[a], 0), max(-hi[a], 0)
		if lo[a] > 0 || hi[a] > 0 {
			end := -max(hi[a], 0)
			if end == 0 {
				end = math.MaxInt32
			}
			axes, starts, ends = append(axes, int64(a)), append(starts, max(lo[a], 0)), append(ends, end)
		}
	}
	if len(axes) > 0 {
		g = c.slice(g, starts, ends, axes, repeat(1, len(axes)))
	}
	return c.pad(g, plo, phi)
}

// centerCropPad cuts or pads axes to constant sizes; what is odd goes to the end.
func centerCropPad(c *call) *ir.Value {
	x := c.in(0)
	size, ok := constInts(c.in(1))
	if !ok {
		return c.fail("sizes must be constants")
	}
	rank := c.rank(x)
	axes := c.n.Ints("axes")
	if len(axes) == 0 {
		axes = seq(0, rank)
	}
	if len(axes) != len(size) {
		return c.fail("%d sizes for %d axes", len(size), len(axes))
	}
	var starts, ends, cut []int64
	lo, hi := repeat(0, rank), repeat(0, rank)
	for i, a := range axes {
		a = c.axis(a, rank)
		have := c.along(x, a)
		if c.Err() != nil {
			return nil
		}
		if d := have - size[i]; d > 0 {
			starts, ends, cut = append(starts, d/2), append(ends, d/2+size[i]), append(cut, a)
		} else {
			lo[a], hi[a] = -d/2, -d-(-d/2)
		}
	}
	if len(cut) > 0 {
		x = c.slice(x, starts, ends, cut, repeat(1, len(cut)))
	}
	return c.pad(x, lo, hi)
}
