package fit

import (
	"fmt"
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
	ort.Trim()
	debug.FreeOSMemory() // graphs are large, and steps make no garbage that would have the collector return them
	return e, nil
}

// laid is an engine whose step graph is what onnxruntime made of it, with a layout; nil where onnxruntime cannot write that, as on a full
// disk for temporary files.
func laid(cfg train.Config) (*train.Engine, memory.Use, error) {
	opts := cfg.Session
	opts.Threads = cfg.Threads
	raw, err := ort.Optimize(cfg.Step, opts)
	if err != nil {
		return nil, memory.Use{}, nil // a graph that cannot be loaded at all is told of by the engine without a layout
	}
	m, err := format.Parse(raw, "")
	if err != nil {
		return nil, memory.Use{}, fmt.Errorf("fit: memory: %w", err)
	}
	// Operators of onnxruntime's own keep the types that it wrote.
	_ = op.InferModel(m, nil)
	u := memory.Of(m.Graph)
	l, err := memory.Arrange(m.Graph, step.New)
	if err != nil {
		return nil, memory.Use{}, fmt.Errorf("fit: memory: %w", err)
	}
	if cfg.Step, err = format.Marshal(m); err != nil {
		return nil, memory.Use{}, err
	}
	cfg.Layout = &train.Layout{Bytes: l.Bytes, At: l.At, InPlace: l.InPlace, In: l.In}
	e, err := train.New(cfg)
	if err != nil {
		return nil, memory.Use{}, err
	}
	u.Peak = l.Bytes + u.Scratch
	for _, name := range l.InPlace {
		u.Outputs -= memory.Size(m.Graph.Value(name))
	}
	return e, u, nil
}
