package quant

import (
	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// Axis is the axis of a weight along which its output channels lie, the same for every operator that reads it, or -1 where they
// disagree or a reshape stands between: such a weight gets one scale.
//
// Conv has it at 0. ConvTranspose [Cin, Cout/group, ...] has it at 1, the groups sharing scales, and at 0 when Cout/group is 1 and
// each input channel is an output channel of its own. Gemm and MatMul have it at the axis that the product keeps.
func Axis(p weights.Param) int {
	axis := -1
	for i, n := range p.Nodes {
		a := -1
		for slot, v := range n.Inputs() {
			if v == nil {
				continue
			}
			if k := slotAxis(n, slot, v); k >= 0 {
				if k = through(v, p.Value, k); k >= 0 {
					a = k
				}
			}
		}
		if a < 0 || (i > 0 && a != axis) {
			return -1
		}
		axis = a
	}
	return axis
}

// slotAxis is the output-channel axis of input slot of n, seen at v; -1 when that slot holds no weight.
func slotAxis(n *ir.Node, slot int, v *ir.Value) int {
	rank := len(v.Shape())
	if v.Init() != nil {
		rank = len(v.Init().Dims())
	}
	if rank < 2 {
		return -1
	}
	switch {
	case n.Is("Conv") && slot == 1:
		return 0
	case n.Is("ConvTranspose") && slot == 1:
		if s := v.Shape(); n.Int("group", 1) > 1 && s[1].Known() && s[1].Size == 1 {
			return 0
		}
		return 1
	case n.Is("Gemm") && slot == 1:
		return int(1 - min(n.Int("transB", 0), 1))
	case n.Is("Gemm") && slot == 0:
		return int(min(n.Int("transA", 0), 1))
	case n.Is("MatMul") && slot == 1:
		return rank - 1
	case n.Is("MatMul") && slot == 0:
		return rank - 2
	}
	return -1
}

// through follows axis of v up to the constant w that v is made of.
func through(v, w *ir.Value, axis int) int {
	for v != w {
		p := v.Producer()
		switch {
		case p == nil:
			return -1
		case p.Is("Identity"), p.Is("Cast"):
		case p.Is("Transpose"):
			perm := p.Ints("perm")
			switch {
			case perm == nil && p.Input(0).Shape() != nil:
				axis = len(p.Input(0).Shape()) - 1 - axis
			case axis < len(perm):
				axis = int(perm[axis])
			default:
				return -1
			}
		default:
			return -1
		}
		v = p.Input(0)
	}
	return axis
}

// layout splits dims around axis: element (o, c, i) stands at (o*channels+c)*inner+i. One channel when axis is negative.
type layout struct{ outer, channels, inner int }

func layoutOf(dims []int64, axis int) layout {
	l := layout{1, 1, 1}
	for i, d := range dims {
		switch {
		case axis >= 0 && i < axis:
			l.outer *= int(d)
		case i == axis:
			l.channels = int(d)
		default:
			l.inner *= int(d)
		}
	}
	return l
}

// channel is the channel of element i.
func (l layout) channel(i int) int { return i / l.inner % l.channels }

// gather appends the elements of channel c to buf.
func (l layout) gather(w []float32, c int, buf []float32) []float32 {
	for o := 0; o < l.outer; o++ {
		at := (o*l.channels + c) * l.inner
		buf = append(buf, w[at:at+l.inner]...)
	}
	return buf
}

// stepDims is the shape of per-channel scales that broadcasts against the weight; [1] for one scale.
func stepDims(dims []int64, axis int) []int64 {
	if axis < 0 {
		return []int64{1}
	}
	out := make([]int64, len(dims))
	for i := range out {
		out[i] = 1
	}
	out[axis] = dims[axis]
	return out
}
