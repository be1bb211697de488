package grad

import (
	"fmt"

	"mqatc/onnx/ir"
)

// gatherLimit bounds the constant indices of an im2col by Gather (elements per layer).
const gatherLimit = 1 << 18

// weightGrad is the gradient by the weights [K, C/group, kernel...] of a convolution that takes big [N, C, ...] to the shape of
// small [N, K, ...], given the cotangent small. The forms were chosen by timing on onnxruntime's CPU provider: one batched
// MatMul for pointwise kernels, those of conv_depthwise.go, im2col by Gather and one MatMul otherwise (a MatMul per tap over
// Slices where the indices would be large), a Conv over transposed tensors where sizes are not static.
func (c *call) weightGrad(big, small *ir.Value, wd []int64, w window, group int64) *ir.Value {
	if v := c.opaque(ConvWeightGrad, big, small, wd, w, group); v != nil {
		return v
	}
	return c.weightForm(big, small, wd, w, group)
}

func (c *call) weightForm(big, small *ir.Value, wd []int64, w window, group int64) *ir.Value {
	switch {
	case group == 1 && w.pointwise():
		return c.weightGradPointwise(big, small, wd, w)
	case w.in == nil && group == 1 && w.hi != nil:
		return c.weightGradLate(big, small, wd, w)
	}
	c.dims(big)
	c.dims(small)
	if c.Err() != nil {
		return nil
	}
	switch {
	case wd[1] == 1 && group > 1:
		return c.weightGradDepthwise(big, small, wd, w, group)
	case group > 1 || product(w.out)*product(w.kernel) <= gatherLimit:
		return c.weightGradGather(big, small, wd, w, group)
	}
	return c.weightGradTaps(big, small, wd, w)
}

func (c *call) weightGradPointwise(big, small *ir.Value, wd []int64, w window) *ir.Value {
	rank := len(w.kernel)
	if !w.dense() {
		big = c.slice(big, repeat(0, rank), repeat(1<<31-1, rank), seq(2, rank+2), w.strides)
	}
	flat := func(v *ir.Value, ch int64) *ir.Value {
		if d, ok := v.StaticDims(); ok {
			return c.reshape(v, d[0], ch, product(d[2:]))
		}
		return c.reshape(v, 0, ch, -1)
	}
	a, b := flat(small, wd[0]), flat(big, wd[1])
	return c.reshape(c.sum(c.op("MatMul", a, c.transpose(b, 0, 2, 1)), false, 0), wd...)
}

// columns lists, for each position and tap, the index of the element of one image the tap reads, row-major over the spatial
// dimensions; zero (the index after the last element) where it reads padding.
func (w *window) columns() (idx []int32, padded bool) {
	zero := int32(product(w.in))
	positions, taps := product(w.out), product(w.kernel)
	idx = make([]int32, 0, positions*taps)
	rank := len(w.kernel)
	at := make([]int64, rank)
	for p := int64(0); p < positions; p++ {
		unravel(p, w.out, at)
		for t := int64(0); t < taps; t++ {
			flat, rest, inside := int64(0), t, true
			tap := make([]int64, rank)
			unravel(rest, w.kernel, tap)
			for i := 0; i < rank; i++ {
				x := at[i]*w.strides[i] + tap[i]*w.dilations[i] - w.lo[i]
				inside = inside && x >= 0 && x < w.in[i]
				flat = flat*w.in[i] + x
			}
			if !inside {
				flat, padded = int64(zero), true
			}
			idx = append(idx, int32(flat))
		}
	}
	return idx, padded
}

// columns is the constant [positions, taps] of w.columns, one for all nodes of the same geometry.
func (c *call) columns(w window) (*ir.Value, bool) {
	idx, padded := w.columns()
	key := fmt.Sprint("columns", w)
	if v := c.shared.tables[key]; v != nil {
		return v, padded
	}
	t, err := ir.FromInt32s(idx, product(w.out), product(w.kernel))
	if err != nil {
		return c.Fail(err), padded
	}
	c.shared.tables[key] = c.Const(t)
	return c.shared.tables[key], padded
}

func unravel(flat int64, dims, at []int64) {
	for i := len(dims) - 1; i >= 0; i-- {
		at[i] = flat % dims[i]
		flat /= dims[i]
	}
}

func (c *call) weightGradGather(big, small *ir.Value, wd []int64, w window, group int64) *ir.Value {
	n, ch := c.dims(big)[0], c.dims(big)[1]
	k, per := wd[0], wd[1]
	positions, taps := product(w.out), product(w.kernel)
	rows := c.reshape(c.channelsLast(big), n, product(w.in), ch)
	idx, padded := c.columns(w)
	if padded {
		rows = c.Op("Concat", []*ir.Value{rows, c.filled(0, n, 1, ch)}, ir.AInt("axis", 1))
	}
	d := c.channelsFirst(small)
	if c.frugal && group == 1 && c.dt == ir.Float32 {
		return c.weightGradFrugal(c.reshape(d, k, n*positions), rows, idx, wd, w)
	}
	cols := c.Op("Gather", []*ir.Value{rows, idx}, ir.AInt("axis", 1)) // [n, positions, taps, ch]
	if group == 1 {
		g := c.op("MatMul", c.reshape(d, k, n*positions), c.reshape(cols, n*positions, taps*ch))
		return c.tapsLast(c.reshape(g, k, taps, ch), wd)
	}
	cols = c.transpose(c.reshape(cols, n*positions, taps, group, per), 2, 0, 1, 3)
	g := c.op("MatMul", c.reshape(d, group, k/group, n*positions), c.reshape(cols, group, n*positions, taps*per))
	return c.tapsLast(c.reshape(g, k, taps, per), wd)
}

// tapsLast turns [K, taps, C] into the weights' shape.
func (c *call) tapsLast(g *ir.Value, wd []int64) *ir.Value {
	return c.reshape(c.transpose(g, 0, 2, 1), wd...)
}

// channelsLast is [N, spatial..., C] of v.
func (c *call) channelsLast(v *ir.Value) *ir.Value {
	return c.transpose(v, append(append([]int64{0}, seq(2, c.rank(v))...), 1)...)
}

// channelsFirst is [C, N, spatial...] of v.
func (c *call) channelsFirst(v *ir.Value) *ir.Value {
	return c.transpose(v, append([]int64{1, 0}, seq(2, c.rank(v))...)...)
}

func (c *call) weightGradTaps(big, small *ir.Value, wd []int64, w window) *ir.Value {
	rank := len(w.kernel)
	n, ch := c.dims(big)[0], wd[1]
	positions, taps := product(w.out), product(w.kernel)
	hi := make([]int64, rank)
	for i := range hi {
		hi[i] = max(w.trailing(i), 0)
	}
	x := c.pad(c.channelsLast(big), append(append([]int64{0}, w.lo...), 0), append(append([]int64{0}, hi...), 0))
	d := c.reshape(c.channelsFirst(small), wd[0], n*positions)
	tap, starts, ends := make([]int64, rank), make([]int64, rank), make([]int64, rank)
	var parts []*ir.Value
	for t := int64(0); t < taps; t++ {
		unravel(t, w.kernel, tap)
		for i := range tap {
			starts[i] = tap[i] * w.dilations[i]
			ends[i] = starts[i] + (w.out[i]-1)*w.strides[i] + 1
		}
		s := c.slice(x, starts, ends, seq(1, rank+1), w.strides)
		parts = append(parts, c.op("MatMul", d, c.reshape(s, n*positions, ch)))
	}
	g := c.reshape(c.Op("Concat", parts, ir.AInt("axis", 0)), taps, wd[0], ch)
	return c.reshape(c.transpose(g, 1, 2, 0), wd...)
}

// weightGradLate is a convolution over batch and channels swapped: slow, but it needs no sizes.
func (c *call) weightGradLate(big, small *ir.Value, wd []int64, w window) *ir.Value {
	rank := len(w.kernel)
	y := c.Op("Conv", []*ir.Value{c.channelsFirst(big), c.channelsFirst(small)}, ir.AInts("strides", w.dilations...),
		ir.AInts("dilations", w.strides...), ir.AInts("pads", append(append([]int64{}, w.lo...), w.hi...)...))
	y = c.slice(y, repeat(0, rank), w.kernel, seq(2, rank+2), repeat(1, rank))
	return c.reshape(c.channelsFirst(y), wd...)
}
