package distill

import (
	"slices"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// TestRaw finds the scores and the boxes that suppression selects from, but neither a map that regions are cut out of, nor a constant,
// nor a value that no selection follows.
func TestRaw(t *testing.T) {
	m := ir.NewModel("detector", 17)
	b := ir.NewBuilder(m.Graph, "test", op.InferNode)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.Shape{ir.D(1), ir.D(2), ir.D(4), ir.D(4)}))
	if err != nil {
		t.Fatal(err)
	}
	call := func(name, op string, in []*ir.Value, attrs ...ir.Attr) *ir.Value {
		return b.Node(ir.NodeSpec{Op: op, Inputs: in, Outputs: []string{name}, Attrs: attrs}, 1)[0]
	}
	scores := call("scores", "Reshape", []*ir.Value{call("s", "Sigmoid", []*ir.Value{x}), b.Int64s(1, 1, 32)})
	boxes := call("boxes", "Reshape", []*ir.Value{call("e", "Exp", []*ir.Value{x}), b.Int64s(1, 8, 4)})
	few := call("few", "Slice", []*ir.Value{scores, b.Int64s(0), b.Int64s(8), b.Int64s(2)})
	picked := call("picked", "NonMaxSuppression", []*ir.Value{boxes, few, b.Int64s(4), b.Float(0.5)})
	box := call("box", "Squeeze", []*ir.Value{call("third", "Slice", []*ir.Value{picked, b.Int64s(2), b.Int64s(3), b.Int64s(1)}), b.Int64s(1)})
	rows := call("rows", "Gather", []*ir.Value{call("flat", "Reshape", []*ir.Value{boxes, b.Int64s(8, 4)}), box}, ir.AInt("axis", 0))
	image := call("image", "Mul", []*ir.Value{box, b.Int64s(0)})
	features := call("features", "RoiAlign", []*ir.Value{call("map", "Relu", []*ir.Value{x}), rows, image})
	plain := call("plain", "Tanh", []*ir.Value{scores})
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	names := func() (out []string) {
		for _, v := range Raw(m.Graph) {
			out = append(out, v.Name())
		}
		return out
	}
	for _, c := range []struct {
		outputs []*ir.Value
		want    []string
	}{
		{[]*ir.Value{features, plain}, []string{"boxes", "few", "flat"}},
		{[]*ir.Value{plain}, nil},
		{[]*ir.Value{rows, boxes}, []string{"few", "flat"}},
	} {
		if err := m.Graph.SetOutputs(c.outputs...); err != nil {
			t.Fatal(err)
		}
		if got := names(); !slices.Equal(got, c.want) {
			t.Errorf("raw values %v, want %v", got, c.want)
		}
	}
}
