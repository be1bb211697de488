package rebatch

import (
	"math"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// rule repairs a node whose inputs have types at the probe's batch. An error of type *stuck says why it cannot be repaired.
type rule func(w *work, n *ir.Node) error

// rules by operator of the default domain; others let a batch through as they are, or fail to infer or in the proof.
var rules = map[string]rule{
	"Reshape":   reshape,
	"Flatten":   regroup,
	"Squeeze":   regroup,
	"Unsqueeze": regroup,
	"Expand":    expand,
	"Resize":    resize,
	"Slice":     slice,
	"Split":     split,
	"Gather":    gather,
	"Concat":    concat,
}

// place finds the dimension of a reshaped value, with sizes to at batch 1, that holds the batch of a value with sizes from and
// layout l: both must have as many elements before it.
func place(from []int64, l layout, to []int64) (int, bool) {
	before := int64(1)
	for _, d := range from[:l.axis] {
		before *= d
	}
	var found []int
	prefix := int64(1)
	for i, d := range to {
		if prefix == before {
			found = append(found, i)
		}
		prefix *= d
	}
	switch {
	case len(found) == 0:
		return 0, false
	case slices.Contains(found, l.axis) && to[l.axis] == l.rows:
		return l.axis, true
	}
	return found[0], true
}

// regrouped is the layout and the sizes at batch 1 of what a node that regroups dimensions should give; ok is false when its input
// holds no batch.
func (w *work) regrouped(n *ir.Node) (to []int64, at int, l layout, ok bool, err error) {
	x, y := n.Input(0), n.Output(0)
	if x == nil || y == nil {
		return nil, 0, l, false, nil
	}
	l, known := w.layoutOf(x)
	if !known || l.axis < 0 {
		return nil, 0, l, false, nil
	}
	from, _, _ := w.sizes(x)
	to, known = w.one.Graph.Value(y.Name()).StaticDims()
	if !known {
		return nil, 0, l, false, nil
	}
	if slices.Contains(to, 0) || len(to) == 0 {
		return nil, 0, l, false, stuckf("node %v: its result %v leaves no place for a batch", n, to)
	}
	at, ok = place(from, l, to)
	if !ok {
		return nil, 0, l, false, stuckf("node %v mixes the batch in dimension %d of %v with others in %v", n, l.axis, from, to)
	}
	return to, at, l, true, nil
}

// already reports whether n as it stands gives sizes to, times the batch in dimension at.
func already(n *ir.Node, to []int64, at int) bool {
	y := n.Output(0)
	y.Type = ir.Type{}
	if op.InferNode(n) != nil {
		return false
	}
	got, ok := y.StaticDims()
	want := slices.Clone(to)
	want[at] *= probe
	return ok && slices.Equal(got, want)
}

func reshape(w *work, n *ir.Node) error {
	to, at, l, ok, err := w.regrouped(n)
	if err != nil || !ok || already(n, to, at) {
		return err
	}
	old, ok := w.fixedInts(n.Input(1))
	if !ok {
		return stuckf("node %v: its shape depends on the batch and does not fit it", n)
	}
	shape := slices.Clone(to)
	zero := n.Int("allowzero", 0) == 0
	for i := range shape {
		if zero && i < len(old) && old[i] == 0 {
			shape[i] = 0
		}
	}
	if zero && at == l.axis && l.rows == to[at] {
		shape[at] = 0
		for i := range shape {
			if i < len(old) && old[i] == -1 && i != at {
				shape[i] = -1
			}
		}
	} else {
		shape[at] = -1
	}
	return w.setInts(n, 1, shape)
}

// regroup turns a node whose fixed axes would lose the batch into a Reshape.
func regroup(w *work, n *ir.Node) error {
	to, at, _, ok, err := w.regrouped(n)
	if err != nil || !ok || already(n, to, at) {
		return err
	}
	shape := slices.Clone(to)
	shape[at] = -1
	n.Op = "Reshape"
	for _, a := range slices.Clone(n.Attrs()) {
		n.RemoveAttr(a.Name)
	}
	return w.setInts(n, 1, shape)
}

// expand takes the batch from the value where the target shape repeats it.
func expand(w *work, n *ir.Node) error {
	l, ok := w.layoutOf(n.Input(0))
	shape, fixed := w.fixedInts(n.Input(1))
	if !ok || l.axis < 0 || !fixed {
		return nil
	}
	at := l.axis + len(shape) - len(n.Input(0).Shape())
	if at < 0 || shape[at] == 1 {
		return nil
	}
	if shape[at] != l.rows {
		return stuckf("node %v repeats the batch %d times", n, shape[at])
	}
	shape = slices.Clone(shape)
	shape[at] = 1
	return w.setInts(n, 1, shape)
}

// resize replaces fixed output sizes by scales where they say the same exactly, else by sizes whose batch is computed.
func resize(w *work, n *ir.Node) error {
	x := n.Input(0)
	sizes, fixed := w.fixedInts(n.Input(3))
	if x == nil || !fixed {
		return nil
	}
	l, ok := w.layoutOf(x)
	one, _, _ := w.sizes(x)
	if !ok || l.axis < 0 || n.Attr("axes") != nil || len(sizes) != len(one) {
		return nil
	}
	if sizes[l.axis] != one[l.axis] {
		return stuckf("node %v resizes the batch dimension", n)
	}
	scales := make([]float32, len(one))
	exact := n.Str("keep_aspect_ratio_policy", "stretch") == "stretch"
	for i := range one {
		ratio := float64(sizes[i]) / float64(one[i])
		scales[i] = float32(ratio)
		whole := ratio == math.Trunc(ratio) || 1/ratio == math.Trunc(1/ratio) && math.Log2(ratio) == math.Trunc(math.Log2(ratio))
		exact = exact && whole
	}
	g := n.Graph()
	b := w.builder(n)
	if exact {
		v := b.Floats(scales, int64(len(scales)))
		if b.Err() != nil {
			return b.Err()
		}
		if err := g.SetInput(n, 3, nil); err != nil {
			return err
		}
		w.mark(n)
		return g.SetInput(n, 2, v)
	}
	v := w.withBatch(b, x, l.axis, sizes)
	if b.Err() != nil {
		return b.Err()
	}
	w.mark(n)
	return g.SetInput(n, 3, v)
}

// slice lets a slice of the whole batch go to the end whatever the batch is.
func slice(w *work, n *ir.Node) error {
	l, ok := w.layoutOf(n.Input(0))
	if !ok || l.axis < 0 {
		return nil
	}
	starts, ok1 := w.fixedInts(n.Input(1))
	ends, ok2 := w.fixedInts(n.Input(2))
	if !ok1 || !ok2 || len(starts) != len(ends) {
		return nil
	}
	rank := int64(len(n.Input(0).Shape()))
	axes, ok := w.fixedInts(n.Input(3))
	if !ok {
		axes = make([]int64, len(starts))
		for i := range axes {
			axes[i] = int64(i)
		}
	}
	steps, ok := w.fixedInts(n.Input(4))
	if len(axes) != len(starts) || ok && len(steps) != len(starts) {
		return nil
	}
	for i, a := range axes {
		if a < 0 {
			a += rank
		}
		if a != int64(l.axis) {
			continue
		}
		whole := (starts[i] == 0 || starts[i] <= -l.rows) && ends[i] >= l.rows && (!ok || steps[i] == 1)
		if !whole {
			return stuckf("node %v takes part of the batch", n)
		}
		if starts[i] < 0 {
			starts = slices.Clone(starts)
			starts[i] = 0
			if err := w.setInts(n, 1, starts); err != nil {
				return err
			}
		}
		if ends[i] < math.MaxInt32 {
			ends = slices.Clone(ends)
			ends[i] = math.MaxInt64
			return w.setInts(n, 2, ends)
		}
	}
	return nil
}

func split(w *work, n *ir.Node) error {
	l, ok := w.layoutOf(n.Input(0))
	axis := n.Int("axis", 0)
	if !ok || l.axis < 0 || axis != int64(l.axis) && axis != int64(l.axis-len(n.Input(0).Shape())) {
		return nil
	}
	return stuckf("node %v splits the batch", n)
}

// gather replaces the choice of the first of a batch of 1 by a regrouping that keeps all of them.
func gather(w *work, n *ir.Node) error {
	l, ok := w.layoutOf(n.Input(0))
	axis := n.Int("axis", 0)
	if !ok || l.axis < 0 || axis != int64(l.axis) && axis != int64(l.axis-len(n.Input(0).Shape())) {
		return nil
	}
	if idx, fixed := w.fixedInts(n.Input(1)); !fixed || len(idx) != 1 || l.rows != 1 || idx[0] != 0 && idx[0] != -1 {
		return stuckf("node %v chooses among the batch", n)
	}
	return regroup(w, n)
}

// concat repeats operands without a batch for those that have one.
func concat(w *work, n *ir.Node) error {
	var from *ir.Value
	var l layout
	for _, v := range n.Inputs() {
		if v == nil {
			return nil
		}
		if k, ok := w.layoutOf(v); ok && k.axis >= 0 {
			from, l = v, k
			break
		}
	}
	if from == nil {
		return nil
	}
	axis := n.Int("axis", 0)
	if axis == int64(l.axis) || axis == int64(l.axis-len(from.Shape())) {
		return stuckf("node %v joins values along the batch", n)
	}
	for i, v := range n.Inputs() {
		k, ok := w.layoutOf(v)
		if !ok || k.axis >= 0 {
			continue
		}
		if dims, _, _ := w.sizes(v); dims[l.axis] != 1 || l.rows != 1 {
			return stuckf("node %v joins values with and without the batch", n)
		}
		b := w.builder(n)
		ones := make([]int64, len(from.Shape()))
		for j := range ones {
			ones[j] = 1
		}
		e := b.Op("Expand", []*ir.Value{v, w.withBatch(b, from, l.axis, ones)})
		if b.Err() != nil {
			return b.Err()
		}
		if err := n.Graph().SetInput(n, i, e); err != nil {
			return err
		}
		w.mark(n)
	}
	return nil
}

// builder adds nodes before n.
func (w *work) builder(n *ir.Node) *ir.Builder {
	b := ir.NewBuilder(n.Graph(), w.c.Pass, op.InferNode)
	b.Before = n
	b.Site = n.Name
	if b.Site == "" && n.Output(0) != nil {
		b.Site = n.Output(0).Name()
	}
	return b
}

// withBatch is the shape dims with the size of x in dimension axis put in there.
func (w *work) withBatch(b *ir.Builder, x *ir.Value, axis int, dims []int64) *ir.Value {
	batch := b.Op("Gather", []*ir.Value{b.Op("Shape", []*ir.Value{x}), b.Int64s(int64(axis))}, ir.AInt("axis", 0))
	var parts []*ir.Value
	if axis > 0 {
		parts = append(parts, b.Int64s(dims[:axis]...))
	}
	parts = append(parts, batch)
	if axis+1 < len(dims) {
		parts = append(parts, b.Int64s(dims[axis+1:]...))
	}
	if len(parts) == 1 {
		return batch
	}
	return b.Op("Concat", parts, ir.AInt("axis", 0))
}

// setInts gives input i of n a constant of its own.
func (w *work) setInts(n *ir.Node, i int, v []int64) error {
	g := n.Graph()
	site := n.String()
	if n.Output(0) != nil {
		site = n.Output(0).Name()
	}
	if old := n.Input(i); old != nil {
		site = old.Name()
	}
	c, err := g.AddInitializer(g.FreshName(site+"_free"), ir.VectorInt64(v...))
	if err != nil {
		return err
	}
	for j := len(n.Inputs()) - 1; j > i && n.Op == "Reshape"; j-- {
		if err := g.SetInput(n, j, nil); err != nil {
			return err
		}
	}
	w.mark(n)
	return g.SetInput(n, i, c)
}
