package target

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
	"mqatc/passes/quant"
)

// Accumulator bounds what an integer layer adds up, over all inputs there can be and all output channels.
type Accumulator struct {
	Node   string
	Weight string
	Lo, Hi int64 // bounds of the worst channels
}

// CheckAccumulators proves for every Conv, Gemm and MatMul of m between DequantizeLinears that no int32 accumulator can wrap. With
// inputs x in [a, b], zero point z, positive weights summing to P and negative ones to N in a channel, sum w*x lies in
// [P*a + N*b, P*b + N*a], and the same shifted by -z*(P+N) with the zero point taken off; the bias is added to that. Kernels may add
// up either form. The first layer that can wrap is an error with its channel and an input that does it. For a target that is Paired,
// so is a pair of 8-bit weights above quant.PairLimit.
func (t Target) CheckAccumulators(m *ir.Model) ([]Accumulator, error) {
	var out []Accumulator
	for n := m.Graph.First(); n != nil; n = n.Next() {
		if !(n.Is("Conv") || n.Is("Gemm") || n.Is("MatMul")) || dequantizer(n.Input(0)) == nil || dequantizer(n.Input(1)) == nil {
			continue
		}
		l, err := readInteger(n)
		if err != nil {
			continue // not constant: no integer operator either
		}
		a, err := accumulate(n, l)
		if err != nil {
			return out, fmt.Errorf("accumulator of %v: %w", n, err)
		}
		out = append(out, a)
		if p := l.weight.Init(); t.Paired() && l.xType == ir.Uint8 && n.Is("Conv") && p.DType() == ir.Int8 {
			if err := quant.CheckPairs(l.weightInts, p.Dims(), n.Int("group", 1)); err != nil {
				return out, fmt.Errorf("accumulator of %v: weight %q: %w", n, l.weight.Name(), err)
			}
		}
	}
	return out, nil
}

func accumulate(n *ir.Node, l *integerLayer) (Accumulator, error) {
	acc := Accumulator{Node: n.String(), Weight: l.weight.Name()}
	dims := l.weight.Init().Dims()
	axis := outputAxis(n, len(dims))
	inner, channels := 1, int(dims[axis])
	for _, d := range dims[axis+1:] {
		inner *= int(d)
	}
	pos, neg := make([]int64, channels), make([]int64, channels)
	// The leading axes of a batched MatMul hold matrices of their own: adding them up only widens the bounds.
	for i, w := range l.weightInts {
		c := i / inner % channels
		pos[c] += max(w, 0)
		neg[c] += min(w, 0)
	}
	lo, hi := int64(0), int64(255)
	if l.xType == ir.Int8 {
		lo, hi = -128, 127
	}
	bias := make([]int64, channels)
	if b := dequantizer(n.Input(2)); b != nil {
		v, err := biasInts(b)
		if err != nil {
			return acc, err
		}
		if len(v) != channels && len(v) != 1 {
			return acc, fmt.Errorf("%d biases for %d channels", len(v), channels)
		}
		for c := range bias {
			bias[c] = v[min(c, len(v)-1)]
		}
	}
	for c := range pos {
		least, most := pos[c]*lo+neg[c]*hi, pos[c]*hi+neg[c]*lo
		shift := -l.xZero * (pos[c] + neg[c])
		for _, b := range [][2]int64{{least, most}, {least + shift, most + shift}, {least + shift + bias[c], most + shift + bias[c]}} {
			acc.Lo, acc.Hi = min(acc.Lo, b[0]), max(acc.Hi, b[1])
		}
		if acc.Lo < math.MinInt32 || acc.Hi > math.MaxInt32 {
			return acc, fmt.Errorf("channel %d can reach %d..%d, beyond int32: inputs %d where the weight is negative and %d elsewhere",
				c, acc.Lo, acc.Hi, lo, hi)
		}
	}
	return acc, nil
}

// outputAxis is the axis of the output channels in the second operand.
func outputAxis(n *ir.Node, rank int) int {
	switch {
	case n.Is("MatMul"):
		return rank - 1
	case n.Is("Gemm") && n.Int("transB", 0) == 0:
		return 1
	}
	return 0
}
