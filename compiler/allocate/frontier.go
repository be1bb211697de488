package allocate

import "sort"

// Point is an efficient assignment: no other is both cheaper and no larger in the first limit.
type Point struct {
	Use  int64
	Cost float64
	Pick []int
}

// Frontier lists efficient assignments by descending use of the first limit, from the cheapest assignment down to the smallest.
// The first limit's Max is ignored, the others hold. At most limit points are returned; where there are more, they are thinned
// evenly, both ends kept.
func Frontier(p *Problem, limit int) ([]Point, error) {
	q := *p
	q.Limits = append([]Limit(nil), p.Limits...)
	if err := q.check(); err != nil {
		return nil, err
	}
	top := int64(0)
	for _, it := range q.Items {
		m := int64(0)
		for _, c := range it.Choices {
			m = max(m, c.Use[0])
		}
		top += m
	}
	lowest := q.Smallest(0)
	budgets := map[int64]bool{top: true, lowest: true}
	r := relax(&q, identity(len(q.Items)), 0)
	used := lowest
	for _, s := range r.steps[0] {
		used += s.du
		budgets[used] = true
	}
	if len(q.Items) <= 8 {
		for _, u := range sums(&q) {
			budgets[u] = true
		}
	}
	var list []int64
	for b := range budgets {
		list = append(list, b)
	}
	sort.Slice(list, func(a, b int) bool { return list[a] > list[b] })
	if limit > 1 && len(list) > limit {
		thin := make([]int64, limit)
		for i := range thin {
			thin[i] = list[i*(len(list)-1)/(limit-1)]
		}
		list = thin
	}
	var out []Point
	for _, b := range list {
		q.Limits[0].Max = b
		s, err := Solve(&q)
		if err != nil {
			if _, ok := err.(*InfeasibleError); ok {
				continue
			}
			return nil, err
		}
		if n := len(out); n > 0 && out[n-1].Use <= s.Use[0] {
			continue
		}
		out = append(out, Point{s.Use[0], s.Cost, s.Pick})
	}
	return out, nil
}

func identity(n int) []int {
	o := make([]int, n)
	for i := range o {
		o[i] = i
	}
	return o
}

// sums lists every total use of the first limit; meant for few items.
func sums(p *Problem) []int64 {
	out := []int64{0}
	for _, it := range p.Items {
		seen := map[int64]bool{}
		var next []int64
		for _, a := range out {
			for _, c := range it.Choices {
				if u := a + c.Use[0]; !seen[u] {
					seen[u] = true
					next = append(next, u)
				}
			}
		}
		if len(next) > 1<<14 {
			return nil
		}
		out = next
	}
	return out
}
