package rebatch

import (
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// kind says how a value depends on the batch.
type kind uint8

const (
	none  kind = iota // the same for every batch
	sizes             // small numbers computed from the batch's size, not from images
	batch             // holds one part per image
)

// state says where a value holds the batch: dimension axis counts outer groups, in each of them the images, in each of them
// inner entries; the rest of the value is what the image alone gives. A dimension of its own has outer and inner 1.
type state struct {
	kind         kind
	axis         int
	outer, inner int64
}

// rows is the size of the batch's dimension at batch 1.
func (s state) rows() int64 { return s.outer * s.inner }

func (s state) pure() bool { return s.outer == 1 && s.inner == 1 }

func (s state) on(axis int) state {
	s.axis = axis
	return s
}

func pureAt(axis int) state { return state{kind: batch, axis: axis, outer: 1, inner: 1} }

// step is the node under way: n in the model being rewritten, its inputs having types at the trial batch, with the same node in
// the model at batch 1 and in the model with the file's sizes.
type step struct {
	*walk
	n, one, typed *ir.Node
	in            []state
}

func (s *step) refuse(format string, args ...any) error {
	return stuckf("node %v: %v", s.n, stuckf(format, args...))
}

// dims is the size of input i at batch 1.
func (s *step) dims(i int) []int64 { return static(s.one.Input(i)) }

// out is the size of output i at batch 1.
func (s *step) out(i int) []int64 { return static(s.one.Output(i)) }

func static(v *ir.Value) []int64 {
	if v == nil {
		return nil
	}
	d, _ := v.StaticDims()
	return d
}

// at is the state of input i; an absent input has no batch.
func (s *step) at(i int) state {
	if i < len(s.in) {
		return s.in[i]
	}
	return state{}
}

// operand is the value of integer operand i, or of the attribute that older opsets have instead, where it follows from the file
// alone: known for every size that the file leaves open.
func (s *step) operand(attr string, i int) ([]int64, bool) {
	if a := s.n.Attr(attr); attr != "" && a != nil {
		if a.Kind == ir.AttrInt {
			return []int64{a.I}, true
		}
		return slices.Clone(a.Ints), true
	}
	v := s.typed.Input(i)
	if v == nil {
		return nil, false
	}
	x, ok := op.ConstInts(v)
	return slices.Clone(x), ok
}

// absent reports whether neither the operand nor the attribute is there.
func (s *step) absent(attr string, i int) bool {
	return s.n.Input(i) == nil && (attr == "" || s.n.Attr(attr) == nil)
}

// axis normalizes a dimension number of a value of the given rank; ok is false when it is out of range.
func axis(a int64, rank int) (int, bool) {
	if a < 0 {
		a += int64(rank)
	}
	return int(a), a >= 0 && a < int64(rank)
}

// infer sets the types of the node's outputs at the trial batch.
func (s *step) infer() error {
	for _, o := range s.n.Outputs() {
		o.Type = ir.Type{}
	}
	return op.InferNode(s.n)
}

// fits reports whether the node, as it is, gives at the trial batch what state t of output 0 asks for.
func (s *step) fits(t state) bool {
	if s.infer() != nil {
		return false
	}
	got, ok := s.n.Output(0).StaticDims()
	return ok && slices.Equal(got, grown(s.out(0), t))
}

// grown is the shape at the trial batch of a value with sizes dims at batch 1.
func grown(dims []int64, t state) []int64 {
	dims = slices.Clone(dims)
	if t.kind == batch && t.axis < len(dims) {
		dims[t.axis] *= trial
	}
	return dims
}

// holders lists the inputs that hold the batch.
func (s *step) holders() []int {
	var out []int
	for i, t := range s.in {
		if t.kind == batch {
			out = append(out, i)
		}
	}
	return out
}

// only reports an input other than those listed that depends on the batch.
func (s *step) only(slots ...int) error {
	for i, t := range s.in {
		if t.kind != none && !slices.Contains(slots, i) {
			what := "the images"
			if t.kind == sizes {
				what = "the batch's size"
			}
			return s.refuse("operand %d depends on %s", i, what)
		}
	}
	return nil
}
