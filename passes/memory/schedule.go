package memory

import (
	"cmp"
	"slices"
	"strings"

	"mqatc/onnx/ir"
)

// late is the least size of a state whose update is put off until all that reads the state has run, in bytes.
const late = 1 << 16

// scheduler looks for an order of the nodes of a graph from which onnxruntime derives one that keeps few values. It runs what a node
// that none reads, such as an update of weights, needs just before it, and takes such nodes, the leaves, from the last to the first.
type scheduler struct {
	g      *ir.Graph
	suffix string
	needs  map[*ir.Node][]*ir.Node
	inner  []*ir.Node // all but leaves
	leaves []*ir.Node // as they are to run
}

// Least is the least memory, in bytes, that the values of g between inputs and outputs take with a layout of their own.
func Least(g *ir.Graph) int64 {
	s := newScheduler(g, "")
	bytes, _, _ := s.cost(s.leaves)
	return bytes
}

// schedule sorts the nodes of g.
func schedule(g *ir.Graph, suffix string) error {
	s := newScheduler(g, suffix)
	s.improve()
	for _, n := range s.file(s.leaves) {
		if err := g.MoveBefore(n, nil); err != nil {
			return err
		}
	}
	return nil
}

// newScheduler runs leaves that can run early first: those near the loss. Among the inputs of a node those come first that take the
// longest chain of nodes, so that what is made of weights alone does not wait for them.
func newScheduler(g *ir.Graph, suffix string) *scheduler {
	nodes := g.Nodes()
	s := &scheduler{g: g, suffix: suffix, needs: dependencies(g, nodes)}
	depth := make(map[*ir.Node]int, len(nodes))
	read := make(map[*ir.Node]bool, len(nodes))
	for _, n := range nodes {
		for _, p := range s.needs[n] {
			depth[n] = max(depth[n], depth[p]+1)
			read[p] = true
		}
	}
	for _, n := range nodes {
		if read[n] {
			s.inner = append(s.inner, n)
		} else {
			s.leaves = append(s.leaves, n)
		}
	}
	shallow := func(a, b *ir.Node) int { return cmp.Compare(depth[a], depth[b]) }
	slices.SortStableFunc(s.leaves, shallow)
	slices.SortStableFunc(s.inner, shallow)
	return s
}

// order is in what order nodes run where leaves are to run as given.
func (s *scheduler) order(leaves []*ir.Node) []*ir.Node {
	return order(s.file(leaves), s.needs)
}

// file is how nodes are to stand in the file for that: of nodes to choose from, onnxruntime takes the last first.
func (s *scheduler) file(leaves []*ir.Node) []*ir.Node {
	nodes := slices.Clone(s.inner)
	for i := len(leaves) - 1; i >= 0; i-- {
		nodes = append(nodes, leaves[i])
	}
	return nodes
}

// cost is what the leaves' order takes: values, and second buffers of states that cannot be overwritten, which are listed.
func (s *scheduler) cost(leaves []*ir.Node) (bytes int64, a *arrangement, twice []*ir.Value) {
	order := s.order(leaves)
	a = arrange(s.g, order)
	bytes, _ = live(a.spans, len(order))
	for _, o := range s.g.Outputs() {
		if x := state(s.g, o, s.suffix); x != nil && !a.inPlace(x, o) {
			bytes += Size(x)
			twice = append(twice, o)
		}
	}
	return bytes, a, twice
}

// state is the input whose next content out is, nil where out is no state.
func state(g *ir.Graph, out *ir.Value, suffix string) *ir.Value {
	name, ok := strings.CutSuffix(out.Name(), suffix)
	if v := g.Value(name); ok && v != nil && v.IsInput() && !v.IsInitializer() {
		return v
	}
	return nil
}

// improve puts off updates of large states, one after the other, until the states are read no more, where that takes less memory.
func (s *scheduler) improve() {
	best, a, twice := s.cost(s.leaves)
	slices.SortStableFunc(twice, func(x, y *ir.Value) int { return cmp.Compare(Size(y), Size(x)) })
	for _, o := range twice {
		x := state(s.g, o, s.suffix)
		if Size(x) < late || a.inPlace(x, o) {
			continue
		}
		after := func(place int) int { // the first leaf that runs at place or later
			return slices.IndexFunc(s.leaves, func(n *ir.Node) bool { return a.place[n] >= place })
		}
		if o.Producer() == nil {
			continue
		}
		from, to := after(a.place[o.Producer()]), after(a.last[x])
		if from < 0 || to <= from {
			continue
		}
		moved := slices.Clone(s.leaves)
		n := moved[from]
		moved = slices.Insert(slices.Delete(moved, from, from+1), to, n)
		if c, b, _ := s.cost(moved); c < best {
			best, a, s.leaves = c, b, moved
		}
	}
}
