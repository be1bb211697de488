package quant

import "math"

// lsq is Learned Step Size Quantization (Esser et al., ICLR 2020): weights are rounded at every step, their step sizes trained.
// At 2 bits it is ternary, at 1 bit {-s, +s}. The rate falls by ten at 10, 20 and 25 of 30 epochs (MQAT, appendix A.4.3).
var lsq = Quantizer{
	Name: "lsq", Doc: "learned step sizes, all weights rounded at once",
	Grid: TwosComplement, Start: lsqStart, Trained: true,
	Schedule: Schedule{Epochs: 30, Points: []Point{{0, 1, 1}, {10, 0.1, 1}, {20, 0.01, 1}, {25, 0.001, 1}}},
}

// lsqStart is, per channel, the better in squared error of LSQ's own start 2*mean|w|/sqrt(Qp) (section 2.1; mean|w| for {-s, +s})
// and the least-squares scale. LSQ's own start spans some 22 mean|w| at 8 bits, four times what the weights need, and at 2 bits its
// threshold mean|w| zeroes more than half of them: a short stage does not make up for either.
func lsqStart(s Site, w []float32, g Grid) ([]float32, error) {
	return eachChannel(w, s.Dims, s.Axis, func(_ int, ch []float32) float32 {
		fit := leastSquares(ch, g)
		if own := lsqOwnStart(ch, g); own > 0 && squaredError(ch, own, g) < squaredError(ch, fit, g) {
			return own
		}
		return fit
	})
}

func lsqOwnStart(w []float32, g Grid) float32 {
	sum := 0.0
	for _, x := range w {
		sum += math.Abs(float64(x))
	}
	mean := sum / float64(max(len(w), 1))
	if g.Binary {
		return float32(mean)
	}
	return float32(2 * mean / math.Sqrt(float64(g.Max())))
}
