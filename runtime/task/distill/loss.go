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

// Parts of the divisor of an image's error: its energy beside its variance, the batch's mean, and the square of a value that counts
// as nothing.
const (
	energyPart = 0.05
	batchPart  = 0.02
	nothing    = 1e-6
	// littleProbability is nothing for a few probabilities, such as whether an object is there: the square of 0.05.
	littleProbability = 2.5e-3
)

// Loss is the mean over float outputs and images of |y-t|^2 / (v + 0.02*mean(v) + 1e-6*M), with t the target OUTPUT.teacher, M the
// elements of an image, v = sum((t-mean(t))^2) + 0.05*sum(t^2) of the image and mean(v) over the batch; a few probabilities have
// 2.5e-3*M for the last term. For outputs of few elements v is sum(t^2). So every output and every image counts nearly alike, as in
// the mean cosine that decides, and an output that is zero everywhere does not outweigh the others.
//
// The outputs must have types; their first dimension is the batch where it is symbolic or 1. Outputs of integers, such as indices,
// are left out. It is an error if none is float.
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
		least := nothing
		if probability(o) {
			least = littleProbability
		}
		parts = append(parts, part(b, y, t, least))
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("distill: the network has no float output")
	}
	b.Site = ""
	all := parts[0]
	if len(parts) > 1 {
		all = b.Op("Concat", parts, ir.AInt("axis", 0))
		all = b.Op("ReduceSum", []*ir.Value{all, b.Int64s(0)}, ir.AInt("keepdims", 1))
		all = b.Op("Mul", []*ir.Value{all, b.Float(1 / float32(len(parts)))})
	}
	out := b.Node(ir.NodeSpec{Op: "Identity", Inputs: []*ir.Value{all}, Outputs: []string{"loss"}}, 1)[0]
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("distill: %w", err)
	}
	return m, m.Graph.SetOutputs(out)
}

// probability reports an output of few elements that a squashing function makes.
func probability(o *ir.Value) bool {
	if _, inner := imageShape(o.Shape()); inner == 0 || inner > few {
		return false
	}
	for v, i := o, 0; v != nil && v.Producer() != nil && i < 8; i++ {
		switch n := v.Producer(); n.Op {
		case "Sigmoid", "Softmax", "HardSigmoid":
			return true
		case "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity":
			v = n.Input(0)
		default:
			return false
		}
	}
	return false
}

func part(b *ir.Builder, y, t *ir.Value, least float64) *ir.Value {
	b.Site = y.Name() + "_distill"
	op := func(name string, in ...*ir.Value) *ir.Value { return b.Op(name, in) }
	rows, inner := imageShape(y.Shape())
	byImage := func(v *ir.Value) *ir.Value { return op("Reshape", v, b.Int64s(rows, -1)) }
	sum := func(v *ir.Value) *ir.Value {
		return b.Op("ReduceSum", []*ir.Value{v, b.Int64s(1)}, ir.AInt("keepdims", 1))
	}
	mean := func(v *ir.Value) *ir.Value { return b.Op("ReduceMean", []*ir.Value{v}, ir.AInt("keepdims", 1)) }
	square := func(v *ir.Value) *ir.Value { return op("Mul", v, v) }
	ym, tm := byImage(y), byImage(t)
	size := sum(square(tm))
	if inner > few {
		offset := op("Mul", square(sum(tm)), b.Float(float32(1/float64(inner))))
		varied := op("Sub", op("Mul", size, b.Float(1+energyPart)), offset)
		size = op("Max", varied, op("Mul", size, b.Float(energyPart)))
	}
	floor := op("Add", op("Mul", mean(size), b.Float(batchPart)), b.Float(float32(least*float64(max(inner, 1)))))
	ratio := op("Div", sum(square(op("Sub", ym, tm))), op("Add", size, floor))
	return op("Reshape", mean(ratio), b.Int64s(1))
}

// imageShape is the first size of an output reshaped to images x elements, as Reshape takes it, and the number of elements of an
// image, 0 where it is unknown.
func imageShape(s ir.Shape) (rows, inner int64) {
	inner = 1
	for i, d := range s {
		switch {
		case i == 0 && (!d.Known() || d.Size == 1):
			rows = 0
			continue
		case i == 0:
			rows = 1
		}
		if !d.Known() {
			inner = 0
		}
		inner *= d.Size
	}
	if len(s) == 0 {
		rows = 1
	}
	return rows, inner
}
