package problem

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"

	"mqatc/onnx/ir"
	"mqatc/runtime/data"
	"mqatc/runtime/data/images"
	"mqatc/runtime/ort"
	"mqatc/runtime/task/augment"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/score"
	"mqatc/runtime/train"
)

// imageProblem trains a network on images without poses: to agree with the float network, or on another loss.
type imageProblem struct {
	desc       Description
	loss       *ir.Model
	goal       *goal // nil for the loss distill
	decides    metric
	train      *imageSource
	held, eval *images.Folder
	in         *prep.Input
	teacher    *resting     // the float network
	mean       score.Runner // of the loss graph; nil where the loss is no metric
	closers    []func() error
	threads    int
	// heldViews is how many views of each held-out image decisions are made on.
	heldViews int
	seed      uint64
	raw       []string
	large     bool // images are measured one by one

	mu         sync.Mutex
	answered   map[answer]map[string]*ir.Tensor
	answerRoom int64
}

func openImages(m *ir.Model, in *prep.Input, o Options, decides metric) (_ Problem, err error) {
	if o.TrainSource != nil {
		return nil, fmt.Errorf("a task without labels needs a folder of images")
	}
	all, err := images.Open(o.Data)
	if err != nil {
		return nil, err
	}
	trainIdx, heldIdx := data.HoldOut(all.Len())
	folder := all.Subset(limited(trainIdx, o.Limit))
	p := &imageProblem{in: in, held: all.Subset(limited(thinned(heldIdx, mostHeld), o.Limit)), decides: decides, threads: o.Threads, heldViews: 1, seed: o.Seed, large: oneByOne(m), raw: o.Raw}
	teach, err := exposed(m, o.Distill)
	if err != nil {
		return nil, err
	}
	if p.goal, err = openGoal(teach, in, o, nil, folder.Names); err != nil {
		return nil, err
	}
	name := "distill"
	if p.goal != nil {
		p.loss, name = p.goal.loss.Model, p.goal.loss.Name
	} else if p.loss, err = distill.Loss(teach.Graph.Outputs()); err != nil {
		return nil, err
	}
	p.eval = p.held
	how := fmt.Sprintf("every tenth training image by name, at most %d", mostHeld)
	if p.held.Len() < fewHeld && (p.goal == nil || p.goal.arrays == nil) {
		p.heldViews = viewsHeld
		how += fmt.Sprintf(", each in %d views where decisions are made", viewsHeld)
	}
	if o.Eval != "" {
		if p.eval, err = images.Open(o.Eval); err != nil {
			return nil, err
		}
		how += "; results on the evaluation data"
	}
	defer func() {
		if err != nil {
			_ = p.Close() // the first error counts
		}
	}()
	labels, err := p.openMetric()
	if err != nil {
		return nil, err
	}
	float := &resting{m: m, opts: ort.SessionOptions{Device: o.Device}}
	if err := float.open(); err != nil {
		return nil, err
	}
	run := score.Runner(float.run)
	p.teacher, p.closers = float, append(p.closers, float.Close)
	if len(o.Distill) > 0 {
		var done func() error
		if run, done, err = Runner(teach, ort.SessionOptions{Device: o.Device}); err != nil {
			return nil, err
		}
		p.closers = append(p.closers, done)
	}
	change, err := parseAugment(o.Augment, false)
	if err != nil {
		return nil, err
	}
	if change != nil {
		if err := p.goal.bears(change); err != nil {
			return nil, err
		}
	}
	p.train = &imageSource{augment: change, folder: folder, in: in, teacher: run, goal: p.goal, seed: o.Seed, left: cacheBytes, have: map[int]train.Feeds{}}
	p.desc = Description{Task: o.Task.Name, Loss: name, Metric: decides.title, Train: p.train.Len(), Held: p.held.Len(), Eval: p.eval.Len(),
		HeldOut: how, Preproc: describeInput(in), Input: in, Labels: labels, Lower: decides.lower, Float: decides.known()}
	return p, nil
}

// openMetric makes the loss graph ready where it decides, and reports whether that takes labels.
func (p *imageProblem) openMetric() (labels bool, err error) {
	if p.decides.name != MeanLoss {
		return false, nil
	}
	if p.goal != nil && p.goal.arrays != nil {
		labels = true
		for _, f := range []*images.Folder{p.held, p.eval} {
			if err := p.goal.arrays.in(f.Dir).check(f.Names); err != nil {
				return labels, err
			}
		}
	}
	run, done, err := Runner(p.loss, ort.SessionOptions{})
	if err != nil {
		return labels, fmt.Errorf("loss: %w", err)
	}
	p.mean, p.closers = run, append(p.closers, done)
	return labels, nil
}

func (p *imageProblem) Source() train.Source                { return p.train }
func (p *imageProblem) Loss() *ir.Model                     { return p.loss }
func (p *imageProblem) Describe() Description               { return p.desc }
func (p *imageProblem) Feeds(_, _ int) (train.Feeds, error) { return nil, nil }

// Close ends the sessions.
func (p *imageProblem) Close() error {
	var errs []error
	for _, f := range p.closers {
		errs = append(errs, f())
	}
	p.closers = nil
	return errors.Join(errs...)
}

func (p *imageProblem) image(f *images.Folder, i int) (train.Feeds, error) { return p.view(f, i, 0) }

// view is the network's input for a view of image i.
func (p *imageProblem) view(f *images.Folder, i, view int) (train.Feeds, error) {
	return feedView(f, p.in, i, view, p.seed)
}

// feedView is what a network is fed for a view of image i; view 0 is the image itself.
func feedView(f *images.Folder, in *prep.Input, i, view int, seed uint64) (train.Feeds, error) {
	img, err := f.Read(i)
	if err != nil {
		return nil, err
	}
	if view > 0 {
		img = transform(img, view, rand.New(rand.NewPCG(seed, uint64(i*views+view))))
	}
	t, err := in.Image(img.W, img.H, img.RGB)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", f.Names[i], err)
	}
	return in.Feeds(t), nil
}

func (p *imageProblem) Calibration(n int) ([]train.Feeds, error) {
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

func (p *imageProblem) Score(ctx context.Context, part Part, run score.Runner, progress func(done, total int)) (*score.Score, error) {
	f, each := p.held, p.heldViews
	if part == Eval {
		f, each = p.eval, 1
	}
	feed := func(i int) (map[string]*ir.Tensor, error) { return p.view(f, i/each, i%each) }
	losses := make([]float64, f.Len()*each)
	var after distill.Each
	if p.mean != nil {
		after = func(i int, feeds, got, want map[string]*ir.Tensor) (err error) {
			losses[i], err = p.lossOf(f, i/each, feeds, got, want)
			return err
		}
	}
	at := workers(p.threads)
	if p.large {
		// What the float network takes is wanted elsewhere, and its answers are kept.
		at = 1
		defer p.teacher.Close()
	}
	s, err := distill.Measure(ctx, len(losses), feed, run, p.answers(part), at, progress, after)
	if err != nil {
		return nil, err
	}
	if a, ok := s.Detail.(*distill.Agreement); ok && p.mean != nil {
		a.Loss = new(float64)
		for _, l := range losses {
			*a.Loss += l / float64(len(losses))
		}
	}
	return p.decides.decide(s)
}

// answers is what the float network says of the images of a part, kept for the next measurement as far as answerBytes go; where results
// are reported, without its raw outputs.
func (p *imageProblem) answers(part Part) distill.Answers {
	return func(i int, feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
		at := answer{part, i}
		p.mu.Lock()
		out := p.answered[at]
		p.mu.Unlock()
		if out != nil {
			return out, nil
		}
		out, err := p.teacher.run(feeds)
		if err != nil {
			return nil, err
		}
		for _, name := range p.raw {
			if part == Eval {
				delete(out, name)
			}
		}
		size := int64(0)
		for _, t := range out {
			size += int64(len(t.Raw()))
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.answered == nil {
			p.answered, p.answerRoom = map[answer]map[string]*ir.Tensor{}, answerBytes
		}
		if p.answered[at] == nil && size <= p.answerRoom {
			p.answered[at] = out
			p.answerRoom -= size
		}
		return out, nil
	}
}

type answer struct {
	part  Part
	image int
}

// answerBytes is how much of the float network's outputs is kept.
const answerBytes = 256 << 20

// lossOf is the loss of a network's outputs for image i.
func (p *imageProblem) lossOf(f *images.Folder, i int, feeds, got, want map[string]*ir.Tensor) (float64, error) {
	var targets train.Feeds
	if p.goal != nil && p.goal.arrays != nil {
		var err error
		if targets, err = p.goal.arrays.in(f.Dir).read(f.Names[i]); err != nil {
			return 0, err
		}
	}
	return value(p.mean, p.loss, feeds, got, want, targets)
}

const (
	cacheBytes = 2 << 30
	// views is how many versions of each image there are: the image itself, its mirror image, and crops.
	views = 8
	// viewsHeld is how many of them count where decisions are made on few images.
	viewsHeld = 4
	// fewHeld is the number of held-out images below which their views count too.
	fewHeld = 64
	// leastCrop is the smallest side of a crop as a part of the image's.
	leastCrop = 0.6
)

// imageSource makes images with the float network's outputs and other targets. Each image has a fixed set of views, so that the
// float network runs once on each where memory allows; with targets from files, which tell of the image as it is, there is one.
type imageSource struct {
	folder  *images.Folder
	in      *prep.Input
	teacher score.Runner
	goal    *goal         // nil: all float outputs are the targets
	augment *augment.Spec // instead of the fixed views; nil for these
	seed    uint64

	mu   sync.Mutex
	have map[int]train.Feeds
	left int64
}

func (s *imageSource) Len() int { return s.folder.Len() }

// Sample draws one of the views of image i.
func (s *imageSource) Sample(i int, rng *rand.Rand) (train.Feeds, error) {
	if s.augment != nil && rng != nil {
		return s.changed(i, rng)
	}
	view := 0
	if rng != nil && (s.goal == nil || s.goal.arrays == nil) {
		view = rng.IntN(views)
	}
	key := i*views + view
	s.mu.Lock()
	f := s.have[key]
	s.mu.Unlock()
	if f != nil {
		return f, nil
	}
	f, err := feedView(s.folder, s.in, i, view, s.seed)
	if err != nil {
		return nil, err
	}
	if err := s.targets(f, s.folder.Names[i]); err != nil {
		return nil, err
	}
	size := int64(0)
	for _, t := range f {
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

// changed is image i as the augmentation makes it.
func (s *imageSource) changed(i int, rng *rand.Rand) (train.Feeds, error) {
	img, err := s.folder.Read(i)
	if err != nil {
		return nil, err
	}
	rgb, w, h := s.augment.Image(img.RGB, img.W, img.H, rng)
	t, err := s.in.Image(w, h, rgb)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", s.folder.Names[i], err)
	}
	f := train.Feeds{s.in.Name: t}
	return f, s.targets(f, s.folder.Names[i])
}

// targets adds what the loss wants of an image.
func (s *imageSource) targets(f train.Feeds, name string) error {
	x := maps.Clone(f)
	if s.goal != nil {
		if err := s.goal.teach(f, s.teacher, x); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		if s.goal.arrays == nil {
			return nil
		}
		more, err := s.goal.arrays.read(name)
		maps.Copy(f, more)
		return err
	}
	out, err := s.teacher(x)
	if err != nil {
		return fmt.Errorf("image %s: float network: %w", name, err)
	}
	for name, t := range out {
		if t.DType() == ir.Float32 {
			f[name+distill.Teacher] = t
		}
	}
	return nil
}

// transform makes a view of an image: view 1 is its mirror image, the others are crops, mirrored or not.
func transform(img *images.Image, view int, rng *rand.Rand) *images.Image {
	x0, y0, w, h, mirror := 0, 0, img.W, img.H, true
	if view > 1 {
		x0, y0, w, h = augment.Cut(img.W, img.H, leastCrop, rng)
		mirror = rng.IntN(2) == 1
	}
	return &images.Image{W: w, H: h, RGB: augment.Window(img.RGB, img.W, x0, y0, w, h, mirror)}
}
