package mqat

import (
	"fmt"
	"maps"

	"mqatc/compiler/plan"
	"mqatc/compiler/report"
	"mqatc/onnx/format"
	"mqatc/passes/quant"
	"mqatc/passes/target"
)

// InfeasibleError says that no assignment of widths is small enough.
type InfeasibleError struct{ Doc *plan.Document }

// Error says what was asked for and what can be reached.
func (e *InfeasibleError) Error() string {
	return e.Doc.Reason
}

// planner asks compiler/plan for widths and remembers the plan.
type planner struct {
	b   *Bench
	j   Job
	doc *plan.Document
	// mixed is the plan by layers, where it was taken.
	mixed *plan.Document
	// layers are the measured sensitivities, for the report.
	layers []report.Layer
}

func (p *planner) request(fixed map[string]int) plan.Request {
	c := p.b.cfg
	r := plan.Request{Compress: c.Compress, Basis: c.Basis, Budget: c.Budget, Bits: c.Bits, Assign: map[string]int{}}
	maps.Copy(r.Assign, c.Assign)
	maps.Copy(r.Assign, fixed)
	return r
}

// input is what is planned; layers says that the units are layers.
func (p *planner) input(v *variant, layers bool) (plan.Input, error) {
	m, err := p.b.plain(v)
	if err != nil {
		return plan.Input{}, err
	}
	in := plan.Input{Model: m, Partition: p.b.net.Partition, PayloadBefore: p.j.PayloadBefore, FileBefore: p.j.SourceBytes, Target: p.b.tgt,
		Quantizer: p.b.cfg.Quantizer, PerTensor: p.b.cfg.PerTensor, Starts: p.b.starts}
	if p.b.cfg.Basis == plan.File {
		in.FileAfter = func(bits map[string]int) (int64, error) {
			if !layers {
				bits = p.b.spread(bits)
			}
			return p.fileAfter(bits)
		}
	}
	return in, nil
}

// fileAfter emits the network at widths of weights, untrained, to see how many bytes that takes.
func (p *planner) fileAfter(bits map[string]int) (int64, error) {
	b := p.b
	v, err := b.assign(b.Float().(*variant), bits)
	if err != nil {
		return 0, err
	}
	for _, m := range b.modules {
		v.active[m.Name] = true
	}
	fake, r, pl, err := b.rounded(v)
	if err != nil {
		return 0, err
	}
	codes, err := quant.Collect(fake, r)
	if err != nil {
		return 0, err
	}
	e, err := b.tgt.Emit(fake, r, codes, pl, target.EmitOptions{})
	if err != nil {
		return 0, err
	}
	if err := p.j.Task.Keep(e.Model); err != nil {
		return 0, err
	}
	raw, err := format.Marshal(e.Model)
	// Each external tensor starts at a multiple of 64 bytes and takes some bytes of reference in the model.
	return int64(len(raw)) + 100*int64(len(e.Weights)), err
}

// lambda are the sensitivities at v; weights that have their widths already count nothing.
func (p *planner) lambda(v *variant) (plan.Sensitivity, error) {
	if p.b.cfg.Sensitivity == plan.Weights {
		return p.b.unstretched(plan.Sensitivity{Source: plan.Weights}), nil
	}
	if f := p.b.cfg.Given; f != nil {
		p.layers = nil
		for _, l := range f.Layers {
			p.layers = append(p.layers, report.Layer{Name: l.Name, Module: p.b.home[l.Name], N: l.N, Lambda: l.Lambda, StdErr: l.StdErr})
		}
		return p.b.unstretched(f.Sensitivity("file")), nil
	}
	res, err := p.b.sensitivity(v)
	if err != nil {
		return plan.Sensitivity{}, err
	}
	s := plan.Sensitivity{Source: fmt.Sprintf("Hessian trace, %d probes", res.Probes), Lambda: map[string]float64{}}
	for name := range p.b.weight {
		s.Lambda[name] = 0
	}
	p.layers = nil
	for i, l := range res.Layers {
		s.Lambda[l.Name] = res.Lambda(i)
		p.layers = append(p.layers, report.Layer{Name: l.Name, Module: p.b.home[l.Name], N: l.Elements, Lambda: res.Lambda(i), StdErr: l.StdErr})
	}
	if res.Negative > 0 {
		p.b.watch.Line("%d of %d layers have a negative trace; it counts as zero", res.Negative, len(res.Layers))
	}
	return s, nil
}

// plan gives every module a width.
func (p *planner) plan(v *variant, fixed map[string]int) (map[string]int, error) {
	d, err := p.make(v, p.request(fixed))
	if err != nil {
		return nil, err
	}
	if p.b.cfg.Planner == "measured" {
		if d, err = p.measured(v, d, fixed); err != nil {
			return nil, err
		}
		if d.Infeasible() {
			return nil, &InfeasibleError{d}
		}
		p.doc = d
		if err := p.b.dir.Store(p.b.prefix+"plan", d); err != nil {
			return nil, err
		}
	}
	p.b.watch.Line("plan: %v, %.2f times smaller", d.Bits, d.Compress.Achieved)
	return d.Bits, p.b.dir.Event("plan", map[string]any{"bits": d.Bits, "objective": d.Objective, "payload": d.Bytes.After})
}

func (p *planner) make(v *variant, r plan.Request) (*plan.Document, error) {
	in, err := p.input(v, r.Layers)
	if err != nil {
		return nil, err
	}
	s, err := p.lambda(v)
	if err != nil {
		return nil, err
	}
	d, err := plan.Make(in, s, r)
	if err != nil {
		return nil, err
	}
	p.doc = d
	if d.Infeasible() {
		return nil, &InfeasibleError{d}
	}
	return d, p.b.dir.Store(p.b.prefix+"plan", d)
}

// uniform is the widest width that fits when all modules that are not assigned one take the same.
func (p *planner) uniform() (map[string]int, error) {
	in, err := p.input(p.b.Float().(*variant), false)
	if err != nil {
		return nil, err
	}
	r := p.request(nil)
	t, err := plan.Measure(in, plan.Sensitivity{Source: plan.Weights}, r)
	if err != nil {
		return nil, err
	}
	d, err := t.Uniform(r)
	if err != nil {
		return nil, err
	}
	p.doc = d
	if d.Infeasible() {
		d.Reason = fmt.Sprintf("one width of %v for all modules is not enough: %s", p.b.cfg.Bits, d.Reason)
		return nil, &InfeasibleError{d}
	}
	// The report shows what else there is at this size.
	all, err := t.Solve(plan.Request{Budget: d.Bytes.After})
	if err != nil {
		return nil, err
	}
	d.Frontier = all.Frontier
	return p.b.spread(d.Bits), nil
}

// layerwise is HAWQ's way: every layer gets a width of its own from the same importance.
func (p *planner) layerwise(v *variant) (map[string]int, error) {
	r := p.request(nil)
	r.Layers, r.Assign = true, p.b.spread(p.assigned(nil))
	d, err := p.make(v, r)
	if err != nil {
		return nil, err
	}
	p.mixed = d
	return d.Bits, nil
}

// bytes is what a module takes at a width, or at those of its layers; 0 where the plan does not know.
func (p *planner) bytes(module string, bits int) int64 {
	if p.mixed != nil {
		total := int64(0)
		for i, u := range p.mixed.Table.Units {
			for _, o := range p.mixed.Table.Options[i] {
				if p.b.home[u.Name] == module && o.Bits == p.mixed.Bits[u.Name] {
					total += o.Bytes
				}
			}
		}
		return total
	}
	if p.doc == nil || p.doc.Table == nil {
		return 0
	}
	for i, u := range p.doc.Table.Units {
		if u.Name != module {
			continue
		}
		for _, o := range p.doc.Table.Options[i] {
			if o.Bits == bits {
				return o.Bytes
			}
		}
	}
	return 0
}

// describe puts sensitivities and the frontier into a report.
func (p *planner) describe(r *report.Report) {
	r.Layers = p.layers
	if p.doc == nil {
		return
	}
	for _, f := range p.doc.Frontier {
		r.Frontier = append(r.Frontier, report.Point{Bytes: f.Bytes, Achieved: f.Achieved, Cost: f.Objective, Bits: f.Bits})
	}
}
