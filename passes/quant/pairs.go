package quant

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// PairLimit is the largest |a|+|b| of two neighbouring weight codes of like sign whose products with unsigned 8-bit activations fit
// the int16 that x86 kernels without VNNI add them up in: 255*128 <= 32767.
const PairLimit = 128

// paired reports whether some reader of p is a Conv that is computed as a matrix product. Depthwise ones have kernels of their own,
// which widen before they multiply.
func paired(p weights.Param) bool {
	dims := p.Value.Init().Dims()
	for _, n := range p.Nodes {
		if n.Is("Conv") && len(dims) > 2 && !depthwise(dims, n.Int("group", 1)) {
			return true
		}
	}
	return false
}

func depthwise(dims []int64, group int64) bool { return dims[1] == 1 && group == dims[0] }

// CheckPairs is an error that names the first pair of a Conv's codes above PairLimit.
func CheckPairs(codes []int64, dims []int64, group int64) error {
	if len(dims) < 3 || depthwise(dims, group) {
		return nil
	}
	order := rowOrder(dims)
	if len(order) == 0 {
		return nil
	}
	for row := 0; row+len(order) <= len(codes); row += len(order) {
		for k := 0; k+1 < len(order); k += 2 {
			a, b := codes[row+order[k]], codes[row+order[k+1]]
			if s := a + b; (a > 0) == (b > 0) && max(s, -s) > PairLimit {
				return fmt.Errorf("codes %d and %d of channel %d are neighbours and add up to more than %d", a, b, row/len(order), PairLimit)
			}
		}
	}
	return nil
}

// rowOrder lists the positions of one output channel's weights in the order of the matrix product of a channels-last convolution:
// kernel positions outside, input channels inside.
func rowOrder(dims []int64) []int {
	channels, positions := int(dims[1]), 1
	for _, d := range dims[2:] {
		positions *= int(d)
	}
	out := make([]int, 0, channels*positions)
	for p := range positions {
		for c := range channels {
			out = append(out, c*positions+p)
		}
	}
	return out
}

// limitsPairs reports whether pairs of codes of g are limited.
func (s Site) limitsPairs(g Grid) bool { return s.PairLimit != 0 && g.Levels == nil }

// limitPairs moves the codes of each two neighbours that exceed limit toward zero, each by half of what is over, and reports whether
// it moved any. Codes of opposite sign cannot exceed it. rows is what rowOrder gives; q holds whole rows.
func limitPairs(q []int16, order []int, limit int16) bool {
	moved := false
	if len(order) == 0 {
		return false
	}
	for row := 0; row+len(order) <= len(q); row += len(order) {
		for k := 0; k+1 < len(order); k += 2 {
			a, b := &q[row+order[k]], &q[row+order[k+1]]
			s := *a + *b
			if over := s - min(max(s, -limit), limit); over != 0 {
				half := int16(roundEven(float32(over) * 0.5))
				*a, *b = *a-half, *b-(over-half)
				moved = true
			}
		}
	}
	return moved
}

// limitedPairs is limitPairs in the fake-quantization graph, on codes of shape dims. As Clip does, it passes no gradient to what would
// move a pair's sum beyond the limit; the difference of the two gets its own.
func limitedPairs(b *ir.Builder, codes *ir.Value, dims []int64, limit int) *ir.Value {
	op := func(name string, in ...*ir.Value) *ir.Value { return b.Op(name, in) }
	positions := int64(1)
	for _, d := range dims[2:] {
		positions *= d
	}
	row := dims[1] * positions
	if dims[0]*row == 0 || row < 2 {
		return codes
	}
	// Neighbours along axis 2 of [outputs, pairs, 2, positions]: channels of one position where their number is even, else whatever
	// follows each other in a row, whose last element has no neighbour if their number is odd.
	x, shape := codes, []int64{dims[0], dims[1] / 2, 2, positions}
	odd := dims[1]%2 != 0
	if odd {
		x = b.Op("Transpose", []*ir.Value{op("Reshape", x, b.Int64s(dims[0], dims[1], positions))}, ir.AInts("perm", 0, 2, 1))
		x = op("Reshape", x, b.Int64s(dims[0], row))
		if row%2 != 0 {
			x = op("Pad", x, b.Int64s(0, 0, 0, 1))
		}
		shape = []int64{dims[0], (row + 1) / 2, 2, 1}
	}
	x = op("Reshape", x, b.Int64s(shape...))
	sum := op("ReduceSum", x, b.Int64s(2))
	over := op("Sub", sum, op("Clip", sum, b.Float(float32(-limit)), b.Float(float32(limit))))
	half := op("Round", op("Mul", over, b.Float(0.5)))
	x = op("Sub", x, b.Op("Concat", []*ir.Value{half, op("Sub", over, half)}, ir.AInt("axis", 2)))
	if odd {
		x = op("Reshape", x, b.Int64s(dims[0], shape[1]*2))
		if row%2 != 0 {
			x = op("Slice", x, b.Int64s(0), b.Int64s(row), b.Int64s(1))
		}
		x = op("Reshape", x, b.Int64s(dims[0], positions, dims[1]))
		x = b.Op("Transpose", []*ir.Value{x}, ir.AInts("perm", 0, 2, 1))
	}
	return op("Reshape", x, b.Int64s(dims...))
}

// Start gives the scales that quantizer s.Quantizer begins with, one per channel of w. Where pairs of codes are limited they grow
// as far as that lessens the squared error. Scales that are not trained are rounded to s.ScaleBits.
func (s Site) Start(w []float32) ([]float32, error) {
	q, err := Find(s.Quantizer)
	if err != nil {
		return nil, err
	}
	g, err := q.Grid(s.Bits)
	if err != nil {
		return nil, err
	}
	scale, err := q.Start(s, w, g)
	if err != nil {
		return nil, err
	}
	if s.limitsPairs(g) {
		order := rowOrder(s.Dims)
		start := scale
		if scale, err = eachChannel(w, s.Dims, s.Axis, func(c int, ch []float32) float32 {
			return widen(ch, start[c], order, g, int16(s.PairLimit))
		}); err != nil {
			return nil, err
		}
	}
	if s.ScaleBits > 0 && !q.Trained {
		significant(scale, s.ScaleBits)
	}
	return scale, nil
}

// widen searches scales from s to twice s.
func widen(w []float32, s float32, order []int, g Grid, limit int16) float32 {
	if 2*max(g.Hi, -g.Lo) <= int(limit) {
		return s
	}
	codes := make([]int16, len(w))
	top := greatest(w)
	lo, hi := int32(g.Lo), int32(g.Hi)
	best, bestErr := s, math.Inf(1)
	for k := 0; k <= 12; k++ {
		t := s * float32(math.Exp2(float64(k)/12))
		if g.uniformly() && fast(top, t) {
			for i, x := range w {
				codes[i] = int16(clamp(nearestInt(x/t), lo, hi))
			}
		} else {
			for i, x := range w {
				codes[i] = g.Nearest(x / t)
			}
		}
		moved := limitPairs(codes, order, limit)
		e := 0.0
		for i, x := range w {
			d := float64(x - t*float32(codes[i]))
			e += d * d
		}
		if e < bestErr {
			best, bestErr = t, e
		}
		if !moved {
			break
		}
	}
	return best
}

// limit applies limitPairs to all codes of a site.
func (c *Codes) limit(s Site) bool {
	if !s.limitsPairs(c.Grid) {
		return false
	}
	return limitPairs(c.Q, rowOrder(s.Dims), int16(s.PairLimit))
}

// partners gives the index of the neighbour of a weight in its pair, -1 where it has none; nil where pairs are not limited.
func (s Site) partners(g Grid) func(i int) int {
	if !s.limitsPairs(g) {
		return nil
	}
	order := rowOrder(s.Dims)
	place := make([]int, len(order))
	for k, at := range order {
		place[at] = k
	}
	return func(i int) int {
		k := place[i%len(order)] ^ 1
		if k >= len(order) {
			return -1
		}
		return i - i%len(order) + order[k]
	}
}

// withNeighbour brings code as near to zero as its frozen neighbour requires.
func (s Site) withNeighbour(code, neighbour int16) int16 {
	room := int16(s.PairLimit)
	switch {
	case code > 0 && neighbour > 0:
		return min(code, room-neighbour)
	case code < 0 && neighbour < 0:
		return max(code, -room-neighbour)
	}
	return code
}
