package op_test

import (
	"errors"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// outdated is a network whose input was enlarged by hand: everything behind it says what it was before. One output keeps the name of
// its dimension, the opaque node's size is known from the file alone.
const outdated = `
<ir_version: 8, opset_import: ["": 17, "some.where": 1]>
g (float[2,3,16,16] x, float[4,3,3,3] w) => (float[batch,4,6,6] y, float[batch,4,14,14] z, float[7] o)
<float[1,4,6,6] h, float[5] m, seq(float[1,4,6,6]) q>
{
    h = Conv (x, w)
    y = Relu (h)
    q = SequenceConstruct (h)
    i = Constant <value_int: int = 0> ()
    z = SequenceAt (q, i)
    m = some.where.Magic (h)
    o = Relu (m)
}`

func TestOutdatedShapesAreInferredAnew(t *testing.T) {
	m := parseModel(t, strings.Replace(outdated, "float[7] o", "float[n] o", 1))
	stale, err := op.InferAnew(m, nil)
	if err != nil || stale == nil || stale.Value != "h" {
		t.Fatalf("%+v, %v", stale, err)
	}
	for name, want := range map[string]string{
		"h": "float[2,4,14,14]", "y": "float[2,4,14,14]", "q": "seq(float[2,4,14,14])", "z": "float[2,4,14,14]", "m": "float[5]", "o": "float[5]",
	} {
		if got := m.Graph.Value(name).Type.String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if again, err := op.InferAnew(m, nil); again != nil || err != nil {
		t.Errorf("the second time: %v, %v", again, err)
	}
	m = parseModel(t, strings.Replace(outdated, "float[7] o", "float[n] o", 1))
	if _, err := op.InferAnew(m, map[string][]int64{"x": {6, 3, 16, 16}}); err != nil {
		t.Fatal(err)
	}
	if got := m.Graph.Value("y").Type.String(); got != "float[6,4,14,14]" {
		t.Errorf("with a size given, y is %s", got)
	}
	m = parseModel(t, strings.NewReplacer("float[7] o", "float[n] o", "float[2,3,16,16] x", "float[N,3,16,16] x").Replace(outdated))
	if _, err := op.InferAnew(m, nil); err != nil {
		t.Fatal(err)
	}
	if got := m.Graph.Value("z").Type.String(); got != "float[batch,4,14,14]" {
		t.Errorf("z lost the name of its dimension: %s", got)
	}
}

func TestWrongElementTypesStayRefused(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"float[1,4,6,6] h", "int64[1,4,6,6] h"},
		{"float[batch,4,6,6] y", "int64[batch,4,6,6] y"},
		{"seq(float[1,4,6,6]) q", "seq(int64[1,4,6,6]) q"},
	} {
		m := parseModel(t, strings.Replace(outdated, c.from, c.to, 1))
		var conflict *op.ConflictError
		if _, err := op.InferAnew(m, nil); !errors.As(err, &conflict) || conflict.OfShape {
			t.Errorf("%s: %v", c.to, err)
		}
	}
}

func TestOutdatedShapesAsOnnxruntimeTakesThem(t *testing.T) {
	orttest.TestLibrary(t)
	src := strings.NewReplacer(`, "some.where": 1`, "", "some.where.Magic (h)", "Flatten <axis: int = 0> (h)").Replace(outdated)
	m := parseModel(t, src)
	data, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(data, ort.SessionOptions{})
	if err != nil {
		t.Fatalf("onnxruntime refuses it too: %v", err)
	}
	defer s.Close()
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
	got, err := s.Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.InferAnew(m, nil); err != nil {
		t.Fatal(err)
	}
	for _, o := range m.Graph.Outputs() {
		if ours, theirs := o.Type.String(), got[o.Name()].Type().String(); ours != theirs {
			t.Errorf("%s is %s, onnxruntime gives %s", o.Name(), ours, theirs)
		}
	}
}
