package op_test

import (
	"math"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/onnxtest"
	"mqatc/onnx/op"
)

// TestConformance infers the ONNX backend models with their small inputs made constants, and compares what evaluates to numbers
// with the recorded results. Types and shapes are compared by the backend test of format.
func TestConformance(t *testing.T) {
	values := 0
	for _, c := range onnxtest.Cases(t) {
		t.Run(c.Folder+"/"+c.Name, func(t *testing.T) {
			m, err := format.Load(c.Path)
			if err != nil {
				t.Fatal(err)
			}
			want := c.Results(m.Graph)
			feeds, _ := c.Feeds(m.Graph)
			for _, v := range append([]*ir.Value(nil), m.Graph.Inputs()...) {
				if x := feeds[v.Name()]; x != nil && x.Len() <= 4096 {
					if err := m.Graph.InitializerFromInput(v, x); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := op.InferModel(m, nil); err != nil {
				t.Fatal(err)
			}
			for _, o := range m.Graph.Outputs() {
				if checkValue(t, o, want[o.Name()]) {
					values++
				}
			}
		})
	}
	t.Logf("%d outputs evaluate to numbers", values)
	if values < 150 {
		t.Errorf("only %d outputs evaluate to numbers", values)
	}
}

// checkValue reports whether o evaluates to numbers, and fails the test where they are not those of want.
func checkValue(t *testing.T, o *ir.Value, want *ir.Tensor) bool {
	got, ok := op.ConstFloats(o)
	if !ok || want == nil {
		return false
	}
	w, err := want.Floats()
	if err != nil || len(w) != len(got) {
		t.Errorf("output %s evaluates to %d numbers, recorded %v", o.Name(), len(got), want.Type())
		return true
	}
	for k := range got {
		if got[k] != w[k] && !(math.Abs(got[k]-w[k]) <= 1e-5*(1+math.Abs(w[k]))) {
			t.Errorf("output %s: element %d evaluates to %v, recorded %v", o.Name(), k, got[k], w[k])
			break
		}
	}
	return true
}
