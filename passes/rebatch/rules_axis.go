package rebatch

import (
	"slices"
)

// along is the rule of operators that work along one dimension, given by attribute axis: it must not be the batch's.
func along(def int64) rule {
	return func(s *step) ([]state, error) {
		if err := s.only(0); err != nil {
			return nil, err
		}
		if at, ok := axis(s.n.Int("axis", def), len(s.dims(0))); !ok || at == s.in[0].axis {
			return nil, s.refuse("it works across the batch in dimension %d of %v", s.in[0].axis, s.dims(0))
		}
		return []state{s.in[0]}, nil
	}
}

// onward is the rule of operators that work over all dimensions from attribute axis on.
func onward(def int64) rule {
	return func(s *step) ([]state, error) {
		if err := s.only(0); err != nil {
			return nil, err
		}
		at, ok := axis(s.n.Int("axis", def), len(s.dims(0)))
		if !ok || s.in[0].axis >= at {
			return nil, s.refuse("it works across the batch in dimension %d of %v", s.in[0].axis, s.dims(0))
		}
		out := []state{s.in[0]}
		return out, nil
	}
}

// softmax works along one dimension from opset 13 on, over all dimensions from axis on before.
func softmax(s *step) ([]state, error) {
	if s.file.Opset("") < 13 {
		return onward(1)(s)
	}
	return along(-1)(s)
}

// cumsum reads its dimension from an operand.
func cumsum(s *step) ([]state, error) {
	if err := s.only(0); err != nil {
		return nil, err
	}
	k, ok := s.operand("", 1)
	if !ok || len(k) != 1 {
		return nil, s.refuse("its axis is not known")
	}
	if at, ok := axis(k[0], len(s.dims(0))); !ok || at == s.in[0].axis {
		return nil, s.refuse("it sums across the batch")
	}
	return []state{s.in[0]}, nil
}

// reduce is the rule of the reductions over dimensions given by attribute or operand axes.
func reduce(s *step) ([]state, error) {
	if err := s.only(0); err != nil {
		return nil, err
	}
	axes, ok := s.operand("axes", 1)
	if !ok && !s.absent("axes", 1) {
		return nil, s.refuse("its axes are not known")
	}
	if len(axes) == 0 && s.n.Int("noop_with_empty_axes", 0) != 0 {
		return []state{s.in[0]}, nil
	}
	return s.reduced(axes)
}

// reduced is the state after a reduction over axes, all of them where the list is empty.
func (s *step) reduced(axes []int64) ([]state, error) {
	t := s.in[0]
	rank := len(s.dims(0))
	if len(axes) == 0 {
		for i := 0; i < rank; i++ {
			axes = append(axes, int64(i))
		}
	}
	left := t
	for _, a := range axes {
		k, ok := axis(a, rank)
		switch {
		case !ok:
			return nil, s.refuse("it has no dimension %d", a)
		case k == t.axis:
			return nil, s.refuse("it reduces over the batch in dimension %d of %v", k, s.dims(0))
		case k < t.axis && s.n.Int("keepdims", 1) == 0:
			left.axis--
		}
	}
	return []state{left}, nil
}

// arg is the rule of ArgMax and ArgMin.
func arg(s *step) ([]state, error) {
	if err := s.only(0); err != nil {
		return nil, err
	}
	return s.reduced([]int64{s.n.Int("axis", 0)})
}

// rowwise is the rule of operators that treat each entry of the first dimension alone. Operands in slots may hold the batch there
// as well; the others must not.
func rowwise(slots ...int) rule {
	return func(s *step) ([]state, error) {
		if err := s.only(slots...); err != nil {
			return nil, err
		}
		if err := s.noSizes(); err != nil {
			return nil, err
		}
		t, ref, err := s.common(-1)
		if err != nil {
			return nil, err
		}
		if t.axis != 0 {
			return nil, s.refuse("the batch is in dimension %d of %v, which is not the one that the operator takes images in", t.axis, s.dims(ref))
		}
		for _, i := range slots {
			if s.n.Input(i) != nil && s.in[i].kind == none {
				if err := s.lift(i, 0, t, ref); err != nil {
					return nil, err
				}
			}
		}
		return []state{t}, nil
	}
}

// maxPool also gives positions, which count the elements of all images.
func maxPool(s *step) ([]state, error) {
	if o := s.n.Output(1); o != nil && o.Used() {
		return nil, s.refuse("its second output counts the elements of all images")
	}
	return rowwise(0)(s)
}

// batchNorm mixes images only while it trains.
func batchNorm(s *step) ([]state, error) {
	if s.n.Int("training_mode", 0) != 0 || len(s.n.Outputs()) > 1 {
		return nil, s.refuse("in training mode it mixes the images of a batch")
	}
	return rowwise(0)(s)
}

// meanVariance normalizes over attribute axes, the first dimension included unless told otherwise.
func meanVariance(s *step) ([]state, error) {
	axes := []int64{0, 2, 3}
	if s.n.Attr("axes") != nil {
		axes = s.n.Ints("axes")
	}
	if slices.ContainsFunc(axes, func(a int64) bool { k, ok := axis(a, len(s.dims(0))); return !ok || k == s.in[0].axis }) {
		return nil, s.refuse("it normalizes over the batch")
	}
	return keep(s)
}

// topK works along an axis and gives two results.
func topK(s *step) ([]state, error) { return along(-1)(s) }

// recurrent is the rule of RNN, GRU and LSTM: the batch is in the second dimension, or in the first where layout is 1.
func recurrent(s *step) ([]state, error) {
	if err := s.noSizes(); err != nil {
		return nil, err
	}
	if err := s.only(0, 4, 5, 6); err != nil {
		return nil, err
	}
	first := s.n.Int("layout", 0) == 1
	place := func(slot int) int {
		if slot == 4 || first {
			return 0
		}
		return 1
	}
	ref := s.holders()[0]
	for i, t := range s.in {
		switch {
		case s.n.Input(i) == nil || i >= 1 && i <= 3 || i > 6:
		case t.kind == none:
			if err := s.lift(i, place(i), pureAt(0), ref); err != nil {
				return nil, err
			}
		case !t.pure() || t.axis != place(i):
			return nil, s.refuse("operand %d of shape %v holds the batch in dimension %d", i, s.dims(i), t.axis)
		}
	}
	all, last := pureAt(2), pureAt(1)
	if first {
		all, last = pureAt(0), pureAt(0)
	}
	return []state{all, last, last}[:max(1, min(3, len(s.n.Outputs())))], nil
}

// unlisted is for operators without a rule of their own: exactly one dimension of each result must grow with the batch, and the
// proof decides.
func unlisted(s *step) ([]state, error) {
	if err := s.noSizes(); err != nil {
		return nil, err
	}
	if err := s.infer(); err != nil {
		return nil, s.refuse("at batch %d: %v", trial, err)
	}
	t := s.in[s.holders()[0]]
	for _, i := range s.holders() {
		if s.in[i].outer != t.outer || s.in[i].inner != t.inner {
			return nil, s.refuse("its operands hold the batch in different ways")
		}
	}
	out := make([]state, len(s.n.Outputs()))
	for i := range out {
		if s.n.Output(i) == nil {
			continue
		}
		a, b := s.out(i), static(s.n.Output(i))
		if len(a) != len(b) || b == nil {
			return nil, s.refuse("the shape %v of its result at batch %d is not known", s.n.Output(i).Shape(), trial)
		}
		at := -1
		for j := range a {
			if a[j] == b[j] {
				continue
			}
			if at >= 0 || b[j] != trial*a[j] || a[j] != t.rows() {
				return nil, s.refuse("its result has shape %v at batch 1 and %v at batch %d", a, b, trial)
			}
			at = j
		}
		if at < 0 {
			return nil, s.refuse("its result %v has no dimension that grows with the batch", a)
		}
		out[i] = t.on(at)
	}
	return out, nil
}
