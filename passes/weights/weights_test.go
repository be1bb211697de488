package weights_test

import (
	"fmt"
	"slices"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/weights"
)

// TestRecurrentWeights: the weights, biases and peepholes of an LSTM are trained in float, its first states and lengths are not, and what it
// gives is learned.
func TestRecurrentWeights(t *testing.T) {
	m := ir.NewModel("m", 19)
	g := m.Graph
	b := ir.NewBuilder(g, "", op.InferNode)
	constant := func(name string, dims ...int64) *ir.Value {
		n, _ := ir.NumElements(dims)
		x, err := ir.FromFloat32s(make([]float32, n), dims...)
		if err != nil {
			t.Fatal(err)
		}
		c, err := g.AddInitializer(name, x)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	x, err := g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(7, 2, 3)))
	if err != nil {
		t.Fatal(err)
	}
	// Gates in another order, as exporters write them.
	gates := constant("gates", 16, 3)
	some := func(from, to int64) *ir.Value { return b.Op("Slice", []*ir.Value{gates, b.Int64s(from), b.Int64s(to)}) }
	w := b.Op("Unsqueeze", []*ir.Value{b.Op("Concat", []*ir.Value{some(8, 16), some(0, 8)}, ir.AInt("axis", 0)), b.Int64s(0)})
	y := b.Op("LSTM", []*ir.Value{x, w, constant("r", 1, 16, 4), constant("b", 1, 32), nil, constant("h", 1, 2, 4),
		constant("c", 1, 2, 4), constant("p", 1, 12)}, ir.AInt("hidden_size", 4))
	y = b.Op("Reshape", []*ir.Value{y, b.Int64s(1, 2, 7, 4)})
	y = b.Op("DeformConv", []*ir.Value{y, constant("d.w", 3, 2, 2, 2), constant("offset", 1, 8, 6, 3), constant("d.b", 3)})
	b.Op("Mul", []*ir.Value{y, constant("scale", 3, 1, 1)})
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	var got []string
	for _, p := range weights.Find(g) {
		got = append(got, fmt.Sprintf("%s:%s:%v", p.Value.Name(), p.Kind, p.Decays()))
	}
	want := []string{"gates:other:true", "r:other:true", "b:bias:false", "p:scale:false", "d.w:other:true", "d.b:bias:false", "scale:scale:false"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestWhatIsTrained(t *testing.T) {
	m := ir.NewModel("m", 17)
	g := m.Graph
	b := ir.NewBuilder(g, "", op.InferNode)
	constant := func(name string, dims ...int64) *ir.Value {
		n, err := ir.NumElements(dims)
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = 0.5
		}
		x, err := ir.FromFloat32s(v, dims...)
		if err != nil {
			t.Fatal(err)
		}
		c, err := g.AddInitializer(name, x)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	x, err := g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, 3, 8, 8)))
	if err != nil {
		t.Fatal(err)
	}
	op := func(name string, in ...*ir.Value) *ir.Value { return b.Op(name, in) }
	// Preprocessing: per channel, but of the image itself.
	x = op("Sub", x, constant("mean", 1, 3, 1, 1))
	x = op("Mul", x, constant("input_scale", 1, 3, 1, 1))
	y := op("Conv", x, constant("conv.w", 4, 3, 3, 3), constant("conv.b", 4))
	y = op("BatchNormalization", y, constant("bn.scale", 4), constant("bn.shift", 4), constant("bn.mean", 4), constant("bn.var", 4))
	// Hard swish by hand: constants of an activation function.
	y = op("Mul", y, op("Mul", op("Clip", op("Add", y, constant("three")), constant("zero"), constant("six")), constant("sixth")))
	// A decomposed normalization and a learned scalar.
	y = op("Add", op("Mul", y, constant("affine.scale", 4, 1, 1)), constant("affine.shift", 1, 4, 1, 1))
	shared := constant("shared.w", 4, 4, 1, 1)
	y = op("Conv", op("Conv", y, shared), shared)
	y = op("Mul", y, constant("level.scale", 1))
	y = op("Add", y, constant("anchors", 1, 4, 6, 6))
	y = op("MatMul", b.Op("Flatten", []*ir.Value{y}, ir.AInt("axis", 1)), constant("fc.w", 144, 5))
	y = op("Add", y, constant("fc.b", 5))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := g.AddOutput(y); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range weights.Find(g) {
		got = append(got, fmt.Sprintf("%s:%s:%d", p.Value.Name(), p.Kind, len(p.Nodes)))
	}
	want := []string{"conv.w:weight:1", "conv.b:bias:1", "bn.scale:scale:1", "bn.shift:shift:1", "affine.scale:scale:1", "affine.shift:shift:1",
		"shared.w:weight:2", "level.scale:scale:1", "fc.w:weight:1", "fc.b:bias:1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
