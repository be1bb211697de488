package augment

import (
	"math"
	"math/rand/v2"
)

// leastBlur is the standard deviation in pixels below which blurring changes nothing that counts.
const leastBlur = 0.2

// Pixels changes colours, sharpness and noise of an RGB image of w x h and leaves every pixel in its place; rgb is not changed.
func (s *Spec) Pixels(rgb []uint8, w, h int, rng *rand.Rand) []uint8 {
	if s.Colour == 0 && s.Blur == 0 && s.Noise == 0 {
		return rgb
	}
	v := make([]float32, len(rgb))
	for i, p := range rgb {
		v[i] = float32(p)
	}
	if s.Colour > 0 {
		s.colour(v, rng)
	}
	if s.Blur > 0 {
		if sigma := s.Blur * rng.Float64(); sigma > leastBlur {
			blur(v, w, h, sigma)
		}
	}
	if s.Noise > 0 {
		sigma := s.Noise * rng.Float64()
		for i := range v {
			v[i] += float32(sigma * rng.NormFloat64())
		}
	}
	out := make([]uint8, len(v))
	for i, x := range v {
		out[i] = uint8(min(max(x+0.5, 0), 255))
	}
	return out
}

// colour multiplies each channel and moves brightness and contrast about the middle.
func (s *Spec) colour(v []float32, rng *rand.Rand) {
	part := func() float64 { return (2*rng.Float64() - 1) * s.Colour }
	contrast, bright := 1+part(), part()*64
	for c := range 3 {
		gain := float32(contrast * (1 + part()/2))
		offset := float32(128*(1-contrast) + bright)
		for i := c; i < len(v); i += 3 {
			v[i] = v[i]*gain + offset
		}
	}
}

// blur convolves with a Gaussian, along rows and along columns; beyond the edges stands the edge.
func blur(v []float32, w, h int, sigma float64) {
	radius := int(math.Ceil(3 * sigma))
	kernel := make([]float32, 2*radius+1)
	sum := float32(0)
	for i := range kernel {
		d := float64(i - radius)
		kernel[i] = float32(math.Exp(-d * d / (2 * sigma * sigma)))
		sum += kernel[i]
	}
	for i := range kernel {
		kernel[i] /= sum
	}
	line := make([]float32, max(w, h))
	along := func(n, step, first int) {
		for i := range n {
			line[i] = v[first+i*step]
		}
		for i := range n {
			x := float32(0)
			for k, f := range kernel {
				x += f * line[max(0, min(i+k-radius, n-1))]
			}
			v[first+i*step] = x
		}
	}
	for c := range 3 {
		for y := range h {
			along(w, 3, 3*y*w+c)
		}
		for x := range w {
			along(h, 3*w, 3*x+c)
		}
	}
}
