// Package loss holds the losses that train a network on targets of its outputs, and reads losses from files.
package loss

import (
	"fmt"
	"strings"

	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Target is the suffix of a named loss's target: what the output should be.
const Target = ".target"

// Output is the name of a loss graph's output.
const Output = "loss"

// Loss is a graph from a network's outputs and targets, each with a leading batch dimension, to the float scalar Output.
type Loss struct {
	Name  string
	Model *ir.Model
	// Bounds are the values that targets may have, by name; a target without is bound by its type alone.
	Bounds map[string]Bounds
}

// Bounds of a target's elements, both included.
type Bounds struct{ Min, Max float64 }

// row is a named loss.
type row struct {
	name string
	// part is the loss of one output o, a scalar; y stands for o in the loss graph.
	part func(b *builder, o, y *ir.Value) *ir.Value
}

// table holds the losses known by name.
var table = []row{{"cross-entropy", crossEntropy}, {"smooth-l1", smoothL1}, {"focal", focal}}

// Names lists the losses known by name.
func Names() []string {
	var out []string
	for _, r := range table {
		out = append(out, r.name)
	}
	return out
}

// Named makes the loss of a name: the mean over all float outputs of the loss of each against the target OUTPUT.target. The
// outputs must have types; their first dimension is the batch. It is an error if none is float, if one does not suit the loss, or
// if there is no such loss.
func Named(name string, outputs []*ir.Value) (*Loss, error) {
	for _, r := range table {
		if r.name == name {
			return r.build(outputs)
		}
	}
	return nil, fmt.Errorf("unknown loss %q: one of %s", name, strings.Join(Names(), ", "))
}

func (r row) build(outputs []*ir.Value) (*Loss, error) {
	l := &Loss{Name: r.name, Model: ir.NewModel(r.name, 17), Bounds: map[string]Bounds{}}
	b := &builder{Builder: ir.NewBuilder(l.Model.Graph, "loss", op.InferNode), loss: l}
	var all *ir.Value
	n := 0
	for _, o := range outputs {
		if o.DType() != ir.Float32 {
			continue
		}
		if !o.Shape().HasRank() || len(o.Shape()) == 0 {
			return nil, fmt.Errorf("loss %s: %w", r.name, b.refuse(o, "it has no shape with a batch"))
		}
		y, err := l.Model.Graph.AddInput(o.Name(), o.Type.Clone())
		if err != nil {
			return nil, fmt.Errorf("loss %s: %w", r.name, err)
		}
		b.Site = o.Name() + "_" + r.name
		part := r.part(b, o, y)
		if n++; n == 1 {
			all = part
		} else {
			all = b.op("Add", all, part)
		}
	}
	if n == 0 {
		return nil, hint.Errorf("name another loss with --loss", "loss %s: the network has no float output", r.name)
	}
	b.Site = ""
	if n > 1 {
		all = b.op("Mul", all, b.Float(1/float32(n)))
	}
	out := b.Node(ir.NodeSpec{Op: "Identity", Inputs: []*ir.Value{all}, Outputs: []string{Output}}, 1)[0]
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("loss %s: %w", r.name, err)
	}
	return l, l.Model.Graph.SetOutputs(out)
}

type builder struct {
	*ir.Builder
	loss *Loss
}

func (b *builder) op(name string, in ...*ir.Value) *ir.Value { return b.Op(name, in) }

// refuse is the error of an output that does not suit the loss.
func (b *builder) refuse(o *ir.Value, what string, args ...any) error {
	return hint.Errorf("name another loss, or write one for this network and give it as --loss FILE.onnx",
		"output %q: %s", o.Name(), fmt.Sprintf(what, args...))
}

// target adds the input o.target with the batch of o. bounds may be nil.
func (b *builder) target(o *ir.Value, d ir.DType, s ir.Shape, bounds *Bounds) *ir.Value {
	name := o.Name() + Target
	v, err := b.G.AddInput(name, ir.TensorType(d, s.Clone()))
	if err != nil {
		return b.Fail(err)
	}
	if bounds != nil {
		b.loss.Bounds[name] = *bounds
	}
	return v
}

// total is the sum of all elements of v, a scalar.
func (b *builder) total(v *ir.Value, rank int) *ir.Value {
	axes := make([]int64, rank)
	for i := range axes {
		axes[i] = int64(i)
	}
	return b.Op("ReduceSum", []*ir.Value{v, b.Int64s(axes...)}, ir.AInt("keepdims", 0))
}

// atLeastOne bounds a divisor from below.
func (b *builder) atLeastOne(v *ir.Value) *ir.Value { return b.op("Max", v, b.Float(1)) }
