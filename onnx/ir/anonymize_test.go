package ir

import "testing"

func TestAnonymize(t *testing.T) {
	m := NewModel("net", 17)
	m.Doc = "by somebody"
	g := m.Graph
	x, err := g.AddInput("t2", TensorType(Float32, StaticShape(1)))
	if err != nil {
		t.Fatal(err)
	}
	one, err := FromFloat32s([]float32{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	scale, err := g.AddInitializer("scale", one)
	if err != nil {
		t.Fatal(err)
	}
	sub := NewSubgraph("branch", g)
	inner, err := sub.Append(NodeSpec{Op: "Identity", Name: "deep", Inputs: []*Value{x}, Outputs: []string{"t1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.AddOutput(inner.Output(0)); err != nil {
		t.Fatal(err)
	}
	n, err := g.Append(NodeSpec{Op: "If", Name: "choice", Inputs: []*Value{x}, Outputs: []string{"y", ""}, Attrs: []Attr{AGraph("then_branch", sub)},
		Meta: Meta{{"scope", "head"}}})
	if err != nil {
		t.Fatal(err)
	}
	y := n.Output(0)
	y.Quant = Meta{{"SCALE_TENSOR", "scale"}}
	if err := g.AddOutput(y); err != nil {
		t.Fatal(err)
	}
	old := m.Anonymize()
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	for v, c := range map[*Value]struct{ name, old string }{x: {"t1", "t2"}, scale: {"t2", "scale"}, y: {"t3", "y"}, inner.Output(0): {"t4", "t1"}} {
		if v.Name() != c.name || old[v] != c.old {
			t.Errorf("%q, once %q, is called %q", c.old, old[v], v.Name())
		}
	}
	if g.Value("scale") != nil || g.Value("t2") != scale || sub.Value("t4") != inner.Output(0) {
		t.Error("the graph does not find its values by their new names")
	}
	if y.Quant[0].Value != "t2" || n.Name != "" || n.Meta != nil || inner.Name != "" || m.Doc != "" {
		t.Errorf("left: annotation %v, node names %q and %q, metadata %v, doc %q", y.Quant, n.Name, inner.Name, n.Meta, m.Doc)
	}
}
