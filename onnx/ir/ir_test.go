package ir_test

import (
	"slices"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"pgregory.net/rapid"
)

func chain(t *testing.T) (*ir.Graph, *ir.Node, *ir.Node) {
	t.Helper()
	g := ir.NewGraph("g")
	x, err := g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, 3)))
	if err != nil {
		t.Fatal(err)
	}
	a, err := g.Append(ir.NodeSpec{Op: "Relu", Inputs: []*ir.Value{x}, Outputs: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := g.Append(ir.NodeSpec{Op: "Add", Inputs: []*ir.Value{a.Output(0), x}, Outputs: []string{"y"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.AddOutput(b.Output(0)); err != nil {
		t.Fatal(err)
	}
	return g, a, b
}

func TestEdgesAgree(t *testing.T) {
	g, a, b := chain(t)
	if err := g.Verify(); err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(a); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("removed a node in use: %v", err)
	}
	if err := g.ReplaceUses(b.Output(0), a.Output(0)); err == nil {
		t.Fatal("replaced a graph output silently")
	}
	if err := g.ReplaceUses(a.Output(0), g.Value("x")); err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(a); err != nil {
		t.Fatal(err)
	}
	if err := g.Verify(); err != nil {
		t.Fatal(err)
	}
	if n := len(g.Value("x").Uses()); n != 2 {
		t.Fatalf("x has %d uses, want 2", n)
	}
}

func TestOutputKeepsItsName(t *testing.T) {
	g, a, b := chain(t)
	if err := g.ReplaceAllUses(b.Output(0), a.Output(0)); err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(b); err != nil {
		t.Fatal(err)
	}
	if g.Outputs()[0].Name() != "y" || g.Outputs()[0].Producer() != a {
		t.Fatal("output lost its name")
	}
	if err := g.Verify(); err != nil {
		t.Fatal(err)
	}
}

func TestSortAndCycle(t *testing.T) {
	g, a, b := chain(t)
	if err := g.MoveBefore(b, a); err != nil {
		t.Fatal(err)
	}
	if g.Verify() == nil {
		t.Fatal("wrong order passed")
	}
	if err := g.Sort(); err != nil {
		t.Fatal(err)
	}
	if err := g.Verify(); err != nil {
		t.Fatal(err)
	}
	if err := g.SetInput(a, 0, b.Output(0)); err != nil {
		t.Fatal(err)
	}
	if err := g.Sort(); err == nil || !strings.Contains(err.Error(), "cycle") {
		t.Fatalf("cycle not found: %v", err)
	}
}

func TestCloneAndInline(t *testing.T) {
	g, _, _ := chain(t)
	c, vals, err := g.Clone()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(); err != nil {
		t.Fatal(err)
	}
	if vals[g.Value("x")] != c.Value("x") || c.NumNodes() != 2 {
		t.Fatal("clone differs")
	}
	m, err := c.Inline(g, map[*ir.Value]*ir.Value{g.Value("x"): c.Value("y")}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(); err != nil {
		t.Fatal(err)
	}
	if m[g.Value("y")].Name() != "y_2" || m[g.Value("y")].Producer().Pass != "test" {
		t.Fatal("inlined names or provenance are wrong")
	}
}

// TestNamesInsideSubgraphs: a new value does not get the name of one that sees it, wherever the graphs were made or copied.
func TestNamesInsideSubgraphs(t *testing.T) {
	g := ir.NewGraph("g")
	c, err := g.AddInput("c", ir.TensorType(ir.Bool, ir.StaticShape()))
	if err != nil {
		t.Fatal(err)
	}
	branch := func(outer *ir.Graph, name string) *ir.Graph {
		s := ir.NewSubgraph("branch", outer)
		n, err := s.Append(ir.NodeSpec{Op: "Not", Inputs: []*ir.Value{c}, Outputs: []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AddOutput(n.Output(0)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	choice := ir.NodeSpec{Op: "If", Inputs: []*ir.Value{c}, Outputs: []string{"y"},
		Attrs: []ir.Attr{ir.AGraph("then_branch", branch(g, "in")), ir.AGraph("else_branch", branch(g, "out"))}}
	n, err := g.Append(choice)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.FreshName("in"); got != "in_2" {
		t.Errorf("beside a branch with a value in, the name is %q", got)
	}
	h := ir.NewGraph("h")
	if _, err := h.AddInput("in", ir.TensorType(ir.Bool, ir.StaticShape())); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Inline(g, nil, "test"); err != nil {
		t.Fatal(err)
	}
	for _, s := range h.Last().Subgraphs() {
		if name := s.Outputs()[0].Name(); name == "in" {
			t.Error("a copied branch hides a value of the graph around it")
		}
	}
	if err := g.Remove(n); err != nil {
		t.Fatal(err)
	}
	if got := g.FreshName("out"); got != "out" {
		t.Errorf("after the branch is gone its name is still taken: %q", got)
	}
}

func TestPackRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom([]ir.DType{ir.Int2, ir.Uint2, ir.Int4, ir.Uint4, ir.Int8, ir.Uint8, ir.Int32}).Draw(t, "d")
		lo, hi := 0, 1<<min(d.Bits(), 20)-1
		if strings.HasPrefix(d.String(), "int") {
			lo, hi = -(hi+1)/2, hi/2
		}
		v := rapid.SliceOf(rapid.Custom(func(t *rapid.T) int64 { return int64(rapid.IntRange(lo, hi).Draw(t, "e")) })).Draw(t, "v")
		x, err := ir.PackInts(d, v, int64(len(v)))
		if err != nil {
			t.Fatal(err)
		}
		back, err := x.Ints()
		if err != nil {
			t.Fatal(err)
		}
		for i := range v {
			if v[i] != back[i] {
				t.Fatalf("%v: element %d: %d became %d", d, i, v[i], back[i])
			}
		}
	})
	if _, err := ir.PackInts(ir.Int2, []int64{2}, 1); err == nil {
		t.Fatal("2 fits int2")
	}
}

func TestCodesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom([]ir.DType{ir.Uint2, ir.Float4E2M1, ir.Float6E2M3, ir.Float6E3M2}).Draw(t, "d")
		v := rapid.SliceOf(rapid.Uint8Range(0, 1<<d.Bits()-1)).Draw(t, "v")
		x, err := ir.PackCodes(d, v, int64(len(v)))
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Raw()) != (len(v)*d.Bits()+7)/8 {
			t.Fatalf("%d elements of %v take %d bytes", len(v), d, len(x.Raw()))
		}
		back, err := x.Codes()
		if err != nil || !slices.Equal(back, v) {
			t.Fatalf("%v: %v became %v (%v)", d, v, back, err)
		}
	})
	x, err := ir.PackCodes(ir.Float6E2M3, []uint8{1, 0x3f, 0x15, 0x2a, 7}, 5)
	if err != nil || !slices.Equal(x.Raw(), []byte{0xc1, 0x5f, 0xa9, 7}) {
		t.Errorf("packed to %x, %v", x.Raw(), err)
	}
	for _, c := range []struct {
		d    ir.DType
		code uint8
	}{{ir.Float6E2M3, 64}, {ir.Float4E2M1, 16}, {ir.Int8, 1}, {ir.String, 1}} {
		if _, err := ir.PackCodes(c.d, []uint8{c.code}, 1); err == nil {
			t.Errorf("%d was packed as %v", c.code, c.d)
		}
	}
	if _, err := ir.ScalarInt64(1).Codes(); err == nil {
		t.Error("an int64 has codes")
	}
}

func TestHostileSizes(t *testing.T) {
	if _, err := ir.NewTensor(ir.Float32, []int64{1 << 40, 1 << 40}, nil); err == nil {
		t.Fatal("overflow accepted")
	}
	if _, err := ir.NewTensor(ir.Float32, []int64{-1}, nil); err == nil {
		t.Fatal("negative size accepted")
	}
	if _, err := ir.NewTensor(ir.Int4, []int64{3}, make([]byte, 3)); err == nil {
		t.Fatal("wrong byte count accepted")
	}
}

func TestBuilderKeepsFirstError(t *testing.T) {
	g, _, _ := chain(t)
	b := ir.NewBuilder(g, "p", nil)
	other := ir.NewGraph("other")
	z, _ := other.AddInput("z", ir.Type{})
	v := b.Op("Relu", []*ir.Value{z})
	v = b.Op("Relu", []*ir.Value{v})
	if b.Err() == nil || v == nil {
		t.Fatal("error lost")
	}
	ok := ir.NewBuilder(g, "p", nil)
	if ok.Int64s(1, 2) != ok.Int64s(1, 2) || ok.Int64s(1) == ok.Float(1) {
		t.Fatal("constants are not shared as they should be")
	}
}
