package task

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/data"
	"mqatc/runtime/data/bop"
	"mqatc/runtime/data/images"
	"mqatc/runtime/ort"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/score"
	"mqatc/runtime/task/wdr"
	"mqatc/runtime/train"
)

// Setup says what a problem is made of.
type Setup struct {
	Task Task
	// Model is the float network, with inferred types; its image input takes batches of 1, fixed or symbolic.
	Model *ir.Model
	// Data and EvalData are folders, of images or in BOP layout. Without EvalData every tenth sample by sorted name is held out.
	Data, EvalData string
	// Poses and EvalPoses, if not nil, stand for the folders.
	Poses, EvalPoses bop.Source
	// Loss is distill, wdr or FILE.onnx; empty means the task's.
	Loss string
	// Threads is the number of images worked on at once.
	Threads int
}

// Problem is a task on a network and data: batches to train on, a loss, a measure. Its methods may be used from several goroutines.
type Problem struct {
	Task    Task
	Input   *prep.Input
	HeldOut bool // the evaluation data were held out of the training data
	Loss    string

	trainSet, evalSet pictures
	teacher           *ort.Session
	source            train.Source
	poses, evalPoses  *wdr.Data
	threads           int
}

// pictures are images without labels.
type pictures interface {
	Len() int
	Read(i int) (*images.Image, error)
}

// Open reads the data's lists and makes the problem. Close frees the float network's session.
func Open(s Setup) (_ *Problem, err error) {
	if err := s.Task.Check(); err != nil {
		return nil, fmt.Errorf("task %s: %w", s.Task.Name, err)
	}
	p := &Problem{Task: s.Task, Loss: s.Loss, threads: max(1, s.Threads)}
	if p.Loss == "" {
		p.Loss = s.Task.Loss
	}
	if p.Input, err = prep.Fit(s.Task.Prep, s.Model.Graph.Inputs()); err != nil {
		return nil, fmt.Errorf("task %s: %w", s.Task.Name, err)
	}
	if err := p.openData(s); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.Loss == LossWDR {
		p.source = p.poses
		return p, nil
	}
	raw, err := format.Marshal(s.Model)
	if err != nil {
		return nil, err
	}
	if p.teacher, err = ort.NewSession(raw, ort.SessionOptions{Threads: 1}); err != nil {
		return nil, fmt.Errorf("float network: %w", err)
	}
	p.source = train.Cached(taught{p}, cacheBytes)
	return p, nil
}

// cacheBytes bounds the preprocessed images and outputs of the float network kept in memory.
const cacheBytes = 1 << 30

func (p *Problem) openData(s Setup) error {
	poses, evalPoses := s.Poses, s.EvalPoses
	var folder, evalFolder *images.Folder
	open := func(dir string, src *bop.Source, f **images.Folder) (err error) {
		if *src != nil || dir == "" {
			return nil
		}
		if bop.Is(dir) {
			d, err := bop.Open(dir, bop.Options{})
			if err != nil {
				return err
			}
			*src = d
			return nil
		}
		*f, err = images.Open(dir)
		return err
	}
	if err := open(s.Data, &poses, &folder); err != nil {
		return err
	}
	if err := open(s.EvalData, &evalPoses, &evalFolder); err != nil {
		return err
	}
	if poses == nil && folder == nil {
		poses, folder = evalPoses, evalFolder
	}
	if poses == nil && folder == nil {
		return fmt.Errorf("no data: name a folder of images or in BOP layout")
	}
	var idx, evalIdx []int
	if evalPoses == nil && evalFolder == nil {
		p.HeldOut = true
		evalPoses, evalFolder = poses, folder
		n := 0
		if poses != nil {
			n = poses.Len()
		} else {
			n = folder.Len()
		}
		idx, evalIdx = data.HoldOut(n)
	}
	p.trainSet, p.evalSet = picturesOf(poses, folder, idx), picturesOf(evalPoses, evalFolder, evalIdx)
	if p.Task.Loss != LossWDR && p.Loss != LossWDR {
		return nil
	}
	if poses == nil || evalPoses == nil {
		if p.Loss != LossWDR {
			return nil
		}
		return fmt.Errorf("the loss wdr needs data in BOP layout with poses; use --loss distill for plain images")
	}
	return p.openPoses(s, poses, evalPoses, idx, evalIdx)
}

func (p *Problem) openPoses(s Setup, poses, evalPoses bop.Source, idx, evalIdx []int) error {
	layout, err := wdr.FindLayout(s.Model.Graph.Outputs(), p.Input.Width, p.Input.Height)
	if err != nil {
		return err
	}
	var c wdr.Config
	if s.Task.WDR != nil {
		c = *s.Task.WDR
	}
	if c, err = c.WithDefaults(max(p.Input.Width, p.Input.Height)); err != nil {
		return err
	}
	if p.poses, err = wdr.NewData(p.Input, layout, c, poses, idx); err != nil {
		return err
	}
	p.evalPoses, err = wdr.NewData(p.Input, layout, c, evalPoses, evalIdx)
	return err
}

// Close frees the float network's session.
func (p *Problem) Close() error {
	if p.teacher == nil {
		return nil
	}
	return p.teacher.Close()
}

// HasLabels reports whether Measure compares with true labels, so that a network can be better than the float one.
func (p *Problem) HasLabels() bool { return p.evalPoses != nil }

// Images are the numbers of images to train on and to measure on.
func (p *Problem) Images() (training, evaluation int) { return p.trainSet.Len(), p.evalSet.Len() }

// LossGraph is the loss for a network with these outputs: those of the model given to Open, perhaps with another batch.
func (p *Problem) LossGraph(outputs []*ir.Value) (*ir.Model, error) {
	switch {
	case p.Loss == LossWDR:
		return wdr.Loss(p.poses.Layout, p.poses.Config)
	case p.Loss == LossDistill:
		return distill.Loss(outputs)
	case strings.EqualFold(filepath.Ext(p.Loss), ".onnx"):
		return format.Load(p.Loss)
	}
	return nil, fmt.Errorf("unknown loss %q: %s, %s or FILE.onnx", p.Loss, LossDistill, LossWDR)
}

// Source gives training samples: the network's input and the loss's targets.
func (p *Problem) Source() train.Source { return p.source }

// Feeds are the tensors of the loss that depend on the step alone.
func (p *Problem) Feeds(step, steps int) (train.Feeds, error) {
	if p.Loss == LossWDR {
		return p.poses.Feeds(step, steps)
	}
	return nil, nil
}

// Calibration is training image i as the network's input.
func (p *Problem) Calibration(i int) (train.Feeds, error) { return p.image(p.trainSet, i) }

func (p *Problem) image(set pictures, i int) (train.Feeds, error) {
	img, err := set.Read(i)
	if err != nil {
		return nil, err
	}
	t, err := p.Input.Image(img.W, img.H, img.RGB)
	if err != nil {
		return nil, err
	}
	return train.Feeds{p.Input.Name: t}, nil
}

// Measure evaluates a network on the evaluation data: errors of poses where the task has labels, else agreement with the float
// network. The network takes batches of 1.
func (p *Problem) Measure(ctx context.Context, run score.Runner, progress func(done, total int)) (*score.Score, error) {
	if p.HasLabels() {
		return p.evalPoses.Evaluate(ctx, run, p.threads, progress)
	}
	return p.Agreement(ctx, run, progress)
}

// Agreement compares a network with the float network on the evaluation data.
func (p *Problem) Agreement(ctx context.Context, run score.Runner, progress func(done, total int)) (*score.Score, error) {
	if p.teacher == nil {
		return nil, fmt.Errorf("the loss %s keeps no float network to compare with", p.Loss)
	}
	feed := func(i int) (map[string]*ir.Tensor, error) { return p.image(p.evalSet, i) }
	return distill.Measure(ctx, p.evalSet.Len(), feed, run, p.teach, p.threads, progress)
}

func (p *Problem) teach(feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
	return p.teacher.Run(feeds, nil)
}

// taught is the training images with the float network's outputs as targets.
type taught struct{ p *Problem }

func (t taught) Len() int { return t.p.trainSet.Len() }

func (t taught) Sample(i int, _ *rand.Rand) (train.Feeds, error) {
	f, err := t.p.image(t.p.trainSet, i)
	if err != nil {
		return nil, err
	}
	out, err := t.p.teach(f)
	if err != nil {
		return nil, err
	}
	for name, v := range out {
		if v.DType() == ir.Float32 {
			f[name+distill.Teacher] = v
		}
	}
	return f, nil
}

func picturesOf(poses bop.Source, f *images.Folder, idx []int) pictures {
	if f == nil {
		return posePictures{poses, idx}
	}
	if idx != nil {
		return f.Subset(idx)
	}
	return f
}

// posePictures are the images of pose data; idx nil means all.
type posePictures struct {
	src bop.Source
	idx []int
}

func (p posePictures) Len() int {
	if p.idx != nil {
		return len(p.idx)
	}
	return p.src.Len()
}

func (p posePictures) Read(i int) (*images.Image, error) {
	if p.idx != nil {
		i = p.idx[i]
	}
	s, err := p.src.Sample(i)
	if err != nil {
		return nil, err
	}
	px, err := s.Pixels()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", s.Name, err)
	}
	return &images.Image{W: px.W, H: px.H, RGB: px.RGB}, nil
}
