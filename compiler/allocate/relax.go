package allocate

import (
	"math"
	"sort"
)

// step is one segment of an item's lower convex hull in the plane (use, cost): spending du more lowers the cost by dc.
type step struct {
	item   int // position in the order
	du     int64
	dc     float64
	choice int // choice at the segment's end
}

// relaxation bounds the cost of the items from a depth on, within a capacity of one resource: the linear relaxation of the
// multiple-choice knapsack, which fills the steepest hull segments first.
type relaxation struct {
	base    []float64 // per depth: cost with every later item at its least use
	least   []int64   // per depth: that use
	steps   [][]step  // per depth: segments of the later items, steepest first
	cumUse  [][]int64
	cumGain [][]float64
	start   []int // per position in the order: choice of least use
	limit   int
}

func relax(p *Problem, order []int, l int) *relaxation {
	n := len(order)
	r := &relaxation{base: make([]float64, n+1), least: make([]int64, n+1), steps: make([][]step, n+1),
		cumUse: make([][]int64, n+1), cumGain: make([][]float64, n+1), start: make([]int, n), limit: l}
	for d := n; d >= 0; d-- {
		if d < n {
			first, segs := hull(p.Items[order[d]].Choices, l, d)
			c := p.Items[order[d]].Choices[first]
			r.start[d] = first
			r.base[d], r.least[d] = r.base[d+1]+c.Cost, r.least[d+1]+c.Use[l]
			r.steps[d] = merge(r.steps[d+1], segs)
		}
		r.cumUse[d] = make([]int64, len(r.steps[d])+1)
		r.cumGain[d] = make([]float64, len(r.steps[d])+1)
		for i, s := range r.steps[d] {
			r.cumUse[d][i+1] = r.cumUse[d][i] + s.du
			r.cumGain[d][i+1] = r.cumGain[d][i] + s.dc
		}
	}
	return r
}

func steeper(a, b step) bool {
	x, y := a.dc*float64(b.du), b.dc*float64(a.du)
	if x != y {
		return x > y
	}
	return a.item < b.item
}

func merge(a, b []step) []step {
	out := make([]step, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if steeper(b[0], a[0]) {
			out, b = append(out, b[0]), b[1:]
		} else {
			out, a = append(out, a[0]), a[1:]
		}
	}
	return append(append(out, a...), b...)
}

// hull returns the choice of least use (cheapest among equals) and the segments of the lower convex hull from there.
func hull(cs []Choice, l, item int) (int, []step) {
	idx := make([]int, len(cs))
	for i := range idx {
		idx[i] = i
	}
	sort.SliceStable(idx, func(a, b int) bool {
		x, y := cs[idx[a]], cs[idx[b]]
		if x.Use[l] != y.Use[l] {
			return x.Use[l] < y.Use[l]
		}
		return x.Cost < y.Cost
	})
	h := []int{idx[0]}
	for _, i := range idx[1:] {
		if cs[i].Cost >= cs[h[len(h)-1]].Cost {
			continue
		}
		for len(h) >= 2 && !steeper(seg(cs, l, h[len(h)-2], h[len(h)-1]), seg(cs, l, h[len(h)-2], i)) {
			h = h[:len(h)-1]
		}
		h = append(h, i)
	}
	var out []step
	for k := 1; k < len(h); k++ {
		s := seg(cs, l, h[k-1], h[k])
		s.item, s.choice = item, h[k]
		out = append(out, s)
	}
	return h[0], out
}

func seg(cs []Choice, l, a, b int) step {
	return step{du: cs[b].Use[l] - cs[a].Use[l], dc: cs[a].Cost - cs[b].Cost}
}

// bound is the least cost of the items from depth on within capacity, integrality dropped; false when even the least use exceeds it.
func (r *relaxation) bound(depth int, capacity int64) (float64, bool) {
	free := capacity - r.least[depth]
	if free < 0 {
		return 0, false
	}
	cum := r.cumUse[depth]
	k := sort.Search(len(cum), func(i int) bool { return cum[i] > free }) - 1
	b := r.base[depth] - r.cumGain[depth][k]
	if k < len(r.steps[depth]) {
		s := r.steps[depth][k]
		b -= s.dc * float64(free-cum[k]) / float64(s.du)
	}
	return b, true
}

// incumbent is the cost of a feasible assignment found greedily; +Inf when the other limits defeat it.
func (r *relaxation) incumbent(p *Problem, order []int) float64 {
	pick := append([]int{}, r.start...)
	free := p.Limits[r.limit].Max - r.least[0]
	blocked := make([]bool, len(order))
	for _, s := range r.steps[0] {
		if blocked[s.item] || s.du > free {
			blocked[s.item] = true
			continue
		}
		free -= s.du
		pick[s.item] = s.choice
	}
	cost := 0.0
	use := make([]int64, len(p.Limits))
	for d, i := range order {
		c := p.Items[i].Choices[pick[d]]
		cost += c.Cost
		for l := range use {
			use[l] += c.Use[l]
		}
	}
	for l := range use {
		if use[l] > p.Limits[l].Max {
			return math.Inf(1)
		}
	}
	return cost
}
