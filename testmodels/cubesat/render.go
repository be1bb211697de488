package cubesat

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
)

// Sample is one rendered image with its truth.
type Sample struct {
	Size     int
	RGB      []uint8    // Size x Size x 3, height, width, channel
	Mask     []uint8    // Size x Size, 255 on the satellite, 0 elsewhere
	R        [9]float64 // row-major rotation, model to camera
	T        [3]float64 // translation in mm, model to camera
	K        [9]float64 // row-major camera matrix, pixels
	DepthBin int        // 0 near, 1 medium, 2 far: the third of DepthRange
	// Pixels is the number of pixels of the mask, PixelsAll of the whole
	// satellite, including what lies outside the image.
	Pixels, PixelsAll int
	// Box is x, y, width, height of the mask in pixels, BoxAll of the whole satellite.
	Box, BoxAll [4]int
}

// Render makes image i of the data set. The result depends on cfg and i alone.
// It fails where the size is out of range or i is negative.
func Render(cfg Config, i int) (Sample, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Sample{}, err
	}
	if i < 0 {
		return Sample{}, fmt.Errorf("cubesat: image index %d is negative", i)
	}
	s := Sample{RGB: make([]uint8, 3*cfg.Size*cfg.Size), Mask: make([]uint8, cfg.Size*cfg.Size)}
	newWorker(cfg.Size).render(cfg, i, &s)
	return s, nil
}

// worker holds the buffers one goroutine renders with.
type worker struct {
	z     rasterizer
	img   []float32 // size x size x 3
	cloud []float32 // size x size
	grid  []float32
	wide  []float32
	taps  []cubicTap
	shade []float32 // per face
}

const maxNoiseGrid = 32

func newWorker(size int) *worker {
	return &worker{
		img:   make([]float32, 3*size*size),
		cloud: make([]float32, size*size),
		grid:  make([]float32, maxNoiseGrid*maxNoiseGrid),
		wide:  make([]float32, maxNoiseGrid*size),
		taps:  make([]cubicTap, size),
		shade: make([]float32, 6*len(boxes)),
	}
}

// stream separates the random numbers of image i from those of its neighbours.
func stream(i int) uint64 {
	x := uint64(i) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// render fills s, whose RGB and Mask have the right length.
func (w *worker) render(cfg Config, i int, s *Sample) {
	rng := rand.New(rand.NewPCG(cfg.Seed, stream(i)))
	bin := rng.IntN(3)
	if cfg.EvenBins {
		bin = i % 3
	}
	cam := camera{size: cfg.Size}
	drawPose(rng, bin, &cam)
	s.Size, s.R, s.T, s.K, s.DepthBin = cfg.Size, cam.r, cam.t, Intrinsics(cfg.Size), bin

	light := drawLight(rng)
	ambient := uniform(rng, 0.3, 0.5)
	for k, f := range faces() {
		w.shade[k] = float32(ambient + (1.15-ambient)*max(0, dot(cam.rotate(f.normal()), light)))
	}
	w.paintBackground(rng, cfg.Size)
	w.z.draw(&cam)
	w.resolve(&cam, s)
	w.develop(rng, s.RGB)
}

// drawPose draws the depth within its bin first and then rotation and position
// until the bounding box lies inside the image, but for 4 % of its size.
// Drawing them together would thin out the near poses.
func drawPose(rng *rand.Rand, bin int, cam *camera) {
	near, far := DepthRange()
	size := float64(cam.size)
	third := (far - near) / 3
	depth := near + (float64(bin)+rng.Float64())*third
	corners, center := Corners(), Center()
	for {
		cam.r = randomRotation(rng)
		c := cam.rotate(center)
		px, py := uniform(rng, 0.1, 0.9), uniform(rng, 0.1, 0.9)
		cam.t = [3]float64{(px-0.5)*depth - c[0], (py-0.5)*depth - c[1], depth - c[2]}
		inside := true
		for _, p := range corners {
			x, y, z := cam.project(p)
			if z < 20 || x <= -0.04*size || x >= 1.04*size || y <= -0.04*size || y >= 1.04*size {
				inside = false
				break
			}
		}
		if inside {
			return
		}
	}
}

// randomRotation is uniform over all rotations (Shoemake: a normal quaternion, normalized).
func randomRotation(rng *rand.Rand) [9]float64 {
	w, x, y, z := rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64()
	s := 2 / (w*w + x*x + y*y + z*z)
	return [9]float64{
		1 - s*(y*y+z*z), s * (x*y - z*w), s * (x*z + y*w),
		s * (x*y + z*w), 1 - s*(x*x+z*z), s * (y*z - x*w),
		s * (x*z - y*w), s * (y*z + x*w), 1 - s*(x*x+y*y),
	}
}

// drawLight is a direction towards the sun in the camera frame, uniform over
// the part of the sphere on the camera's side (z below 0.2).
func drawLight(rng *rand.Rand) [3]float64 {
	z := uniform(rng, -1, 0.2)
	sin, cos := math.Sincos(uniform(rng, 0, 2*math.Pi))
	r := math.Sqrt(1 - z*z)
	return [3]float64{r * cos, r * sin, z}
}

// resolve averages the z-buffer's samples over the background into w.img and
// fills mask, counts and boxes.
func (w *worker) resolve(cam *camera, s *Sample) {
	clear(s.Mask)
	tex := textures()
	const perPixel = supersampling * supersampling
	a := w.z.area
	var seen, all extent
	for y := a.y0; y < a.y1; y++ {
		for x := a.x0; x < a.x1; x++ {
			var r, g, b float32
			hits := 0
			for sy := range supersampling {
				at := (supersampling*(y-a.y0)+sy)*w.z.width + supersampling*(x-a.x0)
				for _, p := range w.z.samples[at : at+supersampling] {
					if p.texel < 0 {
						continue
					}
					f := p.texel / (textureSize * textureSize)
					c, sh := tex[f][p.texel%(textureSize*textureSize)], w.shade[f]
					r += float32(c[0]) * sh
					g += float32(c[1]) * sh
					b += float32(c[2]) * sh
					hits++
				}
			}
			if hits == 0 {
				continue
			}
			solid := 2*hits >= perPixel
			if solid {
				all.add(x, y)
			}
			if x < 0 || x >= cam.size || y < 0 || y >= cam.size {
				continue
			}
			p := w.img[3*(y*cam.size+x):][:3]
			rest := float32(perPixel - hits)
			p[0] = (r + rest*p[0]) / perPixel
			p[1] = (g + rest*p[1]) / perPixel
			p[2] = (b + rest*p[2]) / perPixel
			if solid {
				s.Mask[y*cam.size+x] = 255
				seen.add(x, y)
			}
		}
	}
	s.Pixels, s.Box = seen.n, seen.box()
	s.PixelsAll, s.BoxAll = all.n, all.box()
}

// extent counts pixels and bounds them.
type extent struct {
	rectangle
	n int
}

func (e *extent) add(x, y int) {
	if e.n == 0 {
		e.rectangle = rectangle{x, x + 1, y, y + 1}
	}
	e.rectangle = rectangle{min(e.x0, x), max(e.x1, x+1), min(e.y0, y), max(e.y1, y+1)}
	e.n++
}

func (e *extent) box() [4]int { return [4]int{e.x0, e.y0, e.x1 - e.x0, e.y1 - e.y0} }

// gaussBits is the resolution of the table of normal quantiles: 4096 equally
// likely values, the outermost at 3.67 standard deviations.
const gaussBits = 12

var gaussQuantiles = sync.OnceValue(func() *[1 << gaussBits]float32 {
	var t [1 << gaussBits]float32
	for i := range t {
		t[i] = float32(math.Sqrt2 * math.Erfinv((2*float64(i)+1)/(1<<gaussBits)-1))
	}
	return &t
})

// develop applies a camera gain and sensor noise and rounds to 8 bits.
func (w *worker) develop(rng *rand.Rand, out []uint8) {
	gain, sigma := float32(uniform(rng, 0.75, 1.15)), float32(uniform(rng, 1, 6))
	table := gaussQuantiles()
	const perDraw = 64 / gaussBits
	pcg := rand.NewPCG(rng.Uint64(), rng.Uint64())
	for len(out) > 0 {
		bits := pcg.Uint64()
		n := min(perDraw, len(out))
		img := w.img[len(w.img)-len(out):]
		for k := range n {
			v := img[k]*gain + sigma*table[bits&(1<<gaussBits-1)]
			bits >>= gaussBits
			out[k] = uint8(min(max(v+0.5, 0), 255))
		}
		out = out[n:]
	}
}
