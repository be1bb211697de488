package rebatch

import (
	"slices"
	"strings"
)

// product is the rule of the matrix products with operands in slots a and b: the batch may be in a dimension before the last two,
// in both operands alike, or among the rows of the first or the columns of the second. Other operands hold none.
func product(a, b int) rule {
	return func(s *step) ([]state, error) {
		if err := s.only(a, b); err != nil {
			return nil, err
		}
		if err := s.noSizes(); err != nil {
			return nil, err
		}
		da, db, rank := len(s.dims(a)), len(s.dims(b)), len(s.out(0))
		if s.in[a].kind == batch && s.in[b].kind == batch {
			if da < 3 || db < 3 {
				return nil, s.refuse("it multiplies images of a batch with one another: %v by %v", s.dims(a), s.dims(b))
			}
			t, _, err := s.common(rank)
			if err == nil && t.axis >= rank-2 {
				err = s.refuse("it multiplies images of a batch with one another: %v by %v", s.dims(a), s.dims(b))
			}
			return []state{t}, err
		}
		i, d, other, summed := a, da, db, da-1
		if s.in[a].kind != batch {
			i, d, other, summed = b, db, da, max(db-2, 0)
		}
		t := s.in[i]
		if t.axis == summed {
			return nil, s.refuse("it sums over the batch in dimension %d of %v", t.axis, s.dims(i))
		}
		fromEnd := d - t.axis
		if other == 1 && !(i == b && fromEnd == 1) {
			fromEnd-- // the product with a vector lacks the summed dimension
		}
		t.axis = rank - fromEnd
		if t.axis < 0 {
			return nil, s.refuse("its result %v has no dimension for the batch", s.out(0))
		}
		if fromEnd > 2 {
			rest, at := s.dims(a+b-i), 0
			if at = len(rest) - fromEnd; other > 1 && at >= 0 && rest[at] != 1 {
				if err := s.lift(a+b-i, at, t, i); err != nil {
					return nil, err
				}
			}
		}
		return []state{t}, nil
	}
}

// gemm holds the batch among the rows of the first operand or the columns of the second.
func gemm(s *step) ([]state, error) {
	if err := s.noSizes(); err != nil {
		return nil, err
	}
	at := [2]int{0, 1} // the dimensions that are not summed over
	if s.n.Int("transA", 0) != 0 {
		at[0] = 1
	}
	if s.n.Int("transB", 0) != 0 {
		at[1] = 0
	}
	if s.in[0].kind == batch && s.in[1].kind == batch {
		return nil, s.refuse("it multiplies images of a batch with one another")
	}
	t, ref := state{}, -1
	for i := 0; i < 2; i++ {
		if s.in[i].kind != batch {
			continue
		}
		if s.in[i].axis != at[i] {
			return nil, s.refuse("it sums over the batch in dimension %d of %v", s.in[i].axis, s.dims(i))
		}
		t, ref = s.in[i].on(i), i
	}
	if ref < 0 {
		return nil, s.refuse("only its added operand holds the batch")
	}
	if s.n.Input(2) == nil {
		return []state{t}, nil
	}
	c, dims := s.at(2), s.dims(2)
	k := t.axis - 2 + len(dims)
	switch {
	case c.kind == batch && c.on(c.axis+2-len(dims)) != t:
		return nil, s.refuse("its added operand of shape %v holds the batch in another place", dims)
	case c.kind == none && k >= 0 && dims[k] != 1:
		return []state{t}, s.lift(2, k, t, ref)
	}
	return []state{t}, nil
}

// einsum follows the batch's letter.
func einsum(s *step) ([]state, error) {
	eq := strings.ReplaceAll(s.n.Str("equation", ""), " ", "")
	left, right, explicit := strings.Cut(eq, "->")
	terms := strings.Split(left, ",")
	if strings.Contains(eq, ".") || len(terms) != len(s.in) {
		return unlisted(s)
	}
	if err := s.noSizes(); err != nil {
		return nil, err
	}
	if !explicit {
		letters := strings.Split(strings.Join(terms, ""), "")
		slices.Sort(letters)
		for _, l := range letters {
			if strings.Count(left, l) == 1 {
				right += l
			}
		}
	}
	var label byte
	var t state
	for _, i := range s.holders() {
		if len(terms[i]) != len(s.dims(i)) {
			return unlisted(s)
		}
		l := terms[i][s.in[i].axis]
		if label != 0 && (l != label || s.in[i].outer != t.outer || s.in[i].inner != t.inner) {
			return nil, s.refuse("%q pairs the batch with another dimension", eq)
		}
		label, t = l, s.in[i]
	}
	at := strings.IndexByte(right, label)
	if at < 0 {
		return nil, s.refuse("%q sums over the batch", eq)
	}
	for i, u := range s.in {
		k := strings.IndexByte(terms[i], label)
		if strings.Count(terms[i], string(label)) > 1 {
			return nil, s.refuse("%q pairs the batch with another dimension", eq)
		}
		if u.kind == none && k >= 0 {
			if err := s.lift(i, k, t, s.holders()[0]); err != nil {
				return nil, err
			}
		}
	}
	return []state{t.on(at)}, nil
}
