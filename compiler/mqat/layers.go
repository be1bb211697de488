package mqat

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"mqatc/compiler/plan"
	"mqatc/compiler/rundir"
	"mqatc/passes/quant"
)

// Granularities say what gets a width of its own: a module, as in the paper, a layer, or whichever of the two does better on
// held-out data before training. Modules are what is trained in turn in any case.
var Granularities = []string{"auto", "module", "layer"}

const layerImages = 4

// layered is the assignment of widths to layers within a budget of bytes that does least to the outputs: each layer is quantized
// alone to each width and measured, and errors that small add up. Widths of modules in fixed stand.
func (p *planner) layered(v *variant, fixed map[string]int, budget int64) (*plan.Document, error) {
	in, err := p.input(v, true)
	if err != nil {
		return nil, err
	}
	r := plan.Request{Layers: true, Budget: budget, Bits: p.b.cfg.Bits, Assign: p.b.spread(p.assigned(fixed))}
	t, err := plan.Measure(in, plan.Sensitivity{Source: "error of each layer alone"}, r)
	if err != nil {
		return nil, err
	}
	costs, err := rundir.Once(p.b.dir, p.b.prefix+"layers", func() (map[string]map[string]float64, error) { return p.b.layerErrors(v, t) })
	if err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	for i, u := range t.Units {
		for k := range t.Options[i] {
			o := &t.Options[i][k]
			o.Omega = costs[u.Name][strconv.Itoa(o.Bits)]
		}
	}
	return t.Solve(r)
}

// assigned are the widths of modules that are given: by the user, by name or role, and in fixed.
func (p *planner) assigned(fixed map[string]int) map[string]int {
	out := map[string]int{}
	for _, m := range p.b.net.Partition.Modules {
		for _, key := range []string{m.Role, m.Name} {
			if bits, ok := p.b.cfg.Assign[key]; ok {
				out[m.Name] = bits
			}
		}
	}
	maps.Copy(out, fixed)
	return out
}

// layerErrors measures every option of every layer of t alone.
func (b *Bench) layerErrors(v *variant, t *plan.Table) (map[string]map[string]float64, error) {
	m, err := b.plain(v)
	if err != nil {
		return nil, err
	}
	type option struct {
		layer string
		bits  int
	}
	var options []option
	for i, u := range t.Units {
		for _, o := range t.Options[i] {
			if len(t.Options[i]) > 1 && len(u.Weights) > 0 && o.Bits < plan.Float {
				options = append(options, option{u.Name, o.Bits})
			}
		}
	}
	specs := make([]quant.Spec, len(options))
	for i, o := range options {
		specs[i].Weights = map[string]quant.WeightSpec{o.layer: b.spec(o.bits)}
		if q, err := quant.Find(b.cfg.Quantizer); err == nil && q.Masked {
			w := b.spec(o.bits)
			w.Quantizer = "ptq"
			specs[i].Weights[o.layer] = w
		}
	}
	errs, err := b.errorsOf("layers", m, specs, layerImages)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]float64{}
	for i, o := range options {
		if out[o.layer] == nil {
			out[o.layer] = map[string]float64{}
		}
		out[o.layer][strconv.Itoa(o.bits)] = errs[i]
	}
	return out, nil
}

// widths gives every weight of modules the width of its module, or its own where the plan gives each layer one.
func (b *Bench) widths(modules map[string]int) map[string]int {
	out := b.spread(modules)
	for w := range out {
		if bits, ok := b.layerBits[w]; ok && out[w] < plan.Float {
			out[w] = bits
		}
	}
	return out
}

// widthText lists the widths that occur in a module, the widest first, as 8/4.
func (b *Bench) widthText(module string, bits map[string]int) string {
	var list []int
	for _, w := range b.members(module) {
		if n, ok := bits[w]; ok {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	slices.Reverse(list)
	var parts []string
	for _, n := range list {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, "/")
}
