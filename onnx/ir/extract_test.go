package ir_test

import (
	"testing"

	"mqatc/onnx/ir"
)

func names(vs []*ir.Value) string {
	s := ""
	for _, v := range vs {
		s += v.Name() + " "
	}
	return s
}

func TestExtractTakesWhatIsReadAlone(t *testing.T) {
	m := ir.NewModel("net", 17)
	m.Meta.Set("k", "v")
	m.Extra = [][]byte{{1}}
	g := m.Graph
	add := func(v *ir.Value, err error) *ir.Value {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	f := ir.TensorType(ir.Float32, ir.StaticShape(1))
	x, unused := add(g.AddInput("x", f)), add(g.AddInput("unused", f))
	one := ir.ScalarFloat32(1)
	w := add(g.AddInitializer("w", one))
	other := add(g.AddInitializer("other", one))
	scale := add(g.AddInitializer("scale", one))
	def := add(g.AddInput("default", ir.TensorType(ir.Float32, ir.StaticShape())))
	add(g.AddInitializer("default", one))
	node := func(op, out string, in ...*ir.Value) *ir.Node {
		t.Helper()
		n, err := g.Append(ir.NodeSpec{Op: op, Name: "n_" + out, Inputs: in, Outputs: []string{out}})
		if err != nil {
			t.Fatal(err)
		}
		n.Output(0).Type = f.Clone()
		return n
	}
	a := node("Mul", "a", x, w)
	b := node("Add", "b", a.Output(0), other)
	c := node("Add", "c", b.Output(0), def)
	d := node("Mul", "d", c.Output(0), w)
	c.Output(0).Quant.Set("SCALE_TENSOR", "scale")
	for _, v := range []*ir.Value{d.Output(0), unused, other} {
		if err := g.AddOutput(v); err != nil {
			t.Fatal(err)
		}
	}
	part, err := m.Extract([]*ir.Node{d, c}, []*ir.Value{d.Output(0), other, unused})
	if err != nil {
		t.Fatal(err)
	}
	if err := part.Verify(); err != nil {
		t.Fatal(err)
	}
	p := part.Graph
	for _, x := range []struct{ what, got, want string }{
		{"inputs", names(p.Inputs()), "unused default b "}, {"initializers", names(p.Initializers()), "w other scale default "},
		{"outputs", names(p.Outputs()), "d other unused "}, {"name", p.Name, "net"}, {"first node", p.First().Name, "n_c"},
	} {
		if x.got != x.want {
			t.Errorf("%s: %q, want %q", x.what, x.got, x.want)
		}
	}
	if v, _ := part.Meta.Get("k"); v != "v" || part.Extra != nil {
		t.Errorf("metadata %v, kept bytes %v", part.Meta, part.Extra)
	}
	if got := p.Value("b").Type.String(); got != "float[1]" {
		t.Errorf("type %s", got)
	}
	if len(scale.Uses()) != 0 || len(w.Uses()) != 2 || g.NumNodes() != 4 {
		t.Error("the graph has changed")
	}
	if _, err := g.Extract([]*ir.Node{p.First()}, nil); err == nil {
		t.Error("took a node of another graph")
	}
	if _, err := g.Extract([]*ir.Node{d}, []*ir.Value{p.Value("d")}); err == nil {
		t.Error("took an output of another graph")
	}
}
