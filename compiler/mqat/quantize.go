package mqat

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"mqatc/compiler/plan"
	"mqatc/compiler/problem"
	"mqatc/compiler/report"
	"mqatc/compiler/rundir"
	"mqatc/runtime/task"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/task/score"
)

// Job is a network to quantize with everything that takes.
type Job struct {
	Name          string // of the model, for the report
	Net           Network
	Problem       problem.Problem
	Task          task.Task
	Dir           *rundir.Dir
	Out           string // output folder
	Prefix        string // of the units in the run directory, where several methods share it
	Config        Config
	Watch         Watcher
	SourceBytes   int64 // of the input's files
	PayloadBefore int64 // bytes of the trained tensors as read
	Notes         []string
	Passes        PassRunner // for the passes after training; nil runs them without dumps
}

// Result of Quantize.
type Result struct {
	Outcome  *Outcome
	Emission *Emission
	Float    *score.Score // on the evaluation data
	Before   *score.Score // rounded to the same widths without training
	After    *score.Score // the emitted model
	Report   *report.Report
	Epochs   float64 // in all
}

// Quantize runs a method on a network and writes model.onnx, weights.bin, .json and .h and the report into the output folder.
func Quantize(ctx context.Context, j Job) (*Result, error) {
	cfg, err := j.Config.withDefaults()
	if err != nil {
		return nil, err
	}
	j.Config = cfg
	b, err := newBench(ctx, j.Net, j.Problem, j.Dir, j.Watch, cfg)
	if err != nil {
		return nil, err
	}
	b.prefix, b.passes = j.Prefix, j.Passes
	if err := os.MkdirAll(j.Out, 0o755); err != nil {
		return nil, err
	}
	if err := j.Dir.Event("quantize", map[string]any{"model": j.Name, "method": cfg.Method, "seed": cfg.Seed}); err != nil {
		return nil, err
	}
	if cfg.Epochs == 0 && cfg.Method != "ptq" {
		b.watch.Line("%.3g epochs a stage", b.cfg.Epochs)
	}
	if err := b.equalize(); err != nil {
		return nil, err
	}
	if err := b.choosePlacement(); err != nil {
		return nil, err
	}
	p := &planner{b: b, j: j}
	b.plan = p.plan
	res := &Result{}
	switch cfg.Method {
	case "mqat":
		err = b.runMQAT(res)
	default:
		err = b.runBaseline(res, p)
	}
	if err != nil {
		return nil, err
	}
	final := res.Outcome.Final.(*variant)
	if err := b.settlePlacement(final); err != nil {
		return nil, err
	}
	if res.Emission, err = b.emit(final, j.Out, j.Task, j.SourceBytes); err != nil {
		return nil, err
	}
	if err := b.compare(res, final); err != nil {
		return nil, err
	}
	res.Report = j.report(b, p, res)
	if err := res.Report.Write(j.Out); err != nil {
		return nil, err
	}
	return res, j.Dir.Event("done", map[string]any{"payload": res.Emission.Payload, "disk": res.Emission.Disk, "metric": res.After.Value()})
}

// runMQAT is Algorithm 1, with probes where labels can reward them.
func (b *Bench) runMQAT(res *Result) error {
	s := Settings{Probe: b.cfg.Probe, Epochs: b.cfg.Epochs, ProbeEpochs: b.cfg.Epochs / float64(max(len(b.modules), 1)), Progress: b.watch.Line,
		Widths: func(module string, bits int) string {
			return b.widthText(module, b.widths(map[string]int{module: bits}))
		}}
	o, err := Run(b, s)
	if err != nil {
		return err
	}
	res.Outcome, res.Epochs = o, o.Epochs
	return nil
}

// TotalEpochs is what MQAT spends on a network of so many modules, and so what a baseline may spend.
func TotalEpochs(c Config, modules int) float64 {
	n := c.Epochs * float64(modules)
	if c.Probe {
		n += c.Epochs
	}
	return n
}

// runBaseline quantizes the whole network at once and trains it for as long as MQAT would.
func (b *Bench) runBaseline(res *Result, p *planner) error {
	v := b.Float().(*variant)
	o := &Outcome{Bits: map[string]int{}}
	var err error
	if o.Float, err = b.Score(v, "float"); err != nil {
		return err
	}
	var bits map[string]int
	switch b.cfg.Method {
	case "uniform":
		bits, err = p.uniform()
	case "hawq":
		bits, err = p.layerwise(v)
	case "ptq":
		var modules map[string]int
		if modules, err = p.plan(v, nil); err == nil {
			bits = b.widths(modules)
		}
	}
	if err != nil {
		return err
	}
	if v, err = b.assign(v, bits); err != nil {
		return err
	}
	for _, m := range b.modules {
		v.active[m.Name] = true
		o.Bits[m.Name] = plan.Float
		if n := b.widest(bits, m.Name); n > 0 && n < plan.Float {
			o.Bits[m.Name] = n
			o.Flow = append(o.Flow, m.Name)
		}
	}
	st := StageResult{Module: "all", Kept: true}
	if st.Before, err = b.Score(v, "all-before"); err != nil {
		return err
	}
	st.After = st.Before
	if b.cfg.Method != "ptq" {
		epochs := TotalEpochs(b.cfg, len(b.modules))
		t, info, err := b.Train(v, "all", "", epochs)
		if err != nil {
			return err
		}
		res.Epochs, st.Info = epochs, info
		x, err := st.choose(b, v, t, "all")
		if err != nil {
			return err
		}
		v = x.(*variant)
		o.Stages = append(o.Stages, st)
	}
	for _, m := range b.modules {
		x, err := b.Settle(v, m.Name)
		if err != nil {
			return err
		}
		v = x.(*variant)
	}
	o.Final, o.Metric = v, max(st.Before, st.After)
	res.Outcome = o
	return nil
}

// spread gives every weight the width of its module.
func (b *Bench) spread(modules map[string]int) map[string]int {
	out := map[string]int{}
	for module, bits := range modules {
		for _, w := range b.members(module) {
			out[w] = bits
		}
	}
	return out
}

// widest is the largest width among a module's weights.
func (b *Bench) widest(bits map[string]int, module string) int {
	n := 0
	for _, w := range b.members(module) {
		n = max(n, bits[w])
	}
	return n
}

// compare measures the float network, the rounded one without training and the emitted one on the evaluation data.
func (b *Bench) compare(res *Result, final *variant) error {
	var err error
	if res.After, err = b.scoreEmitted(res.Emission.Model); err != nil {
		return err
	}
	plain := b.Float().(*variant)
	if plain, err = b.assign(plain, final.bits); err != nil {
		return err
	}
	plain.active = final.active
	if res.Before, err = b.measure(plain, problem.Eval, "without training"); err != nil {
		return err
	}
	if b.prob.Describe().Float != nil {
		return nil
	}
	res.Float, err = b.measure(b.Float().(*variant), problem.Eval, "float")
	return err
}

// report gathers what the run found.
func (j *Job) report(b *Bench, p *planner, res *Result) *report.Report {
	desc := j.Problem.Describe()
	o, em := res.Outcome, res.Emission
	r := &report.Report{
		Model: j.Name, Method: j.Config.Method, Quantizer: j.Config.Quantizer, Target: j.Config.Target, Task: desc.Task, Loss: desc.Loss,
		Metric: desc.Metric, LowerIsBetter: desc.Lower, Seed: j.Config.Seed, Notes: j.Notes, Partition: j.Net.Partition.Method, Flow: o.Flow, Start: o.Start, Epochs: res.Epochs,
		Data: report.Data{Train: desc.Train, Eval: desc.Eval, HeldOut: desc.HeldOut, Preproc: desc.Preproc, BatchLen: j.Config.Batch},
		Size: report.Size{PayloadBefore: j.PayloadBefore, PayloadAfter: em.Payload, FileBefore: j.SourceBytes, FileAfter: em.Disk,
			Requested: j.Config.Compress, Basis: j.Config.Basis, Achieved: ratio(j.PayloadBefore, em.Payload), File: ratio(j.SourceBytes, em.Disk),
			Nominal: b.nominal(o.Final.(*variant))},
		Curves: map[string]report.Curve{},
	}
	natural := func(main float64) float64 { return score.Natural(main, desc.Lower) }
	if len(o.Probes) == 0 && j.Config.Method == "mqat" && !desc.Labels {
		r.Notes = append(r.Notes, "No probes were run: the metric is agreement with the float network, which no probe can beat. The flow is ascending size.")
	}
	if n := len(em.Verify.NotInteger); n > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d layers meant to run in integers run in float: %v", n, em.Verify.NotInteger))
	}
	widths := map[string]string{}
	if b.layerBits != nil || j.Config.Method == "hawq" {
		for _, m := range b.modules {
			widths[m.Name] = b.widthText(m.Name, o.Final.(*variant).bits)
		}
	}
	for _, m := range j.Net.Partition.Modules {
		r.Modules = append(r.Modules, report.Module{Name: m.Name, Role: m.Role, Params: m.Params, Elements: m.Elements(), Layers: m.Layers,
			Bits: o.Bits[m.Name], Widths: widths[m.Name], Bytes: p.bytes(m.Name, o.Bits[m.Name])})
	}
	if c := b.placement; c != nil {
		r.Float, r.FloatShare = c.float(), c.Share
		if len(c.GivenBack) > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("Quantized although it costs much, for the network would differ between optimization levels: %s.", strings.Join(c.GivenBack, ", ")))
		}
	}
	for _, w := range j.Net.Partition.Outside {
		r.Outside = append(r.Outside, w.Value.Name())
	}
	for _, x := range o.Probes {
		r.Probes = append(r.Probes, report.Probe{Module: x.Module, Before: natural(x.Before), After: natural(x.After), Float: natural(o.Float)})
	}
	for _, s := range o.Stages {
		r.Stages = append(r.Stages, report.Stage{Module: s.Module, Bits: s.Bits, Widths: widths[s.Module], Before: natural(s.Before), After: natural(s.After), Kept: s.Kept, Part: s.Part,
			Steps: s.Info.Steps, LossFrom: s.Info.LossFrom, LossTo: s.Info.LossTo})
	}
	for name, c := range b.curves {
		r.Curves[name] = c
	}
	for _, a := range em.Verify.Agreements {
		r.Verify = append(r.Verify, report.Level{Level: a.Level, Output: a.Output, Cosine: a.Cosine, MaxAbs: a.MaxError, Steps: a.Steps, OK: true})
	}
	p.describe(r)
	agreement(r, res)
	var floatMetric float64
	switch {
	case desc.Float != nil:
		floatMetric = *desc.Float
	case res.Float != nil:
		floatMetric = res.Float.Value()
	}
	bits := map[string]int{}
	for k, v := range o.Bits {
		bits[k] = v
	}
	r.Methods = append(r.Methods,
		report.Method{Name: "float", Metric: floatMetric, Bytes: j.PayloadBefore, Disk: j.SourceBytes, Achieved: 1},
		report.Method{Name: "rounded, not trained", Metric: res.Before.Value(), Bytes: em.Payload, Achieved: r.Size.Achieved, Bits: bits, Widths: widths},
		report.Method{Name: j.Config.Method, Metric: res.After.Value(), Bytes: em.Payload, Disk: em.Disk, Achieved: r.Size.Achieved, Bits: bits, Widths: widths, Flow: o.Flow, Epochs: res.Epochs})
	return r
}

func ratio(before, after int64) float64 {
	if after == 0 {
		return 0
	}
	return float64(before) / float64(after)
}

// nominal is the paper's compression: 32 * sum of weights over the sum of weights times bits, trained tensors that stay float at 32.
func (b *Bench) nominal(v *variant) float64 {
	all, after := 0.0, 0.0
	for _, p := range b.params {
		n := float64(p.Elements())
		bits, ok := v.bits[p.Value.Name()]
		if !ok {
			bits = 32
		}
		all += 32 * n
		after += n * float64(bits)
	}
	return all / max(after, 1)
}

// agreement fills in the comparison of outputs with the float network, for problems measured so.
func agreement(r *report.Report, res *Result) {
	after, ok := res.After.Detail.(*distill.Agreement)
	if !ok {
		return
	}
	before, ok := res.Before.Detail.(*distill.Agreement)
	if !ok {
		return
	}
	for _, a := range after.Outputs {
		row := report.Agreement{Output: a.Output, CosineAfter: a.Cosine, RelativeAfter: a.RelativeError}
		if i := slices.IndexFunc(before.Outputs, func(o distill.OutputAgreement) bool { return o.Output == a.Output }); i >= 0 {
			row.CosineBefore, row.RelativeBefore = before.Outputs[i].Cosine, before.Outputs[i].RelativeError
		}
		r.Agreement = append(r.Agreement, row)
	}
}
