package step

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Optimizer names a row of the table and its constants. Zero constants mean the row's defaults.
type Optimizer struct {
	Name        string  // sgd (default), nesterov, adam, adamw
	Momentum    float32 // sgd and nesterov: 0..1; 0 is plain descent for sgd and 0.9 for nesterov
	WeightDecay float32 // of parameters with Decay; added to the gradient, or for adamw to the step
	ClipNorm    float32 // largest L2 norm of all gradients together; 0 means none
	Beta1       float32 // adam, adamw: 0.9
	Beta2       float32 // adam, adamw: 0.999
	Epsilon     float32 // adam, adamw: 1e-8
	// EMA is the decay of a running average W.ema of each trained tensor, 0..1; 0 keeps none.
	EMA float32
}

// row is one optimizer: the names of its states and the rule that makes the step of one parameter from gradient and states.
type row struct {
	states  []string
	counted bool // takes the step number
	couples bool // weight decay is part of the gradient
	rule    func(u *updater, w, g *ir.Value, states []*ir.Value) (step *ir.Value, next []*ir.Value)
}

var optimizers = map[string]row{
	"sgd":      {states: []string{"momentum"}, couples: true, rule: sgd},
	"nesterov": {states: []string{"momentum"}, couples: true, rule: nesterov},
	"adam":     {states: []string{"m", "v"}, counted: true, couples: true, rule: adam},
	"adamw":    {states: []string{"m", "v"}, counted: true, rule: adam},
}

// Optimizers lists the names of the table.
func Optimizers() []string {
	var out []string
	for n := range optimizers {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

func (o Optimizer) row() (row, error) {
	name := o.Name
	if name == "" {
		name = "sgd"
	}
	r, ok := optimizers[name]
	if !ok {
		return r, fmt.Errorf("unknown optimizer %q: one of %s", name, strings.Join(Optimizers(), ", "))
	}
	if name == "sgd" && o.Momentum == 0 {
		r.states = nil
	}
	return r, nil
}

// States are the suffixes of the optimizer's states, without the dot.
func (o Optimizer) States() ([]string, error) {
	r, err := o.row()
	return slices.Clone(r.states), err
}

func (o Optimizer) check() error {
	if _, err := o.row(); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		v    float32
		max  float64
	}{{"momentum", o.Momentum, 1}, {"weight decay", o.WeightDecay, math.Inf(1)}, {"gradient norm", o.ClipNorm, math.Inf(1)},
		{"beta1", o.Beta1, 1}, {"beta2", o.Beta2, 1}, {"epsilon", o.Epsilon, math.Inf(1)}, {"average's decay", o.EMA, 1}} {
		if !finite(c.v) || c.v < 0 || float64(c.v) >= c.max {
			return fmt.Errorf("optimizer %s: %v is out of range", c.name, c.v)
		}
	}
	return nil
}

func or(v, def float32) float32 {
	if v == 0 {
		return def
	}
	return v
}

// updater makes the nodes of the update.
type updater struct {
	*ir.Builder
	o       Optimizer
	number  *ir.Value // step number, where the row takes it
	claimed map[*ir.Value]bool
	memo    map[string]*ir.Value
}

func (u *updater) op(name string, in ...*ir.Value) *ir.Value { return u.Op(name, in) }

func (u *updater) scale(v *ir.Value, f float32) *ir.Value {
	if f == 1 {
		return v
	}
	return u.op("Mul", v, u.Float(f))
}

// update adds the optimizer: clipping by the global norm, decay, step, masks and bounds. It returns the outputs in the order of wrt.
func update(b *ir.Builder, ins *inputs, claimed map[*ir.Value]bool, o Options, wrt, grads []*ir.Value) ([]*ir.Value, error) {
	r, err := o.Optimizer.row()
	if err != nil {
		return nil, err
	}
	one := ir.TensorType(ir.Float32, ir.StaticShape(1))
	u := &updater{Builder: b, o: o.Optimizer, claimed: claimed, memo: map[string]*ir.Value{}}
	lr := ins.add(LR, one)
	if r.counted || u.o.EMA > 0 {
		u.number = ins.add(StepNumber, one)
	}
	masks := make([]*ir.Value, len(wrt))
	states := make([][]*ir.Value, len(wrt))
	averages := make([]*ir.Value, len(wrt))
	for i, w := range wrt {
		for _, s := range r.states {
			states[i] = append(states[i], ins.add(w.Name()+"."+s, w.Type.Clone()))
		}
		if u.o.EMA > 0 {
			averages[i] = ins.add(w.Name()+Average, w.Type.Clone())
		}
		if o.Params[i].Masked {
			masks[i] = ins.add(w.Name()+Mask, ir.TensorType(ir.Bool, w.Shape().Clone()))
		}
	}
	if ins.err != nil {
		return nil, ins.err
	}
	grads = slices.Clone(grads)
	for i, g := range grads {
		u.Site = wrt[i].Name()
		if s := o.Params[i].GradScale; s != 0 {
			g = u.scale(g, s)
		}
		if masks[i] != nil {
			g = u.op("Where", masks[i], g, u.Float(0))
		}
		grads[i] = g
	}
	if u.o.ClipNorm > 0 {
		u.clip(grads)
	}
	var outs []*ir.Value
	for i, w := range wrt {
		outs = append(outs, u.param(r, o.Params[i], w, grads[i], states[i], masks[i], lr)...)
		if averages[i] != nil {
			outs = append(outs, u.average(w, outs[len(outs)-1-len(states[i])], averages[i]))
		}
	}
	return outs, u.Err()
}

// clip scales all gradients by min(1, ClipNorm/norm) with norm their common L2 norm.
func (u *updater) clip(grads []*ir.Value) {
	u.Site = "clip"
	var squares []*ir.Value
	for _, g := range grads {
		flat := u.op("Reshape", g, u.Int64s(-1))
		s := u.Op("ReduceSum", []*ir.Value{u.op("Mul", flat, flat), u.Int64s(0)}, ir.AInt("keepdims", 1))
		squares = append(squares, s)
	}
	all := u.Op("Concat", squares, ir.AInt("axis", 0))
	norm := u.op("Sqrt", u.Op("ReduceSum", []*ir.Value{all, u.Int64s(0)}, ir.AInt("keepdims", 1)))
	f := u.op("Min", u.op("Div", u.Float(u.o.ClipNorm), u.op("Add", norm, u.Float(1e-6))), u.Float(1))
	for i, g := range grads {
		grads[i] = u.op("Mul", g, u.fit(f, g))
	}
}

// fit gives a float[1] a shape that broadcasts against v without changing v's.
func (u *updater) fit(f, v *ir.Value) *ir.Value {
	if len(v.Shape()) > 0 {
		return f
	}
	key := "scalar " + f.Name()
	if u.memo[key] == nil {
		u.memo[key] = u.op("Reshape", f, u.Const(ir.VectorInt64()))
	}
	return u.memo[key]
}

func (u *updater) param(r row, p Param, w, g *ir.Value, states []*ir.Value, mask, lr *ir.Value) []*ir.Value {
	u.Site = w.Name()
	decay := p.Decay && u.o.WeightDecay > 0
	if decay && r.couples {
		g = u.op("Add", g, u.scale(w, u.o.WeightDecay))
	}
	d, next := r.rule(u, w, g, states)
	if decay && !r.couples {
		d = u.op("Add", d, u.scale(w, u.o.WeightDecay))
	}
	rate := u.fit(lr, w)
	if p.LRScale != 0 && p.LRScale != 1 {
		key := fmt.Sprint("lr ", p.LRScale, " ", len(w.Shape()) > 0)
		if u.memo[key] == nil {
			u.memo[key] = u.scale(rate, p.LRScale)
		}
		rate = u.memo[key]
	}
	upd := u.op("Mul", d, rate)
	moved := u.op("Sub", w, upd)
	if p.Min > 0 {
		moved = u.op("Max", moved, u.Float(p.Min))
	}
	outs := []*ir.Value{u.keep(w.Name()+New, mask, moved, w)}
	for i, s := range r.states {
		outs = append(outs, u.keep(w.Name()+"."+s+New, mask, next[i], states[i]))
	}
	return outs
}

// keep is v, and old where the mask is false.
func (u *updater) keep(name string, mask, v, old *ir.Value) *ir.Value {
	if mask != nil {
		return named(u.Builder, "Where", name, mask, v, old)
	}
	return output(u.Builder, u.claimed, v, name)
}

// sgd is m' = mu m + g, step m' (Polyak's momentum as PyTorch and Sutskever et al. 2013 write it), or g without momentum.
func sgd(u *updater, _, g *ir.Value, states []*ir.Value) (*ir.Value, []*ir.Value) {
	if len(states) == 0 {
		return g, nil
	}
	m := u.op("Add", u.scale(states[0], u.o.Momentum), g)
	return m, []*ir.Value{m}
}

// nesterov is m' = mu m + g, step g + mu m'.
func nesterov(u *updater, _, g *ir.Value, states []*ir.Value) (*ir.Value, []*ir.Value) {
	mu := or(u.o.Momentum, 0.9)
	m := u.op("Add", u.scale(states[0], mu), g)
	return u.op("Add", g, u.scale(m, mu)), []*ir.Value{m}
}

// adam is Kingma and Ba's algorithm 1 with bias correction; adamw differs only in where decay is added (Loshchilov and Hutter).
func adam(u *updater, w, g *ir.Value, states []*ir.Value) (*ir.Value, []*ir.Value) {
	b1, b2 := or(u.o.Beta1, 0.9), or(u.o.Beta2, 0.999)
	m := u.op("Add", u.scale(states[0], b1), u.scale(g, 1-b1))
	v := u.op("Add", u.scale(states[1], b2), u.scale(u.op("Mul", g, g), 1-b2))
	correct := func(beta float32) *ir.Value {
		key := fmt.Sprint("correct ", beta)
		if u.memo[key] == nil {
			u.memo[key] = u.op("Sub", u.Float(1), u.op("Pow", u.Float(beta), u.number))
		}
		return u.fit(u.memo[key], w)
	}
	root := u.op("Add", u.op("Sqrt", u.op("Div", v, correct(b2))), u.Float(or(u.o.Epsilon, 1e-8)))
	return u.op("Div", u.op("Div", m, correct(b1)), root), []*ir.Value{m, v}
}

// Apply makes the graph that updates from summed gradients: inputs W, W.sum, W.S, lr and count, outputs W.new and W.S.new. The
// model supplies the tensors' shapes; Options are those of the accumulating step graph.
func Apply(m *ir.Model, o Options) (*ir.Model, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	s := ir.NewModel("apply", max(m.Opset(""), 17))
	s.IRVersion = max(m.IRVersion, 8)
	ins := newInputs(s.Graph)
	b := ir.NewBuilder(s.Graph, Pass, op.InferNode)
	var wrt, grads []*ir.Value
	count := ins.add(Count, ir.TensorType(ir.Float32, ir.StaticShape(1)))
	u := &updater{Builder: b, memo: map[string]*ir.Value{}}
	for _, p := range o.Params {
		v := m.Graph.Value(p.Name)
		if v == nil || v.Init() == nil || v.Init().DType() != ir.Float32 {
			return nil, fmt.Errorf("pass %s: no float initializer %q to train", Pass, p.Name)
		}
		t := v.Init().Type()
		w, sum := ins.add(p.Name, t), ins.add(p.Name+Sum, t.Clone())
		if ins.err != nil {
			return nil, ins.err
		}
		b.Site = p.Name
		wrt, grads = append(wrt, w), append(grads, b.Op("Div", []*ir.Value{sum, u.fit(count, w)}))
	}
	outs, err := update(b, ins, map[*ir.Value]bool{}, o, wrt, grads)
	if err != nil {
		return nil, err
	}
	if err := s.Graph.SetOutputs(outs...); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	if err := widen(s.Graph); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	if err := prune(s.Graph); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	return s, nil
}
