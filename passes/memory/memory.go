// Package memory foresees how much memory a graph takes while onnxruntime runs it, and makes it take less: by the order in which nodes
// run, by places for values in one block, and by computing values twice.
//
// What Of counts are the values between inputs and outputs: each from the node that makes it to the last that reads it. Nodes run
// one after the other, in the order that onnxruntime derives from the file; buffers are reused as onnxruntime's planner reuses them
// (core/framework/allocation_planner.cc of release 1.30): by operators that work in place or only rename their input, and by values
// of the same shape as a dead one.
package memory

import (
	"slices"
	"sort"

	"mqatc/onnx/ir"
)

// Use is the memory that a graph takes, in bytes.
type Use struct {
	Peak      int64 // of the values between inputs and outputs, kernels' scratch memory included
	At        *ir.Node
	Inputs    int64
	Outputs   int64
	Constants int64
	Scratch   int64 // the most that a kernel takes beside its inputs and outputs
	Unsized   int   // values of unknown size, which count as nothing
}

// Total is everything together: Peak, Inputs, Outputs and Constants.
func (u Use) Total() int64 { return u.Peak + u.Inputs + u.Outputs + u.Constants }

// Of foresees the memory that g takes, its nodes run in Order.
func Of(g *ir.Graph) Use {
	order := Order(g)
	p := newPlan(g, order)
	u := p.peak(order)
	for _, v := range g.Inputs() {
		if !v.IsInitializer() {
			u.Inputs += Size(v)
		}
	}
	for _, v := range g.Outputs() {
		u.Outputs += Size(v)
	}
	for _, v := range g.Initializers() {
		if v.Init() != nil {
			u.Constants += int64(len(v.Init().Raw()))
		}
	}
	return u
}

// Order is the order in which onnxruntime runs the nodes of g with its sequential executor: depth first from the nodes that none reads,
// later nodes before earlier ones (Graph::ReverseDFSFrom as GraphViewer's constructor calls it).
func Order(g *ir.Graph) []*ir.Node {
	nodes := g.Nodes()
	return order(nodes, dependencies(g, nodes))
}

// dependencies are the nodes that each node reads from, without repetition.
func dependencies(g *ir.Graph, nodes []*ir.Node) map[*ir.Node][]*ir.Node {
	out := make(map[*ir.Node][]*ir.Node, len(nodes))
	for _, n := range nodes {
		for _, d := range producers(g, n, nil) {
			if !slices.Contains(out[n], d) {
				out[n] = append(out[n], d)
			}
		}
	}
	return out
}

// order is Order for nodes that stand in a file as given.
func order(nodes []*ir.Node, needs map[*ir.Node][]*ir.Node) []*ir.Node {
	at := make(map[*ir.Node]int, len(nodes))
	for i, n := range nodes {
		at[n] = i
	}
	inputs := make([][]int, len(nodes))
	read := make([]bool, len(nodes))
	for i, n := range nodes {
		for _, d := range needs[n] {
			inputs[i] = append(inputs[i], at[d])
			read[at[d]] = true
		}
		sort.Ints(inputs[i])
	}
	type entry struct {
		node  int
		leave bool
	}
	var stack []entry
	for i := range nodes {
		if !read[i] {
			stack = append(stack, entry{i, false})
		}
	}
	visited := make([]bool, len(nodes))
	out := make([]*ir.Node, 0, len(nodes))
	for len(stack) > 0 {
		e := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if e.leave {
			out = append(out, nodes[e.node])
			continue
		}
		if visited[e.node] {
			continue
		}
		visited[e.node] = true
		stack = append(stack, entry{e.node, true})
		for _, k := range inputs[e.node] {
			if !visited[k] {
				stack = append(stack, entry{k, false})
			}
		}
	}
	return out
}

// producers are the nodes of g whose outputs n, or a graph inside it, reads.
func producers(g *ir.Graph, n *ir.Node, out []*ir.Node) []*ir.Node {
	for _, v := range n.Inputs() {
		if v != nil && v.Graph() == g && v.Producer() != nil {
			out = append(out, v.Producer())
		}
	}
	for _, s := range n.Subgraphs() {
		for m := s.First(); m != nil; m = m.Next() {
			out = producers(g, m, out)
		}
		for _, o := range s.Outputs() {
			if o.Graph() == g && o.Producer() != nil {
				out = append(out, o.Producer())
			}
		}
	}
	return out
}

// Size is the number of bytes of a value, 0 where it is not known.
func Size(v *ir.Value) int64 {
	dims, ok := v.StaticDims()
	if !ok || !v.DType().Valid() {
		return 0
	}
	n, err := ir.NumElements(dims)
	if err != nil {
		return 0
	}
	b, err := ir.PackedSize(v.DType(), n)
	if err != nil {
		return 0
	}
	return b
}
