package ort_test

import (
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
)

// graph builds small test models.
type graph struct {
	t testing.TB
	m *ir.Model
}

func newGraph(t testing.TB, opset int64) *graph { return &graph{t, ir.NewModel("test", opset)} }

func (g *graph) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *graph) in(name string, d ir.DType, s ir.Shape) *ir.Value {
	g.t.Helper()
	v, err := g.m.Graph.AddInput(name, ir.TensorType(d, s))
	g.must(err)
	return v
}

func (g *graph) init(name string, t *ir.Tensor) *ir.Value {
	g.t.Helper()
	v, err := g.m.Graph.AddInitializer(name, t)
	g.must(err)
	return v
}

func (g *graph) op(op, out string, in []*ir.Value, attrs ...ir.Attr) *ir.Value {
	g.t.Helper()
	n, err := g.m.Graph.Append(ir.NodeSpec{Op: op, Name: out, Inputs: in, Outputs: []string{out}, Attrs: attrs})
	g.must(err)
	return n.Outputs()[0]
}

func (g *graph) out(v *ir.Value, d ir.DType, s ir.Shape) *graph {
	g.t.Helper()
	v.Type = ir.TensorType(d, s)
	g.must(g.m.Graph.AddOutput(v))
	return g
}

func (g *graph) bytes() []byte {
	g.t.Helper()
	b, err := format.Marshal(g.m)
	g.must(err)
	return b
}

func tensor(t testing.TB, x *ir.Tensor, err error) *ir.Tensor {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return x
}
