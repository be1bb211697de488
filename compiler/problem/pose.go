package problem

import (
	"context"
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/runtime/data"
	"mqatc/runtime/data/bop"
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
	threads           int
}

func openPose(m *ir.Model, in *prep.Input, o Options) (Problem, error) {
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
	p := &poseProblem{threads: o.Threads}
	trainIdx, heldIdx := data.HoldOut(src.Len())
	how := "every tenth training image by name, at most 400"
	evalSrc := o.EvalSource
	if evalSrc == nil && o.Eval != "" {
		if evalSrc, err = bop.Open(o.Eval, bop.Options{}); err != nil {
			return nil, err
		}
	}
	if p.train, err = wdr.NewData(in, layout, cfg, src, limited(trainIdx, o.Limit)); err != nil {
		return nil, err
	}
	if p.held, err = wdr.NewData(in, layout, cfg, src, limited(thinned(heldIdx), o.Limit)); err != nil {
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
	p.desc = Description{Task: o.Task.Name, Loss: "wdr", Metric: "ADD(-S)-0.1d", Train: p.train.Len(), Held: p.held.Len(), Eval: p.eval.Len(),
		HeldOut: how, Preproc: describeInput(in), Input: in, Labels: true}
	return p, nil
}

func (p *poseProblem) Source() train.Source  { return p.train }
func (p *poseProblem) Loss() *ir.Model       { return p.loss }
func (p *poseProblem) Describe() Description { return p.desc }
func (p *poseProblem) Close() error          { return nil }

func (p *poseProblem) Feeds(step, steps int) (train.Feeds, error) { return p.train.Feeds(step, steps) }

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
	return d.Evaluate(ctx, run, workers(p.threads), progress)
}
