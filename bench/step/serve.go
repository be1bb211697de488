package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"mqatc/compiler/costs"
	"mqatc/compiler/fit"
	"mqatc/compiler/frontend"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
	"mqatc/passes/memory"
	"mqatc/passes/quant"
	"mqatc/passes/step"
	"mqatc/passes/weights"
	"mqatc/runtime/ort"
	"mqatc/runtime/train"
)

// serve trains the network at path: for each line N of standard input N steps, answered by a line of JSON.
func serve(path string, batch int64, lsq bool, how setting, profile string) error {
	threads, err := threadsOf()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := ort.Open(ctx, ort.Options{}); err != nil {
		return err
	}
	if err := warm(ctx, lsq, how); err != nil {
		return err
	}
	m := meter{before: status("VmRSS")}
	ort.Trim()
	m.least = status("VmRSS")
	e, feeds, is, err := engine(ctx, path, batch, lsq, how, train.Config{Threads: threads, Session: ort.SessionOptions{DisableQDQ: true, Profile: profile}})
	if err != nil {
		return err
	}
	defer e.Close()
	ort.Trim()
	debug.FreeOSMemory() // the graph that the engine was made from is held until here
	m.start()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		n, err := strconv.Atoi(in.Text())
		if err != nil {
			return err
		}
		var a answer
		for range n {
			start := time.Now()
			if _, err := e.Step(1e-4, feeds); err != nil {
				return err
			}
			a.Seconds = append(a.Seconds, time.Since(start).Seconds())
		}
		m.fill(&a)
		a.Foreseen, a.MACs = is.foreseen, is.macs
		if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

// threadsOf are the threads of each side.
func threadsOf() (int, error) {
	s := os.Getenv("THREADS")
	if s == "" {
		return 2, nil
	}
	return strconv.Atoi(s)
}

// figures are what is known of a step before it runs.
type figures struct {
	foreseen int64 // bytes
	macs     float64
}

// engine is the step of the network at path with the images to feed it.
func engine(ctx context.Context, path string, batch int64, lsq bool, how setting, cfg train.Config) (_ *train.Engine, _ train.Feeds, is figures, err error) {
	src, err := frontend.Read(path)
	if err != nil {
		return nil, nil, is, err
	}
	f, err := frontend.Prepare(ctx, src, frontend.Options{})
	if err != nil {
		return nil, nil, is, err
	}
	defer f.Close()
	m := f.Model
	params := step.Trainable(m)
	if how.module != "" {
		if params, err = within(f.Partition, how.module, params); err != nil {
			return nil, nil, is, err
		}
	}
	if lsq {
		more, err := quantize(m)
		if err != nil {
			return nil, nil, is, err
		}
		params = append(params, more...)
	}
	loss, err := square(m)
	if err != nil {
		return nil, nil, is, err
	}
	o := step.Options{Loss: loss, Batch: batch, Params: params, Optimizer: step.Optimizer{Name: "sgd", Momentum: 0.9}}
	if how.recompute {
		o.Recompute = memory.Auto
	}
	var forms fit.Forms
	if how.lower {
		if how.measured {
			l, _ := ort.Opened()
			if forms, err = costs.Open(costs.Options{Threads: cfg.Threads, Library: l.Version}); err != nil {
				return nil, nil, is, err
			}
		}
		if o.Lower, err = fit.Lowering("cpu", o.Recompute, forms); err != nil {
			return nil, nil, is, err
		}
	}
	cfg.State = map[string]*ir.Tensor{}
	for _, p := range params {
		cfg.State[p.Name] = m.Graph.Value(p.Name).Init()
	}
	if how.parts && forms != nil {
		stages, err := fit.Divide(m, o, cfg.Threads, forms)
		if err != nil {
			return nil, nil, is, err
		}
		if stages != nil {
			e, err := fit.LoadStages(cfg, stages, func(m fit.Memory) { is.foreseen = m.Total() })
			if err != nil {
				return nil, nil, is, err
			}
			whole := o
			whole.Lower = func(m *ir.Model) error {
				is.macs = work(m.Graph)
				return grad.Expand(m.Graph, false)
			}
			if _, err := step.Build(m, whole); err != nil {
				return nil, nil, is, err
			}
			feeds, err := random(stages.Images.Graph, int64(stages.Count))
			return e, feeds, is, err
		}
	}
	lowering := o.Lower
	o.Lower = func(m *ir.Model) error {
		is.macs = work(m.Graph)
		if lowering == nil {
			return grad.Expand(m.Graph, how.recompute)
		}
		return lowering(m)
	}
	s, err := step.Build(m, o)
	if err != nil {
		return nil, nil, is, err
	}
	if cfg.Step, err = format.Marshal(s); err != nil {
		return nil, nil, is, err
	}
	e, foreseen, err := load(cfg, s)
	is.foreseen = foreseen
	if err != nil {
		return nil, nil, is, err
	}
	feeds, err := random(s.Graph, 1)
	return e, feeds, is, err
}

// random is a batch for the inputs image and target of a step graph, or of one for a part of the images, of which there are times as many.
func random(g *ir.Graph, times int64) (train.Feeds, error) {
	r, feeds := rand.New(rand.NewPCG(1, 2)), train.Feeds{}
	for _, v := range g.Inputs() {
		if name := v.Name(); name == "image" || name == "target" {
			d, n := []int64{}, times
			for _, k := range v.Shape() {
				d, n = append(d, k.Size), n*k.Size
			}
			d[0] *= times
			x := make([]float32, n)
			for i := range x {
				if name == "image" {
					x[i] = r.Float32()
				}
			}
			t, err := ir.FromFloat32s(x, d...)
			if err != nil {
				return nil, err
			}
			feeds[name] = t
		}
	}
	return feeds, nil
}

// load is an engine, and the memory that its steps are foreseen to take.
func load(cfg train.Config, s *ir.Model) (*train.Engine, int64, error) {
	var bytes int64
	e, err := fit.Load(cfg, s, func(m fit.Memory) { bytes = m.Total() })
	return e, bytes, err
}

// square is the loss mean((y - target)^2).
func square(m *ir.Model) (*ir.Model, error) {
	out := m.Graph.Outputs()[0]
	l := ir.NewModel("square", 17)
	y, err := l.Graph.AddInput(out.Name(), out.Type.Clone())
	if err != nil {
		return nil, err
	}
	t, err := l.Graph.AddInput("target", out.Type.Clone())
	if err != nil {
		return nil, err
	}
	b := ir.NewBuilder(l.Graph, "loss", op.InferNode)
	d := b.Op("Sub", []*ir.Value{y, t})
	loss := b.Op("ReduceMean", []*ir.Value{b.Op("Mul", []*ir.Value{d, d})}, ir.AInt("keepdims", 0))
	if err := b.Err(); err != nil {
		return nil, err
	}
	return l, l.Graph.SetOutputs(loss)
}

// quantize puts LSQ on all weights, 4 bits by output channel, and on what their operators read, 8 bits, and lists the step sizes.
func quantize(m *ir.Model) ([]step.Param, error) {
	var readers []*ir.Node
	spec := quant.Spec{Weights: map[string]quant.WeightSpec{}}
	for _, p := range weights.Find(m.Graph) {
		if p.Kind == weights.Weight {
			spec.Weights[p.Value.Name()] = quant.WeightSpec{Bits: 4, Quantizer: "lsq"}
			readers = append(readers, p.Nodes...)
		}
	}
	var params []step.Param
	r, err := quant.Insert(m, spec)
	if err != nil {
		return nil, err
	}
	for _, w := range r.Weights {
		for _, s := range w.States {
			params = append(params, step.Param{Name: s.Name, GradScale: s.GradScale, Min: s.Min})
		}
	}
	for i, n := range readers {
		name := fmt.Sprintf("activation%d.step", i)
		t, err := ir.FromFloat32s([]float32{0.02}, 1)
		if err != nil {
			return nil, err
		}
		s, err := m.Graph.AddInitializer(name, t)
		if err != nil {
			return nil, err
		}
		b := ir.NewBuilder(m.Graph, "lsq", op.InferNode)
		b.Before = n
		x := b.Op("Clip", []*ir.Value{b.Op("Div", []*ir.Value{n.Input(0), s}), b.Float(-128), b.Float(127)})
		q := b.Op("Mul", []*ir.Value{b.Op("Round", []*ir.Value{x}), s})
		if err := b.Err(); err != nil {
			return nil, err
		}
		if err := m.Graph.SetInput(n, 0, q); err != nil {
			return nil, err
		}
		params = append(params, step.Param{Name: name, GradScale: float32(1 / math.Sqrt(127)), Min: 1e-6})
	}
	return params, nil
}
