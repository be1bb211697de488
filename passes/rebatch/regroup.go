package rebatch

import (
	"slices"
	"sort"
)

// places lists the states that a value of sizes to can have after regrouping one of sizes from and state t: the elements before
// the images and after them stay as many.
func places(from []int64, t state, to []int64) []state {
	before := t.outer
	for _, d := range from[:t.axis] {
		before *= d
	}
	var out []state
	prefix := int64(1)
	for i, d := range to {
		if d > 0 && prefix <= before && before%prefix == 0 && d%(before/prefix) == 0 {
			outer := before / prefix
			out = append(out, state{kind: batch, axis: i, outer: outer, inner: d / outer})
		}
		prefix *= d
	}
	return out
}

// regroup is the rule of Reshape, Flatten, Squeeze and Unsqueeze: the batch keeps a dimension of its own where the result has one
// for it. Where the node would not give that, Reshape gets another shape and the others become Reshapes.
func regroup(s *step) ([]state, error) {
	if err := s.only(0); err != nil && s.at(1).kind != sizes {
		return nil, err
	}
	from, to, t := s.dims(0), s.out(0), s.in[0]
	if slices.Contains(to, 0) {
		return nil, s.refuse("its result %v is empty", to)
	}
	found := places(from, t, to)
	if len(found) == 0 {
		return nil, s.refuse("regrouping %v as %v mixes the batch in dimension %d with other data", from, to, t.axis)
	}
	raw := s.target()
	rank := make([]int, len(found))
	for i, p := range found {
		rank[i] = s.preference(p, from, to, raw)
	}
	order := make([]int, len(found))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return rank[order[i]] < rank[order[j]] })
	p := found[order[s.choose(len(order))]]
	if s.fits(p) {
		return []state{p}, nil
	}
	return []state{p}, s.regroupTo(p, raw)
}

// target is what the node says of its result's sizes, with 0 and -1 as in Reshape; sizes that are not known are -2.
func (s *step) target() []int64 {
	if s.n.Is("Reshape") {
		if v, ok := s.operand("shape", 1); ok && len(v) == len(s.out(0)) {
			for i, d := range v {
				if d == 0 && s.n.Int("allowzero", 0) == 0 {
					v[i] = s.copied(i)
				}
			}
			return v
		}
	}
	out := slices.Clone(s.out(0))
	shape := s.typed.Output(0).Shape()
	for i := range out {
		if i >= len(shape) || !shape[i].Known() {
			out[i] = -2
		}
	}
	return out
}

// copied is what a 0 in dimension i of a Reshape says: 0, or a number where that dimension holds the batch.
func (s *step) copied(i int) int64 {
	if i == s.in[0].axis {
		return s.dims(0)[i]
	}
	return 0
}

// preference orders the places for the batch, lower first: dimensions of its own before shared ones, and among them what the node
// gives as it is, the dimension where the batch is, and one with the same sizes before it.
func (s *step) preference(p state, from, to, raw []int64) int {
	t := s.in[0]
	switch {
	case p.pure() && p.axis == t.axis && s.fits(p):
		return 0
	case p.pure() && s.fits(p):
		return 1
	case p.pure() && p.axis == t.axis:
		return 2
	case p.pure() && t.axis <= len(to) && p.axis <= len(from) && slices.Equal(from[:min(t.axis, p.axis)], to[:min(t.axis, p.axis)]):
		return 3
	case p.pure():
		return 4
	case s.fits(p):
		return 5
	case raw[p.axis] == -1:
		return 6
	}
	return 7
}

// regroupTo makes the node a Reshape that gives state p.
func (s *step) regroupTo(p state, raw []int64) error {
	to, t := s.out(0), s.in[0]
	shape := slices.Clone(raw)
	open := -1
	for i, d := range shape {
		switch {
		case i == p.axis:
		case d == 0 && !s.n.Is("Reshape"):
			shape[i] = to[i]
		case d < 0 && s.known(i):
			shape[i] = to[i]
		case d == -2 && i < t.axis && i < p.axis && slices.Equal(s.dims(0)[:i+1], to[:i+1]):
			shape[i] = 0
		case d < 0 && open >= 0:
			return s.refuse("more than one size of its result %v is not fixed", s.typed.Output(0).Shape())
		case d < 0:
			open, shape[i] = i, -1
		}
	}
	zero := s.n.Int("allowzero", 0) == 0
	switch {
	case zero && p.axis == t.axis && p.outer == t.outer && p.inner == t.inner:
		shape[p.axis] = 0
	case open < 0:
		shape[p.axis] = -1
	default:
		v := s.vector(shape, p.axis, p.rows(), 0)
		if err := s.b.Err(); err != nil {
			return err
		}
		if s.n.Is("Reshape") {
			s.mark(s.n)
			return s.n.Graph().SetInput(s.n, 1, v)
		}
		return s.become("Reshape", v)
	}
	if s.n.Is("Reshape") {
		return s.setOperand("shape", 1, shape)
	}
	if err := s.become("Reshape", nil); err != nil {
		return err
	}
	return s.setOperand("", 1, shape)
}

// known reports whether size i of the result is the same whatever sizes the file leaves open.
func (s *step) known(i int) bool {
	shape := s.typed.Output(0).Shape()
	return i < len(shape) && shape[i].Known()
}
