// Package mqat decides what to run: Algorithm 1 of the paper ("Modular Quantization-Aware Training"), its gaps closed as
// docs/RATIONALE.md tells, and the baselines it is held against.
package mqat

import (
	"fmt"
	"sort"
)

// Variant is a network in some state of quantization: a value of the laboratory's own kind, never changed once made.
type Variant interface{}

// Lab does to a network what the algorithm asks for.
type Lab interface {
	// Modules lists the modules in graph order.
	Modules() []ModuleInfo
	// Float is the network as it came.
	Float() Variant
	// Quantize gives a module a width, without training. A module at 32 bits stays float.
	Quantize(v Variant, module string, bits int) (Variant, error)
	// Activate switches a module's activation quantizers on.
	Activate(v Variant, module string) (Variant, error)
	// Settle rounds what training would still have to round, so that the module is finished as it stands.
	Settle(v Variant, module string) (Variant, error)
	// Train trains what is not finished yet for a number of epochs; name identifies the training in the run directory.
	Train(v Variant, name, module string, epochs float64) (Variant, TrainInfo, error)
	// Between is a network part of the way, in 0..1, from one to what training made of it; false where there is none.
	Between(from, to Variant, part float64) (Variant, bool, error)
	// Score is the metric on held-out data, larger is better; name identifies the measurement.
	Score(v Variant, name string) (float64, error)
	// Plan solves the integer program at v, with the widths in fixed given.
	Plan(v Variant, fixed map[string]int) (map[string]int, error)
}

// ModuleInfo is what the algorithm needs to know of a module.
type ModuleInfo struct {
	Name     string
	Elements int64 // weights that are quantized, each once
}

// TrainInfo sums up a training.
type TrainInfo struct {
	Steps    int
	LossFrom float64 // mean over the first tenth of the steps
	LossTo   float64 // mean over the last tenth
}

// ProbeResult is one pass of lines 1 to 7.
type ProbeResult struct {
	Module        string
	Before, After float64
}

// StageResult is one pass of lines 18 to 21.
type StageResult struct {
	Module        string
	Bits          int
	Before, After float64
	Kept          bool // false: the training lowered the metric and was discarded
	// Part of the way, in 0..1, from before the training to its end at which the metric was best.
	Part float64
	Info TrainInfo
}

// Outcome of a run of the algorithm.
type Outcome struct {
	Float  float64 // metric of the network as it came
	Probes []ProbeResult
	Start  string // module whose probe beat full precision; it keeps ProbeBits
	Flow   []string
	Bits   map[string]int
	Stages []StageResult
	Epochs float64 // of all probes and stages
	Final  Variant
	Metric float64
}

// ProbeBits is the width of the probes: ternary weights.
const ProbeBits = 2

// Settings of Run.
type Settings struct {
	Probe  bool    // run lines 1 to 7; without them the flow is ascending size
	Epochs float64 // of a stage, in the mean
	// ProbeEpochs of each probe; the paper spends as long on all probes together as on one stage.
	ProbeEpochs float64
	// Widths says how wide the layers of a module are that is planned for so many bits. May be nil.
	Widths func(module string, bits int) string
	// Progress is told what begins. May be nil.
	Progress func(format string, a ...any)
}

// Run is Algorithm 1. A probe that beats full precision and every other probe starts the flow and keeps 2 bits; the rest follow by
// ascending size. The winner's probe counts as the beginning of its stage, which goes on from there.
func Run(lab Lab, s Settings) (*Outcome, error) {
	say := s.Progress
	if say == nil {
		say = func(string, ...any) {}
	}
	o := &Outcome{Bits: map[string]int{}}
	v := lab.Float()
	var err error
	if o.Float, err = lab.Score(v, "float"); err != nil {
		return nil, err
	}
	best, bestScore := Variant(nil), o.Float
	if s.Probe {
		for _, m := range lab.Modules() {
			say("probe %s at %d bits", m.Name, ProbeBits)
			q, err := lab.Quantize(v, m.Name, ProbeBits)
			if err != nil {
				return nil, err
			}
			p := ProbeResult{Module: m.Name}
			if p.Before, err = lab.Score(q, "probe-"+m.Name+"-before"); err != nil {
				return nil, err
			}
			if q, _, err = lab.Train(q, "probe-"+m.Name, m.Name, s.ProbeEpochs); err != nil {
				return nil, err
			}
			if p.After, err = lab.Score(q, "probe-"+m.Name+"-after"); err != nil {
				return nil, err
			}
			o.Probes = append(o.Probes, p)
			o.Epochs += s.ProbeEpochs
			if p.After > o.Float && p.After > bestScore {
				best, bestScore, o.Start = q, p.After, m.Name
			}
		}
	}
	fixed := map[string]int{}
	if o.Start != "" {
		v = best
		fixed[o.Start] = ProbeBits
		o.Flow = append(o.Flow, o.Start)
	}
	if o.Bits, err = lab.Plan(v, fixed); err != nil {
		return nil, err
	}
	for _, name := range AscendingSize(lab.Modules()) {
		if name != o.Start && o.Bits[name] < 32 {
			o.Flow = append(o.Flow, name)
		}
	}
	for _, name := range o.Flow {
		if _, ok := o.Bits[name]; !ok {
			return nil, fmt.Errorf("the plan gives module %s no width", name)
		}
	}
	harm, err := harms(lab, v, o, say)
	if err != nil {
		return nil, err
	}
	epochs := StageEpochs(s.Epochs*float64(len(lab.Modules())), o.Flow, harm)
	for _, name := range o.Flow {
		bits := o.Bits[name]
		if s.Widths != nil {
			say("stage %s at %s bits", name, s.Widths(name, bits))
		} else {
			say("stage %s at %d bits", name, bits)
		}
		stage, next, err := runStage(lab, v, name, bits, name == o.Start, epochs[name])
		if err != nil {
			return nil, err
		}
		o.Stages = append(o.Stages, stage)
		o.Epochs += epochs[name]
		v = next
		o.Metric = stage.After
		if !stage.Kept {
			o.Metric = stage.Before
		}
	}
	o.Final = v
	return o, nil
}

func runStage(lab Lab, v Variant, name string, bits int, started bool, epochs float64) (StageResult, Variant, error) {
	st := StageResult{Module: name, Bits: bits}
	q := v
	var err error
	if !started {
		if q, err = lab.Quantize(v, name, bits); err != nil {
			return st, nil, err
		}
	}
	if q, err = lab.Activate(q, name); err != nil {
		return st, nil, err
	}
	if st.Before, err = lab.Score(q, "stage-"+name+"-before"); err != nil {
		return st, nil, err
	}
	t, info, err := lab.Train(q, "stage-"+name, name, epochs)
	if err != nil {
		return st, nil, err
	}
	st.Info = info
	if q, err = st.choose(lab, q, t, "stage-"+name); err != nil {
		return st, nil, err
	}
	q, err = lab.Settle(q, name)
	return st, q, err
}

// choose takes the best of the network before a training, the trained one, and two between them, a half and a quarter of the way: near
// the noise of rounding a training overshoots, and a part of its way is better than either end. A quarter is not measured where a
// half is no better than the whole.
func (st *StageResult) choose(lab Lab, before, trained Variant, unit string) (Variant, error) {
	if st.Info.Steps == 0 {
		st.After = st.Before
		return before, nil
	}
	best := trained
	var err error
	if st.After, err = lab.Score(trained, unit+"-after"); err != nil {
		return nil, err
	}
	st.Part = 1
	for _, part := range []float64{0.5, 0.25} {
		v, ok, err := lab.Between(before, trained, part)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		s, err := lab.Score(v, fmt.Sprintf("%s-%g", unit, part))
		if err != nil {
			return nil, err
		}
		if s <= st.After {
			break
		}
		best, st.After, st.Part = v, s, part
	}
	if st.Kept = st.After >= st.Before; !st.Kept {
		best, st.Part = before, 0
	}
	return best, nil
}

// harms is by how much quantizing each module of the flow alone lowers the metric.
func harms(lab Lab, v Variant, o *Outcome, say func(string, ...any)) (map[string]float64, error) {
	out := map[string]float64{}
	if len(o.Flow) < 2 {
		return out, nil
	}
	say("each module quantized alone, to divide the epochs")
	for _, name := range o.Flow {
		q := v
		var err error
		if name != o.Start {
			if q, err = lab.Quantize(q, name, o.Bits[name]); err != nil {
				return nil, err
			}
		}
		if q, err = lab.Activate(q, name); err != nil {
			return nil, err
		}
		alone, err := lab.Score(q, "alone-"+name)
		if err != nil {
			return nil, err
		}
		out[name] = max(o.Float-alone, 0)
	}
	return out, nil
}

// leastShare is the part of the epochs that is divided evenly.
const leastShare = 0.25

// StageEpochs divides epochs over the stages of flow: a quarter evenly, the rest by the harm that there is to undo, which is that of the
// stage's own module and of those before it, since they go on training. Where there is no harm all get the same.
func StageEpochs(epochs float64, flow []string, harm map[string]float64) map[string]float64 {
	sofar, total := make([]float64, len(flow)), 0.0
	for i := range flow {
		for _, name := range flow[:i+1] {
			sofar[i] += harm[name]
		}
		total += sofar[i]
	}
	out := map[string]float64{}
	for i, name := range flow {
		even := epochs / float64(len(flow))
		out[name] = even
		if total > 0 {
			out[name] = leastShare*even + (1-leastShare)*epochs*sofar[i]/total
		}
	}
	return out
}

// AscendingSize orders modules by their number of weights, the smallest first; equals stay in graph order.
func AscendingSize(ms []ModuleInfo) []string {
	sorted := append([]ModuleInfo(nil), ms...)
	sort.SliceStable(sorted, func(a, b int) bool { return sorted[a].Elements < sorted[b].Elements })
	var out []string
	for _, m := range sorted {
		out = append(out, m.Name)
	}
	return out
}
