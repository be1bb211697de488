// Package fit trains the parameters of a model on a problem: it makes the step graph, runs it on onnxruntime and takes the
// trained values back.
package fit

import (
	"context"
	"fmt"
	"time"

	"mqatc/compiler/problem"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/train"
)

// Options of Run.
type Options struct {
	Model   *ir.Model // inference form; its float initializers named in Params are trained
	Problem problem.Problem
	Params  []step.Param
	// State are values that no initializer holds, such as masks.
	State     map[string]*ir.Tensor
	Optimizer step.Optimizer
	Rate      train.Schedule
	Steps     int
	Batch     int
	// Single feeds images one by one and sums gradients, for networks whose batch is fixed to 1.
	Single bool
	// Micro, where it is not 0, is how many images are fed at a time; it divides Batch, and their gradients are summed.
	Micro int
	// Expose are values of Model that the problem's loss reads beside its outputs.
	Expose []string
	// BatchStatistics trains normalizations on the statistics of what is fed at a time and moves their running statistics.
	BatchStatistics bool
	Recompute       int // see step.Options
	// Foreseen is told before the first step what memory the training takes. May be nil.
	Foreseen func(Memory)
	Seed     uint64
	Threads  int
	Workers  int    // goroutines that make batches; 0 means 1. Results do not depend on it.
	Device   string // of onnxruntime; empty is the CPU
	// Lower runs the step in the forms that this machine is fastest at; results differ by rounding.
	Lower bool
	// Forms chooses these forms for trainings of LeastMeasured steps and more. May be nil.
	Forms Forms
	// MACs is what an image costs forward, in multiply-accumulates, which decides with Steps how the graph is loaded (ort.LevelFor); 0 where it is not known.
	MACs int64
	// Late feeds the loss what it gets at the end of a training from scratch throughout, as fine-tuning wants it.
	Late bool
	// Before may change the engine's state before a step; it must follow from state and step alone. May be nil.
	Before func(e *train.Engine, step int) error
	Path   string // of the checkpoint; empty keeps none
	Key    string // identifies the training in the checkpoint
	// After is told the number of steps done. May be nil.
	After    func(e *train.Engine, done int) error
	Progress func(train.Progress)
	Tried    func(done, most int) // as step.Options.Tried
}

// Result of Run.
type Result struct {
	Values   map[string]*ir.Tensor // of Params, or of their running averages where Optimizer.EMA keeps some; running statistics that moved
	State    map[string]*ir.Tensor // everything else that the last state held, optimizer states included
	Curve    []float64             // mean loss over each of at most buckets parts of the run
	LossFrom float64               // mean over the first tenth
	LossTo   float64               // mean over the last tenth
	Steps    int
}

const buckets = 100

// micro is how many images are fed at a time, and whether gradients are summed.
func (o Options) micro() (n int, sums bool) {
	switch {
	case o.Single:
		return 1, true
	case o.Micro > 0 && o.Micro < o.Batch:
		return o.Micro, true
	}
	return o.Batch, false
}

// stepOptions are those of the step graph, and forms what chooses its forms.
func (o Options) stepOptions() (so step.Options, forms Forms, err error) {
	n, sums := o.micro()
	so = step.Options{Loss: o.Problem.Loss(), Batch: int64(n), Params: o.Params, Optimizer: o.Optimizer, Accumulate: sums,
		BatchStatistics: o.BatchStatistics, Recompute: o.Recompute, Tried: o.Tried, Expose: o.Expose}
	if o.Lower {
		if o.Steps >= LeastMeasured {
			forms = o.Forms
		}
		so.Lower, err = Lowering(o.Device, o.Recompute, forms)
	}
	return so, forms, err
}

// graphs makes the step graph, and the graph that updates from sums where not all images of a step are fed together.
func (o Options) graphs(so step.Options) (stepGraph, apply *ir.Model, err error) {
	if stepGraph, err = step.Build(o.Model, so); err != nil || !so.Accumulate {
		return stepGraph, nil, err
	}
	apply, err = step.Apply(o.Model, so)
	return stepGraph, apply, err
}

// start are the first values of the states that do not start at zero.
func (o Options) start() (map[string]*ir.Tensor, error) {
	state := map[string]*ir.Tensor{}
	take := func(name, of string) error {
		v := o.Model.Graph.Value(of)
		if v == nil || v.Init() == nil {
			return fmt.Errorf("fit: the model has no constant %q", of)
		}
		state[name] = v.Init()
		return nil
	}
	for _, p := range o.Params {
		if err := take(p.Name, p.Name); err != nil {
			return nil, err
		}
		if o.Optimizer.EMA > 0 {
			if err := take(p.Name+step.Average, p.Name); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range o.statistics() {
		if err := take(name, name); err != nil {
			return nil, err
		}
	}
	for k, v := range o.State {
		state[k] = v
	}
	return state, nil
}

func (o Options) statistics() []string {
	if !o.BatchStatistics {
		return nil
	}
	return step.Statistics(o.Model, o.Params)
}

// engine makes the graphs and loads them for so many steps.
func (o Options) engine(steps int) (*train.Engine, error) {
	so, forms, err := o.stepOptions()
	if err != nil {
		return nil, err
	}
	cfg := train.Config{Threads: o.Threads, Session: ort.SessionOptions{DisableQDQ: true, Device: o.Device}}
	level := func(nodes int) ort.OptLevel {
		return ort.LevelFor(nodes, float64(o.MACs)*float64(o.Batch)*float64(steps))
	}
	if cfg.State, err = o.start(); err != nil {
		return nil, err
	}
	if so.Lower != nil {
		stages, err := Divide(o.Model, so, o.Threads, forms)
		if err != nil {
			return nil, err
		}
		if stages != nil {
			cfg.Session.OptLevel = level(stages.Images.Graph.NumNodes() + stages.Update.Graph.NumNodes())
			return LoadStages(cfg, stages, o.Foreseen)
		}
	}
	stepGraph, apply, err := o.graphs(so)
	if err != nil {
		return nil, err
	}
	cfg.Session.OptLevel = level(stepGraph.Graph.NumNodes())
	if apply != nil {
		if cfg.Apply, err = format.Marshal(apply); err != nil {
			return nil, err
		}
	}
	return Load(cfg, stepGraph, o.Foreseen)
}

// Run trains. When ctx ends it leaves a checkpoint and returns ctx's error; called again with the same options it goes on from there
// and ends with the same bits.
func Run(ctx context.Context, o Options) (*Result, error) {
	e, err := o.engine(o.Steps)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	r := &train.Run{Engine: e, Source: o.Problem.Source(), Steps: o.Steps, Batch: o.Batch, Seed: o.Seed, Workers: o.Workers, Rate: o.Rate,
		Feeds: o.Problem.Feeds, Path: o.Path, Key: o.Key, Every: 20 * time.Second, Values: map[string]float64{}}
	r.Micro, _ = o.micro()
	if o.Late {
		r.Feeds = func(int, int) (train.Feeds, error) { return o.Problem.Feeds(1, 1) }
	}
	if o.Path != "" {
		if _, err := r.Resume(); err != nil {
			return nil, err
		}
		if r.Values == nil {
			r.Values = map[string]float64{}
		}
	}
	if o.Before != nil {
		r.Before = func(step int) error { return o.Before(e, step) }
	}
	r.After = func(done int) error {
		b := (done - 1) * buckets / o.Steps
		loss := e.Output("loss").Float32s()[0]
		r.Values[fmt.Sprintf("sum%02d", b)] += float64(loss)
		r.Values[fmt.Sprintf("n%02d", b)]++
		if o.After != nil {
			return o.After(e, done)
		}
		return nil
	}
	r.Progress = o.Progress
	if err := r.Do(ctx); err != nil {
		return nil, err
	}
	res := &Result{Values: map[string]*ir.Tensor{}, Steps: o.Steps}
	if res.State, err = e.Snapshot(); err != nil {
		return nil, err
	}
	for _, p := range o.Params {
		res.Values[p.Name] = res.State[p.Name]
		if o.Optimizer.EMA > 0 {
			res.Values[p.Name] = res.State[p.Name+step.Average]
		}
		delete(res.State, p.Name)
	}
	for _, name := range o.statistics() {
		res.Values[name] = res.State[name]
		delete(res.State, name)
	}
	res.curve(r.Values)
	return res, nil
}

func (r *Result) curve(values map[string]float64) {
	var sums, counts []float64
	for b := 0; b < buckets; b++ {
		if n := values[fmt.Sprintf("n%02d", b)]; n > 0 {
			sums, counts = append(sums, values[fmt.Sprintf("sum%02d", b)]), append(counts, n)
			r.Curve = append(r.Curve, sums[len(sums)-1]/n)
		}
	}
	mean := func(from, to int) float64 {
		s, n := 0.0, 0.0
		for i := from; i < to; i++ {
			s += sums[i]
			n += counts[i]
		}
		return s / max(n, 1)
	}
	tenth := max(1, len(sums)/10)
	if len(sums) > 0 {
		r.LossFrom, r.LossTo = mean(0, tenth), mean(len(sums)-tenth, len(sums))
	}
}

// Put returns a copy of m whose initializers hold values.
func Put(m *ir.Model, values map[string]*ir.Tensor) (*ir.Model, error) {
	c, err := m.Clone()
	if err != nil {
		return nil, err
	}
	for name, t := range values {
		v := c.Graph.Value(name)
		if v == nil || v.Init() == nil {
			return nil, fmt.Errorf("fit: the model has no constant %q", name)
		}
		if err := c.Graph.SetInit(v, t); err != nil {
			return nil, err
		}
	}
	return c, nil
}
