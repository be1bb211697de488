package lower

import (
	"fmt"

	"mqatc/onnx/ir"
)

// Plain weights are [K, C, kh, kw]. ReorderInput is the fastest transposition that onnxruntime has, and threaded: it takes
// [n, c, s] to [n, c/B, s, B] whatever the axes mean.

// filled is w with both kinds of channels filled up to whole blocks.
func (l *lowerer) filled(w *ir.Value, k, c int64) *ir.Value {
	return l.once(fmt.Sprint("filled ", w.Name(), k, c), func() *ir.Value { return l.padChannels(l.padChannels(w, 0, k), 1, c) })
}

// inner is w as [K, C/B, taps, B]: the input channels blocked.
func (l *lowerer) inner(w *ir.Value) *ir.Value {
	return l.once("inner "+w.Name(), func() *ir.Value {
		d, _ := w.StaticDims()
		if d[2]*d[3] == 1 {
			return w
		}
		return l.nchwc("ReorderInput", d, []*ir.Value{w})
	})
}

// outer blocks the output channels of what has the elements of [K, rest...]: [K/B, rest, B].
func (l *lowerer) outer(v *ir.Value, k, rest int64, dims ...int64) *ir.Value {
	r := l.nchwc("ReorderInput", []int64{k / l.block, l.block, rest, 1}, []*ir.Value{l.reshape(v, k/l.block, l.block, rest, 1)})
	return l.reshape(r, dims...)
}

// forward is w as a blocked convolution reads it: [K/B, C/B, kh, kw, B, B], or [K/B, C, kh, kw, B] where C is not blocked.
func (l *lowerer) forward(w *ir.Value, whole bool) *ir.Value {
	return l.once(fmt.Sprint("forward ", w.Name(), whole), func() *ir.Value {
		d, _ := w.StaticDims()
		v := w
		if whole {
			v = l.inner(w)
		}
		return l.outer(v, d[0], d[1]*d[2]*d[3], d...)
	})
}

// tiles is w as rows [(K/B)*(C/B)*taps, B*B], each of them a tap of a block of output by a block of input channels; where K is
// smaller than a block, rows [K*(C/B)*taps, B].
func (l *lowerer) tiles(w *ir.Value) *ir.Value {
	return l.once("tiles "+w.Name(), func() *ir.Value {
		d, _ := w.StaticDims()
		k, c, taps, b := d[0], d[1], d[2]*d[3], l.block
		if k < b {
			return l.reshape(l.inner(w), k*c/b*taps, b)
		}
		v := l.outer(w, k, c*taps, k/b*c/b, b, taps*b, 1)
		v = l.nchwc("ReorderInput", []int64{k / b * c / b, b, taps * b, 1}, []*ir.Value{v})
		return l.reshape(v, k/b*c/b*taps, b*b)
	})
}

// backward is w turned round, from output to input channels, as a blocked convolution reads it: [C/B, K/B, kh, kw, B, B], or
// [C/B, K, kh, kw, B] where K is smaller than a block.
func (l *lowerer) backward(w *ir.Value) *ir.Value {
	return l.once("backward "+w.Name(), func() *ir.Value {
		d, _ := w.StaticDims()
		k, c, taps := d[0], d[1]/l.block, d[2]*d[3]
		if k >= l.block {
			k /= l.block
		}
		idx := l.indices(fmt.Sprint("backward ", k, c, taps), func() []int32 {
			out := make([]int32, 0, c*k*taps)
			for i := range c {
				for o := range k {
					for t := range taps {
						out = append(out, int32((o*c+i)*taps+taps-1-t))
					}
				}
			}
			return out
		}, c*k*taps)
		v := l.b.Op("Gather", []*ir.Value{l.tiles(w), idx}, ir.AInt("axis", 0))
		return l.reshape(v, d[1], d[0], d[2], d[3])
	})
}

// depthwise is w [C, 1, kh, kw] as a blocked convolution reads it, [C/B, kh, kw, B], turned round or not.
func (l *lowerer) depthwise(w *ir.Value, turn bool) *ir.Value {
	return l.once(fmt.Sprint("depthwise ", w.Name(), turn), func() *ir.Value {
		d, _ := w.StaticDims()
		taps := d[2] * d[3]
		v := l.outer(w, d[0], taps, d[0]/l.block, taps, l.block)
		if turn && taps > 1 {
			idx := l.indices(fmt.Sprint("turn ", taps), func() []int32 {
				out := make([]int32, taps)
				for i := range out {
					out[i] = int32(taps) - 1 - int32(i)
				}
				return out
			}, taps)
			v = l.b.Op("Gather", []*ir.Value{v, idx}, ir.AInt("axis", 1))
		}
		return l.reshape(v, d...)
	})
}

// toPlain turns the gradient [K, kh*kw*C] of weights into their plain sizes.
func (l *lowerer) toPlain(g *ir.Value, dw []int64) *ir.Value {
	k, c, taps := dw[0], dw[1], dw[2]*dw[3]
	switch {
	case taps == 1 || c == 1:
		return l.reshape(g, dw...)
	case !l.whole(c):
		return l.reshape(l.transpose(l.reshape(g, k, taps, c), 0, 2, 1), dw...)
	}
	v := l.nchwc("ReorderInput", dw, []*ir.Value{l.reshape(g, k, dw[2], dw[3], c)}, ir.AInt("channels_last", 1))
	return l.nchwc("ReorderOutput", dw, []*ir.Value{v}, ir.AInt("channels", c))
}
