package mqat

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"

	"mqatc/compiler/fit"
	"mqatc/compiler/problem"
	"mqatc/compiler/rundir"
	"mqatc/onnx/ir"
	"mqatc/passes/partition"
	"mqatc/passes/pass"
	"mqatc/passes/quant"
	"mqatc/passes/step"
	"mqatc/passes/target"
	"mqatc/passes/weights"
	"mqatc/runtime/ort"
	"mqatc/runtime/task/score"
	"mqatc/runtime/train"
)

// Network is what is to be quantized: a float model, cleaned up and folded, with its modules.
type Network struct {
	Model     *ir.Model
	Partition *partition.Partition
	// Single: the batch of 1 could not be made free, so gradients are summed image by image.
	Single bool
	// Raw are outputs that training and decisions see and the emitted network has not.
	Raw []string
}

// Watcher is told what a run does. All methods may be called from one goroutine only.
type Watcher interface {
	Line(format string, a ...any)
	Update(what string, done, total int, detail string)
}

// Bench is the laboratory that works on a real network.
type Bench struct {
	ctx     context.Context
	cfg     Config
	net     Network
	prob    problem.Problem
	dir     *rundir.Dir
	watch   Watcher
	prefix  string // of the units in the run directory, so that several methods share one
	tgt     target.Target
	params  []weights.Param
	home    map[string]string // parameter -> module; "" where it is in none
	weight  map[string]weights.Param
	modules []ModuleInfo
	obs     quant.Observations
	plan    func(v *variant, fixed map[string]int) (map[string]int, error)
	curves  map[string][]float64
	passes  PassRunner
	// layerBits are widths by weight, where the plan gives each layer its own.
	layerBits map[string]int
	// stretched is by how much equalization multiplied the squared size of a weight; nil where there was none.
	stretched map[string]float64
	// placement is what choosePlacement found; nil where the target's rules stand as they are.
	placement *placementChoice
	// starts are the scales that weights of the network as it is begin with.
	starts *quant.Starts
}

// PassRunner runs passes over a model with dumps, verification and a repro on failure.
type PassRunner interface {
	Run(ctx context.Context, m *ir.Model, list ...pass.Pass) error
}

// variant is a network in some state of quantization. It is not changed once made.
type variant struct {
	values map[string]*ir.Tensor // present values of trained tensors and step sizes, where they differ from the network's
	bits   map[string]int        // by weight
	scales map[string][]float32  // of weights whose quantizer does not train them
	done   map[string]bool       // weights on their grid for good
	active map[string]bool       // modules whose activations are quantized
}

// float reports the network as it came.
func (v *variant) float() bool { return len(v.values)+len(v.bits)+len(v.active) == 0 }

func (v *variant) clone() *variant {
	return &variant{maps.Clone(v.values), maps.Clone(v.bits), maps.Clone(v.scales), maps.Clone(v.done), maps.Clone(v.active)}
}

// newBench checks what is given and sorts the parameters into modules.
func newBench(ctx context.Context, net Network, prob problem.Problem, dir *rundir.Dir, watch Watcher, cfg Config) (*Bench, error) {
	tgt, err := target.Find(cfg.Target)
	if err != nil {
		return nil, err
	}
	if cfg.Activations == 0 {
		tgt.Activation = ir.Undefined
	}
	b := &Bench{ctx: ctx, cfg: cfg, net: net, prob: prob, dir: dir, watch: watch, tgt: tgt,
		home: map[string]string{}, weight: map[string]weights.Param{}, curves: map[string][]float64{}, starts: &quant.Starts{}}
	for _, m := range net.Partition.Modules {
		b.modules = append(b.modules, ModuleInfo{m.Name, m.Elements()})
		for _, w := range m.Weights {
			b.home[w.Value.Name()] = m.Name
		}
	}
	b.findParams()
	if b.cfg.Probes == 0 {
		b.cfg.Probes = usualProbes(work(net.Model))
	}
	if b.cfg.Epochs == 0 {
		stages := len(b.modules)
		if b.cfg.Probe {
			stages++
		}
		b.cfg.Epochs = usualEpochs(work(net.Model), int64(prob.Describe().Train), stages)
	}
	return b, nil
}

// Modules lists the modules in graph order.
func (b *Bench) Modules() []ModuleInfo { return b.modules }

// Float is the network as it came.
func (b *Bench) Float() Variant {
	return &variant{map[string]*ir.Tensor{}, map[string]int{}, map[string][]float32{}, map[string]bool{}, map[string]bool{}}
}

// members lists the weights of a module in graph order.
func (b *Bench) members(module string) []string {
	var out []string
	for _, p := range b.params {
		if n := p.Value.Name(); p.Kind == weights.Weight && b.home[n] == module {
			out = append(out, n)
		}
	}
	return out
}

func (b *Bench) spec(bits int) quant.WeightSpec {
	return b.tgt.WeightSpec(bits, b.cfg.Quantizer, b.cfg.PerTensor)
}

// Quantize gives a module a width: start values of the scales from the present weights.
func (b *Bench) Quantize(v Variant, module string, bits int) (Variant, error) {
	if bits >= 32 {
		return v, nil
	}
	return b.assign(v.(*variant), b.widths(map[string]int{module: bits}))
}

// assign gives weights widths by name.
func (b *Bench) assign(v *variant, bits map[string]int) (*variant, error) {
	c := v.clone()
	for _, p := range b.params {
		name := p.Value.Name()
		n, ok := bits[name]
		if !ok || n >= 32 {
			continue
		}
		site := quant.SiteOf(p, b.spec(n))
		starts := b.starts
		if c.values[name] != nil {
			starts = nil
		}
		scale, err := starts.Of(site, b.value(c, name))
		if err != nil {
			return nil, fmt.Errorf("weight %q: %w", name, err)
		}
		c.bits[name] = n
		c.scales[name] = scale
		delete(c.values, name+quant.StepSuffix)
	}
	return c, nil
}

// value is the present value of a trained tensor.
func (b *Bench) value(v *variant, name string) *ir.Tensor {
	if t := v.values[name]; t != nil {
		return t
	}
	return b.net.Model.Graph.Value(name).Init()
}

// Activate switches a module's activation quantizers on.
func (b *Bench) Activate(v Variant, module string) (Variant, error) {
	c := v.(*variant).clone()
	c.active[module] = true
	return c, nil
}

// Settle puts weights that are frozen bit by bit onto their grid.
func (b *Bench) Settle(v Variant, module string) (Variant, error) {
	c := v.(*variant).clone()
	for _, name := range b.members(module) {
		if err := b.settle(c, name); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (b *Bench) settle(c *variant, name string) error {
	n, ok := c.bits[name]
	if !ok || c.done[name] {
		return nil
	}
	q, err := quant.Find(b.cfg.Quantizer)
	if err != nil || !q.Masked {
		return err
	}
	w, err := b.value(c, name).Float32s()
	if err != nil {
		return err
	}
	w = append([]float32(nil), w...)
	free := make([]bool, len(w))
	for i := range free {
		free[i] = true
	}
	p := b.weight[name]
	if _, err := quant.Freeze(quant.SiteOf(p, b.spec(n)), c.scales[name], w, free, 1); err != nil {
		return err
	}
	t, err := ir.FromFloat32s(w, p.Value.Init().Dims()...)
	if err != nil {
		return err
	}
	c.values[name] = t
	c.done[name] = true
	return nil
}

// plain is a copy of the network, not quantized, that holds v's values.
func (b *Bench) plain(v *variant) (*ir.Model, error) {
	values := map[string]*ir.Tensor{}
	for name, t := range v.values {
		if b.net.Model.Graph.Value(name) != nil {
			values[name] = t
		}
	}
	return fit.Put(b.net.Model, values)
}

// prepare makes a copy of the network that holds v's values, and what is to be quantized in it.
func (b *Bench) prepare(v *variant) (*ir.Model, quant.Spec, error) {
	spec := quant.Spec{Weights: map[string]quant.WeightSpec{}, Narrow: b.tgt.Narrow}
	m, err := b.plain(v)
	if err != nil {
		return nil, spec, err
	}
	placed := map[string]bool{}
	for name, n := range v.bits {
		ws := b.spec(n)
		ws.Scale = v.scales[name]
		if t := v.values[name+quant.StepSuffix]; t != nil {
			if ws.Scale, err = t.Float32s(); err != nil {
				return nil, spec, err
			}
		}
		spec.Weights[name] = ws
		if v.active[b.home[name]] {
			placed[name] = true
		}
	}
	pl, err := b.tgt.Place(b.net.Model, placed)
	if err != nil {
		return nil, spec, err
	}
	if len(pl.Points) > 0 {
		if spec.Ranges, err = b.ranges(pl); err != nil {
			return nil, spec, err
		}
		spec.Activations = pl
	}
	return m, spec, nil
}

// build is the fake-quantized network of v.
func (b *Bench) build(v *variant) (*ir.Model, *quant.Report, *quant.Placement, error) {
	m, spec, err := b.prepare(v)
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := quant.Insert(m, spec)
	return m, r, spec.Activations, err
}

// Train trains the modules that are not finished: the one at hand, those that are still float, and those whose quantizer goes on
// training. Parameters in no module stay as they are.
func (b *Bench) Train(x Variant, name, module string, epochs float64) (Variant, TrainInfo, error) {
	v := x.(*variant)
	desc := b.prob.Describe()
	steps := int(math.Round(epochs * float64(train.StepsPerEpoch(desc.Train, b.cfg.Batch))))
	if b.cfg.Steps > 0 {
		steps = min(steps, b.cfg.Steps)
	}
	if steps == 0 {
		return v, TrainInfo{}, nil
	}
	out, info, err := b.once("train-"+name, func(path, key string) (map[string]*ir.Tensor, TrainInfo, []float64, error) {
		return b.fit(v, name, module, steps, path, key)
	})
	if err != nil {
		return nil, TrainInfo{}, fmt.Errorf("training %s: %w", name, err)
	}
	c := v.clone()
	maps.Copy(c.values, out)
	if q, err := quant.Find(b.cfg.Quantizer); err == nil && q.Masked {
		for w := range c.bits {
			c.done[w] = true
		}
	}
	return c, info, nil
}

// Between blends weights, biases and step sizes. Weights that are frozen bit by bit are on their grid at both ends and nowhere between.
func (b *Bench) Between(from, to Variant, part float64) (Variant, bool, error) {
	x, y := from.(*variant), to.(*variant)
	if q, err := quant.Find(b.cfg.Quantizer); err != nil || q.Masked {
		return nil, false, err
	}
	c := y.clone()
	for name, t := range y.values {
		old, err := b.before(x, name)
		if err != nil {
			return nil, false, err
		}
		now, err := t.Float32s()
		if err != nil || len(old) != len(now) {
			return nil, false, fmt.Errorf("%q has %d elements after training and %d before, %v", name, len(now), len(old), err)
		}
		mix := make([]float32, len(now))
		for i := range mix {
			mix[i] = old[i] + float32(part)*(now[i]-old[i])
		}
		if c.values[name], err = ir.FromFloat32s(mix, t.Dims()...); err != nil {
			return nil, false, err
		}
	}
	return c, true, nil
}

// before is the value in v of a tensor that a later training changed: a trained tensor, or the step sizes of a weight.
func (b *Bench) before(v *variant, name string) ([]float32, error) {
	if w, ok := strings.CutSuffix(name, quant.StepSuffix); ok && v.values[name] == nil && b.net.Model.Graph.Value(name) == nil {
		return v.scales[w], nil
	}
	return b.value(v, name).Float32s()
}

// Score measures a variant on held-out data.
func (b *Bench) Score(x Variant, name string) (float64, error) {
	return rundir.Once(b.dir, b.prefix+"score-"+name, func() (float64, error) {
		if d := b.prob.Describe(); d.Float != nil && x.(*variant).float() {
			return score.Natural(*d.Float, d.Lower), nil
		}
		s, err := b.measure(x.(*variant), problem.Held, name)
		if err != nil {
			return 0, fmt.Errorf("measuring %s: %w", name, err)
		}
		return s.Main, b.dir.Event("score", map[string]any{"unit": b.prefix + name, "metric": s.Name, "value": s.Value(), "images": s.Images})
	})
}

// settled is v with all its weights on their grids.
func (b *Bench) settled(v *variant) (*variant, error) {
	c := v.clone()
	for name := range v.bits {
		if err := b.settle(c, name); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// rounded is the network with v's weights on their grids and its activations quantized, in inference form.
func (b *Bench) rounded(v *variant) (*ir.Model, *quant.Report, *quant.Placement, error) {
	c, err := b.settled(v)
	if err != nil {
		return nil, nil, nil, err
	}
	m, r, pl, err := b.build(c)
	if err != nil {
		return nil, nil, nil, err
	}
	// Collect rounds trained steps in m to what the target stores.
	_, err = quant.Collect(m, r)
	return m, r, pl, err
}

// baked is rounded with the weights as constants.
func (b *Bench) baked(v *variant) (*ir.Model, error) {
	c, err := b.settled(v)
	if err != nil {
		return nil, err
	}
	m, r, _, err := b.build(c)
	if err != nil {
		return nil, err
	}
	codes, err := quant.Collect(m, r)
	if err != nil {
		return nil, err
	}
	return m, quant.Bake(m, r, codes)
}

// Plan asks the planner for widths.
func (b *Bench) Plan(x Variant, fixed map[string]int) (map[string]int, error) {
	return b.plan(x.(*variant), fixed)
}

func (b *Bench) session() ort.SessionOptions {
	return ort.SessionOptions{DisableQDQ: true, Device: b.cfg.Device}
}

var _ Lab = (*Bench)(nil)

// relative reports an optimizer whose steps have the size of the rate, whatever the gradient: its rate is relative to a tensor's size.
func (b *Bench) relative() bool { return b.cfg.Optimizer == "adam" || b.cfg.Optimizer == "adamw" }

// trainable lists what a training of v changes.
func (b *Bench) trainable(v *variant, r *quant.Report) []step.Param {
	q, err := quant.Find(b.cfg.Quantizer)
	masked := err == nil && q.Masked
	finished := map[string]bool{}
	for name := range v.done {
		finished[b.home[name]] = true
	}
	var out []step.Param
	for _, p := range b.params {
		name := p.Value.Name()
		if p.Value.Init().DType() != ir.Float32 || (masked && finished[b.home[name]]) {
			continue
		}
		s := step.Param{Name: name, Decay: p.Decays()}
		_, quantized := v.bits[name]
		s.Masked = masked && quantized
		if b.relative() {
			s.LRScale = size(b.value(v, name))
		}
		out = append(out, s)
	}
	for _, ins := range r.Weights {
		for _, st := range ins.States {
			s := step.Param{Name: st.Name, GradScale: st.GradScale, Min: st.Min}
			if b.relative() {
				sum := float32(0)
				for _, x := range v.scales[ins.Name] {
					sum += x
				}
				s.LRScale = sum / float32(max(len(v.scales[ins.Name]), 1))
			}
			out = append(out, s)
		}
	}
	return out
}

// leastSize keeps tensors that start near zero, such as fresh biases, able to move under a rate that is relative to their size.
const leastSize = 1e-3

// size is the root mean square of a tensor.
func size(t *ir.Tensor) float32 {
	f, err := t.Float32s()
	if err != nil || len(f) == 0 {
		return leastSize
	}
	sum := 0.0
	for _, x := range f {
		sum += float64(x) * float64(x)
	}
	return float32(math.Max(math.Sqrt(sum/float64(len(f))), leastSize))
}
