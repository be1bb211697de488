package mqat

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"

	"mqatc/compiler/plan"
	"mqatc/compiler/problem"
	"mqatc/compiler/rundir"
	"mqatc/runtime/task/score"
)

// mostCandidates bounds how many assignments are measured; those that the integer program likes least are left out.
const mostCandidates = 12

// candidate is an assignment of widths that fits and in which no module could take a wider one.
type candidate struct {
	bits map[string]int
	cost float64
}

// candidates lists assignments of the table's widths within a budget of bytes, the cheapest by the integer program's objective first.
func candidates(t *plan.Table, budget int64) []candidate {
	var out []candidate
	pick := make([]int, len(t.Units))
	var walk func(i int, used int64)
	walk = func(i int, used int64) {
		if used > budget {
			return
		}
		if i == len(t.Units) {
			c := candidate{bits: map[string]int{}}
			for k, o := range pick {
				opt := t.Options[k][o]
				for _, wider := range t.Options[k] {
					if wider.Bits > opt.Bits && used-opt.Bytes+wider.Bytes <= budget {
						return
					}
				}
				c.bits[t.Units[k].Name] = opt.Bits
				c.cost += opt.Omega
			}
			out = append(out, c)
			return
		}
		for o := range t.Options[i] {
			pick[i] = o
			walk(i+1, used+t.Options[i][o].Bytes)
		}
	}
	walk(0, t.Fixed)
	sort.SliceStable(out, func(a, b int) bool { return out[a].cost < out[b].cost })
	return out[:min(len(out), mostCandidates)]
}

// mostUnits is the number of modules up to which assignments are enumerated.
const mostUnits = 6

// measured chooses among the assignments that fit by what they do to the held-out metric without training. The integer program's
// optimum is one of them; it is right as far as the loss is a parabola, which rounding to few bits can leave. Widths by layer compete
// unless the granularity forbids it.
func (p *planner) measured(v *variant, d *plan.Document, fixed map[string]int) (*plan.Document, error) {
	b := p.b
	if d.Table == nil || b.cfg.Basis != plan.Achieved && b.cfg.Budget == 0 {
		return d, nil
	}
	budget := b.cfg.Budget
	if budget == 0 {
		budget = int64(float64(p.j.PayloadBefore) / b.cfg.Compress)
	}
	list := []candidate{{d.Bits, d.Objective}}
	if len(d.Table.Units) <= mostUnits {
		list = candidates(d.Table, budget)
	}
	if len(list) == 0 || len(list) < 2 && b.cfg.Granularity == "module" {
		return d, nil
	}
	best, bestScore := 0, math.Inf(-1)
	for i, c := range list {
		s, err := p.try(fmt.Sprintf("candidate-%02d", i), v, b.spread(c.bits))
		if err != nil {
			return nil, err
		}
		b.watch.Line("  %v  objective %.3g  metric %.4g", c.bits, c.cost, score.Natural(s, b.prob.Describe().Lower))
		if s > bestScore {
			best, bestScore = i, s
		}
	}
	d, err := d.Table.Solve(p.request(list[best].bits))
	if err != nil || b.cfg.Granularity == "module" {
		return d, err
	}
	l, err := p.layered(v, fixed, budget)
	if err != nil || l.Infeasible() {
		return d, err
	}
	s, err := p.try("candidate-layers", v, l.Bits)
	if err != nil {
		return nil, err
	}
	b.watch.Line("  widths by layer  metric %.4g", score.Natural(s, b.prob.Describe().Lower))
	if s <= bestScore && b.cfg.Granularity == "auto" {
		return d, nil
	}
	p.mixed = l
	b.layerBits = l.Bits
	for _, m := range b.modules {
		if n := b.widest(l.Bits, m.Name); n > 0 {
			d.Bits[m.Name] = n
		}
	}
	d.Compress, d.Bytes, d.Objective = l.Compress, l.Bytes, l.Objective
	return d, nil
}

// try measures v with widths of weights, all activations quantized, on held-out data.
func (p *planner) try(name string, v *variant, bits map[string]int) (float64, error) {
	b := p.b
	return rundir.Once(b.dir, b.prefix+name, func() (float64, error) {
		q, err := b.assign(v, open(v, bits))
		if err != nil {
			return 0, err
		}
		for _, m := range b.modules {
			q.active[m.Name] = true
		}
		s, err := b.measure(q, problem.Held, name)
		if err != nil {
			return 0, err
		}
		return s.Main, nil
	})
}

// open leaves out the weights that have a width in v already.
func open(v *variant, bits map[string]int) map[string]int {
	out := maps.Clone(bits)
	for name := range v.bits {
		delete(out, name)
	}
	return out
}

// Planners say how widths are chosen.
var Planners = []string{"measured", "ilp"}

func checkPlanner(name string) error {
	if !slices.Contains(Planners, name) {
		return fmt.Errorf("unknown planner %q: one of %v", name, Planners)
	}
	return nil
}
