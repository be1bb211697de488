package op_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// graphOf starts a graph with typed inputs and a builder that infers each node.
func graphOf(t testing.TB, inputs ...string) (*ir.Model, *ir.Builder, []*ir.Value) {
	t.Helper()
	m := ir.NewModel("m", 18)
	var vs []*ir.Value
	for _, s := range inputs {
		name, typ, _ := strings.Cut(s, " ")
		v, err := m.Graph.AddInput(name, parseType(t, typ))
		if err != nil {
			t.Fatal(err)
		}
		vs = append(vs, v)
	}
	return m, ir.NewBuilder(m.Graph, "test", op.InferNode), vs
}

func vals(v ...*ir.Value) []*ir.Value { return v }

// TestSizesThroughShapeChains follows the ways in which exporters compute sizes.
func TestSizesThroughShapeChains(t *testing.T) {
	_, b, in := graphOf(t, "x float[N,3,H,64]", "y float[2,8,10,12]")
	x, y := in[0], in[1]
	want := func(v *ir.Value, typ string) {
		t.Helper()
		if b.Err() != nil {
			t.Fatal(b.Err())
		}
		if v.Type.String() != typ {
			t.Errorf("%s is %v, want %s", v.Name(), v.Type, typ)
		}
	}
	// view(x.size(0), -1): Shape, Gather, Unsqueeze, Concat, Reshape.
	n := b.Op("Unsqueeze", vals(b.Op("Gather", vals(b.Op("Shape", vals(x)), b.Const(ir.ScalarInt64(0)))), b.Int64s(0)))
	want(b.Op("Reshape", vals(x, b.Op("Concat", vals(n, b.Int64s(-1)), ir.AInt("axis", 0)))), "float[N,192*H]")
	// interpolate to twice the size: Slice, Cast, Mul, Floor, Cast, Concat, Resize.
	s := b.Op("Shape", vals(y))
	hw := b.Op("Slice", vals(s, b.Int64s(2), b.Int64s(4), b.Int64s(0)))
	f := b.Op("Floor", vals(b.Op("Mul", vals(b.Op("Cast", vals(hw), ir.AInt("to", int64(ir.Float32))), b.Floats([]float32{1.7, 0.5}, 2)))))
	to := b.Op("Cast", vals(f), ir.AInt("to", int64(ir.Int64)))
	nc := b.Op("Slice", vals(s, b.Int64s(0), b.Int64s(2), b.Int64s(0)))
	want(b.Op("Resize", vals(y, nil, nil, b.Op("Concat", vals(nc, to), ir.AInt("axis", 0)))), "float[2,8,17,6]")
	// expand with -1 for "keep": ConstantOfShape, Mul, Equal, Where, Expand.
	shape := b.Int64s(-1, 8, -1, -1)
	ones := b.Op("ConstantOfShape", vals(b.Op("Shape", vals(shape))), ir.ATensor("value", ir.VectorInt64(1)))
	keep := b.Op("Equal", vals(shape, b.Op("Mul", vals(ones, b.Int64s(-1)))))
	want(b.Op("Expand", vals(y, b.Op("Where", vals(keep, ones, shape)))), "float[2,8,10,12]")
	// pads as PyTorch's old exporter turns them around: Reshape to pairs, Slice backwards, Transpose, Reshape, Cast, Pad.
	rows := b.Op("Slice", vals(b.Op("Reshape", vals(b.Int64s(1, 2, 3, 4, 5, 6, 7, 8), b.Int64s(-1, 2))), b.Int64s(-1), b.Int64s(-math.MaxInt64), b.Int64s(0), b.Int64s(-1)))
	pads := b.Op("Reshape", vals(b.Op("Transpose", vals(rows), ir.AInts("perm", 1, 0)), b.Int64s(-1)))
	want(b.Op("Pad", vals(y, pads)), "float[17,19,17,15]")
	// two axes at once, in steps.
	square := b.Op("Reshape", vals(b.Int64s(1, 2, 3, 4, 5, 6), b.Int64s(2, 3)))
	corners := b.Op("Slice", vals(square, b.Int64s(2, -1), b.Int64s(-9, -9), b.Int64s(-1, 0), b.Int64s(-2, -1)))
	want(b.Op("ConstantOfShape", vals(b.Op("Reshape", vals(corners, b.Int64s(4))))), "float[6,4,3,1]")
	// symbols survive arithmetic that gives them back.
	h := b.Op("Gather", vals(b.Op("Shape", vals(x)), b.Int64s(2)))
	half := b.Op("Div", vals(b.Op("Mul", vals(h, b.Int64s(4))), b.Int64s(2)))
	want(b.Op("Range", vals(b.Const(ir.ScalarInt64(0)), b.Op("Squeeze", vals(half)), b.Const(ir.ScalarInt64(1)))), "int64[2*H]")
	want(b.Op("ConstantOfShape", vals(b.Op("Sub", vals(b.Op("Add", vals(h, b.Int64s(5))), b.Int64s(5))))), "float[H]")
	want(b.Op("ConstantOfShape", vals(b.Op("ReduceProd", vals(b.Op("Shape", vals(y)))))), "float[1920]")
	// half and twice again: the size is known to be even only if H is.
	d := b.Op("MaxPool", vals(x), ir.AInts("kernel_shape", 2, 2), ir.AInts("strides", 2, 2))
	want(d, "float[N,3,((H - 2)//2) + 1,32]")
	want(b.Op("Resize", vals(d, nil, b.Floats([]float32{1, 1, 2, 2}, 4))), "float[N,3,2*((H - 2)//2) + 2,64]")

	v, ok := op.ConstInts(to)
	if !ok || !slices.Equal(v, []int64{17, 6}) {
		t.Errorf("sizes evaluate to %v", v)
	}
	if _, ok := op.ConstInts(n); ok {
		t.Error("a symbol is taken for a constant")
	}
}

func TestInferModelOverridesInputs(t *testing.T) {
	build := func(typ string) *ir.Model {
		m, b, in := graphOf(t, "x "+typ, "z float[1]")
		y := b.Op("Relu", vals(b.Op("Conv", vals(in[0], b.Floats(make([]float32, 2*3*9), 2, 3, 3, 3)))))
		if b.Err() != nil {
			t.Fatal(b.Err())
		}
		if err := m.Graph.AddOutput(y); err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		typ    string
		shapes map[string][]int64
		want   string
	}{
		{"float[N,3,H,H]", nil, "float[N,2,H - 2,H - 2]"},
		{"float[N,3,H,H]", map[string][]int64{"x": {4, 3, 9, 9}}, "float[4,2,7,7]"},
		{"float[N,3,H,H]", map[string][]int64{"x": {-1, 3, 9, 9}}, "float[N,2,7,7]"},
		{"float[1,3,32,32]", map[string][]int64{"x": {8, 3, 64, 40}}, "float[8,2,62,38]"},
		{"float[...]", map[string][]int64{"x": {8, 3, 64, 40}}, "float[8,2,62,38]"},
		{"float[N,3,H,H]", map[string][]int64{"x": {4, 3, 9, 8}}, `error dimension "H" is 8 here and 9 elsewhere`},
		{"float[N,3,H,H]", map[string][]int64{"image": {4, 3, 9, 8}}, `error no input "image"; it has "x", "z"`},
		{"float[N,3,H,H]", map[string][]int64{"x": {4, 3, 9}}, "error number of dimensions"},
		{"float[N,3,H,H]", map[string][]int64{"x": {4, 3, 9, -7}}, "error negative"},
		{"float[N,3,H,H]", map[string][]int64{"x": {1 << 40, 3, 1 << 40, 1 << 40}}, "error overflow"},
		{"float[N,3,H,H]", map[string][]int64{"x": {4, 3, 2, 2}}, "error does not fit"},
	} {
		m := build(c.typ)
		err := op.InferModel(m, c.shapes)
		if text, ok := strings.CutPrefix(c.want, "error "); ok {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s with %v: error %v, want %q", c.typ, c.shapes, err, text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s with %v: %v", c.typ, c.shapes, err)
			continue
		}
		if got := m.Graph.Outputs()[0].Type.String(); got != c.want {
			t.Errorf("%s with %v gives %s, want %s", c.typ, c.shapes, got, c.want)
		}
	}
}

func TestInferModelMergesTheFilesTypes(t *testing.T) {
	m, b, in := graphOf(t, "x float[N,4]")
	mid := b.Op("Relu", in)
	other := b.Node(ir.NodeSpec{Op: "Relu", Inputs: vals(mid)}, 1)[0]
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	foreign, err := m.Graph.Append(ir.NodeSpec{Op: "Magic", Domain: "some.where", Inputs: vals(other), Outputs: []string{"magic"}})
	if err != nil {
		t.Fatal(err)
	}
	foreign.Output(0).Type = parseType(t, "float[7,5]")
	last, err := m.Graph.Append(ir.NodeSpec{Op: "Neg", Inputs: foreign.Outputs(), Outputs: []string{"last"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.AddOutput(last.Output(0)); err != nil {
		t.Fatal(err)
	}
	last.Output(0).Type = parseType(t, "float[rows,5]")
	mid.Type = parseType(t, "float[6,4]")
	if err := op.InferModel(m, nil); err != nil {
		t.Fatal(err)
	}
	if got := other.Type.String(); got != "float[6,4]" {
		t.Errorf("the file's size did not reach the next value: %s", got)
	}
	if got := last.Output(0).Type.String(); got != "float[7,5]" {
		t.Errorf("the type after a foreign operator is %s", got)
	}
	for _, bad := range []string{"float[6,5]", "float[6]", "int64[6,4]"} {
		mid.Type = parseType(t, bad)
		err := op.InferModel(m, nil)
		if err == nil || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), "4]") {
			t.Errorf("contradiction with %s: %v", bad, err)
		}
	}
	mid.Type = ir.Type{}
	if _, err := m.Graph.InsertBefore(foreign, ir.NodeSpec{Op: "Magic", Inputs: vals(other), Outputs: []string{"m2"}}); err != nil {
		t.Fatal(err)
	}
	if err := op.InferModel(m, nil); err == nil || !strings.Contains(err.Error(), "operator Magic of domain ai.onnx") {
		t.Errorf("unknown operator: %v", err)
	}
}

func TestOpsetRange(t *testing.T) {
	for _, c := range []struct {
		op    string
		opset int64
		want  string
	}{{"Gelu", 19, "exists from 20 on"}, {"Gelu", 20, ""}, {"Upsample", 9, ""}, {"Upsample", 10, "withdrawn from 10 on"}} {
		m, b, in := graphOf(t, "x float[1,3,4,4]")
		m.SetOpset("", c.opset)
		args := in
		if c.op == "Upsample" {
			args = vals(in[0], b.Floats([]float32{1, 1, 2, 2}, 4))
		}
		b.Op(c.op, args)
		if b.Err() != nil {
			t.Fatal(b.Err())
		}
		err := op.InferModel(m, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s at opset %d: %v, want %q", c.op, c.opset, err, c.want)
		}
	}
}

// branch makes a graph with one node that reads v, and that node's output as its own.
func branch(t *testing.T, outer *ir.Graph, name, kind string, v *ir.Value, attrs ...ir.Attr) *ir.Graph {
	t.Helper()
	g := ir.NewSubgraph(name, outer)
	n, err := g.Append(ir.NodeSpec{Op: kind, Inputs: vals(v), Outputs: []string{name + "_y"}, Attrs: attrs})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.AddOutput(n.Output(0)); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestControlFlow(t *testing.T) {
	m, b, in := graphOf(t, "x float[N,4,6]", "c bool", "k int64")
	x := in[0]
	choose := func(cond *ir.Value, name string) *ir.Value {
		return b.Op("If", vals(cond), ir.AGraph("then_branch", branch(t, m.Graph, name+"then", "Transpose", x, ir.AInts("perm", 0, 2, 1))),
			ir.AGraph("else_branch", branch(t, m.Graph, name+"else", "Relu", x)))
	}
	open := choose(in[1], "a")
	taken := choose(b.Op("Equal", vals(b.Op("Size", vals(b.Int64s(1, 2))), b.Const(ir.ScalarInt64(2)))), "b")

	body := ir.NewSubgraph("body", m.Graph)
	var bodyIn []*ir.Value
	for _, s := range []string{"i int64", "go bool", "carry float[...]"} {
		name, typ, _ := strings.Cut(s, " ")
		v, err := body.AddInput(name, parseType(t, typ))
		if err != nil {
			t.Fatal(err)
		}
		bodyIn = append(bodyIn, v)
	}
	bb := ir.NewBuilder(body, "test", nil)
	cond := bb.Op("Identity", bodyIn[1:2])
	carry := bb.Op("Concat", vals(bodyIn[2], bodyIn[2]), ir.AInt("axis", 0))
	scan := bb.Op("ReduceMax", vals(x), ir.AInts("axes", 0), ir.AInt("keepdims", 0))
	if bb.Err() != nil {
		t.Fatal(bb.Err())
	}
	if err := body.SetOutputs(cond, carry, scan); err != nil {
		t.Fatal(err)
	}
	truth, err := ir.FromBools([]bool{true})
	if err != nil {
		t.Fatal(err)
	}
	loop := b.Node(ir.NodeSpec{Op: "Loop", Inputs: vals(b.Const(ir.ScalarInt64(5)), b.Const(truth), x), Attrs: []ir.Attr{ir.AGraph("body", body)}}, 2)
	spread, _, err := m.Graph.Clone()
	if err != nil {
		t.Fatal(err)
	}
	while := spread.Last()
	for i := range 2 {
		if err := spread.SetInput(while, i, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := op.InferNode(while); err != nil {
		t.Errorf("a Loop without count and condition: %v", err)
	}
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	for _, c := range []struct {
		v    *ir.Value
		want string
	}{{open, "float[N,?,?]"}, {taken, "float[N,6,4]"}, {loop[0], "float[?,?,?]"}, {loop[1], "float[5,4,6]"}} {
		if got := c.v.Type.String(); got != c.want {
			t.Errorf("%s is %s, want %s", c.v.Name(), got, c.want)
		}
	}
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	op.ClearTypes(m.Graph)
	if err := op.InferModel(m, nil); err != nil {
		t.Fatal(err)
	}
	if got := taken.Type.String(); got != "float[N,6,4]" {
		t.Errorf("the branch taken gives %s", got)
	}
}

func TestSequenceMap(t *testing.T) {
	m, b, in := graphOf(t, "x float[2,3]", "y float[4,3]", "w float[3,5]")
	seq := b.Op("SequenceConstruct", vals(in[0], in[1]))
	body := ir.NewSubgraph("body", m.Graph)
	var bodyIn []*ir.Value
	for _, name := range []string{"e", "v"} {
		v, err := body.AddInput(name, ir.Type{})
		if err != nil {
			t.Fatal(err)
		}
		bodyIn = append(bodyIn, v)
	}
	bb := ir.NewBuilder(body, "test", nil)
	for _, v := range vals(bb.Op("MatMul", bodyIn), bb.Op("Shape", vals(bodyIn[0]))) {
		if err := body.AddOutput(v); err != nil {
			t.Fatal(err)
		}
	}
	out := b.Node(ir.NodeSpec{Op: "SequenceMap", Inputs: vals(seq, in[2]), Attrs: []ir.Attr{ir.AGraph("body", body)}}, 2)
	all := b.Op("ConcatFromSequence", vals(seq), ir.AInt("axis", 0))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	for i, want := range []string{"seq(float[?,5])", "seq(int64[2])"} {
		if got := out[i].Type.String(); got != want {
			t.Errorf("output %d is %s, want %s", i, got, want)
		}
	}
	if got := all.Type.String(); got != "float[6,3]" {
		t.Errorf("the sequence joined is %s", got)
	}
	b.Node(ir.NodeSpec{Op: "SequenceMap", Inputs: vals(in[0], in[2]), Attrs: []ir.Attr{ir.AGraph("body", body)}}, 2)
	if err := b.Err(); err == nil || !strings.Contains(err.Error(), "SequenceMap") {
		t.Errorf("a tensor as the sequence: %v", err)
	}
}
