package quant

import "math"

// lanes is how many scales squaredErrors tries at once: their sums do not wait for one another.
const lanes = 4

// squaredErrors is squaredError for several scales.
func squaredErrors(w []float32, s [lanes]float32, g Grid) (sum [lanes]float64) {
	lo, hi := magicBits+int32(g.Lo), magicBits+int32(g.Hi)
	i0, i1, i2, i3 := 1/s[0], 1/s[1], 1/s[2], 1/s[3]
	for len(w) > 0 {
		n := min(len(w), run)
		var p0, p1, p2, p3 float32
		for _, x := range w[:n] {
			d0 := x - s[0]*within(x*i0, lo, hi)
			d1 := x - s[1]*within(x*i1, lo, hi)
			d2 := x - s[2]*within(x*i2, lo, hi)
			d3 := x - s[3]*within(x*i3, lo, hi)
			p0 += d0 * d0
			p1 += d1 * d1
			p2 += d2 * d2
			p3 += d3 * d3
		}
		sum[0] += float64(p0)
		sum[1] += float64(p1)
		sum[2] += float64(p2)
		sum[3] += float64(p3)
		w = w[n:]
	}
	return sum
}

// run is the number of errors that are summed up in float32, which keeps the loop fast without losing digits.
const run = 64

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
	for len(w) > 0 {
		n := min(len(w), run)
		part := float32(0)
		for _, x := range w[:n] {
			d := x - s*roundEven(min(max(x*inv, lo), hi))
			part += d * d
		}
		sum += float64(part)
		w = w[n:]
	}
	return sum
}

// errorsOf is squaredErrors, or squaredError where the weights, top in size at most, cannot be rounded fast.
func errorsOf(w []float32, s [lanes]float32, g Grid, top float32) (sum [lanes]float64) {
	if least := min(s[0], s[1], s[2], s[3]); g.uniformly() && fast(top, least) {
		return squaredErrors(w, s, g)
	}
	for k := range s {
		sum[k] = squaredError(w, s[k], g)
	}
	return sum
}

// measured is squaredError and the least-squares scale for the codes that s gives to weights of top in size at most, s where there is none.
func measured(w []float32, s float32, g Grid, top float32) (err float64, refit float32) {
	num, den := 0.0, 0.0
	if g.uniformly() && fast(top, s) {
		lo, hi := magicBits+int32(g.Lo), magicBits+int32(g.Hi)
		inv := 1 / s
		for len(w) > 0 {
			n := min(len(w), run)
			part := float32(0)
			for _, x := range w[:n] {
				q := float64(within(x/s, lo, hi))
				num += float64(x) * q
				den += q * q
				d := x - s*within(x*inv, lo, hi)
				part += d * d
			}
			err += float64(part)
			w = w[n:]
		}
	} else {
		err = squaredError(w, s, g)
		for _, x := range w {
			q := float64(g.Level(g.Nearest(x / s)))
			num += float64(x) * q
			den += q * q
		}
	}
	if den == 0 || num <= 0 {
		return err, s
	}
	return err, float32(num / den)
}

// uniformly reports a grid of all integers from Lo to Hi.
func (g Grid) uniformly() bool { return g.Levels == nil && !g.Binary }

// fast reports whether nearestInt can round numbers of top in size at most, divided by s; not where top is not a number.
func fast(top, s float32) bool { return s >= leastScale && top <= s*(1<<21) }

// greatest is the largest size of an element; not a number where one is none.
func greatest(w []float32) float32 {
	top := float32(0)
	for _, x := range w {
		if x < 0 {
			x = -x
		}
		if !(x <= top) {
			if top = x; x != x {
				return x
			}
		}
	}
	return top
}

// magicBits are the bits of magic: for |x| < 2^22 the last bits of the sum of both hold x as an integer.
const magicBits = 0x4b400000

// nearestInt is roundEven for |x| < 2^22.
func nearestInt(x float32) int32 { return int32(math.Float32bits(x+magic)) - magicBits }

// within is roundEven for |x| < 2^22, kept between lo and hi, to which magicBits have been added.
func within(x float32, lo, hi int32) float32 {
	return math.Float32frombits(uint32(clamp(int32(math.Float32bits(x+magic)), lo, hi))) - magic
}

func clamp(q, lo, hi int32) int32 { return min(max(q, lo), hi) }
