package fit

import (
	"fmt"
	"maps"
	"runtime/debug"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/memory"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/train"
)

// Load gives cfg the step graph and makes an engine of it. What memory its steps will take is told to foreseen, which may be nil.
//
// On the CPU the values of a step get places in one block of memory, and new states are written over the old ones: onnxruntime's own
// allocator takes up to twice as much. Results have the same bits.
func Load(cfg train.Config, stepGraph *ir.Model, foreseen func(Memory)) (_ *train.Engine, err error) {
	if cfg.Step, err = format.Marshal(stepGraph); err != nil {
		return nil, err
	}
	var e *train.Engine
	u := memory.Of(stepGraph.Graph)
	if (cfg.Session.Device == "" || cfg.Session.Device == "cpu") && orderKnown() {
		arranged, use, err := laid(cfg)
		if err != nil {
			return nil, err
		}
		if arranged != nil {
			e, u = arranged, use
		}
	}
	if e == nil {
		if e, err = train.New(cfg); err != nil {
			return nil, err
		}
	}
	if foreseen != nil {
		foreseen(memoryOf(u, stepGraph.Graph))
	}
	freed()
	return e, nil
}

// freed gives back what making an engine took: graphs are large, and steps make no garbage that would have the collector return it.
func freed() {
	ort.Trim()
	debug.FreeOSMemory()
}

// laid is an engine whose step graph is what onnxruntime made of it, with a layout; nil where onnxruntime cannot write that.
func laid(cfg train.Config) (*train.Engine, memory.Use, error) {
	a, err := arranged(cfg.Step, cfg.Threads, cfg.Session)
	if err != nil || a == nil {
		return nil, memory.Use{}, err
	}
	cfg.Step, cfg.Layout = a.raw, a.layout
	e, err := train.New(cfg)
	if err != nil {
		return nil, memory.Use{}, err
	}
	return e, a.use, nil
}

// arrangement is a graph as onnxruntime made it, with places for its values.
type arrangement struct {
	raw    []byte
	layout *train.Layout
	use    memory.Use
}

// arranged is nil where onnxruntime cannot write a graph, as on a full disk for temporary files.
func arranged(raw []byte, threads int, opts ort.SessionOptions) (*arrangement, error) {
	opts.Threads = threads
	opts.Config = maps.Clone(opts.Config)
	if opts.Config == nil {
		opts.Config = map[string]string{}
	}
	// Its Split makes at once what slices make one after the other.
	opts.Config["optimization.disable_specified_optimizers"] = "GatherSliceToSplitFusion"
	raw, err := ort.Optimize(raw, opts)
	if err != nil {
		return nil, nil // a graph that cannot be loaded at all is told of by the engine without a layout
	}
	m, err := format.Parse(raw, "")
	if err != nil {
		return nil, fmt.Errorf("fit: memory: %w", err)
	}
	// Operators of onnxruntime's own keep the types that it wrote.
	_ = op.InferModel(m, nil)
	a := &arrangement{use: memory.Of(m.Graph)}
	l, err := memory.Arrange(m.Graph, step.New)
	if err != nil {
		return nil, fmt.Errorf("fit: memory: %w", err)
	}
	if a.raw, err = format.Marshal(m); err != nil {
		return nil, err
	}
	a.layout = &train.Layout{Bytes: l.Bytes, At: l.At, InPlace: l.InPlace, In: l.In}
	a.use.Peak = l.Bytes + a.use.Scratch
	for _, name := range l.InPlace {
		a.use.Outputs -= memory.Size(m.Graph.Value(name))
	}
	return a, nil
}
