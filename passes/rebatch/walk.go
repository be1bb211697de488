package rebatch

import (
	"errors"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/pass"
)

// trial is the batch of the second inference: a prime that no layer multiplies its sizes by.
const trial = 13

// guess is the size taken for a dimension of an input that nothing tells.
const guess = 64

// maxAttempts bounds how many choices of places for the batch are tried.
const maxAttempts = 64

// search tries ways to free a model's batch.
type search struct {
	c    *pass.Ctx
	o    Options
	file *ir.Model

	typed   *ir.Model          // at batch 1, other sizes as the file leaves them
	one     *ir.Model          // at batch 1, all sizes known
	feeds   map[string][]int64 // input sizes at batch 1
	batched map[string]bool    // inputs that hold the batch in their first dimension
	vectors []string           // those of them with a single dimension, which may be parameters instead
}

// choice is one place where the analysis could have gone another way.
type choice struct{ taken, of int }

// walk is one attempt: big is the copy that is being rewritten, with types at the trial batch up to the node under way.
type walk struct {
	*search
	big     *ir.Model
	state   map[*ir.Value]state
	plan    []int
	choices []choice
	b       *ir.Builder
	batchOf map[*ir.Value]*ir.Value // number of images, computed from the shape of a value
	marked  map[*ir.Node]bool
	changed bool
	report  Report
}

func newSearch(c *pass.Ctx, m *ir.Model, o Options) *search {
	return &search{c: c, o: o, file: m, feeds: map[string][]int64{}, batched: map[string]bool{}}
}

// run returns the first attempt that goes through, or the reason why the first one did not.
func (x *search) run() (*walk, error) {
	if err := x.inputs(); err != nil {
		return nil, err
	}
	if err := x.infer(); err != nil {
		return nil, err
	}
	w, first := x.attempts()
	if first == nil || len(x.vectors) == 0 || len(x.vectors) == len(x.batched) {
		return w, first
	}
	var s *stuck
	if !errors.As(first, &s) {
		return nil, first
	}
	for _, name := range x.vectors {
		delete(x.batched, name)
	}
	w, err := x.attempts()
	if errors.As(err, &s) {
		err = first
	}
	return w, err
}

func (x *search) attempts() (*walk, error) {
	var first error
	var plan []int
	for i := 0; i < maxAttempts; i++ {
		w, err := x.start(plan)
		if err == nil {
			err = w.rewrite()
		}
		var s *stuck
		if err == nil || !errors.As(err, &s) {
			return w, err
		}
		if first == nil {
			first = err
		}
		if plan = next(w.choices); plan == nil {
			break
		}
	}
	return nil, first
}

// next is the plan after the one that led to these choices, the last choice changing first; nil when there is none.
func next(taken []choice) []int {
	for i := len(taken) - 1; i >= 0; i-- {
		if taken[i].taken+1 == taken[i].of {
			continue
		}
		plan := make([]int, i+1)
		for j := range plan {
			plan[j] = taken[j].taken
		}
		plan[i]++
		return plan
	}
	return nil
}

// choose picks one of n ways, as the plan says.
func (w *walk) choose(n int) int {
	k := 0
	if i := len(w.choices); i < len(w.plan) {
		k = min(w.plan[i], n-1)
	}
	w.choices = append(w.choices, choice{k, n})
	return k
}

// inputs finds the inputs that hold a batch of 1 and a size for each of their dimensions.
func (x *search) inputs() error {
	for _, v := range x.file.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		if v.Type.Kind != ir.KindTensor || !v.Shape().HasRank() {
			return stuckf("input %q is of type %v", v.Name(), v.Type)
		}
		shape, given := v.Shape(), x.o.InputShapes[v.Name()]
		if given != nil && len(given) != len(shape) {
			return stuckf("input %q has shape %v, %v is given for it", v.Name(), shape, given)
		}
		dims := make([]int64, len(shape))
		for i, d := range shape {
			switch {
			case d.Known():
				dims[i] = d.Size
			case i == 0:
				dims[i] = 1
			case given != nil && given[i] > 0:
				dims[i] = given[i]
			default:
				dims[i] = guess
			}
		}
		x.feeds[v.Name()] = dims
		if len(dims) > 0 && dims[0] == 1 {
			x.batched[v.Name()] = true
			if len(dims) == 1 {
				x.vectors = append(x.vectors, v.Name())
			}
		}
	}
	if len(x.batched) == 0 {
		return stuckf("no input has a batch of 1 in its first dimension")
	}
	return nil
}

// infer makes the models at batch 1.
func (x *search) infer() (err error) {
	if x.one, err = inferred(x.file, x.feeds); err != nil {
		return err
	}
	open := map[string][]int64{}
	for _, v := range x.file.Graph.Inputs() {
		dims := slices.Clone(x.feeds[v.Name()])
		for i := range dims {
			if !v.Shape()[i].Known() && !(i == 0 && x.batched[v.Name()]) {
				dims[i] = -1
			}
		}
		if dims != nil {
			open[v.Name()] = dims
		}
	}
	x.typed, err = inferred(x.file, open)
	return err
}

func inferred(m *ir.Model, shapes map[string][]int64) (*ir.Model, error) {
	c, err := m.Clone()
	if err != nil {
		return nil, err
	}
	op.ClearTypes(c.Graph)
	if err := op.InferModel(c, shapes); err != nil {
		return nil, stuckf("at batch 1: %v", err)
	}
	return c, nil
}

func (x *search) start(plan []int) (*walk, error) {
	w := &walk{search: x, plan: plan, state: map[*ir.Value]state{}, batchOf: map[*ir.Value]*ir.Value{},
		marked: map[*ir.Node]bool{}}
	var err error
	if w.big, err = x.file.Clone(); err != nil {
		return w, err
	}
	op.ClearTypes(w.big.Graph)
	for _, v := range w.big.Graph.Inputs() {
		if dims := slices.Clone(x.feeds[v.Name()]); dims != nil {
			if x.batched[v.Name()] {
				dims[0] = trial
				w.state[v] = pureAt(0)
			}
			v.Type.Shape = ir.StaticShape(dims...)
		}
	}
	w.b = ir.NewBuilder(w.big.Graph, x.c.Pass, op.InferNode)
	return w, nil
}

// rewrite walks the nodes in order and finds the state of their outputs, repairing operands on the way.
func (w *walk) rewrite() error {
	one, typed := w.one.Graph.Nodes(), w.typed.Graph.Nodes()
	for i, n := range w.big.Graph.Nodes() {
		if err := w.c.Cancelled(); err != nil {
			return err
		}
		s := &step{walk: w, n: n, one: one[i], typed: typed[i]}
		for _, v := range n.Inputs() {
			s.in = append(s.in, w.state[v])
		}
		if err := s.run(); err != nil {
			return err
		}
	}
	if err := w.b.Err(); err != nil {
		return err
	}
	return w.outputs()
}

// run finds the states of the node's outputs by the rule of its operator and checks that the types at the trial batch agree.
func (s *step) run() error {
	if err := s.subgraphs(); err != nil {
		return err
	}
	var out []state
	var err error
	switch {
	case slices.ContainsFunc(s.in, func(t state) bool { return t.kind == batch }):
		r := unlisted
		if s.n.Domain == "" && rules[s.n.Op] != nil {
			r = rules[s.n.Op]
		}
		if why := mixers[s.n.Op]; s.n.Domain == "" && why != "" {
			return s.refuse("%s", why)
		}
		for i, v := range s.one.Inputs() {
			if v == nil {
				continue
			}
			if _, ok := v.StaticDims(); !ok {
				return s.refuse("the type %v of operand %d is not known in full before it runs", v.Type, i)
			}
		}
		for i, o := range s.one.Outputs() {
			if _, ok := o.StaticDims(); !ok && s.one.Output(i) != nil {
				return s.refuse("the type %v of its result is not known in full before it runs", o.Type)
			}
		}
		out, err = r(s)
	case slices.ContainsFunc(s.in, func(t state) bool { return t.kind == sizes }):
		out, err = fromSizes(s)
	default:
		out = []state{{}}
	}
	if err != nil {
		return err
	}
	if err := s.infer(); err != nil {
		return s.refuse("at batch %d: %v", trial, err)
	}
	for i := range s.n.Outputs() {
		if s.n.Output(i) == nil {
			continue
		}
		t := out[min(i, len(out)-1)]
		if err := s.settled(i, t); err != nil {
			return err
		}
		s.state[s.n.Output(i)] = t
	}
	return nil
}

// settled checks the type of output i at the trial batch, and fills in the sizes that inference leaves open.
func (s *step) settled(i int, t state) error {
	a, b := s.one.Output(i), s.n.Output(i)
	dims, ok := a.StaticDims()
	if !ok {
		if t.kind != none {
			return s.refuse("the type %v of its result is not known in full before it runs", a.Type)
		}
		return nil
	}
	want := grown(dims, t)
	got := b.Shape()
	if got == nil {
		b.Type = ir.TensorType(a.DType(), ir.StaticShape(want...))
		return nil
	}
	if len(got) != len(want) {
		return s.refuse("its result has shape %v at batch 1 and %v at batch %d", dims, got, trial)
	}
	for j, d := range got {
		if d.Known() && d.Size != want[j] {
			return s.refuse("its result has shape %v at batch 1 and %v at batch %d, where %v would hold one part per image", dims, got, trial, want)
		}
		if !d.Known() {
			got[j] = ir.Dim{Size: want[j], Denote: d.Denote}
		}
	}
	return nil
}

// subgraphs refuses graphs in attributes that read something that depends on the batch.
func (s *step) subgraphs() error {
	if len(s.n.Subgraphs()) == 0 {
		return nil
	}
	for _, top := range s.n.Subgraphs() {
		for _, g := range pass.Graphs(top) {
			for n := g.First(); n != nil; n = n.Next() {
				for _, v := range n.Inputs() {
					if v != nil && s.state[v].kind != none {
						return s.refuse("its subgraph reads %q, which depends on the batch", v.Name())
					}
				}
			}
			for _, v := range g.Outputs() {
				if s.state[v].kind != none {
					return s.refuse("its subgraph returns %q, which depends on the batch", v.Name())
				}
			}
		}
	}
	for i, t := range s.in {
		if t.kind != none {
			return s.refuse("operand %d (%q) depends on the batch, and it runs a graph of its own on it", i, s.n.Input(i).Name())
		}
	}
	return nil
}

// outputs checks that every output holds the batch, and nothing else, in its first dimension.
func (w *walk) outputs() error {
	for _, v := range w.big.Graph.Outputs() {
		t := w.state[v]
		switch {
		case t.kind == sizes:
			return stuckf("output %q is computed from the batch's size", v.Name())
		case t.kind == none:
			w.report.Constant = append(w.report.Constant, v.Name())
		case t.axis > 0:
			return stuckf("output %q holds the batch in dimension %d, not in its first", v.Name(), t.axis)
		case !t.pure():
			return stuckf("output %q has no dimension of its own for the batch: its first has %d rows per image", v.Name(), t.rows())
		}
	}
	return nil
}

// mark records that n was rewritten.
func (w *walk) mark(n *ir.Node) {
	w.changed = true
	if !w.marked[n] {
		w.marked[n] = true
		w.report.Rewritten = append(w.report.Rewritten, n.String())
	}
}
