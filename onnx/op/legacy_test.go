package op_test

import (
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// TestOldOpsets infers single nodes under the rules of opset 6, and reads the same nodes at 7, where they are refused.
func TestOldOpsets(t *testing.T) {
	for _, c := range []struct {
		op    string
		in    []string
		attrs []ir.Attr
		want  string // a type, or "error " and a part of one
	}{
		{"Add", []string{"float[2,3,4]", "float[3]"}, attrs(aInt("broadcast", 1), aInt("axis", 1)), "float[2,3,4]"},
		{"Add", []string{"float[2,3,4]", "float[2,3]"}, attrs(aInt("broadcast", 1), aInt("axis", 0)), "float[2,3,4]"},
		{"Add", []string{"float[2,3,4]", "float[4]"}, attrs(aInt("broadcast", 1)), "float[2,3,4]"},
		{"Greater", []string{"float[2,3,4]", "float[3]"}, attrs(aInt("broadcast", 1), aInt("axis", -2)), "bool[2,3,4]"},
		{"Pow", []string{"float[2,3]", "float[2]"}, attrs(aInt("broadcast", 1), aInt("axis", 0)), "float[2,3]"},
		{"Add", []string{"float[2,3,4]", "float[3,4]"}, attrs(aInt("broadcast", 1), aInt("axis", 2)), "error beyond"},
		{"Add", []string{"float[2,3,4]", "float[5]"}, attrs(aInt("broadcast", 1), aInt("axis", 1)), "error do not broadcast"},
		{"PRelu", []string{"float[2,3,4,5]", "float[3]"}, attrs(aInts("consumed_inputs", 0)), "float[2,3,4,5]"},
		{"PRelu", []string{"float[2,3,4,5]", "float[4]"}, attrs(aInts("consumed_inputs", 0)), "error slopes [4]"},
		{"BatchNormalization", []string{"float[2,3,4,4]", "float[3]", "float[3]", "float[3]", "float[3]"}, attrs(aInt("is_test", 1)), "float[2,3,4,4]"},
	} {
		t.Run(c.op, func(t *testing.T) {
			m, b, in := graphOf(t)
			for i, typ := range c.in {
				v, err := m.Graph.AddInput(string(rune('a'+i)), parseType(t, typ))
				if err != nil {
					t.Fatal(err)
				}
				in = append(in, v)
			}
			b = ir.NewBuilder(m.Graph, "test", nil)
			y := b.Op(c.op, in, c.attrs...)
			if b.Err() != nil {
				t.Fatal(b.Err())
			}
			m.SetOpset("", 6)
			err := op.InferModel(m, nil)
			if text, ok := strings.CutPrefix(c.want, "error "); ok {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Fatalf("%v, %v, want an error with %q", y.Type, err, text)
				}
				return
			}
			if err != nil || y.Type.String() != c.want {
				t.Fatalf("%v, %v, want %s", y.Type, err, c.want)
			}
			m.SetOpset("", 7)
			if err := op.InferModel(m, nil); err == nil || !strings.Contains(err.Error(), "no attribute") {
				t.Errorf("at opset 7: %v", err)
			}
		})
	}
}

// TestOldBroadcastIsNotEvaluated: alignment by attribute is for shapes alone; values that only look like a sum are not given.
func TestOldBroadcastIsNotEvaluated(t *testing.T) {
	m, _, _ := graphOf(t)
	b := ir.NewBuilder(m.Graph, "test", nil)
	y := b.Op("ConstantOfShape", vals(b.Op("Add", vals(b.Int64s(1, 2), b.Int64s(3)), aInt("axis", 0))))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	m.SetOpset("", 6)
	if _, ok := op.ConstInts(y.Producer().Input(0)); ok {
		t.Error("a sum along an attribute's axis was evaluated")
	}
}
