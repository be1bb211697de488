package quant

import (
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"

	"mqatc/onnx/mapped"
)

// Scales finds, per channel along axis (one scale when axis is negative), the scale with the least squared error
// sum (w - scale*level)^2 of rounding w to g: a search over clipping ratios, refined by alternating least squares. A channel of
// zeros gets the mean of the others' scales, or 1.
func Scales(w []float32, dims []int64, axis int, g Grid) ([]float32, error) {
	return eachChannel(w, dims, axis, func(_ int, ch []float32) float32 { return leastSquares(ch, g) })
}

// eachChannel computes one positive number per channel, channels side by side. The only error is *mapped.CutShort.
func eachChannel(w []float32, dims []int64, axis int, f func(c int, ch []float32) float32) ([]float32, error) {
	l := layoutOf(dims, axis)
	out := make([]float32, l.channels)
	if err := l.each(w, func(c int, ch []float32) { out[c] = f(c, ch) }); err != nil {
		return nil, err
	}
	sum, n := 0.0, 0
	for _, s := range out {
		if s > 0 {
			sum += float64(s)
			n++
		}
	}
	mean := float32(1)
	if n > 0 {
		mean = float32(sum / float64(n))
	}
	for c, s := range out {
		if !(s > 0) {
			out[c] = mean
		}
	}
	return out, nil
}

// each calls f for every channel of w, several at once. The only error is *mapped.CutShort.
func (l layout) each(w []float32, f func(c int, ch []float32)) error {
	workers := max(1, min(runtime.GOMAXPROCS(0), l.channels))
	var eg errgroup.Group
	for k := 0; k < workers; k++ {
		eg.Go(mapped.Guarded(func() error {
			var buf []float32
			for c := k * l.channels / workers; c < (k+1)*l.channels/workers; c++ {
				ch := w
				if l.channels > 1 {
					buf = l.gather(w, c, buf[:0])
					ch = buf
				}
				f(c, ch)
			}
			return nil
		}))
	}
	return eg.Wait()
}

// SquaredError is the squared error of rounding w to levels of g at scale, as s.Start gives it, whatever the limit of pairs. A weight that is
// not finite is an error.
func (s Site) SquaredError(w []float32, scale []float32, g Grid) (float64, error) {
	l := layoutOf(s.Dims, s.Axis)
	sums := make([]float64, l.channels)
	bad := make([]error, l.channels)
	if err := l.each(w, func(c int, ch []float32) {
		for _, x := range ch {
			if x-x != 0 {
				bad[c] = fmt.Errorf("an element of channel %d is %g", c, x)
				return
			}
			d := float64(x) - float64(g.Level(g.Nearest(x/scale[c]))*scale[c])
			sums[c] += d * d
		}
	}); err != nil {
		return 0, err
	}
	total := 0.0
	for c, e := range sums {
		if bad[c] != nil {
			return 0, bad[c]
		}
		total += e
	}
	return total, nil
}

// leastScale, 2e-38, keeps scales clear of the subnormal numbers.
const leastScale = math.SmallestNonzeroFloat32 * (1 << 24)

// leastSquares is the scale of one channel, 0 when all its weights are zero.
func leastSquares(w []float32, g Grid) float32 {
	top := float32(0)
	mean := 0.0
	for _, x := range w {
		a := float32(math.Abs(float64(x)))
		top = max(top, a)
		mean += float64(a)
	}
	if top == 0 || math.IsInf(float64(top), 0) {
		return 0
	}
	if g.Binary {
		return float32(mean / float64(len(w))) // the minimum of sum (|w|-s)^2
	}
	most := greatest(w)
	floor := 0.12
	if g.Levels == nil && g.Hi > 7 {
		floor = 0.35
	}
	tries := min(max(100_000/len(w), 16), 200)
	ratio := math.Pow(floor, 1/float64(tries-1))
	s := float64(top / g.Max())
	best, bestErr := float32(s), math.Inf(1)
	for k := 0; k < tries; k += lanes {
		var scale [lanes]float32
		for j := range scale {
			scale[j] = float32(s)
			s *= ratio
		}
		for j, e := range errorsOf(w, scale, g, most) {
			if k+j < tries && e < bestErr {
				best, bestErr = scale[j], e
			}
		}
	}
	_, next := measured(w, best, g, most)
	for range 8 {
		e, after := measured(w, next, g, most)
		if !(e < bestErr) {
			break
		}
		best, bestErr, next = next, e, after
	}
	return max(best, leastScale)
}
