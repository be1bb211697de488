package cubesat

import (
	"math"
	"math/rand/v2"
)

// paintBackground fills img (size x size x 3, 0..255) with stars and, for half
// of the scenes, the disc of the Earth with clouds and an atmospheric halo.
func (w *worker) paintBackground(rng *rand.Rand, size int) {
	clear(w.img)
	stars := rng.IntN(40) * size * size / (defaultSize * defaultSize)
	for range stars {
		at := 3 * (rng.IntN(size)*size + rng.IntN(size))
		bright := uniform(rng, 40, 255)
		for k := range 3 {
			w.img[at+k] = float32(bright * uniform(rng, 0.8, 1))
		}
	}
	if rng.Float64() < 0.5 {
		w.paintEarth(rng, size)
	}
}

func (w *worker) paintEarth(rng *rand.Rand, size int) {
	s := float64(size)
	radius := uniform(rng, 0.6, 3) * s
	direction := uniform(rng, 0, 2*math.Pi)
	offset := radius + uniform(rng, -0.6, 0.35)*s
	sin, cos := math.Sincos(direction)
	cx, cy := s/2+offset*cos, s/2+offset*sin

	clear(w.cloud)
	w.addNoise(rng, size, 4+rng.IntN(10), 4+rng.IntN(10), 1)
	w.addNoise(rng, size, 10+rng.IntN(22), 10+rng.IntN(22), 0.5)

	ground := [3]float64{90, 85, 50}
	if rng.Float64() < 0.7 {
		ground = [3]float64{20, 60, 130}
	}
	tint, exposure := uniform(rng, 0.6, 1.2), uniform(rng, 0.4, 1.1)
	var base [3]float32
	for k := range base {
		base[k] = float32(ground[k] * tint)
	}
	const cloudWhite = 230
	air := [3]float32{60 * 0.7, 110 * 0.7, 200 * 0.7}
	scaleHeight := 0.03 * s
	for y := range size {
		dy := float64(y) - cy
		for x := range size {
			dx := float64(x) - cx
			inside := radius - math.Sqrt(dx*dx+dy*dy)
			if inside < -6*scaleHeight {
				continue
			}
			p := w.img[3*(y*size+x):][:3]
			glow := float32(math.Exp(min(inside, 0) / scaleHeight))
			for k := range p {
				p[k] += air[k] * glow
			}
			if inside < 0 {
				continue
			}
			cover := float32(min(inside/3, 1))
			cloud := min(max((w.cloud[y*size+x]-0.75)*2, 0), 1)
			for k := range p {
				earth := (base[k]*(1-cloud) + cloudWhite*cloud) * float32(exposure)
				p[k] += (earth - p[k]) * cover
			}
		}
	}
}

// addNoise adds amplitude times a rows x cols grid of uniform values, enlarged
// to the image by separable cubic convolution (a = -0.75), to w.cloud.
func (w *worker) addNoise(rng *rand.Rand, size, rows, cols int, amplitude float32) {
	grid := w.grid[:rows*cols]
	for i := range grid {
		grid[i] = amplitude * rng.Float32()
	}
	wide := w.wide[:rows*size]
	taps := w.taps[:size]
	fillTaps(taps, cols)
	for r := range rows {
		in, out := grid[r*cols:(r+1)*cols], wide[r*size:(r+1)*size]
		for x, t := range taps {
			out[x] = t.w[0]*in[t.at[0]] + t.w[1]*in[t.at[1]] + t.w[2]*in[t.at[2]] + t.w[3]*in[t.at[3]]
		}
	}
	fillTaps(taps, rows)
	for y, t := range taps {
		out := w.cloud[y*size : (y+1)*size]
		r0, r1 := wide[t.at[0]*size:][:size], wide[t.at[1]*size:][:size]
		r2, r3 := wide[t.at[2]*size:][:size], wide[t.at[3]*size:][:size]
		for x := range out {
			out[x] += t.w[0]*r0[x] + t.w[1]*r1[x] + t.w[2]*r2[x] + t.w[3]*r3[x]
		}
	}
}

// cubicTap is one output position of an enlargement: four inputs and their weights.
type cubicTap struct {
	at [4]int
	w  [4]float32
}

func fillTaps(taps []cubicTap, n int) {
	scale := float64(n) / float64(len(taps))
	for i := range taps {
		x := (float64(i)+0.5)*scale - 0.5
		base := math.Floor(x)
		for k := range 4 {
			j := int(base) + k - 1
			taps[i].at[k] = min(max(j, 0), n-1)
			taps[i].w[k] = float32(cubic(x - float64(j)))
		}
	}
}

func cubic(x float64) float64 {
	const a = -0.75
	x = math.Abs(x)
	switch {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return a * (((x-5)*x+8)*x - 4)
	}
	return 0
}

func uniform(rng *rand.Rand, lo, hi float64) float64 { return lo + (hi-lo)*rng.Float64() }
