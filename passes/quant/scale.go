package quant

import (
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
				out[c] = f(c, ch)
			}
			return nil
		}))
	}
	if err := eg.Wait(); err != nil {
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
	floor := 0.12
	if g.Levels == nil && g.Hi > 7 {
		floor = 0.35
	}
	tries := min(max(100_000/len(w), 16), 200)
	ratio := math.Pow(floor, 1/float64(tries-1))
	s := float64(top / g.Max())
	best, bestErr := float32(s), squaredError(w, float32(s), g)
	for k := 1; k < tries; k++ {
		s *= ratio
		if e := squaredError(w, float32(s), g); e < bestErr {
			best, bestErr = float32(s), e
		}
	}
	for i := 0; i < 8; i++ {
		s := refit(w, best, g)
		e := squaredError(w, s, g)
		if !(e < bestErr) {
			break
		}
		best, bestErr = s, e
	}
	return max(best, leastScale)
}

// squaredError is sum (w - s*level)^2.
func squaredError(w []float32, s float32, g Grid) float64 {
	inv := 1 / s
	sum := 0.0
	if g.Levels != nil || g.Binary {
		for _, x := range w {
			d := x - s*g.Level(g.Nearest(x*inv))
			sum += float64(d * d)
		}
		return sum
	}
	lo, hi := float32(g.Lo), float32(g.Hi)
	// Partial sums in float32 over short runs keep the loop fast without losing digits.
	for len(w) > 0 {
		n := min(len(w), 64)
		part := float32(0)
		for _, x := range w[:n] {
			q := min(max(x*inv, lo), hi)
			d := x - s*roundEven(q)
			part += d * d
		}
		sum += float64(part)
		w = w[n:]
	}
	return sum
}

// refit is the least-squares scale for the codes that s gives.
func refit(w []float32, s float32, g Grid) float32 {
	num, den := 0.0, 0.0
	for _, x := range w {
		q := float64(g.Level(g.Nearest(x / s)))
		num += float64(x) * q
		den += q * q
	}
	if den == 0 || num <= 0 {
		return s
	}
	return float32(num / den)
}
