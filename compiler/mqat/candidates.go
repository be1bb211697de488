package mqat

import (
	"fmt"
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
// optimum is one of them; it is right as far as the loss is a parabola, which rounding to few bits can leave.
func (p *planner) measured(v *variant, d *plan.Document) (*plan.Document, error) {
	b := p.b
	if d.Table == nil || len(d.Table.Units) > mostUnits || b.cfg.Basis != plan.Achieved && b.cfg.Budget == 0 {
		return d, nil
	}
	budget := b.cfg.Budget
	if budget == 0 {
		budget = int64(float64(p.j.PayloadBefore) / b.cfg.Compress)
	}
	list := candidates(d.Table, budget)
	if len(list) < 2 {
		return d, nil
	}
	best, bestScore := -1, 0.0
	for i, c := range list {
		name := fmt.Sprintf("candidate-%02d", i)
		s, err := rundir.Once(b.dir, b.prefix+name, func() (float64, error) {
			q, err := b.assign(v, b.open(v, c.bits))
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
		if err != nil {
			return nil, err
		}
		b.watch.Line("  %v  objective %.3g  metric %.4g", c.bits, c.cost, score.Natural(s, b.prob.Describe().Lower))
		if best < 0 || s > bestScore {
			best, bestScore = i, s
		}
	}
	r := p.request(list[best].bits)
	return d.Table.Solve(r)
}

// open spreads widths over the weights of modules that have none yet.
func (b *Bench) open(v *variant, modules map[string]int) map[string]int {
	out := b.spread(modules)
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
