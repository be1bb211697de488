package problem

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"mqatc/onnx/ir"
	"mqatc/runtime/data"
	"mqatc/runtime/data/images"
	"mqatc/runtime/ort"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/score"
	"mqatc/runtime/train"
)

// distillProblem trains a network to agree with the float network on images without labels.
type distillProblem struct {
	desc       Description
	loss       *ir.Model
	train      *imageSource
	held, eval *images.Folder
	in         *prep.Input
	teacher    score.Runner
	close      func() error
	threads    int
}

func openDistill(m *ir.Model, in *prep.Input, o Options) (Problem, error) {
	if o.TrainSource != nil {
		return nil, fmt.Errorf("a task without labels needs a folder of images")
	}
	all, err := images.Open(o.Data)
	if err != nil {
		return nil, err
	}
	loss, err := distill.Loss(m.Graph.Outputs())
	if err != nil {
		return nil, err
	}
	trainIdx, heldIdx := data.HoldOut(all.Len())
	p := &distillProblem{in: in, loss: loss, held: all.Subset(limited(thinned(heldIdx), o.Limit)), threads: o.Threads}
	p.eval = p.held
	how := "every tenth training image by name, at most 400"
	if o.Eval != "" {
		if p.eval, err = images.Open(o.Eval); err != nil {
			return nil, err
		}
		how += "; results on the evaluation data"
	}
	if p.teacher, p.close, err = Runner(m, ort.SessionOptions{}); err != nil {
		return nil, err
	}
	p.train = &imageSource{folder: all.Subset(limited(trainIdx, o.Limit)), in: in, teacher: p.teacher, seed: o.Seed,
		left: cacheBytes, have: map[int]train.Feeds{}}
	p.desc = Description{Task: o.Task.Name, Loss: "distill", Metric: "cosine", Train: p.train.Len(), Held: p.held.Len(), Eval: p.eval.Len(),
		HeldOut: how, Preproc: describeInput(in), Input: in}
	return p, nil
}

func (p *distillProblem) Source() train.Source                { return p.train }
func (p *distillProblem) Loss() *ir.Model                     { return p.loss }
func (p *distillProblem) Describe() Description               { return p.desc }
func (p *distillProblem) Close() error                        { return p.close() }
func (p *distillProblem) Feeds(_, _ int) (train.Feeds, error) { return nil, nil }
func (p *distillProblem) image(f *images.Folder, i int) (train.Feeds, error) {
	img, err := f.Read(i)
	if err != nil {
		return nil, err
	}
	t, err := p.in.Image(img.W, img.H, img.RGB)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", f.Names[i], err)
	}
	return train.Feeds{p.in.Name: t}, nil
}

func (p *distillProblem) Calibration(n int) ([]train.Feeds, error) {
	var out []train.Feeds
	total := p.train.Len()
	n = min(n, total)
	for k := 0; k < n; k++ {
		f, err := p.image(p.train.folder, k*total/n)
		if err != nil {
			return nil, fmt.Errorf("calibration: %w", err)
		}
		out = append(out, f)
	}
	return out, nil
}

func (p *distillProblem) Score(ctx context.Context, part Part, run score.Runner, progress func(done, total int)) (*score.Score, error) {
	f := p.held
	if part == Eval {
		f = p.eval
	}
	feed := func(i int) (map[string]*ir.Tensor, error) { return p.image(f, i) }
	return distill.Measure(ctx, f.Len(), feed, run, p.teacher, workers(p.threads), progress)
}

const (
	cacheBytes = 2 << 30
	// views is how many versions of each image there are: the image itself, its mirror image, and crops.
	views = 4
	// leastCrop is the smallest side of a crop as a part of the image's.
	leastCrop = 0.6
)

// imageSource makes images with the float network's outputs. Each image has a fixed set of views, so that the float network
// runs once on each where memory allows.
type imageSource struct {
	folder  *images.Folder
	in      *prep.Input
	teacher score.Runner
	seed    uint64

	mu   sync.Mutex
	have map[int]train.Feeds
	left int64
}

func (s *imageSource) Len() int { return s.folder.Len() }

// Sample draws one of the views of image i.
func (s *imageSource) Sample(i int, rng *rand.Rand) (train.Feeds, error) {
	view := 0
	if rng != nil {
		view = rng.IntN(views)
	}
	key := i*views + view
	s.mu.Lock()
	f := s.have[key]
	s.mu.Unlock()
	if f != nil {
		return f, nil
	}
	img, err := s.folder.Read(i)
	if err != nil {
		return nil, err
	}
	if view > 0 {
		img = transform(img, view, rand.New(rand.NewPCG(s.seed, uint64(key))))
	}
	x, err := s.in.Image(img.W, img.H, img.RGB)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", s.folder.Names[i], err)
	}
	f = train.Feeds{s.in.Name: x}
	out, err := s.teacher(f)
	if err != nil {
		return nil, fmt.Errorf("image %s: float network: %w", s.folder.Names[i], err)
	}
	size := int64(len(x.Raw()))
	for name, t := range out {
		if t.DType() != ir.Float32 {
			continue
		}
		f[name+distill.Teacher] = t
		size += int64(len(t.Raw()))
	}
	s.mu.Lock()
	if s.have[key] == nil && s.left >= size {
		s.have[key] = f
		s.left -= size
	}
	s.mu.Unlock()
	return f, nil
}

// transform makes a view of an image: view 1 is its mirror image, the others are crops, mirrored or not.
func transform(img *images.Image, view int, rng *rand.Rand) *images.Image {
	x0, y0, w, h, mirror := 0, 0, img.W, img.H, true
	if view > 1 {
		w = max(1, int(math.Round(float64(img.W)*(leastCrop+(1-leastCrop)*rng.Float64()))))
		h = max(1, int(math.Round(float64(img.H)*(leastCrop+(1-leastCrop)*rng.Float64()))))
		x0, y0 = rng.IntN(img.W-w+1), rng.IntN(img.H-h+1)
		mirror = rng.IntN(2) == 1
	}
	out := &images.Image{W: w, H: h, RGB: make([]uint8, 3*w*h)}
	for y := range h {
		row := img.RGB[3*((y0+y)*img.W+x0):][:3*w]
		dst := out.RGB[3*y*w:][:3*w]
		if !mirror {
			copy(dst, row)
			continue
		}
		for x := range w {
			copy(dst[3*(w-1-x):][:3], row[3*x:][:3])
		}
	}
	return out
}
