package memory

import (
	"bytes"
	"cmp"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Layout says where in one block of memory the values of a graph stand while its nodes run in Order.
type Layout struct {
	Bytes int64            // size of the block
	At    map[string]int64 // offset by name: of outputs of the graph that are there for their place only
	// InPlace lists the inputs X whose output X.new may be written into X's own memory: all that read X have run by then.
	InPlace []string
}

// placed is the least size of a value that gets a place, in bytes; smaller ones are left to onnxruntime.
const placed = 2048

// filled is the least size of a constant of one number that is computed when it is read, in bytes.
const filled = 1 << 16

// overwrites are operators that may write their first output into the memory of these inputs, where those have its shape: kernels
// that read element i before they write element i, and those that copy the input unless it is there already.
var overwrites = map[string][]int{
	"Add": {0, 1}, "Sub": {0, 1}, "Mul": {0, 1}, "Div": {0, 1}, "Neg": {0}, "Abs": {0}, "Sqrt": {0}, "Exp": {0}, "Relu": {0}, "LeakyRelu": {0},
	"Sigmoid": {0}, "Tanh": {0}, "Clip": {0}, "ScatterElements": {0}, "ScatterND": {0},
}

// span is a piece of memory that one or several values use in turn.
type span struct {
	names       []string
	bytes, at   int64
	first, last int
	fixed       bool // no part of the block: memory of an input, an output or of onnxruntime
}

// Arrange makes every larger value of g an output of g, so that whoever runs it can say where it stands, and finds places for them
// in one block, by what is in use at a time. The suffix tells new states from old ones: an output X.new is the next X.
func Arrange(g *ir.Graph, suffix string) (*Layout, error) {
	if err := fill(g); err != nil {
		return nil, err
	}
	if err := schedule(g, suffix); err != nil {
		return nil, err
	}
	order := Order(g)
	a := arrange(g, order)
	l := &Layout{At: map[string]int64{}, Bytes: pack(a.spans)}
	outs := slices.Clone(g.Outputs())
	for _, o := range g.Outputs() {
		if x := state(g, o, suffix); x != nil && a.inPlace(x, o) {
			l.InPlace = append(l.InPlace, x.Name())
		}
	}
	for _, s := range a.spans {
		for _, name := range s.names {
			l.At[name] = s.at
			outs = append(outs, g.Value(name))
		}
	}
	return l, g.SetOutputs(outs...)
}

// fill computes large constants of one number where they are read, so that their memory serves others.
func fill(g *ir.Graph) error {
	b := ir.NewBuilder(g, "memory", op.InferNode)
	for _, v := range slices.Clone(g.Initializers()) {
		t := v.Init()
		if t == nil || v.IsInput() || v.IsOutput() || t.DType() != ir.Float32 || len(t.Raw()) < filled || !bytes.Equal(t.Raw()[4:], t.Raw()[:len(t.Raw())-4]) {
			continue
		}
		one, err := ir.NewTensor(ir.Float32, []int64{1}, bytes.Clone(t.Raw()[:4]))
		if err != nil {
			return err
		}
		for _, u := range slices.Clone(v.Uses()) {
			if u.Node.Graph() != g {
				continue
			}
			b.Before, b.Site = u.Node, v.Name()
			w := b.Op("ConstantOfShape", []*ir.Value{b.Int64s(t.Dims()...)}, ir.ATensor("value", one))
			if err := b.Err(); err != nil {
				return err
			}
			if err := g.SetInput(u.Node, u.Index, w); err != nil {
				return err
			}
		}
		if !v.Used() {
			if err := g.RemoveInitializer(v); err != nil {
				return err
			}
		}
	}
	return nil
}

type arrangement struct {
	place map[*ir.Node]int
	of    map[*ir.Value]*span
	last  map[*ir.Value]int // last place that reads a value or what only renames it
	spans []*span
}

// arrange finds what stands in the same memory, and for how long.
func arrange(g *ir.Graph, order []*ir.Node) *arrangement {
	a := &arrangement{place: map[*ir.Node]int{}, of: map[*ir.Value]*span{}, last: map[*ir.Value]int{}}
	for i, n := range order {
		a.place[n] = i
	}
	root := map[*ir.Value]*ir.Value{} // what a renaming renames
	origin := func(v *ir.Value) *ir.Value {
		if r := root[v]; r != nil {
			return r
		}
		return v
	}
	for i, n := range order {
		for _, v := range reader(g, n, nil) {
			a.last[origin(v)] = i
		}
		if renames[n.Op] && n.Domain == "" && n.Input(0) != nil && n.Output(0) != nil && !n.Output(0).IsOutput() {
			root[n.Output(0)] = origin(n.Input(0))
		}
	}
	for i, n := range order {
		for k, v := range n.Outputs() {
			if v.Name() == "" || v.IsOutput() || root[v] != nil {
				continue
			}
			size := (Size(v) + alignment - 1) / alignment * alignment
			if size < placed || v.DType() == ir.String {
				continue
			}
			last := max(i, a.last[v])
			if s := a.over(n, k, v, i, origin); s != nil {
				s.names, s.last = append(s.names, v.Name()), last
				a.of[v] = s
				continue
			}
			s := &span{names: []string{v.Name()}, bytes: size, first: i, last: last}
			a.of[v], a.spans = s, append(a.spans, s)
		}
	}
	return a
}

// over is the memory that n, at place i, may write output k into, since nobody needs what is there any more.
func (a *arrangement) over(n *ir.Node, k int, v *ir.Value, i int, origin func(*ir.Value) *ir.Value) *span {
	if k != 0 || n.Domain != "" {
		return nil
	}
	for _, j := range overwrites[n.Op] {
		x := n.Input(j)
		if x == nil || x.DType() != v.DType() || !slices.Equal(shape(x), shape(v)) {
			continue
		}
		s := a.of[origin(x)]
		if s != nil && s.last == i && !a.readElsewhere(n, j, s, origin) {
			return s
		}
	}
	return nil
}

// readElsewhere reports whether n reads s as another input than j in another shape, which it might still need after writing.
func (a *arrangement) readElsewhere(n *ir.Node, j int, s *span, origin func(*ir.Value) *ir.Value) bool {
	for k, x := range n.Inputs() {
		if k != j && x != nil && a.of[origin(x)] == s && x != n.Input(j) {
			return true
		}
	}
	return false
}

// inPlace reports whether out, the next content of the input x, may be written into x.
func (a *arrangement) inPlace(x, out *ir.Value) bool {
	if x.IsOutput() || out.Producer() == nil || x.DType() != out.DType() || !slices.Equal(shape(x), shape(out)) {
		return false
	}
	n := out.Producer()
	at := a.place[n]
	switch {
	case a.last[x] < at:
		return true
	case a.last[x] > at || n.Domain != "" || n.Output(0) != out:
		return false
	}
	direct := 0
	for _, j := range overwrites[n.Op] {
		if n.Input(j) == x {
			direct++
		}
	}
	for j, v := range n.Inputs() { // by another name
		if v != nil && v != x && v.Producer() != nil && renames[v.Producer().Op] && a.last[x] == at && j >= 0 && reaches(v, x) {
			return false
		}
	}
	return direct > 0
}

// reaches reports whether v is x under another name.
func reaches(v, x *ir.Value) bool {
	for v != nil && v != x && v.Producer() != nil && renames[v.Producer().Op] {
		v = v.Producer().Input(0)
	}
	return v == x
}

// pack gives spans that are in use at the same time places that do not overlap, and returns the end of the last. Of some orders in
// which to place them it takes the one that needs least.
func pack(spans []*span) int64 {
	length := func(s *span) int64 { return int64(s.last - s.first + 1) }
	var best int64 = -1
	var at []int64
	for _, first := range []func(x, y *span) int{
		func(x, y *span) int { return cmp.Compare(y.bytes, x.bytes) },
		func(x, y *span) int { return cmp.Compare(y.bytes*length(y), x.bytes*length(x)) },
		func(x, y *span) int { return cmp.Compare(length(y), length(x)) },
		func(x, y *span) int { return cmp.Compare(x.first, y.first) },
		func(x, y *span) int { return cmp.Compare(y.last, x.last) },
	} {
		todo := slices.Clone(spans)
		slices.SortStableFunc(todo, func(x, y *span) int {
			return cmp.Or(first(x, y), cmp.Compare(y.bytes, x.bytes), cmp.Compare(x.first, y.first))
		})
		if end := place(todo); best < 0 || end < best {
			best, at = end, at[:0]
			for _, s := range spans {
				at = append(at, s.at)
			}
		}
	}
	for i, s := range spans {
		s.at = at[i]
	}
	return max(best, 0)
}

// place gives spans, one after the other, the lowest place that is free.
func place(todo []*span) int64 {
	var done []*span // by place
	var end int64
	for _, s := range todo {
		at := int64(0)
		for _, d := range done {
			if d.first > s.last || d.last < s.first {
				continue
			}
			if d.at >= at+s.bytes {
				break
			}
			at = max(at, d.at+d.bytes)
		}
		s.at = at
		i, _ := slices.BinarySearchFunc(done, s, func(x, y *span) int { return cmp.Compare(x.at, y.at) })
		done = slices.Insert(done, i, s)
		end = max(end, at+s.bytes)
	}
	return end
}

// live is the most that spans take at a time, and where.
func live(spans []*span, places int) (most int64, at int) {
	change := make([]int64, places+1)
	for _, s := range spans {
		change[s.first] += s.bytes
		change[s.last+1] -= s.bytes
	}
	var now int64
	for i, c := range change {
		if now += c; now > most {
			most, at = now, i
		}
	}
	return most, at
}
