package cubesat

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Set is n rendered images in memory, with masks at one bit per pixel.
type Set struct {
	Config Config
	rgb    []uint8
	mask   []uint8
	truth  []truth
}

type truth struct {
	r   [9]float64
	t   [3]float64
	bin int
}

// maxSetBytes bounds what Generate allocates.
const maxSetBytes = 1 << 36

// Generate renders images 0..n-1. Workers of 0 or less means one per CPU; the
// result does not depend on it. progress, if not nil, is called with the number
// of finished images, from several goroutines.
func Generate(cfg Config, n, workers int, progress func(done, total int)) (*Set, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	px := cfg.Size * cfg.Size
	if n < 1 || n > maxSetBytes/(3*px) {
		return nil, fmt.Errorf("cubesat: cannot hold %d images of %dx%d in memory", n, cfg.Size, cfg.Size)
	}
	s := &Set{Config: cfg, rgb: make([]uint8, n*3*px), mask: make([]uint8, n*s8(px)), truth: make([]truth, n)}
	err = each(cfg, n, workers, progress, func(w *worker, i int, buf *Sample) error {
		buf.RGB = s.RGB(i)
		w.render(cfg, i, buf)
		bits := s.mask[i*s8(px):]
		for k, m := range buf.Mask {
			bits[k>>3] |= m >> 7 << (k & 7)
		}
		s.truth[i] = truth{r: buf.R, t: buf.T, bin: buf.DepthBin}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func s8(bits int) int { return (bits + 7) / 8 }

// each runs do over images 0..n-1 on several goroutines, every one with its own
// worker and its own Sample with a Mask.
func each(cfg Config, n, workers int, progress func(done, total int), do func(w *worker, i int, buf *Sample) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var g errgroup.Group
	var next, done atomic.Int64
	for range min(workers, n) {
		g.Go(func() error {
			w := newWorker(cfg.Size)
			buf := Sample{Mask: make([]uint8, cfg.Size*cfg.Size)}
			for {
				i := int(next.Add(1) - 1)
				if i >= n {
					return nil
				}
				if err := do(w, i, &buf); err != nil {
					next.Store(int64(n))
					return err
				}
				if d := done.Add(1); progress != nil {
					progress(int(d), n)
				}
			}
		})
	}
	return g.Wait()
}

// Len is the number of images.
func (s *Set) Len() int { return len(s.truth) }

// Size is the width and height of every image in pixels.
func (s *Set) Size() int { return s.Config.Size }

// RGB is image i, Size x Size x 3: a view, not to be written.
func (s *Set) RGB(i int) []uint8 {
	n := 3 * s.Config.Size * s.Config.Size
	return s.rgb[i*n : (i+1)*n : (i+1)*n]
}

// OnObject reports whether pixel (x, y) of image i shows the satellite; false outside the image.
func (s *Set) OnObject(i, x, y int) bool {
	n := s.Config.Size
	if x < 0 || y < 0 || x >= n || y >= n {
		return false
	}
	k := y*n + x
	return s.mask[i*s8(n*n)+k>>3]>>(k&7)&1 == 1
}

// Pose is the truth of image i: row-major rotation and translation in mm, model to camera.
func (s *Set) Pose(i int) (r [9]float64, t [3]float64) { return s.truth[i].r, s.truth[i].t }

// DepthBin is 0 for near, 1 for medium, 2 for far.
func (s *Set) DepthBin(i int) int { return s.truth[i].bin }

// K is the row-major camera matrix of every image.
func (s *Set) K() [9]float64 { return Intrinsics(s.Config.Size) }
