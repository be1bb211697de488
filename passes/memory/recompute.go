package memory

import (
	"fmt"
	"slices"
	"sort"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Auto takes as many segments as bring the peak down most.
const Auto = -1

// MostSegments bounds Options.Segments.
const MostSegments = 1000

// Options of Recompute.
type Options struct {
	// Loss is what the forward pass ends in: nodes behind its producer are the backward pass.
	Loss *ir.Value
	// Weights are the inputs that the network is trained in. What is computed from small ones and constants alone is not computed twice.
	Weights []*ir.Value
	// Cotangents holds the cotangent of each value of the forward pass that has one.
	Cotangents map[*ir.Value]*ir.Value
	// Segments is the number of segments at most, or Auto.
	Segments int
	// Scratch is what a node takes beside its inputs and outputs while it runs, in bytes, for Auto. May be nil.
	Scratch func(*ir.Node) int64
	// Tried is told how many choices Auto has tried, of how many at most. May be nil.
	Tried func(done, most int)
	// Suffix tells new states from old ones, as Arrange has it.
	Suffix string
}

// Recompute divides the forward pass of a training step into segments (Chen et al. 2016, Training Deep Nets with Sublinear Memory
// Cost). What backward nodes read from inside a segment, the last one excepted, is computed again for them when the cotangent of what
// leaves the segment has come in; in the meantime only that is kept. The same operators run on the same values, so that results keep
// their bits. Random operators and operators with graphs inside are not run twice.
//
// It returns the number of segments, 1 where nothing was changed: where Auto finds that computing twice does not help.
func Recompute(g *ir.Graph, o Options) (int, error) {
	if o.Segments != Auto && (o.Segments < 1 || o.Segments > MostSegments) {
		return 0, fmt.Errorf("recompute: %d segments; 1 to %d, or auto", o.Segments, MostSegments)
	}
	f, err := newForward(g, o)
	if err != nil {
		return 0, err
	}
	cuts := f.within(o.Segments)
	if o.Segments == Auto {
		if cuts, err = f.best(); err != nil {
			return 0, err
		}
	}
	if len(cuts) == 0 {
		return 1, nil
	}
	return len(cuts) + 1, f.apply(cuts)
}

// forward is the part of a step graph that may be computed twice.
type forward struct {
	g     *ir.Graph
	o     Options
	loss  int // place of the loss's producer in the graph
	nodes []*ir.Node
	at    map[*ir.Node]int   // place in nodes
	last  map[*ir.Value]int  // last reader in nodes
	saved map[*ir.Value]bool // read by backward nodes
	sums  []int64            // bytes saved by nodes[:i]
}

// repeatable reports whether n gives the same result when it is run again, cheaply enough to be asked.
func repeatable(n *ir.Node) bool {
	switch n.Op {
	case "Dropout", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial":
		return false
	}
	return len(n.Subgraphs()) == 0
}

func newForward(g *ir.Graph, o Options) (*forward, error) {
	if o.Loss == nil || o.Loss.Graph() != g || o.Loss.Producer() == nil {
		return nil, fmt.Errorf("recompute: the loss is no computed value of the graph")
	}
	f := &forward{g: g, o: o, at: map[*ir.Node]int{}, last: map[*ir.Value]int{}, saved: map[*ir.Value]bool{}}
	fixed := map[*ir.Value]bool{}
	for _, v := range o.Weights {
		fixed[v] = true
	}
	moves := func(v *ir.Value) bool { // depends on the batch
		if v.Producer() != nil {
			_, ok := f.at[v.Producer()]
			return ok
		}
		return v.IsInput() && !v.IsInitializer() && (!fixed[v] || Size(v) >= late)
	}
	behind := false
	for i, n := range g.Nodes() {
		for _, v := range reader(g, n, nil) {
			switch {
			case behind && v.Producer() != nil:
				f.saved[v] = true
			case !behind && moves(v):
				if _, ok := f.at[n]; !ok {
					f.at[n] = len(f.nodes)
					f.nodes = append(f.nodes, n)
				}
				f.last[v] = f.at[n]
			}
		}
		if n == o.Loss.Producer() {
			behind, f.loss = true, i
		}
	}
	f.sums = make([]int64, len(f.nodes)+1)
	for i, n := range f.nodes {
		f.sums[i+1] = f.sums[i]
		for _, v := range n.Outputs() {
			if f.saved[v] && !renames[n.Op] {
				f.sums[i+1] += Size(v)
			}
		}
	}
	return f, nil
}

// cuts divides the forward nodes into segments that save at most so many bytes, where it can, and keeps as few bytes as possible on
// the cuts: the places behind which segments begin.
func (f *forward) cuts(budget int64) []int {
	m := len(f.nodes)
	cost := make([]int64, m+1)
	from := make([]int, m+1)
	for p := 1; p <= m; p++ {
		cost[p] = -1
		var kept int64
		for q := p - 1; q >= 0; q-- {
			if f.sums[p]-f.sums[q] > budget && q < p-1 {
				break
			}
			for _, v := range f.nodes[q].Outputs() {
				if l, ok := f.last[v]; ok && l >= p {
					kept += Size(v)
				}
			}
			if c := cost[q] + kept; cost[p] < 0 || c < cost[p] {
				cost[p], from[p] = c, q
			}
		}
	}
	var out []int
	for p := from[m]; p > 0; p = from[p] {
		out = append(out, p)
	}
	sort.Ints(out)
	return out
}

// within finds cuts for at most so many segments of about the same size.
func (f *forward) within(segments int) []int {
	if segments <= 1 {
		return nil
	}
	low, high := int64(0), f.sums[len(f.nodes)]
	best := []int(nil)
	for low < high {
		mid := (low + high) / 2
		if c := f.cuts(mid); len(c) < segments {
			best, high = c, mid
		} else {
			low = mid + 1
		}
	}
	return best
}

// more bounds the places where cuts are tried one by one, tries the choices in all.
const (
	more  = 16
	tries = 100
)

// best tries cuts on copies of the graph and takes those with the least peak; none where that is no lower than without. Those that come
// in equal segments come first; then each of the places found is tried beside the best, without, or in its neighbours' stead, as long as that helps.
func (f *forward) best() ([]int, error) {
	var best []int
	least := int64(-1)
	tried := map[string]bool{}
	try := func(cuts []int) error {
		key := fmt.Sprint(cuts)
		if tried[key] || len(tried) == tries {
			return nil
		}
		tried[key] = true
		c, err := f.clone()
		if err != nil {
			return err
		}
		if err := c.apply(cuts); err != nil {
			return err
		}
		p, err := foreseen(c.g, f.o)
		if err == nil && (least < 0 || p < least) {
			best, least = cuts, p
		}
		if f.o.Tried != nil {
			f.o.Tried(len(tried), tries)
		}
		return err
	}
	if err := try(nil); err != nil {
		return nil, err
	}
	var places []int // the fewest cuts' first
	for k := int64(2); k <= 64; k += max(1, k/4) {
		cuts := f.cuts(f.sums[len(f.nodes)] / k)
		for _, p := range cuts {
			if !slices.Contains(places, p) {
				places = append(places, p)
			}
		}
		if err := try(cuts); err != nil {
			return nil, err
		}
	}
	places = places[:min(more, len(places))]
	for {
		from := least
		for _, p := range places {
			for _, cuts := range moves(best, p) {
				if err := try(cuts); err != nil {
					return nil, err
				}
			}
		}
		if least == from {
			break
		}
	}
	if f.o.Tried != nil {
		f.o.Tried(tries, tries)
	}
	return best, nil
}

// moves are cuts with p or, where it is among them, without; and with p instead of the one before or behind it.
func moves(cuts []int, p int) [][]int {
	i, found := slices.BinarySearch(cuts, p)
	if found {
		return [][]int{slices.Delete(slices.Clone(cuts), i, i+1)}
	}
	out := [][]int{slices.Insert(slices.Clone(cuts), i, p)}
	for _, j := range []int{i - 1, i} {
		if j >= 0 && j < len(cuts) {
			other := slices.Clone(cuts)
			other[j] = p
			out = append(out, other)
		}
	}
	return out
}

func (f *forward) clone() (*forward, error) {
	g, vals, err := f.g.Clone()
	if err != nil {
		return nil, err
	}
	o := Options{Loss: vals[f.o.Loss], Cotangents: map[*ir.Value]*ir.Value{}, Suffix: f.o.Suffix, Scratch: f.o.Scratch}
	for _, w := range f.o.Weights {
		o.Weights = append(o.Weights, vals[w])
	}
	for v, ct := range f.o.Cotangents {
		if vals[v] != nil && vals[ct] != nil {
			o.Cotangents[vals[v]] = vals[ct]
		}
	}
	return newForward(g, o)
}

// apply computes all segments but the last again.
func (f *forward) apply(cuts []int) error {
	for i := len(cuts) - 1; i >= 0; i-- {
		first := 0
		if i > 0 {
			first = cuts[i-1]
		}
		if err := f.again(first, cuts[i]); err != nil {
			return fmt.Errorf("recompute: %w", err)
		}
	}
	if err := Join(f.g); err != nil {
		return err
	}
	return f.g.Sort()
}

// again lets backward nodes read copies of what nodes[first:end] computes and nothing behind them needs.
func (f *forward) again(first, end int) error {
	c := &copier{f: f, first: first, end: end, nodes: map[*ir.Node][]*ir.Value{}, late: map[*ir.Value]*ir.Value{}}
	var inner, leaving []*ir.Value
	readers := map[*ir.Node]bool{}
	for _, n := range f.nodes[first:end] {
		for _, v := range n.Outputs() {
			switch {
			case c.kept(v):
				leaving = append(leaving, v)
			case f.saved[v]:
				inner = append(inner, v)
				for _, n := range f.backward(v) {
					readers[n] = true
				}
			}
		}
	}
	signal := f.signal(leaving, readers)
	if signal == nil || len(inner) == 0 {
		return nil
	}
	c.b = ir.NewBuilder(f.g, "recompute", op.InferNode)
	c.b.Before = signal.Producer().Next()
	c.await(signal)
	for _, v := range inner {
		w := c.value(v)
		if err := c.b.Err(); err != nil {
			return err
		}
		for _, n := range f.backward(v) {
			if err := redirect(f.g, n, v, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// redirect lets n read w instead of v.
func redirect(g *ir.Graph, n *ir.Node, v, w *ir.Value) error {
	for i, x := range n.Inputs() {
		if x == v {
			if err := g.SetInput(n, i, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// backward lists the nodes behind the loss that read v.
func (f *forward) backward(v *ir.Value) []*ir.Node {
	var out []*ir.Node
	for _, u := range v.Uses() {
		if _, ok := f.at[u.Node]; !ok && u.Node.Graph() == f.g {
			out = append(out, u.Node)
		}
	}
	return out
}

// signal is the cotangent of one of the values that leave a segment: the last that is there before any of the readers has run.
func (f *forward) signal(leaving []*ir.Value, readers map[*ir.Node]bool) *ir.Value {
	place := map[*ir.Node]int{}
	after := map[*ir.Node]bool{} // reached from a reader
	for i, n := range f.g.Nodes() {
		place[n] = i
		after[n] = readers[n]
		for _, p := range producers(f.g, n, nil) {
			after[n] = after[n] || after[p]
		}
	}
	var best *ir.Value
	for _, v := range leaving {
		ct := f.o.Cotangents[v]
		if ct == nil || ct.Graph() != f.g || ct.Producer() == nil || after[ct.Producer()] || place[ct.Producer()] <= f.loss || !ct.DType().IsFloat() {
			continue
		}
		if best == nil || place[ct.Producer()] > place[best.Producer()] {
			best = ct
		}
	}
	return best
}

// copier makes a segment's nodes again.
type copier struct {
	f          *forward
	b          *ir.Builder
	first, end int
	zero       *ir.Value // int64[1], known when the signal is there
	nodes      map[*ir.Node][]*ir.Value
	late       map[*ir.Value]*ir.Value
}

// kept reports whether v stays in memory anyway.
func (c *copier) kept(v *ir.Value) bool {
	l, read := c.f.last[v]
	return read && l >= c.end || v.IsOutput() || !repeatable(v.Producer())
}

// await makes the zero that stands for the signal. No optimizer of onnxruntime knows that a number is never less than itself, a NaN
// included.
func (c *copier) await(signal *ir.Value) {
	c.b.Site = signal.Name() + "_ready"
	one := c.b.Op("Gather", []*ir.Value{c.b.Op("Reshape", []*ir.Value{signal, c.b.Int64s(-1)}), c.b.Int64s(0)})
	c.zero = c.b.Op("Cast", []*ir.Value{c.b.Op("Less", []*ir.Value{one, one})}, ir.AInt("to", int64(ir.Int64)))
}

// after is v, but not before the signal: a Reshape, which copies nothing, to a shape that the signal takes part in. It also keeps
// onnxruntime from merging a node with its copy.
func (c *copier) after(v *ir.Value) *ir.Value {
	if w := c.late[v]; w != nil {
		return w
	}
	dims, ok := v.StaticDims()
	if !ok || len(dims) == 0 {
		return v
	}
	c.b.Site = v.Name() + "_again"
	w := c.b.Op("Reshape", []*ir.Value{v, c.b.Op("Add", []*ir.Value{c.b.Int64s(dims...), c.zero})})
	w.Type = v.Type.Clone()
	c.late[v] = w
	return w
}

// value is the copy of v as a backward node is to read it.
func (c *copier) value(v *ir.Value) *ir.Value {
	n := v.Producer()
	if n == nil {
		// A weight waits too, so that its forms that a lowering makes need not be kept.
		if v.IsInput() && !v.IsInitializer() && (c.batch(v) || Size(v) >= late) {
			return c.after(v)
		}
		return v
	}
	i, ok := c.f.at[n]
	switch {
	case !ok:
		return v
	case i < c.first || c.kept(v):
		return c.after(v)
	}
	outs, ok := c.nodes[n]
	if !ok {
		spec := ir.NodeSpec{Op: n.Op, Domain: n.Domain, Attrs: n.Attrs()}
		for _, x := range n.Inputs() {
			if x != nil {
				x = c.value(x)
			}
			spec.Inputs = append(spec.Inputs, x)
		}
		for _, o := range n.Outputs() {
			name := ""
			if o.Name() != "" {
				name = c.f.g.FreshName(o.Name() + "_again")
			}
			spec.Outputs = append(spec.Outputs, name)
		}
		outs = c.b.Node(spec, len(spec.Outputs))
		for k, o := range n.Outputs() {
			outs[k].Type = o.Type.Clone()
		}
		c.nodes[n] = outs
	}
	return outs[v.OutputIndex()]
}

// batch reports an input that is no weight.
func (c *copier) batch(v *ir.Value) bool {
	for _, w := range c.f.o.Weights {
		if w == v {
			return false
		}
	}
	return true
}
