package fit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/memory"
	"mqatc/passes/step"
)

// Memory is what a training is foreseen to take beside the program and its data, in bytes.
type Memory struct {
	Values    int64 // what a step computes, at its peak
	States    int64 // weights, optimizer's states and averages, all twice
	Feeds     int64 // batch, targets, masks
	Constants int64
	Graph     int64 // what onnxruntime keeps of the graph itself
}

// Total is the sum.
func (m Memory) Total() int64 { return m.Values + m.States + m.Feeds + m.Constants + m.Graph }

// arenaPart is what onnxruntime's arena takes beyond the values in it, for they leave holes: an eighth, measured on steps of 90 to 650 MB.
const arenaPart = 8

// nodeBytes is what onnxruntime keeps of a node, measured on graphs of 1,300 to 4,100.
const nodeBytes = 5000

// foresee reads what a step will take off the graph as onnxruntime runs it, at path; g is the graph that it was given.
func foresee(path string, g *ir.Graph) (Memory, error) {
	m, err := format.Load(path)
	if err != nil {
		return Memory{}, fmt.Errorf("fit: memory: %w", err)
	}
	// Operators of onnxruntime's own keep the types that it wrote.
	_ = op.InferModel(m, nil)
	return memoryOf(memory.Run(m.Graph, m.Graph.Nodes()), g), nil
}

// Foresee is what a step of graph g takes where it is run as it stands, without onnxruntime at hand.
func Foresee(g *ir.Graph) Memory { return memoryOf(memory.Of(g), g) }

func memoryOf(u memory.Use, g *ir.Graph) Memory {
	m := Memory{Values: u.Peak + u.Peak/arenaPart, Feeds: u.Inputs, Constants: u.Constants, Graph: nodeBytes * int64(g.NumNodes())}
	for _, o := range g.Outputs() {
		name, ok := strings.CutSuffix(o.Name(), step.New)
		if v := g.Value(name); ok && v != nil && v.IsInput() {
			m.States += 2 * memory.Size(o)
			m.Feeds -= memory.Size(o)
		} else {
			m.Feeds += memory.Size(o)
		}
	}
	return m
}

// optimized is a path for the graph as onnxruntime optimizes it, and what removes it.
func optimized() (string, func(), error) {
	dir, err := os.MkdirTemp("", "mqatc-step-")
	if err != nil {
		return "", nil, fmt.Errorf("fit: memory: %w", err)
	}
	return filepath.Join(dir, "step.onnx"), func() { _ = os.RemoveAll(dir) }, nil // a temporary folder left behind harms nobody
}
