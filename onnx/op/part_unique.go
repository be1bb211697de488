package op

import (
	"cmp"
	"slices"

	"mqatc/onnx/ir"
)

// evalUnique gives the distinct slices along the axis (or elements, without one), where each first stands, which one stands at
// each place, and how many there are.
func evalUnique(e *evalCtx) []*part {
	p := e.in(0)
	if p == nil || p.len() == 0 {
		return nil
	}
	var order func(i, j int) int
	if v, ok := p.ints(); ok {
		order = func(i, j int) int { return cmp.Compare(v[i], v[j]) }
	} else if f, ok := p.floats(); ok {
		order = func(i, j int) int { return cmp.Compare(f[i], f[j]) }
	} else {
		return nil
	}
	dims, at := []int64{int64(p.len())}, 0
	if a := e.node.Attr("axis"); a != nil {
		k, err := axis(a.I, len(p.dims))
		if err != nil {
			return nil
		}
		dims, at = p.dims, k
	}
	before, after := 1, 1
	for i, d := range dims {
		if i < at {
			before *= int(d)
		} else if i > at {
			after *= int(d)
		}
	}
	n := int(dims[at])
	element := func(slice, i int) int { return (i/after*n+slice)*after + i%after }
	compare := func(a, b int) int {
		for i := range before * after {
			if c := order(element(a, i), element(b, i)); c != 0 {
				return c
			}
		}
		return 0
	}
	u := distinct(n, compare, e.node.Int("sorted", 1) != 0)
	out := append([]int64{}, dims...)
	out[at] = int64(len(u.first))
	y := p.take(out, func(i int) int {
		return element(u.first[i/after%len(u.first)], i/after/len(u.first)*after+i%after)
	})
	return []*part{y, indexPart(u.first), indexPart(u.inverse), indexPart(u.counts)}
}

func indexPart(at []int) *part {
	p := &part{elem: ir.Int64, dims: []int64{int64(len(at))}, v: make([]num, len(at))}
	for i, k := range at {
		p.v[i] = known(int64(k))
	}
	return p
}

type uniqueSlices struct{ first, inverse, counts []int }

// distinct groups n slices into equal ones, in ascending order or that of their first appearance.
func distinct(n int, compare func(a, b int) int, sorted bool) uniqueSlices {
	u := uniqueSlices{inverse: make([]int, n)}
	for i := range n {
		at := slices.IndexFunc(u.first, func(k int) bool { return compare(k, i) == 0 })
		if at < 0 {
			at = len(u.first)
			u.first, u.counts = append(u.first, i), append(u.counts, 0)
		}
		u.inverse[i] = at
		u.counts[at]++
	}
	if !sorted {
		return u
	}
	order := make([]int, len(u.first))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return compare(u.first[a], u.first[b]) })
	rank := make([]int, len(order))
	s := uniqueSlices{inverse: u.inverse}
	for i, k := range order {
		rank[k] = i
		s.first, s.counts = append(s.first, u.first[k]), append(s.counts, u.counts[k])
	}
	for i, k := range s.inverse {
		s.inverse[i] = rank[k]
	}
	return s
}
