package problem

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/runtime/data"
	"mqatc/runtime/data/bop"
	"mqatc/runtime/ort"
	"mqatc/runtime/task"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/score"
	"mqatc/runtime/task/wdr"
	"mqatc/runtime/train"
)

// poseProblem is wide-depth-range pose estimation on a BOP data set.
type poseProblem struct {
	desc              Description
	loss              *ir.Model
	train, held, eval *wdr.Data
	goal              *goal // nil for the loss wdr
	source            train.Source
	decides           metric
	close             func() error
	threads           int
}

// poseSource makes images with the targets of another loss than wdr's.
type poseSource struct {
	*wdr.Data
	goal    *goal
	input   string
	teacher score.Runner
	names   []string // of the images
}

// Sample makes what the loss reads of image i.
func (s *poseSource) Sample(i int, rng *rand.Rand) (train.Feeds, error) {
	all, err := s.Data.Sample(i, rng)
	if err != nil {
		return nil, err
	}
	f := train.Feeds{s.input: all[s.input]}
	if err := s.goal.teach(f, s.teacher, train.Feeds{s.input: all[s.input]}); err != nil {
		return nil, fmt.Errorf("image %s: %w", s.names[i], err)
	}
	for _, name := range s.goal.own {
		if t := all[name]; t != nil {
			f[name] = t
		}
	}
	if s.goal.arrays != nil {
		more, err := s.goal.arrays.read(s.names[i])
		if err != nil {
			return nil, err
		}
		maps.Copy(f, more)
	}
	return f, nil
}

// openGoal takes another loss than wdr's, where one is asked for.
func (p *poseProblem) openGoal(m *ir.Model, in *prep.Input, o Options, src bop.Source, idx []int) error {
	var names []string
	for _, i := range idx {
		s, err := src.Sample(i)
		if err != nil {
			return err
		}
		names = append(names, s.Name)
	}
	m, err := exposed(m, o.Distill)
	if err != nil {
		return err
	}
	l, err := named(m, o.Loss, map[string]func() (*ir.Model, error){
		task.LossWDR:        func() (*ir.Model, error) { return p.loss, nil },
		task.LossWDRDistill: func() (*ir.Model, error) { return wdr.Teach(p.train.Layout, p.train.Config) },
	})
	if err != nil {
		return err
	}
	if p.goal, err = newGoal(m, in, o, l, p.loss.Graph.Inputs(), names); err != nil {
		return err
	}
	run, done, err := Runner(m, ort.SessionOptions{Device: o.Device})
	if err != nil {
		return err
	}
	p.close = done
	p.loss, p.desc.Loss = p.goal.loss.Model, p.goal.loss.Name
	p.source = &poseSource{p.train, p.goal, in.Name, run, names}
	if p.train.Augment == nil {
		p.source = train.Cached(p.source, cacheBytes)
	} else if err := p.goal.bears(p.train.Augment); err != nil {
		return err
	}
	return nil
}

func openPose(m *ir.Model, in *prep.Input, o Options, decides metric) (Problem, error) {
	layout, err := wdr.FindLayout(m.Graph.Outputs(), in.Width, in.Height)
	if err != nil {
		return nil, err
	}
	cfg := wdr.Config{}
	if o.Task.WDR != nil {
		cfg = *o.Task.WDR
	}
	if cfg, err = cfg.WithDefaults(max(in.Width, in.Height)); err != nil {
		return nil, err
	}
	src := o.TrainSource
	if src == nil {
		if src, err = bop.Open(o.Data, bop.Options{}); err != nil {
			return nil, err
		}
	}
	p := &poseProblem{threads: o.Threads, decides: decides}
	trainIdx, heldIdx := data.HoldOut(src.Len())
	how := fmt.Sprintf("every tenth training image by name, at most %d", mostHeldPoses)
	evalSrc := o.EvalSource
	if evalSrc == nil && o.Eval != "" {
		if evalSrc, err = bop.Open(o.Eval, bop.Options{}); err != nil {
			return nil, err
		}
	}
	trainIdx = limited(trainIdx, o.Limit)
	if p.train, err = wdr.NewData(in, layout, cfg, src, trainIdx); err != nil {
		return nil, err
	}
	if p.held, err = wdr.NewData(in, layout, cfg, src, limited(thinned(heldIdx, mostHeldPoses), o.Limit)); err != nil {
		return nil, err
	}
	p.eval = p.held
	if evalSrc != nil {
		if p.eval, err = wdr.NewData(in, layout, cfg, evalSrc, nil); err != nil {
			return nil, err
		}
		how += "; results on the evaluation data"
	}
	if p.loss, err = wdr.Loss(layout, cfg); err != nil {
		return nil, err
	}
	p.desc = Description{Task: o.Task.Name, Loss: "wdr", Metric: decides.title, Train: p.train.Len(), Held: p.held.Len(), Eval: p.eval.Len(),
		HeldOut: how, Preproc: describeInput(in), Input: in, Labels: true}
	if p.train.Augment, err = parseAugment(o.Augment, true); err != nil {
		return nil, err
	}
	p.source = p.train
	if o.Loss == "" {
		return p, nil
	}
	return p, p.openGoal(m, in, o, src, trainIdx)
}

func (p *poseProblem) Source() train.Source  { return p.source }
func (p *poseProblem) Loss() *ir.Model       { return p.loss }
func (p *poseProblem) Describe() Description { return p.desc }

// Close ends the float network's session.
func (p *poseProblem) Close() error {
	if p.close == nil {
		return nil
	}
	return p.close()
}

// Feeds are those of the loss wdr that the loss at hand reads.
func (p *poseProblem) Feeds(step, steps int) (train.Feeds, error) {
	f, err := p.train.Feeds(step, steps)
	if p.goal == nil || err != nil {
		return f, err
	}
	maps.DeleteFunc(f, func(name string, _ *ir.Tensor) bool { return !slices.Contains(p.goal.own, name) })
	return f, nil
}

func (p *poseProblem) Calibration(n int) ([]train.Feeds, error) {
	var out []train.Feeds
	total := p.train.Len()
	n = min(n, total)
	for k := 0; k < n; k++ {
		f, err := p.train.Sample(k*total/n, nil)
		if err != nil {
			return nil, fmt.Errorf("calibration: %w", err)
		}
		out = append(out, train.Feeds{p.desc.Input.Name: f[p.desc.Input.Name]})
	}
	return out, nil
}

func (p *poseProblem) Score(ctx context.Context, part Part, run score.Runner, progress func(done, total int)) (*score.Score, error) {
	d := p.held
	if part == Eval {
		d = p.eval
	}
	s, err := d.Evaluate(ctx, run, workers(p.threads), progress)
	if err != nil {
		return nil, err
	}
	return p.decides.decide(s)
}
