package grad

import "mqatc/onnx/ir"

// flipArea is the number of output positions from which on, at stride 1, a convolution with flipped weights beats ConvTranspose
// on onnxruntime's CPU provider (few channels, large maps); below, ConvTranspose is up to 1.7 times faster.
const flipArea = 1024

func vjpConv(c *call, i int) *ir.Value {
	x, w, dy := c.in(0), c.in(1), c.dy()
	if i == 2 {
		return c.overChannel(dy)
	}
	wd := c.dims(w)
	if len(wd) < 3 {
		return c.fail("weights of shape %v", w.Shape())
	}
	win, ok := c.window(x, c.out(0), wd[2:])
	if !ok {
		return nil
	}
	group := c.n.Int("group", 1)
	if i == 1 {
		return c.weightGrad(x, dy, wd, win, group)
	}
	if d, ok := x.StaticDims(); ok {
		if v := c.opaque(ConvInputGrad, dy, w, d, win, group); v != nil {
			return v
		}
	}
	return c.inputForm(dy, w, x, win, group)
}

// inputForm is the gradient by x, whose shape is read only where sizes are not static.
func (c *call) inputForm(dy, w, x *ir.Value, win window, group int64) *ir.Value {
	if g := c.flipped(dy, w, c.dims(w), win, group); g != nil {
		return g
	}
	return c.adjoint(dy, w, x, win, group)
}

// flipped is the input gradient as a convolution with the weights turned round, where that is possible and faster; else nil.
func (c *call) flipped(dy, w *ir.Value, wd []int64, win window, group int64) *ir.Value {
	depthwise := group == wd[0] && wd[1] == 1
	if win.in == nil || !win.dense() || (group != 1 && !depthwise) {
		return nil
	}
	if !win.pointwise() && !depthwise && product(win.out) < flipArea {
		return nil
	}
	rank := len(win.kernel)
	pads := make([]int64, 2*rank)
	for k := 0; k < rank; k++ {
		pads[k], pads[rank+k] = win.extent(k)-1-win.lo[k], win.extent(k)-1-win.trailing(k)
		if pads[k] < 0 || pads[rank+k] < 0 {
			return nil
		}
	}
	if product(win.kernel) > 1 {
		w = c.slice(w, repeat(-1, rank), repeat(-1<<31, rank), seq(2, rank+2), repeat(-1, rank))
	}
	if group == 1 {
		perm := seq(0, rank+2)
		perm[0], perm[1] = 1, 0
		w = c.transpose(w, perm...)
	}
	return c.Op("Conv", []*ir.Value{dy, w}, append(win.attrs(group), ir.AInts("pads", pads...))...)
}

// vjpConvTranspose: the input gradient is the convolution, the weight gradient that of the convolution with input and output
// swapped.
func vjpConvTranspose(c *call, i int) *ir.Value {
	x, w, dy := c.in(0), c.in(1), c.dy()
	if i == 2 {
		return c.overChannel(dy)
	}
	wd := c.dims(w)
	if len(wd) < 3 {
		return c.fail("weights of shape %v", w.Shape())
	}
	win, ok := c.window(c.out(0), x, wd[2:])
	if !ok {
		return nil
	}
	group := c.n.Int("group", 1)
	if i == 1 {
		return c.weightGrad(dy, x, wd, win, group)
	}
	pads := append(append([]int64{}, win.lo...), win.hi...)
	if win.in == nil {
		return c.Op("Conv", []*ir.Value{dy, w}, append(win.attrs(group), ir.AInts("pads", pads...))...)
	}
	rank := len(win.kernel)
	pads = append(append([]int64{}, win.lo...), repeat(0, rank)...)
	cut := append([]int64{}, win.in...)
	for k := range cut {
		pads[rank+k] = max(win.trailing(k), 0)
		cut[k] = min(cut[k], cut[k]+win.trailing(k))
	}
	if !equal(cut, win.in) {
		dy = c.slice(dy, repeat(0, rank), cut, seq(2, rank+2), repeat(1, rank))
	}
	return c.Op("Conv", []*ir.Value{dy, w}, append(win.attrs(group), ir.AInts("pads", pads...))...)
}
