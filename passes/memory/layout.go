package memory

import (
	"bytes"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Layout says where in one block of memory the values of a graph stand while its nodes run in Order.
type Layout struct {
	Bytes int64            // size of the block
	At    map[string]int64 // offset by name: of outputs of the graph that are there for their place only
	// In names the input X by values that stand in its memory, where X.new is written afterwards; they too are outputs for that only.
	In map[string]string
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
	"Sigmoid": {0}, "Tanh": {0}, "HardSigmoid": {0}, "Elu": {0}, "Selu": {0}, "Softplus": {0}, "Softsign": {0}, "ThresholdedRelu": {0}, "Clip": {0}, "ScatterElements": {0}, "ScatterND": {0},
}

// span is a piece of memory that one or several values use in turn, or together as parts of one of them.
type span struct {
	names       []string
	parts       []int64 // where each of names begins
	bytes, at   int64
	first, last int
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
	a := arrange(g, order, suffix)
	l := &Layout{At: map[string]int64{}, In: map[string]string{}, Bytes: pack(a.spans, len(order))}
	outs := slices.Clone(g.Outputs())
	for _, o := range g.Outputs() {
		if x := state(g, o, suffix); x != nil && a.inPlace(x, o) {
			l.InPlace = append(l.InPlace, x.Name())
		}
	}
	for _, s := range a.spans {
		for i, name := range s.names {
			l.At[name] = s.at + s.parts[i]
			outs = append(outs, g.Value(name))
		}
	}
	for _, n := range order {
		for _, v := range n.Outputs() {
			if x := a.in[v]; x != nil {
				l.In[v.Name()] = x.Name()
				outs = append(outs, v)
			}
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
	place  map[*ir.Node]int
	of     map[*ir.Value]*span
	last   map[*ir.Value]int       // last place that reads a value or what only renames it
	root   map[*ir.Value]*ir.Value // what a renaming renames
	in     map[*ir.Value]*ir.Value // the state in whose memory a value stands
	next   map[*ir.Value]*ir.Value // by a state, its next content
	taken  map[*ir.Value]bool      // states with a value in their memory
	spans  []*span
	places int
}

func (a *arrangement) origin(v *ir.Value) *ir.Value {
	if r := a.root[v]; r != nil {
		return r
	}
	return v
}

// arrange finds what stands in the same memory, and for how long.
func arrange(g *ir.Graph, order []*ir.Node, suffix string) *arrangement {
	a := &arrangement{place: map[*ir.Node]int{}, of: map[*ir.Value]*span{}, last: map[*ir.Value]int{}, root: map[*ir.Value]*ir.Value{},
		in: map[*ir.Value]*ir.Value{}, next: map[*ir.Value]*ir.Value{}, taken: map[*ir.Value]bool{}, places: len(order)}
	for i, n := range order {
		a.place[n] = i
	}
	for _, o := range g.Outputs() {
		if x := state(g, o, suffix); x != nil {
			a.next[x] = o
		}
	}
	for i, n := range order {
		for _, v := range reader(g, n, nil) {
			a.last[a.origin(v)] = i
		}
		if renames[n.Op] && n.Domain == "" && n.Input(0) != nil && n.Output(0) != nil && !n.Output(0).IsOutput() {
			a.root[n.Output(0)] = a.origin(n.Input(0))
		}
	}
	for i, n := range order {
		for k, v := range n.Outputs() {
			if v.Name() == "" || v.IsOutput() || a.root[v] != nil {
				continue
			}
			size := (Size(v) + alignment - 1) / alignment * alignment
			if size < placed || v.DType() == ir.String {
				continue
			}
			last := max(i, a.last[v])
			if s := a.over(n, k, v, i); s != nil {
				s.names, s.parts, s.last = append(s.names, v.Name()), append(s.parts, 0), last
				a.of[v] = s
				continue
			}
			if x := a.inState(n, k, v, i, last); x != nil {
				a.in[v], a.taken[x] = x, true
				continue
			}
			s := &span{names: []string{v.Name()}, parts: []int64{0}, bytes: size, first: i, last: last}
			a.of[v], a.spans = s, append(a.spans, s)
		}
	}
	a.join(order)
	return a
}

// over is the memory that n, at place i, may write output k into, since nobody needs what is there any more.
func (a *arrangement) over(n *ir.Node, k int, v *ir.Value, i int) *span {
	if k != 0 || n.Domain != "" {
		return nil
	}
	for _, j := range overwrites[n.Op] {
		x := n.Input(j)
		if x == nil || x.DType() != v.DType() || !slices.Equal(shape(x), shape(v)) {
			continue
		}
		s := a.of[a.origin(x)]
		if s != nil && s.last == i && !a.readElsewhere(n, j) {
			return s
		}
	}
	return nil
}

// readElsewhere reports whether n reads what its input j holds as another input in another shape, which it might still need after writing.
func (a *arrangement) readElsewhere(n *ir.Node, j int) bool {
	for k, x := range n.Inputs() {
		if k != j && x != nil && a.origin(x) == a.origin(n.Input(j)) && x != n.Input(j) {
			return true
		}
	}
	return false
}

// inState is the state in whose memory output k of n, at place i and read until last, may stand: n makes it of the state, which nobody reads
// afterwards, and the next content of the state is written when nobody reads it any more, or made of it element by element.
func (a *arrangement) inState(n *ir.Node, k int, v *ir.Value, i, last int) *ir.Value {
	if k != 0 || n.Domain != "" {
		return nil
	}
	for _, j := range overwrites[n.Op] {
		x := n.Input(j)
		next := a.next[x]
		if x == nil || next == nil || next.Producer() == nil || a.taken[x] || a.last[x] != i || x.DType() != v.DType() || !slices.Equal(shape(x), shape(v)) ||
			a.readElsewhere(n, j) || !a.inPlace(x, next) {
			continue
		}
		end := next.Producer()
		at := a.place[end]
		if last < at || last == at && a.overwritten(end, v, next) {
			return x
		}
	}
	return nil
}

// overwritten reports whether n may write out into the memory of its input x.
func (a *arrangement) overwritten(n *ir.Node, x, out *ir.Value) bool {
	if n.Domain != "" || n.Output(0) != out || x.DType() != out.DType() || !slices.Equal(shape(x), shape(out)) {
		return false
	}
	for _, j := range overwrites[n.Op] {
		if n.Input(j) == x && !a.readElsewhere(n, j) {
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
	at := a.place[out.Producer()]
	return a.last[x] < at || a.last[x] == at && a.overwritten(out.Producer(), x, out)
}
