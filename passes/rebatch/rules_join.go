package rebatch

import (
	"slices"

	"mqatc/onnx/ir"
)

// common is the state that all inputs with a batch share after alignment: to the right of a result of the given rank, or to the
// left where rank is negative.
func (s *step) common(rank int) (t state, first int, err error) {
	first = -1
	for _, i := range s.holders() {
		u := s.in[i]
		if rank >= 0 {
			u.axis += rank - len(s.dims(i))
		}
		if first >= 0 && u != t {
			return t, first, s.refuse("operands %d of shape %v and %d of shape %v hold the batch in other places", first, s.dims(first), i, s.dims(i))
		}
		if first < 0 {
			t, first = u, i
		}
	}
	return t, first, nil
}

// noSizes refuses numbers computed from the batch's size among data.
func (s *step) noSizes() error {
	for i, t := range s.in {
		if t.kind == sizes {
			return s.refuse("it computes with the batch's size in operand %d", i)
		}
	}
	return nil
}

// broadcast is the rule of operators that work element by element on operands aligned to the right.
func broadcast(s *step) ([]state, error) {
	if err := s.noSizes(); err != nil {
		return nil, err
	}
	rank := len(s.out(0))
	t, ref, err := s.common(rank)
	if err != nil {
		return nil, err
	}
	for i, u := range s.in {
		if u.kind == batch || s.n.Input(i) == nil {
			continue
		}
		dims := s.dims(i)
		at := t.axis - rank + len(dims)
		if at < 0 || dims[at] == 1 {
			continue
		}
		if err := s.lift(i, at, t, ref); err != nil {
			return nil, err
		}
	}
	return []state{t}, nil
}

// concat joins along another dimension than the batch's, repeating operands that have no batch, or joins whole groups of images.
func concat(s *step) ([]state, error) {
	if err := s.noSizes(); err != nil {
		return nil, err
	}
	rank := len(s.out(0))
	at, _ := axis(s.n.Int("axis", 1), rank)
	if i := s.holders()[0]; s.in[i].axis == at {
		return s.stack(at)
	}
	t, ref, err := s.common(-1)
	if err != nil {
		return nil, err
	}
	for i, u := range s.in {
		if u.kind == none {
			if err := s.lift(i, t.axis, t, ref); err != nil {
				return nil, err
			}
		}
	}
	return []state{t}, nil
}

// stack joins along the dimension that holds the batch.
func (s *step) stack(at int) ([]state, error) {
	t := state{kind: batch, axis: at, inner: s.in[s.holders()[0]].inner}
	for i, u := range s.in {
		if u.kind != batch || u.axis != at || u.inner != t.inner {
			return nil, s.refuse("it joins operand %d of shape %v along the batch in dimension %d", i, s.dims(i), at)
		}
		t.outer += u.outer
	}
	return []state{t}, nil
}

// split cuts another dimension than the batch's, or between groups of images into equal parts.
func split(s *step) ([]state, error) {
	if err := s.only(0); err != nil {
		return nil, err
	}
	t := s.in[0]
	at, _ := axis(s.n.Int("axis", 0), len(s.dims(0)))
	if at != t.axis {
		return []state{t}, nil
	}
	var out []state
	for i := range s.n.Outputs() {
		rows := s.out(i)[at]
		if rows%t.inner != 0 || rows == 0 {
			return nil, s.refuse("it splits the rows of single images in dimension %d", at)
		}
		out = append(out, state{kind: batch, axis: at, outer: rows / t.inner, inner: t.inner})
	}
	if err := s.infer(); err == nil && slices.Equal(static(s.n.Output(0)), grown(s.out(0), out[0])) {
		return out, nil
	}
	if len(out) == 1 {
		return out, s.become("Identity", nil)
	}
	for _, u := range out[1:] {
		if u != out[0] {
			return nil, s.refuse("it splits the batch in dimension %d into unequal parts", at)
		}
	}
	s.mark(s.n)
	s.n.RemoveAttr("split")
	if s.file.Opset("") >= 18 {
		s.n.SetAttr(ir.AInt("num_outputs", int64(len(out))))
	}
	return out, s.n.Graph().SetInput(s.n, 1, nil)
}

// gather chooses along another dimension than the batch's; the choice of the only image of a batch of 1 keeps all of them.
func gather(s *step) ([]state, error) {
	if err := s.noSizes(); err != nil {
		return nil, err
	}
	rank, idx := len(s.dims(0)), len(s.dims(1))
	at, _ := axis(s.n.Int("axis", 0), rank)
	data, index := s.in[0], s.at(1)
	switch {
	case data.kind == batch && index.kind == batch:
		return nil, s.refuse("it chooses by indices that depend on the image from data that depend on the image")
	case index.kind == batch:
		return []state{index.on(at + index.axis)}, nil
	case data.axis < at:
		return []state{data}, nil
	case data.axis > at:
		return []state{data.on(data.axis + idx - 1)}, nil
	}
	k, ok := s.operand("", 1)
	if !data.pure() || !ok || len(k) != 1 || k[0] != 0 && k[0] != -1 {
		return nil, s.refuse("it chooses along the batch in dimension %d", at)
	}
	if idx == 1 {
		return []state{data}, s.become("Identity", nil)
	}
	if rank == 1 {
		return nil, s.refuse("its result has no dimension left for the batch")
	}
	s.in = s.in[:1]
	return regroup(s)
}

// elements is the rule of GatherElements and ScatterElements, whose operands have the same dimensions.
func elements(s *step) ([]state, error) {
	if err := s.noSizes(); err != nil {
		return nil, err
	}
	t, ref, err := s.common(-1)
	if err != nil {
		return nil, err
	}
	if at, _ := axis(s.n.Int("axis", 0), len(s.dims(0))); at == t.axis {
		return nil, s.refuse("it chooses along the batch in dimension %d", at)
	}
	for i, u := range s.in {
		if u.kind == none && s.n.Input(i) != nil {
			if err := s.lift(i, t.axis, t, ref); err != nil {
				return nil, err
			}
		}
	}
	return []state{t}, nil
}

// gatherND chooses within each image, or by indices of each image from data without a batch.
func gatherND(s *step) ([]state, error) {
	if err := s.noSizes(); err != nil {
		return nil, err
	}
	data, index := s.in[0], s.at(1)
	if len(s.dims(1)) == 0 {
		return nil, s.refuse("its indices are a single number")
	}
	dims := int(s.n.Int("batch_dims", 0))
	switch {
	case data.kind == none && index.kind == batch && index.axis < len(s.dims(1))-1 && dims == 0:
		return []state{index}, nil
	case data == index && data.axis < dims:
		return []state{data}, nil
	case index.kind == none && data.kind == batch && dims == 0 && data.axis >= int(s.dims(1)[len(s.dims(1))-1]):
		return []state{data.on(data.axis - int(s.dims(1)[len(s.dims(1))-1]) + len(s.dims(1)) - 1)}, nil
	}
	return nil, s.refuse("its indices count the images of the batch")
}
