package memory

import (
	"cmp"
	"slices"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// late is the least size of a state whose update is put off until all that reads the state has run, in bytes.
const late = 1 << 16

// together is how many updates are put off together at most.
const together = 6

// rounds is how often schedule looks for nodes to have run early; shrinks is by how much they make what they read smaller at least.
const (
	rounds  = 8
	shrinks = 16
)

// scheduler looks for an order of the nodes of a graph from which onnxruntime derives one that keeps few values. It runs what a node
// that none reads, such as an update of weights, needs just before it, and takes such nodes, the leaves, from the last to the first.
type scheduler struct {
	g      *ir.Graph
	suffix string
	needs  map[*ir.Node][]*ir.Node
	depth  map[*ir.Node]int
	inner  []*ir.Node // all but leaves
	leaves []*ir.Node // as they are to run
}

// Least is the least memory, in bytes, that the values of g between inputs and outputs take with a layout as Arrange makes it.
func Least(g *ir.Graph, suffix string) int64 {
	bytes, _ := newScheduler(g, suffix).peak(nil)
	return bytes
}

// foreseen is about what Arrange would come to, with what nodes take while they run. It adds nodes to g.
func foreseen(g *ir.Graph, o Options) (int64, error) {
	var best int64 = -1
	for range rounds {
		s := newScheduler(g, o.Suffix)
		bytes, peak := s.peak(o.Scratch)
		e := *s
		e.leaves = s.early()
		if less, at := e.peak(o.Scratch); less < bytes {
			s, bytes, peak = &e, less, at
		}
		if best >= 0 && bytes >= best {
			break
		}
		best = bytes
		if added, err := s.hasten(peak); err != nil || len(added) == 0 {
			return best, err
		}
	}
	return best, nil
}

// schedule sorts the nodes of g, and adds nodes that have others run early.
func schedule(g *ir.Graph, suffix string) error {
	s, bytes := scheduled(g, suffix)
	for range rounds {
		_, peak := s.peak(nil)
		added, err := s.hasten(peak)
		if err != nil {
			return err
		}
		if len(added) == 0 {
			break
		}
		if next, less := scheduled(g, suffix); less < bytes {
			s, bytes = next, less
			continue
		}
		for _, n := range added {
			if err := g.Remove(n); err != nil {
				return err
			}
		}
		break
	}
	for _, n := range s.file(s.leaves) {
		if err := g.MoveBefore(n, nil); err != nil {
			return err
		}
	}
	return nil
}

// scheduled is the better of two orders of the leaves, and what it takes.
func scheduled(g *ir.Graph, suffix string) (*scheduler, int64) {
	s := newScheduler(g, suffix)
	bytes := s.improve()
	early := *s
	early.leaves = s.early()
	if less := early.improve(); less < bytes {
		return &early, less
	}
	return s, bytes
}

// peak is the most that values, and nodes while they run, take at a time, and where.
func (s *scheduler) peak(scratch func(*ir.Node) int64) (bytes int64, at int) {
	order := s.order(s.leaves)
	spans := arrange(s.g, order, s.suffix).spans
	if scratch != nil {
		for i, n := range order {
			spans = append(spans, &span{bytes: scratch(n), first: i, last: i})
		}
	}
	return live(spans, len(order))
}

// hasten adds a leaf behind each node that, at place peak, could have run already and so have replaced what it alone still reads by something
// much smaller: as the sum over a batch, of which another sum is made later. It returns what it added.
func (s *scheduler) hasten(peak int) ([]*ir.Node, error) {
	order := s.order(s.leaves)
	a := arrange(s.g, order, s.suffix)
	b := ir.NewBuilder(s.g, "memory", op.InferNode)
	var added []*ir.Node
	for _, x := range a.spans {
		n := order[x.last]
		if x.first >= peak || x.last <= peak || len(n.Outputs()) != 1 || n.Output(0).IsOutput() || Size(n.Output(0))*shrinks > x.bytes {
			continue
		}
		if s.ready(n, a, peak) {
			b.Site = n.Output(0).Name()
			added = append(added, b.Op("Identity", []*ir.Value{n.Output(0)}).Producer())
		}
	}
	return added, b.Err()
}

// ready reports whether all that n needs is there at a place, or could be, as nothing is computed for it.
func (s *scheduler) ready(n *ir.Node, a *arrangement, at int) bool {
	for _, p := range s.needs[n] {
		if a.place[p] >= at && !(p.Is("Reshape") && s.ready(p, a, at)) {
			return false
		}
	}
	return true
}

// newScheduler runs leaves that can run early first: those near the loss. Among the inputs of a node those come first that take the
// longest chain of nodes, so that what is made of weights alone does not wait for them.
func newScheduler(g *ir.Graph, suffix string) *scheduler {
	nodes := g.Nodes()
	s := &scheduler{g: g, suffix: suffix, needs: dependencies(g, nodes), depth: make(map[*ir.Node]int, len(nodes))}
	depth := s.depth
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
	a = arrange(s.g, order, s.suffix)
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

// early are the leaves by the depth of what they share with others: each as soon as it can run, however long it takes on its own.
func (s *scheduler) early() []*ir.Node {
	of := map[*ir.Node]*ir.Node{} // by a node, the one leaf that needs it
	shared := map[*ir.Node]bool{}
	order := s.order(s.leaves)
	for i := len(order) - 1; i >= 0; i-- {
		n := order[i]
		if of[n] == nil && !shared[n] {
			of[n] = n
		}
		for _, p := range s.needs[n] {
			if shared[n] || of[p] != nil && of[p] != of[n] {
				shared[p] = true
			}
			of[p] = of[n]
		}
	}
	at := map[*ir.Node]int{}
	for _, n := range order {
		if shared[n] {
			continue
		}
		for _, p := range s.needs[n] {
			if shared[p] {
				at[of[n]] = max(at[of[n]], s.depth[p])
			}
		}
	}
	out := slices.Clone(s.leaves)
	slices.SortStableFunc(out, func(x, y *ir.Node) int { return cmp.Compare(at[x], at[y]) })
	return out
}

// improve puts off updates of large states until the states are read no more, one after the other and where that takes less memory; updates
// that would overtake a reader of theirs then are put off with them. It returns what is taken then.
func (s *scheduler) improve() int64 {
	best, a, twice := s.cost(s.leaves)
	bySize := func(v []*ir.Value) {
		slices.SortStableFunc(v, func(x, y *ir.Value) int { return cmp.Compare(Size(y), Size(x)) })
	}
	bySize(twice)
	for _, o := range slices.Clone(twice) {
		if a.inPlace(state(s.g, o, s.suffix), o) {
			continue
		}
		leaves, b, now := s.leaves, a, twice
		next := o
		for range together {
			if leaves = s.putOff(leaves, b, next); leaves == nil {
				break
			}
			var c int64
			before := now
			if c, b, now = s.cost(leaves); c < best {
				best, a, twice, s.leaves = c, b, now, leaves
				break
			}
			late := slices.DeleteFunc(slices.Clone(now), func(v *ir.Value) bool { return slices.Contains(before, v) })
			if len(late) == 0 {
				break
			}
			bySize(late)
			next = late[0]
		}
	}
	return best
}

// putOff is leaves with the update o behind the last reader of its state; nil where it cannot be, or is not worth it.
func (s *scheduler) putOff(leaves []*ir.Node, a *arrangement, o *ir.Value) []*ir.Node {
	x := state(s.g, o, s.suffix)
	if Size(x) < late || o.Producer() == nil {
		return nil
	}
	after := func(place int) int { // the first leaf that runs at place or later
		return slices.IndexFunc(leaves, func(n *ir.Node) bool { return a.place[n] >= place })
	}
	from, to := after(a.place[o.Producer()]), after(a.last[x])
	if from < 0 || to <= from {
		return nil
	}
	return slices.Insert(slices.Delete(slices.Clone(leaves), from, from+1), to, leaves[from])
}
