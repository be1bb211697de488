package op_test

import (
	"fmt"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/onnx/text"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// calling is a model whose Convs stand behind calls of functions: one that calls another, with an attribute of the call, with a
// default, and without its optional input; and one whose result is a size that Reshape needs.
const calling = `
<ir_version: 10, opset_import: ["": 17, "local": 1]>
g (float[N,3,32,32] x, float[8,3,3,3] w, float[8] b, float[16,8,3,3] w2) => (p, q, r)
{
    a = local.Block <step: ints = [2, 2]> (x, w, b)
    p = Conv (a, w2)
    c = local.Block (x, w)
    q = Conv <pads: ints = [1, 1, 1, 1]> (c, w2)
    s = local.Flat (c)
    r = Reshape (c, s)
}
<domain: "local", opset_import: ["": 17, "local": 1]>
Block <step: ints = [1, 1]> (x, w, b) => (y)
{
    h = local.Act <rate: float = 0.1> (x)
    y = Conv <strides: ints = @step> (h, w, b)
}
<domain: "local", opset_import: ["": 17]>
Act <rate> (x) => (y)
{
    y = LeakyRelu <alpha: float = @rate> (x)
}
<domain: "local", opset_import: ["": 17]>
Flat (x) => (s)
{
    n = Shape <end: int = 1> (x)
    rest = Constant <value_ints: ints = [-1]> ()
    s = Concat <axis: int = 0> (n, rest)
}`

func parseModel(t *testing.T, src string) *ir.Model {
	t.Helper()
	m, err := text.Parse(t.Name(), []byte(src), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTypesPassThroughFunctions(t *testing.T) {
	m := parseModel(t, calling)
	before, err := format.Marshal(&ir.Model{IRVersion: 10, Graph: ir.NewGraph("g"), Functions: m.Functions})
	if err != nil {
		t.Fatal(err)
	}
	if err := op.InferModel(m, map[string][]int64{"x": {5, 3, 32, 32}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a": "float[5,8,15,15]", "p": "float[5,16,13,13]", "c": "float[5,8,30,30]", "q": "float[5,16,30,30]", "s": "int64[2]", "r": "float[5,7200]",
	} {
		if got := m.Graph.Value(name).Type.String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	after, err := format.Marshal(&ir.Model{IRVersion: 10, Graph: ir.NewGraph("g"), Functions: m.Functions})
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("inference changed the functions")
	}
}

func TestFunctionsAgainstOnnxruntime(t *testing.T) {
	orttest.TestLibrary(t)
	m := parseModel(t, calling)
	if err := op.InferModel(m, map[string][]int64{"x": {5, 3, 32, 32}}); err != nil {
		t.Fatal(err)
	}
	var ours []string
	feeds := map[string]*ir.Tensor{}
	for _, v := range m.Graph.Inputs() {
		dims, _ := v.StaticDims()
		n, err := ir.NumElements(dims)
		if err != nil {
			t.Fatal(err)
		}
		if feeds[v.Name()], err = ir.FromFloat32s(make([]float32, n), dims...); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range m.Graph.Outputs() {
		ours = append(ours, o.Name()+" "+o.Type.String())
	}
	op.ClearTypes(m.Graph)
	for _, o := range m.Graph.Outputs() {
		o.Type = ir.TensorType(ir.Float32, nil)
	}
	data, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(data, ort.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range m.Graph.Outputs() {
		if theirs := o.Name() + " " + got[o.Name()].Type().String(); theirs != ours[i] {
			t.Errorf("inferred %s, onnxruntime gives %s", ours[i], theirs)
		}
	}
}

func TestFunctionsOfStrangers(t *testing.T) {
	head := `<ir_version: 10, opset_import: ["": 17, "f": 1]> g (float[2,2] x) => (y) { y = f.F0 (x) }`
	def := func(name, body string) string {
		return fmt.Sprintf("\n<domain: %q, opset_import: [\"\": 17, \"f\": 1]> %s (x) => (y) { %s }", "f", name, body)
	}
	var wide, deep strings.Builder
	for i := range 40 {
		wide.WriteString(def(fmt.Sprintf("F%d", i), fmt.Sprintf("a = f.F%d (x) y = f.F%d (a)", i+1, i+1)))
	}
	wide.WriteString(def("F40", "y = Relu (x)"))
	for i := range 100 {
		deep.WriteString(def(fmt.Sprintf("F%d", i), fmt.Sprintf("y = f.F%d (x)", i+1)))
	}
	deep.WriteString(def("F100", "y = Relu (x)"))
	for name, c := range map[string]struct{ src, want string }{
		"a circle":     {head + def("F0", "y = f.F0 (x)"), "in a circle"},
		"2^40 calls":   {head + wide.String(), ""},
		"100 deep":     {head + deep.String(), "64 deep"},
		"a bad body":   {head + def("F0", "y = Transpose <perm: ints = [0, 7]> (x)"), "in the function: node Transpose"},
		"too few":      {strings.Replace(head, "(x) }", "(x, x) }", 1) + def("F0", "y = Relu (x)"), "the function has 1 and 1"},
		"other opset":  {head + strings.Replace(def("F0", "y = Gelu (x)"), "17", "19", 1), "opset is 19"},
		"newer opset":  {head + strings.Replace(def("F0", "y = Gelu (x)"), "17", "20", 1), ""},
		"foreign call": {head + strings.Replace(def("F0", "y = other.G (x)"), "f\": 1", "f\": 1, \"other\": 1", 1), ""},
	} {
		m := parseModel(t, c.src)
		err := op.InferModel(m, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
