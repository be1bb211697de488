// Package distill trains a network to do what the float network does, from images alone, and measures how well it does.
package distill

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Teacher is the suffix of a target: the float network's output.
const Teacher = ".teacher"

// few is the number of elements of an output, by image, up to which their own variance says too little about their size.
const few = 64

// Loss is the mean over the float outputs of sum((y-t)^2) / (sum((t-mean(t))^2) + 0.001*sum(t^2)), sums over the batch; t is the
// target OUTPUT.teacher. For outputs of few elements the divisor is sum(t^2). So every output counts alike, whatever its size.
//
// The outputs must have types; outputs of integers, such as indices, are left out. It is an error if none is float.
func Loss(outputs []*ir.Value) (*ir.Model, error) {
	m := ir.NewModel("distill", 17)
	b := ir.NewBuilder(m.Graph, "loss", op.InferNode)
	var parts []*ir.Value
	for _, o := range outputs {
		if o.DType() != ir.Float32 {
			continue
		}
		if !o.Shape().HasRank() {
			return nil, fmt.Errorf("distill: output %q has no shape", o.Name())
		}
		y, err := m.Graph.AddInput(o.Name(), o.Type.Clone())
		if err != nil {
			return nil, fmt.Errorf("distill: %w", err)
		}
		t, err := m.Graph.AddInput(o.Name()+Teacher, o.Type.Clone())
		if err != nil {
			return nil, fmt.Errorf("distill: %w", err)
		}
		parts = append(parts, part(b, y, t))
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("distill: the network has no float output")
	}
	b.Site = ""
	all := parts[0]
	if len(parts) > 1 {
		all = b.Op("Concat", parts, ir.AInt("axis", 0))
		all = b.Op("ReduceSum", []*ir.Value{all, b.Int64s(0)}, ir.AInt("keepdims", 0))
		all = b.Op("Mul", []*ir.Value{all, b.Float(1 / float32(len(parts)))})
	}
	out := b.Node(ir.NodeSpec{Op: "Identity", Inputs: []*ir.Value{all}, Outputs: []string{"loss"}}, 1)[0]
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("distill: %w", err)
	}
	return m, m.Graph.SetOutputs(out)
}

func part(b *ir.Builder, y, t *ir.Value) *ir.Value {
	b.Site = y.Name() + "_distill"
	flat := func(v *ir.Value) *ir.Value { return b.Op("Reshape", []*ir.Value{v, b.Int64s(-1)}) }
	sum := func(v *ir.Value) *ir.Value {
		return b.Op("ReduceSum", []*ir.Value{v, b.Int64s(0)}, ir.AInt("keepdims", 1))
	}
	square := func(v *ir.Value) *ir.Value { return b.Op("Mul", []*ir.Value{v, v}) }
	yf, tf := flat(y), flat(t)
	energy := sum(square(tf))
	size := energy
	if many(y.Shape()) {
		mean := b.Op("ReduceMean", []*ir.Value{tf}, ir.AInt("keepdims", 1))
		varied := sum(square(b.Op("Sub", []*ir.Value{tf, mean})))
		size = b.Op("Add", []*ir.Value{varied, b.Op("Mul", []*ir.Value{energy, b.Float(1e-3)})})
	}
	size = b.Op("Add", []*ir.Value{size, b.Float(1e-12)})
	return b.Op("Div", []*ir.Value{sum(square(b.Op("Sub", []*ir.Value{yf, tf}))), size})
}

// many reports whether an output has more than few elements by image; the first dimension counts as the batch.
func many(s ir.Shape) bool {
	n := int64(1)
	for i, d := range s {
		if !d.Known() {
			if i > 0 {
				return true
			}
			continue
		}
		if i > 0 || len(s) == 1 {
			n *= d.Size
		}
	}
	return n > few
}
