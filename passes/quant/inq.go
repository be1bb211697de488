package quant

import (
	"fmt"
	"math"
)

// inq is Incremental Network Quantization (Zhou et al., ICLR 2017) onto 2^bits-1 uniform symmetric levels, ternary at 2 bits and
// {-s, +s} at 1, as MQAT's experiments use it; the least-squares scale stays with the weights.
var inq = Quantizer{
	Name: "inq", Doc: "weights frozen onto a uniform grid, largest first",
	Grid:   Symmetric,
	Start:  func(s Site, w []float32, g Grid) ([]float32, error) { return Scales(w, s.Dims, s.Axis, g) },
	Masked: true, Schedule: table10,
}

// inqPowers is INQ with its own codebook of signed powers of two; the largest level is 2^floor(log2(4 max|w| / 3)).
var inqPowers = Quantizer{
	Name: "inq-pow2", Doc: "weights frozen onto powers of two, largest first",
	Grid: Powers,
	Start: func(s Site, w []float32, g Grid) ([]float32, error) {
		return eachChannel(w, s.Dims, s.Axis, func(_ int, ch []float32) float32 {
			top := 0.0
			for _, x := range ch {
				top = max(top, math.Abs(float64(x)))
			}
			if top == 0 || math.IsInf(top, 0) {
				return 0
			}
			return float32(math.Ldexp(1, int(math.Floor(math.Log2(4*top/3)))))
		})
	},
	Masked: true, Schedule: table10,
}

// table10 is table 10 of MQAT. Its last point, epoch 30, lies after the end.
var table10 = Schedule{Epochs: 30, Points: []Point{
	{0, 1, 0.2}, {3, 0.1, 0.2}, {5, 1, 0.4}, {7, 0.1, 0.4}, {9, 1, 0.6}, {11, 0.1, 0.6}, {13, 1, 0.8}, {15, 0.1, 0.8},
	{17, 1, 0.9}, {19, 0.1, 0.9}, {21, 1, 0.95}, {23, 0.1, 0.95}, {25, 1, 0.975}, {27, 0.1, 0.975}, {29, 1, 1},
}}

// Freeze snaps the largest weights by absolute value that are still free onto their levels, until fraction (0..1) of all weights is
// frozen; of equal ones the first come first. w and free (true: still trained) are changed in place; weights frozen before are not
// touched. It returns how many are frozen now.
func Freeze(s Site, scale []float32, w []float32, free []bool, fraction float64) (int, error) {
	q, err := Find(s.Quantizer)
	if err != nil {
		return 0, err
	}
	if !q.Masked {
		return 0, fmt.Errorf("weight %q: quantizer %s freezes nothing", s.Name, s.Quantizer)
	}
	g, err := q.Grid(s.Bits)
	if err != nil {
		return 0, fmt.Errorf("weight %q: %w", s.Name, err)
	}
	if len(w) != s.Elements() || len(free) != len(w) || len(scale) != s.Channels() {
		return 0, fmt.Errorf("weight %q: %d weights, %d marks and %d scales for shape %v", s.Name, len(w), len(free), len(scale), s.Dims)
	}
	if !(fraction >= 0 && fraction <= 1) {
		return 0, fmt.Errorf("weight %q: fraction %g is not in 0..1", s.Name, fraction)
	}
	frozen := 0
	for i, f := range free {
		if !f {
			frozen++
		}
		if w[i] != w[i] {
			return 0, fmt.Errorf("weight %q: element %d is not a number", s.Name, i)
		}
	}
	want := int(math.Round(fraction * float64(len(w))))
	if want <= frozen {
		return frozen, nil
	}
	l := layoutOf(s.Dims, s.Axis)
	partner := s.partners(g)
	above, ties := largest(w, free, want-frozen)
	for i := range w {
		if !free[i] {
			continue
		}
		key := magnitude(w[i])
		switch {
		case key > above:
		case key == above && ties > 0:
			ties--
		default:
			continue
		}
		sc := scale[l.channel(i)]
		code := g.Nearest(w[i] / sc)
		if partner != nil {
			if j := partner(i); j >= 0 && !free[j] {
				code = s.withNeighbour(code, int16(math.Round(float64(w[j]/sc))))
			}
		}
		w[i] = g.Level(code) * sc
		free[i] = false
	}
	return want, nil
}

// magnitude orders floats by absolute value.
func magnitude(x float32) uint32 { return math.Float32bits(x) &^ (1 << 31) }

// largest finds the magnitude of the k-th largest free weight, and how many weights of just that magnitude belong to the k largest,
// by counting the upper and then the lower halves of the magnitudes.
func largest(w []float32, free []bool, k int) (at uint32, ties int) {
	counts := make([]int, 1<<16)
	for i, x := range w {
		if free[i] {
			counts[magnitude(x)>>16]++
		}
	}
	hi := 1<<16 - 1
	for ; hi > 0 && k > counts[hi]; hi-- {
		k -= counts[hi]
	}
	clear(counts)
	for i, x := range w {
		if m := magnitude(x); free[i] && m>>16 == uint32(hi) {
			counts[m&0xffff]++
		}
	}
	lo := 1<<16 - 1
	for ; lo > 0 && k > counts[lo]; lo-- {
		k -= counts[lo]
	}
	return uint32(hi)<<16 | uint32(lo), k
}
