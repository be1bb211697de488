// Package step builds training-step graphs: model, loss, backward pass and optimizer in one ONNX graph that stock onnxruntime runs.
//
// Inputs of a step graph are the model's inputs, the loss's targets, lr (float[1]), each trained tensor W under its own name
// and each optimizer state S of it as W.S; a masked W also has W.mask (bool, of W's shape). Outputs are loss (a scalar),
// W.new, W.S.new and, if asked for, W.grad, the gradient of the loss as it is before clipping, scaling and decay.
//
// An optimizer that counts, and EMA, take step (float[1], from 1); with EMA, W.ema is a state too.
//
// An accumulating step graph has W.sum instead of optimizer states and returns W.sum.new = W.sum + gradient; the graph made by
// Apply takes W, W.sum, W.S, lr and count (float[1], the number of steps summed) and returns W.new and W.S.new.
package step

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
	"mqatc/passes/memory"
)

// Pass is the name recorded in the nodes made here.
const Pass = "step"

// Names of the inputs and outputs that every step graph has, and suffixes of those that belong to a trained tensor.
const (
	Loss       = "loss"
	LR         = "lr"
	StepNumber = "step"  // float[1], counted from 1; an input where the optimizer corrects for it
	Count      = "count" // float[1]; an input of Apply's graph

	New  = ".new"
	Grad = ".grad"
	Mask = ".mask"
	Sum  = ".sum"
)

// Param is one trained tensor: a float initializer of the model.
type Param struct {
	Name  string
	Decay bool // weight decay applies
	// LRScale multiplies the rate, GradScale the gradient before clipping (LSQ's 1/sqrt(numel*Qp)); 0 means 1.
	LRScale, GradScale float32
	// Min is a lower bound of the updated elements, for step sizes that must stay positive; 0 means none.
	Min float32
	// Masked adds the input W.mask. Where it is false, W and its states keep their bits and the gradient counts as zero.
	Masked bool
}

// Update makes a value of the graph the new content of a float initializer that is not trained, such as a running statistic:
// the initializer becomes an input and Value the output Name.new.
type Update struct{ Name, Value string }

// Options say what the step graph does.
type Options struct {
	Loss   *ir.Model // inputs named after model outputs, model inputs or targets; its only float output of one element is the loss
	Batch  int64     // replaces a symbolic or unknown first dimension of inputs and targets; 0 leaves it
	Params []Param
	// Shapes gives inputs by name their sizes, over what the model says.
	Shapes     map[string][]int64
	Optimizer  Optimizer
	EmitGrads  bool
	Accumulate bool // sum gradients instead of updating; Apply's graph updates
	Updates    []Update
	// Lower gives the graph, with parts of its gradients as operators of grad.Domain, the forms that the machine runs fastest. Nil
	// leaves standard operators.
	Lower func(*ir.Model) error
	// Expose are computed values of the model that the loss may read as if they were outputs.
	Expose []string
	// BatchStatistics lets each BatchNormalization with a trained scale or shift use the mean and variance of the batch, and updates
	// its running statistics, which Statistics lists: they become states.
	BatchStatistics bool
	// Recompute divides the forward pass into so many segments at most, or memory.Auto, and computes values inside them a second time
	// for the backward pass instead of keeping them; 0 keeps all. Results have the same bits.
	Recompute int
	// Tried is told how many choices of segments memory.Auto has tried, of how many at most. May be nil.
	Tried func(done, most int)
}

// Build makes the step graph of m. m is not changed.
//
// It is an error if a parameter is not a float initializer, has no path to the loss, if a shape stays unknown after inference
// where a gradient needs it, or if the loss's inputs and the model's names cannot be told apart.
func Build(m *ir.Model, o Options) (*ir.Model, error) {
	s, err := build(m, o, nil)
	if err != nil {
		return nil, err
	}
	if err := complete(s, o.Lower); err != nil {
		return nil, err
	}
	return s, nil
}

// build is Build without the forms that o.Lower gives. If change is not nil, it may change the graph up to the loss.
func build(m *ir.Model, o Options, change func(*ir.Graph) error) (*ir.Model, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	s, err := merge(m, o)
	if err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	if change != nil {
		if err := change(s.Graph); err != nil {
			return nil, fmt.Errorf("pass %s: %w", Pass, err)
		}
	}
	if o.BatchStatistics {
		updates, err := batchStatistics(s.Graph, o.Params)
		if err != nil {
			return nil, fmt.Errorf("pass %s: %w", Pass, err)
		}
		o.Updates = append(slices.Clone(o.Updates), updates...)
	}
	loss := s.Graph.Outputs()[0]
	wrt := make([]*ir.Value, len(o.Params))
	for i, p := range o.Params {
		if v := m.Graph.Value(p.Name); v != nil && v.Init() != nil && s.Graph.Value(p.Name) == nil {
			return nil, fmt.Errorf("pass %s: the loss does not depend on %q", Pass, p.Name)
		}
		if wrt[i], err = trained(s.Graph, p.Name); err != nil {
			return nil, fmt.Errorf("pass %s: %w", Pass, err)
		}
	}
	cots := map[*ir.Value]*ir.Value{}
	grads, err := grad.Gradients(s.Graph, []grad.Seed{{Value: loss}}, wrt,
		grad.Options{Opaque: o.Lower != nil, Frugal: o.Recompute != 0, Cotangent: func(v, ct *ir.Value) { cots[v] = ct }})
	if err != nil {
		return nil, err
	}
	for i, g := range grads {
		if g == nil {
			return nil, fmt.Errorf("pass %s: the loss does not depend on %q", Pass, o.Params[i].Name)
		}
	}
	if err := finish(s.Graph, o, wrt, grads); err != nil {
		return nil, err
	}
	if err := widen(s.Graph); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	if err := prune(s.Graph); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	if o.Recompute != 0 {
		again := memory.Options{Loss: loss, Weights: wrt, Cotangents: cots, Segments: o.Recompute, Suffix: New, Tried: o.Tried}
		if o.Lower != nil {
			again.Scratch = grad.Scratch
		}
		if _, err := memory.Recompute(s.Graph, again); err != nil {
			return nil, fmt.Errorf("pass %s: %w", Pass, err)
		}
	}
	return s, nil
}

// complete gives the step graph the forms of lower, where it is not nil, and checks it.
func complete(s *ir.Model, lower func(*ir.Model) error) error {
	if lower != nil {
		if err := lower(s); err != nil {
			return err
		}
		if err := memory.Join(s.Graph); err != nil {
			return fmt.Errorf("pass %s: %w", Pass, err)
		}
		if err := prune(s.Graph); err != nil {
			return fmt.Errorf("pass %s: %w", Pass, err)
		}
	}
	s.Graph.UniqueNodeNames()
	if err := s.Verify(); err != nil {
		return fmt.Errorf("pass %s: %w", Pass, err)
	}
	return nil
}

func (o *Options) check() error {
	if o.Loss == nil || o.Loss.Graph == nil {
		return fmt.Errorf("no loss graph")
	}
	if len(o.Params) == 0 {
		return fmt.Errorf("nothing to train")
	}
	if o.Batch < 0 {
		return fmt.Errorf("batch %d", o.Batch)
	}
	seen := map[string]bool{}
	for _, p := range o.Params {
		if seen[p.Name] {
			return fmt.Errorf("parameter %q is listed twice", p.Name)
		}
		seen[p.Name] = true
		if !finite(p.LRScale) || !finite(p.GradScale) || !finite(p.Min) || p.LRScale < 0 || p.GradScale < 0 || p.Min < 0 {
			return fmt.Errorf("parameter %q: LRScale %v, GradScale %v and Min %v must be finite and not negative", p.Name, p.LRScale, p.GradScale, p.Min)
		}
	}
	for _, u := range o.Updates {
		if seen[u.Name] {
			return fmt.Errorf("%q is trained and updated", u.Name)
		}
		seen[u.Name] = true
	}
	return o.Optimizer.check()
}

func finite(v float32) bool { return v-v == 0 }

func trained(g *ir.Graph, name string) (*ir.Value, error) {
	v := g.Value(name)
	switch {
	case v == nil:
		return nil, fmt.Errorf("no value %q to train", name)
	case v.Init() == nil:
		return nil, fmt.Errorf("%q is not an initializer, so it cannot be trained", name)
	case v.Init().DType() != ir.Float32:
		return nil, fmt.Errorf("%q is %v; only float tensors are trained", name, v.Init().Type())
	}
	if err := g.InputFromInitializer(v); err != nil {
		return nil, err
	}
	return v, nil
}

// finish turns gradients into the outputs of the step graph.
func finish(g *ir.Graph, o Options, wrt, grads []*ir.Value) error {
	b := ir.NewBuilder(g, Pass, op.InferNode)
	outs := []*ir.Value{g.Outputs()[0]}
	claimed := map[*ir.Value]bool{outs[0]: true}
	for _, u := range o.Updates {
		v := g.Value(u.Value)
		if v == nil || v.Producer() == nil {
			return fmt.Errorf("pass %s: no computed value %q to update %q from", Pass, u.Value, u.Name)
		}
		if _, err := trained(g, u.Name); err != nil {
			return fmt.Errorf("pass %s: update: %w", Pass, err)
		}
		outs = append(outs, output(b, claimed, v, u.Name+New))
	}
	if o.EmitGrads {
		for i, w := range wrt {
			outs = append(outs, output(b, claimed, grads[i], w.Name()+Grad))
		}
	}
	ins := newInputs(g)
	if o.Accumulate {
		for i, w := range wrt {
			sum := ins.add(w.Name()+Sum, w.Type.Clone())
			if ins.err != nil {
				return ins.err
			}
			outs = append(outs, named(b, "Add", w.Name()+Sum+New, sum, grads[i]))
		}
	} else {
		upd, err := update(b, ins, claimed, o, wrt, grads)
		if err != nil {
			return err
		}
		outs = append(outs, upd...)
	}
	if err := b.Err(); err != nil {
		return err
	}
	return g.SetOutputs(outs...)
}

// output gives v the name of an output; where v is no computed value, or has that duty already, a copy gets it.
func output(b *ir.Builder, claimed map[*ir.Value]bool, v *ir.Value, name string) *ir.Value {
	if v.Producer() == nil || claimed[v] {
		return named(b, "Identity", name, v)
	}
	claimed[v] = true
	if err := release(b.G, name); err != nil {
		return b.Fail(err)
	}
	if err := b.G.Rename(v, name); err != nil {
		return named(b, "Identity", name, v)
	}
	return v
}

// named adds a node whose output has exactly this name.
func named(b *ir.Builder, opType, name string, in ...*ir.Value) *ir.Value {
	if err := release(b.G, name); err != nil {
		return b.Fail(err)
	}
	return b.Node(ir.NodeSpec{Op: opType, Inputs: in, Outputs: []string{name}}, 1)[0]
}

// release frees a name that the step graph's contract needs from a computed value or constant of the model.
func release(g *ir.Graph, name string) error {
	v := g.Value(name)
	if v == nil {
		return nil
	}
	if v.IsInput() || v.IsOutput() {
		return fmt.Errorf("pass %s: the model's %q has a name that the step graph needs", Pass, name)
	}
	return g.Rename(v, g.FreshName(name+"_of_model"))
}

// inputs adds graph inputs under exact names and keeps the first error.
type inputs struct {
	g   *ir.Graph
	err error
}

func newInputs(g *ir.Graph) *inputs { return &inputs{g: g} }

func (s *inputs) add(name string, t ir.Type) *ir.Value {
	if s.err != nil {
		return nil
	}
	if s.err = release(s.g, name); s.err != nil {
		return nil
	}
	var v *ir.Value
	v, s.err = s.g.AddInput(name, t)
	return v
}

// prune removes nodes and constants that no output needs, and inputs that nothing reads.
func prune(g *ir.Graph) error {
	for n := g.Last(); n != nil; {
		prev := n.Prev()
		used := false
		for _, v := range n.Outputs() {
			used = used || v.Used()
		}
		if !used {
			if err := g.Remove(n); err != nil {
				return err
			}
		}
		n = prev
	}
	for _, v := range append([]*ir.Value(nil), g.Initializers()...) {
		if !v.Used() {
			if err := g.RemoveInitializer(v); err != nil {
				return err
			}
		}
	}
	for _, v := range append([]*ir.Value(nil), g.Inputs()...) {
		if !v.Used() {
			if err := g.RemoveInput(v); err != nil {
				return err
			}
		}
	}
	return nil
}
