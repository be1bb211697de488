package mqat

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// fakeLab scores variants, lists of "module:bits" and trainings, by a table.
type fakeLab struct {
	modules []ModuleInfo // nil for three by the paper's roles
	score   map[string]float64
	plan    map[string]int
	fixed   map[string]int
	calls   []string
	// blends says that there are networks between two.
	blends bool
	// idle is a module in whose training every learning rate makes things worse.
	idle string
}

func (f *fakeLab) Modules() []ModuleInfo {
	if f.modules != nil {
		return f.modules
	}
	return []ModuleInfo{{"backbone", 100}, {"fpn", 50}, {"head", 30}}
}
func (f *fakeLab) Float() Variant { return "" }
func (f *fakeLab) Quantize(v Variant, m string, bits int) (Variant, error) {
	return fmt.Sprintf("%s %s:%d", v, m, bits), nil
}
func (f *fakeLab) Activate(v Variant, m string) (Variant, error) { return v, nil }
func (f *fakeLab) Settle(v Variant, m string) (Variant, error)   { return v, nil }
func (f *fakeLab) Train(v Variant, name, module string, epochs float64) (Variant, TrainInfo, error) {
	f.calls = append(f.calls, fmt.Sprintf("%s %g", name, epochs))
	if module == f.idle && module != "" {
		return v, TrainInfo{}, nil
	}
	return fmt.Sprintf("%s+", v), TrainInfo{Steps: 1}, nil
}
func (f *fakeLab) Between(from, to Variant, part float64) (Variant, bool, error) {
	return fmt.Sprintf("%s~%g", to, part), f.blends, nil
}
func (f *fakeLab) Score(v Variant, name string) (float64, error) {
	if s, ok := f.score[name]; ok {
		return s, nil
	}
	return 0.5, nil
}
func (f *fakeLab) Plan(v Variant, fixed map[string]int) (map[string]int, error) {
	f.fixed = fixed
	out := map[string]int{}
	for k, b := range f.plan {
		out[k] = b
	}
	for k, b := range fixed {
		out[k] = b
	}
	return out, nil
}

func TestWinningProbeStartsAndKeepsTwoBits(t *testing.T) {
	lab := &fakeLab{
		score: map[string]float64{"float": 0.788, "probe-backbone-after": 0.69, "probe-fpn-after": 0.838, "probe-head-after": 0.80},
		plan:  map[string]int{"backbone": 8, "fpn": 4, "head": 8},
	}
	o, err := Run(lab, Settings{Probe: true, ProbeEpochs: 10, Epochs: 30})
	if err != nil {
		t.Fatal(err)
	}
	if o.Start != "fpn" || lab.fixed["fpn"] != 2 || !slices.Equal(o.Flow, []string{"fpn", "head", "backbone"}) {
		t.Fatalf("start %q fixed %v flow %v: the paper's flow is F, H, B", o.Start, lab.fixed, o.Flow)
	}
	if want := " fpn:2++ head:8+ backbone:8+"; o.Final != want {
		t.Fatalf("final %q, want %q", o.Final, want)
	}
}

func TestStageWithoutSteps(t *testing.T) {
	lab := &fakeLab{score: map[string]float64{"float": 0.9}, plan: map[string]int{"backbone": 8, "fpn": 4, "head": 8}, idle: "head", blends: true}
	o, err := Run(lab, Settings{Epochs: 3})
	if err != nil {
		t.Fatal(err)
	}
	if want := " head:8 fpn:4+ backbone:8+"; o.Final != want {
		t.Errorf("final %q, want %q", o.Final, want)
	}
	if st := o.Stages[0]; st.Kept || st.Part != 0 || st.After != st.Before {
		t.Errorf("a stage that was not trained: %+v", st)
	}
}

func TestNoProbeWins(t *testing.T) {
	lab := &fakeLab{score: map[string]float64{"float": 0.9}, plan: map[string]int{"backbone": 8, "fpn": 4, "head": 32}}
	o, err := Run(lab, Settings{Probe: true})
	if err != nil {
		t.Fatal(err)
	}
	if o.Start != "" || len(lab.fixed) != 0 || !slices.Equal(o.Flow, []string{"fpn", "backbone"}) {
		t.Fatalf("start %q fixed %v flow %v: ascending size without the float module", o.Start, lab.fixed, o.Flow)
	}
	if len(o.Probes) != 3 {
		t.Fatalf("%d probes", len(o.Probes))
	}
}

func TestHarmfulTrainingIsDiscarded(t *testing.T) {
	lab := &fakeLab{
		score: map[string]float64{"float": 0.9, "stage-fpn-before": 0.8, "stage-fpn-after": 0.7},
		plan:  map[string]int{"backbone": 8, "fpn": 4, "head": 8},
	}
	o, err := Run(lab, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if o.Probes != nil {
		t.Fatal("probes ran unasked")
	}
	if want := " head:8+ fpn:4 backbone:8+"; o.Final != want {
		t.Fatalf("final %q, want %q", o.Final, want)
	}
	if o.Stages[1].Kept {
		t.Fatal("a training that lowered the metric was kept")
	}
}

func TestStageEpochs(t *testing.T) {
	flow := []string{"fpn", "head", "backbone"}
	e := StageEpochs(36, flow, map[string]float64{"backbone": 0.3, "fpn": 0.1, "head": 0})
	if math.Abs(e["backbone"]-21) > 1e-9 || math.Abs(e["fpn"]-7.5) > 1e-9 || math.Abs(e["head"]-7.5) > 1e-9 {
		t.Errorf("%v: a quarter of 36 evenly, the rest 1:1:4", e)
	}
	if e = StageEpochs(36, flow, map[string]float64{}); e["backbone"] != 12 || e["fpn"] != 12 || e["head"] != 12 {
		t.Errorf("%v: no harm, so evenly", e)
	}
}

func TestEpochsGoWhereQuantizingHarms(t *testing.T) {
	lab := &fakeLab{
		score: map[string]float64{"float": 0.9, "alone-fpn": 0.8, "alone-head": 0.9, "alone-backbone": 0.91},
		plan:  map[string]int{"backbone": 8, "fpn": 4, "head": 8},
	}
	o, err := Run(lab, Settings{Epochs: 4})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"stage-head 1", "stage-fpn 5.5", "stage-backbone 5.5"}; !slices.Equal(lab.calls, want) {
		t.Errorf("%v, want %v", lab.calls, want)
	}
	if o.Epochs != 12 {
		t.Errorf("%g epochs in all, want 12", o.Epochs)
	}
}

func TestStageTakesTheBestPartOfItsTraining(t *testing.T) {
	for _, c := range []struct {
		after, half, quarter float64
		want                 string
		part                 float64
		kept                 bool
	}{
		{0.7, 0.6, 0.6, "net+", 1, true},
		{0.7, 0.8, 0.6, "net+~0.5", 0.5, true},
		{0.4, 0.45, 0.55, "net+~0.25", 0.25, true},
		{0.4, 0.45, 0.49, "net", 0, false},
	} {
		lab := &fakeLab{blends: true, score: map[string]float64{"s-after": c.after, "s-0.5": c.half, "s-0.25": c.quarter}}
		st := StageResult{Before: 0.5, Info: TrainInfo{Steps: 1}}
		got, err := st.choose(lab, "net", "net+", "s")
		if err != nil || got != c.want || st.Part != c.part || st.Kept != c.kept {
			t.Errorf("%+v: %v, %v of the way, kept %v, %v", c, got, st.Part, st.Kept, err)
		}
	}
}
