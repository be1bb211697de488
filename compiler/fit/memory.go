package fit

import (
	"strings"

	"mqatc/onnx/ir"
	"mqatc/passes/memory"
	"mqatc/passes/step"
)

// Memory is what a training is foreseen to take beside the program and its data, in bytes.
type Memory struct {
	Values    int64 // what a step computes, at its peak
	States    int64 // weights, optimizer's states and averages; twice where the new ones cannot take the place of the old
	Feeds     int64 // batch, targets, masks
	Constants int64
	Graph     int64 // what onnxruntime keeps of the graph itself
	Parts     int   // into which the step is divided; 0 or 1 where it is whole
}

// add adds what a graph computes and holds, so many times; what goes in and out of it is counted elsewhere.
func (m *Memory) add(x Memory, times int) {
	m.Values += int64(times) * x.Values
	m.Constants += int64(times) * x.Constants
	m.Graph += int64(times) * x.Graph
}

// Total is the sum.
func (m Memory) Total() int64 { return m.Values + m.States + m.Feeds + m.Constants + m.Graph }

// nodeBytes is what onnxruntime keeps of a node, measured on graphs of 1,300 to 4,100, and graphBytes what it keeps of any graph, of 275 to 1,000.
const (
	nodeBytes  = 5000
	graphBytes = 2 << 20
)

// Foresee is what a step of graph g takes where it is run as it stands, without onnxruntime at hand.
func Foresee(g *ir.Graph) Memory {
	u := memory.Of(g)
	u.Peak += u.Peak / arenaPart
	return memoryOf(u, g)
}

// arenaPart is what onnxruntime's arena takes beyond the values in it, for they leave holes: an eighth, measured on steps of 90 to 650 MB.
const arenaPart = 8

func memoryOf(u memory.Use, g *ir.Graph) Memory {
	m := Memory{Values: u.Peak, States: u.Outputs, Feeds: u.Inputs, Constants: u.Constants, Graph: graphBytes + nodeBytes*int64(g.NumNodes())}
	for _, o := range g.Outputs() {
		name, ok := strings.CutSuffix(o.Name(), step.New)
		if v := g.Value(name); ok && v != nil && v.IsInput() {
			m.States += memory.Size(o)
			m.Feeds -= memory.Size(o)
		} else {
			m.Feeds += memory.Size(o)
			m.States -= memory.Size(o)
		}
	}
	return m
}
