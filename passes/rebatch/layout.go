package rebatch

import (
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/pass"
)

// probe is the batch of the second inference: a prime that no layer multiplies its sizes by.
const probe = 13

// guess is the size taken for a dimension of an input that nothing tells.
const guess = 64

// work is one attempt: the model as it came, its types at batch 1, and the copy being rewritten, with types at the probe's batch.
type work struct {
	c       *pass.Ctx
	o       Options
	file    *ir.Model
	one     *ir.Model
	big     *ir.Model
	feeds   map[string][]int64 // input sizes at batch 1
	batched map[string]bool    // inputs that hold the batch in their first dimension
	changed bool
	report  Report
}

func newWork(c *pass.Ctx, m *ir.Model, o Options) (*work, error) {
	w := &work{c: c, o: o, file: m, feeds: map[string][]int64{}, batched: map[string]bool{}}
	var err error
	for _, v := range m.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		if v.Type.Kind != ir.KindTensor || !v.Shape().HasRank() {
			return nil, stuckf("input %q is of type %v", v.Name(), v.Type)
		}
		dims := make([]int64, len(v.Shape()))
		given := o.InputShapes[v.Name()]
		if given != nil && len(given) != len(dims) {
			return nil, stuckf("input %q has shape %v, %v is given for it", v.Name(), v.Shape(), given)
		}
		for i, d := range v.Shape() {
			switch {
			case i == 0 && d.Known() && d.Size != 1:
				return nil, stuckf("input %q has %d in its first dimension, which should be a batch of 1", v.Name(), d.Size)
			case i == 0:
				dims[i] = 1
			case d.Known():
				dims[i] = d.Size
			case given != nil && given[i] > 0:
				dims[i] = given[i]
			default:
				dims[i] = guess
			}
		}
		w.feeds[v.Name()], w.batched[v.Name()] = dims, len(dims) > 0
	}
	if !slices.ContainsFunc(m.Graph.Inputs(), func(v *ir.Value) bool { return w.batched[v.Name()] }) {
		return nil, stuckf("no input has a batch dimension")
	}
	if w.one, err = m.Clone(); err != nil {
		return nil, err
	}
	op.ClearTypes(w.one.Graph)
	if err := op.InferModel(w.one, w.feeds); err != nil {
		return nil, stuckf("at batch 1: %v", err)
	}
	if w.big, err = m.Clone(); err != nil {
		return nil, err
	}
	op.ClearTypes(w.big.Graph)
	for _, v := range w.big.Graph.Inputs() {
		if dims := slices.Clone(w.feeds[v.Name()]); dims != nil {
			if w.batched[v.Name()] {
				dims[0] = probe
			}
			v.Type.Shape = ir.StaticShape(dims...)
		}
	}
	return w, nil
}

// sizes is the shape of v at batch 1 and at the probe's batch; ok is false when one of them is not known in full.
func (w *work) sizes(v *ir.Value) (one, big []int64, ok bool) {
	if v.IsInitializer() {
		d, ok := v.StaticDims()
		return d, d, ok
	}
	u := w.one.Graph.Value(v.Name())
	if u == nil {
		return nil, nil, false
	}
	one, ok1 := u.StaticDims()
	big, ok2 := v.StaticDims()
	return one, big, ok1 && ok2 && len(one) == len(big)
}

// layout is where a value holds the batch: dimension axis has rows times batch entries, axis -1 means nowhere.
type layout struct {
	axis int
	rows int64
}

// layoutOf compares the two shapes of v; ok is false when they are unknown or differ in another way than by one batch.
func (w *work) layoutOf(v *ir.Value) (l layout, ok bool) {
	one, big, ok := w.sizes(v)
	if !ok {
		return l, false
	}
	l.axis = -1
	for i := range one {
		if one[i] == big[i] {
			continue
		}
		if l.axis >= 0 || big[i] != one[i]*probe {
			return l, false
		}
		l = layout{i, one[i]}
	}
	return l, true
}

// fixedInts is the value of a small integer operand that is the same at both batches.
func (w *work) fixedInts(v *ir.Value) ([]int64, bool) {
	if v == nil {
		return nil, false
	}
	big, ok := op.ConstInts(v)
	if !ok {
		return nil, false
	}
	if v.IsInitializer() {
		return big, true
	}
	u := w.one.Graph.Value(v.Name())
	if u == nil {
		return nil, false
	}
	one, ok := op.ConstInts(u)
	return big, ok && slices.Equal(one, big)
}

// rewrite walks the nodes in order, lets the rule of each operator repair it, and infers its types at the probe's batch.
func (w *work) rewrite() error {
	for _, n := range w.big.Graph.Nodes() {
		if err := w.c.Cancelled(); err != nil {
			return err
		}
		if fix := rules[n.Op]; fix != nil && n.Domain == "" {
			if err := fix(w, n); err != nil {
				return err
			}
		}
		for _, o := range n.Outputs() {
			o.Type = ir.Type{}
		}
		if err := op.InferNode(n); err != nil {
			return stuckf("at batch %d: %v", probe, err)
		}
	}
	return nil
}

// mark records that n was rewritten.
func (w *work) mark(n *ir.Node) {
	w.changed = true
	if s := n.String(); !slices.Contains(w.report.Rewritten, s) {
		w.report.Rewritten = append(w.report.Rewritten, s)
	}
	n.Pass = w.c.Pass
}

// outputs checks that every output holds the batch, and nothing else, in its first dimension.
func (w *work) outputs() error {
	for _, v := range w.big.Graph.Outputs() {
		l, ok := w.layoutOf(v)
		switch {
		case !ok:
			continue
		case l.axis < 0:
			w.report.Constant = append(w.report.Constant, v.Name())
		case l.axis > 0:
			return stuckf("output %q holds the batch in dimension %d", v.Name(), l.axis)
		case l.rows != 1:
			return stuckf("output %q has no batch dimension of its own: its first has %d rows per image", v.Name(), l.rows)
		}
	}
	return nil
}
