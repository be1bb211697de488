// Package allocate chooses one bit width per item (module or layer): the integer program of the paper's equation 2, solved exactly.
//
// The program is a multiple-choice knapsack with one or more capacity constraints. It is solved by dynamic programming over
// Pareto-optimal partial assignments, pruned by the bound of the linear relaxation, so that the answer is optimal and a request
// that cannot be met is proven so.
package allocate

import (
	"errors"
	"fmt"
	"math"
	"sort"
)

// Choice is one width of an item: its cost (Omega, equation 1) and what it takes of each limited resource (bytes first).
type Choice struct {
	Bits int
	Cost float64
	Use  []int64
}

// Item is a module or layer with the widths it may take.
type Item struct {
	Name    string
	Choices []Choice
}

// Limit bounds the total use of one resource.
type Limit struct {
	Name string // "bytes", "bops", "ns"
	Max  int64
}

// Problem asks for one choice per item, of least total cost, within all limits.
type Problem struct {
	Items  []Item
	Limits []Limit
}

// Solution is one choice index per item with its totals.
type Solution struct {
	Pick []int
	Cost float64
	Use  []int64
}

// InfeasibleError says that no assignment keeps a limit; Smallest is the least total use of it that any assignment reaches.
// Where every limit can be kept alone but not together, Limit names the first one.
type InfeasibleError struct {
	Limit    Limit
	Smallest int64
}

// Error names the limit and the smallest reachable value.
func (e *InfeasibleError) Error() string {
	return fmt.Sprintf("no assignment keeps %s <= %d; the smallest reachable is %d", e.Limit.Name, e.Limit.Max, e.Smallest)
}

// ErrTooLarge is returned when the number of partial assignments that have to be kept exceeds what memory allows.
var ErrTooLarge = errors.New("allocation problem has too many incomparable partial assignments")

const maxStates = 4 << 20

func (p *Problem) check() error {
	if len(p.Limits) == 0 {
		return errors.New("allocation needs at least one limit")
	}
	for _, it := range p.Items {
		if len(it.Choices) == 0 {
			return fmt.Errorf("item %q has no width to choose", it.Name)
		}
		for _, c := range it.Choices {
			if len(c.Use) != len(p.Limits) {
				return fmt.Errorf("item %q at %d bits: %d uses for %d limits", it.Name, c.Bits, len(c.Use), len(p.Limits))
			}
			if math.IsNaN(c.Cost) || math.IsInf(c.Cost, 0) {
				return fmt.Errorf("item %q at %d bits: cost is %v", it.Name, c.Bits, c.Cost)
			}
			for _, u := range c.Use {
				if u < 0 || u > math.MaxInt64/int64(len(p.Items)+1) {
					return fmt.Errorf("item %q at %d bits: use %d is out of range", it.Name, c.Bits, u)
				}
			}
		}
	}
	return nil
}

// Smallest is the least total use of limit l.
func (p *Problem) Smallest(l int) int64 {
	total := int64(0)
	for _, it := range p.Items {
		m := it.Choices[0].Use[l]
		for _, c := range it.Choices[1:] {
			m = min(m, c.Use[l])
		}
		total += m
	}
	return total
}

type state struct {
	cost float64
	use  []int64
	prev int32
	pick int32
}

// Solve returns the assignment of least cost; among equals the one of least use, then the first in order of choices.
// It returns an *InfeasibleError when there is none.
func Solve(p *Problem) (*Solution, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	for l, lim := range p.Limits {
		if s := p.Smallest(l); s > lim.Max {
			return nil, &InfeasibleError{Limit: lim, Smallest: s}
		}
	}
	order := make([]int, len(p.Items))
	for i := range order {
		order[i] = i
	}
	spread := func(i int) int64 {
		lo, hi := int64(math.MaxInt64), int64(0)
		for _, c := range p.Items[i].Choices {
			lo, hi = min(lo, c.Use[0]), max(hi, c.Use[0])
		}
		return hi - lo
	}
	sort.SliceStable(order, func(a, b int) bool { return spread(order[a]) > spread(order[b]) })
	bounds := make([]*relaxation, len(p.Limits))
	for l := range p.Limits {
		bounds[l] = relax(p, order, l)
	}
	best := bounds[0].incumbent(p, order)
	layers := [][]state{{{use: make([]int64, len(p.Limits)), prev: -1, pick: -1}}}
	for depth, i := range order {
		next, err := p.extend(layers[depth], i, depth, bounds, best)
		if err != nil {
			return nil, err
		}
		if len(next) == 0 {
			return nil, &InfeasibleError{Limit: p.Limits[0], Smallest: p.Smallest(0)}
		}
		layers = append(layers, next)
	}
	last := layers[len(order)]
	at := 0
	for k := range last {
		if less(last[k], last[at]) {
			at = k
		}
	}
	sol := &Solution{Pick: make([]int, len(p.Items)), Use: last[at].use}
	for depth := len(order); depth > 0; depth-- {
		s := layers[depth][at]
		sol.Pick[order[depth-1]] = int(s.pick)
		at = int(s.prev)
	}
	for i, k := range sol.Pick {
		sol.Cost += p.Items[i].Choices[k].Cost
	}
	return sol, nil
}

func less(a, b state) bool {
	if a.cost != b.cost {
		return a.cost < b.cost
	}
	for l := range a.use {
		if a.use[l] != b.use[l] {
			return a.use[l] < b.use[l]
		}
	}
	return a.prev < b.prev || (a.prev == b.prev && a.pick < b.pick)
}

// extend appends every choice of item i to every state, keeping what can still beat best and is not dominated.
func (p *Problem) extend(from []state, i, depth int, bounds []*relaxation, best float64) ([]state, error) {
	tol := 1e-12 * (1 + math.Abs(best))
	var out []state
	uses := make([]int64, 0, len(from)*len(p.Limits))
	for si := range from {
	choice:
		for ci, c := range p.Items[i].Choices {
			cost := from[si].cost + c.Cost
			for l := range p.Limits {
				rest := p.Limits[l].Max - from[si].use[l] - c.Use[l]
				if b, ok := bounds[l].bound(depth+1, rest); !ok || cost+b > best+tol {
					continue choice
				}
			}
			start := len(uses)
			for l := range p.Limits {
				uses = append(uses, from[si].use[l]+c.Use[l])
			}
			out = append(out, state{cost, uses[start:len(uses):len(uses)], int32(si), int32(ci)})
			if len(out) > maxStates {
				return nil, ErrTooLarge
			}
		}
	}
	sort.Slice(out, func(a, b int) bool { return less(out[a], out[b]) })
	kept := out[:0]
	if len(p.Limits) == 1 {
		lowest := int64(math.MaxInt64)
		for _, s := range out {
			if s.use[0] < lowest {
				lowest = s.use[0]
				kept = append(kept, s)
			}
		}
		return kept, nil
	}
	for _, s := range out {
		if !dominated(kept, s) {
			kept = append(kept, s)
		}
	}
	return kept, nil
}

func dominated(kept []state, s state) bool {
next:
	for _, k := range kept {
		for l := range s.use {
			if k.use[l] > s.use[l] {
				continue next
			}
		}
		return true
	}
	return false
}
