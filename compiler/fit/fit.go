// Package fit trains the parameters of a model on a problem: it makes the step graph, runs it on onnxruntime and takes the
// trained values back.
package fit

import (
	"context"
	"fmt"
	"maps"
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
	Single  bool
	Seed    uint64
	Threads int
	// MACs is what an image costs forward, in multiply-accumulates; 0 where it is not known.
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
}

// Result of Run.
type Result struct {
	Values   map[string]*ir.Tensor // of Params
	State    map[string]*ir.Tensor // everything else that the last state held, optimizer states included
	Curve    []float64             // mean loss over each of at most buckets parts of the run
	LossFrom float64               // mean over the first tenth
	LossTo   float64               // mean over the last tenth
	Steps    int
}

const buckets = 100

// graphs makes the step graph, and the graph that updates from sums where images are fed one by one; nodes are the step graph's.
func graphs(o Options) (stepGraph, apply []byte, nodes int, err error) {
	so := step.Options{Loss: o.Problem.Loss(), Batch: int64(o.Batch), Params: o.Params, Optimizer: o.Optimizer, Accumulate: o.Single}
	if o.Single {
		so.Batch = 1
	}
	m, err := step.Build(o.Model, so)
	if err != nil {
		return nil, nil, 0, err
	}
	nodes = len(m.Graph.Nodes())
	if stepGraph, err = format.Marshal(m); err != nil {
		return nil, nil, 0, err
	}
	if o.Single {
		if m, err = step.Apply(o.Model, so); err != nil {
			return nil, nil, 0, err
		}
		if apply, err = format.Marshal(m); err != nil {
			return nil, nil, 0, err
		}
	}
	return stepGraph, apply, nodes, nil
}

// open loads what trains o for so many steps and sets its state.
func open(o Options, steps int) (*train.Engine, error) {
	stepGraph, apply, nodes, err := graphs(o)
	if err != nil {
		return nil, err
	}
	state := map[string]*ir.Tensor{}
	for _, p := range o.Params {
		v := o.Model.Graph.Value(p.Name)
		if v == nil || v.Init() == nil {
			return nil, fmt.Errorf("fit: the model has no constant %q", p.Name)
		}
		state[p.Name] = v.Init()
	}
	maps.Copy(state, o.State)
	level := ort.LevelFor(nodes, float64(o.MACs)*float64(o.Batch)*float64(steps))
	return train.New(train.Config{Step: stepGraph, Apply: apply, State: state, Threads: o.Threads, Session: ort.SessionOptions{OptLevel: level, DisableQDQ: true}})
}

// Run trains. When ctx ends it leaves a checkpoint and returns ctx's error; called again with the same options it goes on from there
// and ends with the same bits.
func Run(ctx context.Context, o Options) (*Result, error) {
	e, err := open(o, o.Steps)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	r := &train.Run{Engine: e, Source: o.Problem.Source(), Steps: o.Steps, Batch: o.Batch, Seed: o.Seed, Workers: 1, Rate: o.Rate,
		Feeds: o.Problem.Feeds, Path: o.Path, Key: o.Key, Every: 20 * time.Second, Values: map[string]float64{}}
	if o.Single {
		r.Micro = 1
	}
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
		delete(res.State, p.Name)
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
