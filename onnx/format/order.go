package format

import (
	"container/heap"
	"fmt"
	"strings"

	"mqatc/onnx/pb"
)

// sortNodes returns a topological order of ps, the file's own where that is one already. outside tells names that are made
// elsewhere in the same graph (inputs and initializers); the error names a cycle.
func sortNodes(ps []*pb.NodeProto, outside func(string) bool) ([]int, error) {
	producer := map[string]int{}
	for i, p := range ps {
		for _, o := range p.Output {
			if o == "" {
				continue
			}
			if j, ok := producer[o]; ok {
				return nil, fmt.Errorf("nodes %s and %s both make a value called %q", describe(ps[j]), describe(p), o)
			}
			if outside(o) {
				return nil, fmt.Errorf("node %s makes %q, which is also a graph input or initializer", describe(p), o)
			}
			producer[o] = i
		}
	}
	deps := make([][]int, len(ps))
	sorted := true
	for i, p := range ps {
		seen := map[int]bool{}
		reads(p, func(name string) {
			if j, ok := producer[name]; ok && !seen[j] {
				seen[j] = true
				deps[i] = append(deps[i], j)
				sorted = sorted && j < i
			}
		})
	}
	order := make([]int, 0, len(ps))
	if sorted {
		for i := range ps {
			order = append(order, i)
		}
		return order, nil
	}
	pending := make([]int, len(ps))
	readers := make([][]int, len(ps))
	var ready intHeap
	for i, ds := range deps {
		pending[i] = len(ds)
		for _, j := range ds {
			readers[j] = append(readers[j], i)
		}
		if len(ds) == 0 {
			ready = append(ready, i)
		}
	}
	for len(ready) > 0 {
		i := heap.Pop(&ready).(int)
		order = append(order, i)
		for _, r := range readers[i] {
			if pending[r]--; pending[r] == 0 {
				heap.Push(&ready, r)
			}
		}
	}
	if len(order) < len(ps) {
		return nil, fmt.Errorf("the graph has a cycle: %s", cycle(ps, deps, pending))
	}
	return order, nil
}

// reads reports the names that a node reads from its own graph or from graphs around it, those of its subgraphs included.
func reads(p *pb.NodeProto, f func(string)) {
	for _, in := range p.Input {
		if in != "" {
			f(in)
		}
	}
	for _, a := range p.Attribute {
		if a.G != nil {
			freeNames(a.G, f)
		}
		for _, g := range a.Graphs {
			freeNames(g, f)
		}
	}
}

func freeNames(g *pb.GraphProto, f func(string)) {
	own := map[string]bool{}
	for _, v := range g.Input {
		own[v.GetName()] = true
	}
	for _, t := range g.Initializer {
		own[t.GetName()] = true
	}
	for _, s := range g.SparseInitializer {
		own[s.GetValues().GetName()] = true
	}
	for _, n := range g.Node {
		for _, o := range n.Output {
			own[o] = true
		}
	}
	free := func(name string) {
		if !own[name] {
			f(name)
		}
	}
	for _, n := range g.Node {
		reads(n, free)
	}
	for _, o := range g.Output {
		free(o.GetName())
	}
}

// cycle describes one cycle among the nodes that could not be ordered.
func cycle(ps []*pb.NodeProto, deps [][]int, pending []int) string {
	at := 0
	for pending[at] == 0 {
		at++
	}
	step := map[int]int{}
	var path []int
	for {
		if first, ok := step[at]; ok {
			path = path[first:]
			break
		}
		step[at] = len(path)
		path = append(path, at)
		for _, j := range deps[at] {
			if pending[j] > 0 {
				at = j
				break
			}
		}
	}
	const most = 4
	var names []string
	for i := len(path) - 1; i >= 0 && len(names) < most; i-- {
		names = append(names, describe(ps[path[i]]))
	}
	if len(path) > most {
		names = append(names, fmt.Sprintf("%d more nodes", len(path)-most))
	}
	return strings.Join(append(names, names[0]), " -> ")
}

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
