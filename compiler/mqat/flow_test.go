package mqat

import (
	"slices"
	"strings"
	"testing"

	"mqatc/passes/partition"
	"mqatc/testmodels/zoo"
)

// TestFlowsOfThePaper runs the algorithm over the modules found in the paper's networks at their own size, with invented scores: without
// probes the flow is ascending size; where the probe of the pyramid wins, as in the paper's example, it comes first.
func TestFlowsOfThePaper(t *testing.T) {
	for _, c := range []struct{ name, bySize, best, withBest string }{
		{"wdr", "head fpn backbone", "fpn", "fpn head backbone"},
		{"caspacenet", "head fpn backbone", "fpn", "fpn head backbone"},
		{"zebrapose", "decoder backbone", "decoder", "decoder backbone"},
		{"gdrnet", "rotation pnp backbone", "rotation", "rotation pnp backbone"},
		{"pyrapose", "fpn head backbone", "fpn", "fpn head backbone"},
		{"fasterrcnn", "rpn fpn roi backbone", "fpn", "fpn rpn roi backbone"},
		{"efficientdet", "head fpn backbone", "fpn", "fpn head backbone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := zoo.Find(c.name)
			m, err := a.Build(zoo.Options{})
			if err != nil {
				t.Fatal(err)
			}
			p, err := partition.Find(m, partition.Options{})
			if err != nil {
				t.Fatal(err)
			}
			role, score := map[string]string{}, map[string]float64{"float": 0.8}
			lab := &fakeLab{score: score, plan: map[string]int{}}
			for _, mod := range p.Modules {
				role[mod.Name] = mod.Role
				lab.modules = append(lab.modules, ModuleInfo{mod.Name, mod.Elements()})
				lab.plan[mod.Name] = 4
				score["probe-"+mod.Name+"-after"] = 0.7
				if mod.Role == c.best {
					score["probe-"+mod.Name+"-after"] = 0.9
				}
			}
			for _, probe := range []bool{false, true} {
				o, err := Run(lab, Settings{Probe: probe, ProbeEpochs: 1, Epochs: 1})
				if err != nil {
					t.Fatal(err)
				}
				want := c.bySize
				if probe {
					want = c.withBest
				}
				var got []string
				for _, name := range o.Flow {
					got = append(got, role[name])
				}
				if !slices.Equal(got, strings.Fields(want)) {
					t.Errorf("probes %v: flow %v, want %v; modules %v", probe, got, want, lab.modules)
				}
			}
		})
	}
}
