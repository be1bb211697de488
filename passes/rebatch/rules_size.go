package rebatch

import (
	"math"
	"slices"

	"mqatc/onnx/op"
)

// expand lets the batch through where the target shape, aligned to the right, has the number that it had at batch 1.
func expand(s *step) ([]state, error) {
	if err := s.only(0); err != nil && s.at(1).kind != sizes {
		return nil, err
	}
	dims, to := s.dims(0), s.out(0)
	t := s.in[0]
	at := t.axis + len(to) - len(dims)
	if to[at] != t.rows() {
		return nil, s.refuse("it repeats the batch in dimension %d of %v to make %v", t.axis, dims, to)
	}
	r := t.on(at)
	if s.fits(r) {
		return []state{r}, nil
	}
	shape, ok := s.operand("", 1)
	i := at - (len(to) - len(shape))
	if !ok || i < 0 {
		return nil, s.refuse("its target shape depends on the batch and does not fit it")
	}
	shape[i] = 1
	return []state{r}, s.setOperand("", 1, shape)
}

// tile repeats whole groups of images.
func tile(s *step) ([]state, error) {
	if err := s.only(0); err != nil {
		return nil, err
	}
	t := s.in[0]
	if s.out(0)[t.axis] == 0 {
		return nil, s.refuse("its result is empty")
	}
	t.outer *= s.out(0)[t.axis] / s.dims(0)[t.axis]
	return []state{t}, nil
}

// resize computes the batch's entry of fixed output sizes.
func resize(s *step) ([]state, error) {
	last := len(s.in) - 1
	if err := s.only(0, last); err != nil || s.at(last).kind == batch && last > 0 {
		return nil, s.refuse("its sizes depend on the images")
	}
	t := s.in[0]
	if s.out(0)[t.axis] != s.dims(0)[t.axis] {
		return nil, s.refuse("it resizes the batch in dimension %d", t.axis)
	}
	if s.n.Input(3) == nil || s.fits(t) {
		return []state{t}, nil
	}
	sizes, ok := s.operand("", 3)
	at := t.axis
	if axes := s.n.Ints("axes"); axes != nil {
		at = slices.IndexFunc(axes, func(a int64) bool { k, ok := axis(a, len(s.dims(0))); return ok && k == t.axis })
	}
	if !ok || at < 0 || at >= len(sizes) {
		return nil, s.refuse("its sizes depend on the batch and do not fit it")
	}
	s.mark(s.n)
	if scales, ok := s.scales(sizes); ok {
		v := s.builder().Floats(scales, int64(len(scales)))
		if err := s.b.Err(); err != nil {
			return nil, err
		}
		if err := s.n.Graph().SetInput(s.n, 3, nil); err != nil {
			return nil, err
		}
		return []state{t}, s.n.Graph().SetInput(s.n, 2, v)
	}
	v := s.vector(sizes, at, t.rows(), 0)
	if err := s.b.Err(); err != nil {
		return nil, err
	}
	return []state{t}, s.n.Graph().SetInput(s.n, 3, v)
}

// scales says the same as sizes of a Resize, where floats say it exactly.
func (s *step) scales(sizes []int64) ([]float32, bool) {
	from := s.typed.Input(0).Shape()
	if s.n.Str("keep_aspect_ratio_policy", "stretch") != "stretch" || s.n.Input(1) != nil && s.n.Str("coordinate_transformation_mode", "") == "tf_crop_and_resize" {
		return nil, false
	}
	out := make([]float32, len(sizes))
	for i, to := range sizes {
		k, ok := i, true
		if axes := s.n.Ints("axes"); axes != nil {
			k, ok = axis(axes[i], len(from))
		}
		if !ok || k >= len(from) || !from[k].Known() || from[k].Size == 0 {
			return nil, false
		}
		out[i] = float32(to) / float32(from[k].Size)
		if float64(out[i])*float64(from[k].Size) != float64(to) {
			return nil, false
		}
	}
	return out, true
}

// slice lets a slice that takes all of a batch of 1 take all of any batch.
func slice(s *step) ([]state, error) {
	if s.at(0).kind != batch {
		return unlisted(s)
	}
	t := s.in[0]
	rank := len(s.dims(0))
	starts, ok := s.operand("starts", 1)
	axes, fixed := s.operand("axes", 3)
	if s.absent("axes", 3) && ok {
		for i := range starts {
			axes = append(axes, int64(i))
		}
		fixed = true
	}
	at := -1
	if fixed {
		at = slices.IndexFunc(axes, func(a int64) bool { k, ok := axis(a, rank); return ok && k == t.axis })
	}
	if fixed && at < 0 {
		for i := 1; i < len(s.in); i++ {
			if s.in[i].kind == batch {
				return nil, s.refuse("operand %d depends on the images", i)
			}
		}
		return []state{t}, nil
	}
	if s.out(0)[t.axis] != s.dims(0)[t.axis] {
		return nil, s.refuse("it takes part of the batch in dimension %d: %v of %v", t.axis, s.out(0), s.dims(0))
	}
	ends, ok2 := s.operand("ends", 2)
	steps, ok3 := s.operand("steps", 4)
	if !ok || !ok2 || !fixed || len(starts) != len(axes) || len(ends) != len(axes) || !ok3 && !s.absent("steps", 4) {
		if s.fits(t) {
			return []state{t}, nil
		}
		return nil, s.refuse("its bounds depend on the batch and do not fit it")
	}
	if ok3 && at < len(steps) && steps[at] != 1 {
		if !t.pure() {
			return nil, s.refuse("it takes the batch in dimension %d in steps of %d", t.axis, steps[at])
		}
		steps[at] = 1
		if err := s.setOperand("steps", 4, steps); err != nil {
			return nil, err
		}
	}
	if starts[at] != 0 {
		starts[at] = 0
		if err := s.setOperand("starts", 1, starts); err != nil {
			return nil, err
		}
	}
	if ends[at] < math.MaxInt32 {
		ends[at] = math.MaxInt64
		return []state{t}, s.setOperand("ends", 2, ends)
	}
	return []state{t}, nil
}

// keep is for operators that leave every dimension of their first input where it is and take no images in others; their operands
// do not touch the batch where the types at the trial batch come out right.
func keep(s *step) ([]state, error) {
	if err := s.only(0); err != nil {
		return nil, err
	}
	return []state{s.in[0]}, nil
}

// measure is the rule of Shape and Size, whose results are numbers.
func measure(s *step) ([]state, error) {
	if err := s.infer(); err != nil {
		return nil, s.refuse("%v", err)
	}
	return []state{s.numbers(0)}, nil
}

// numbers compares what a small output is at both batches.
func (s *step) numbers(i int) state {
	a, ok1 := op.ConstFloats(s.one.Output(i))
	b, ok2 := op.ConstFloats(s.n.Output(i))
	if ok1 && ok2 && slices.Equal(a, b) {
		return state{}
	}
	return state{kind: sizes}
}

// shaped are operators whose result is the same constant repeated, as far as an operand says.
var shaped = map[string]bool{"ConstantOfShape": true, "Expand": true, "Tile": true}

// fromSizes is for nodes that read numbers computed from the batch's size, and no images.
func fromSizes(s *step) ([]state, error) {
	if err := s.infer(); err != nil {
		return nil, s.refuse("at batch %d: %v", trial, err)
	}
	out := make([]state, len(s.n.Outputs()))
	for i := range out {
		if s.n.Output(i) == nil {
			continue
		}
		a, ok1 := s.one.Output(i).StaticDims()
		b, ok2 := s.n.Output(i).StaticDims()
		if !ok1 || !ok2 || len(a) != len(b) {
			return nil, s.refuse("its result depends on the batch's size in a way that is not followed")
		}
		if slices.Equal(a, b) {
			_, known1 := op.ConstFloats(s.one.Output(i))
			_, known2 := op.ConstFloats(s.n.Output(i))
			switch {
			case known1 && known2:
				out[i] = s.numbers(i)
			case !shaped[s.n.Op] && !(s.n.Is("Reshape") && s.at(0).kind == none):
				return nil, s.refuse("its result depends on the batch's size in a way that is not followed")
			}
			continue
		}
		at := -1
		for j := range a {
			if a[j] != b[j] && (at >= 0 || b[j] != trial*a[j]) {
				return nil, s.refuse("its shape is %v at batch 1 and %v at batch %d", a, b, trial)
			} else if a[j] != b[j] {
				at = j
			}
		}
		if !shaped[s.n.Op] || s.at(0).kind == sizes && !s.n.Is("ConstantOfShape") {
			return nil, s.refuse("it numbers the images of a batch")
		}
		out[i] = state{kind: batch, axis: at, outer: 1, inner: a[at]}
	}
	return out, nil
}
