package op_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range op.All() {
		key := s.Domain + ":" + s.Name
		if seen[key] {
			t.Errorf("%s has two rows", key)
		}
		seen[key] = true
		if len(s.Versions) == 0 || !slices.IsSorted(s.Versions) || s.Versions[0] < 1 || s.Versions[len(s.Versions)-1] > 28 {
			t.Errorf("%s: versions %v", key, s.Versions)
		}
		if s.MinIn < 0 || s.MinIn > s.MaxIn || s.MinOut < 0 || s.MinOut > s.MaxOut || s.Infer == nil {
			t.Errorf("%s: inputs %d to %d, outputs %d to %d", key, s.MinIn, s.MaxIn, s.MinOut, s.MaxOut)
		}
		for _, a := range s.Attrs {
			if a.Name == "" || a.Kind == ir.AttrUndefined || a.Required && a.Default.Kind != ir.AttrUndefined ||
				a.Default.Kind != ir.AttrUndefined && (a.Default.Kind != a.Kind || a.Default.Name != a.Name) {
				t.Errorf("%s: attribute %+v", key, a)
			}
		}
		if op.Lookup(s.Domain, s.Name) != s {
			t.Errorf("%s is not found", key)
		}
	}
	if len(seen) < 200 {
		t.Errorf("%d operators", len(seen))
	}
}

func TestSchemaFacts(t *testing.T) {
	relu, upsample, loop, random := op.Lookup("", "Relu"), op.Lookup("", "Upsample"), op.Lookup("", "Loop"), op.Lookup("", "RandomNormal")
	if relu.Since() != 1 || relu.VersionAt(17) != 14 || relu.VersionAt(13) != 13 || relu.VersionAt(7) != 6 {
		t.Errorf("Relu: %+v", relu)
	}
	if upsample.VersionAt(9) != 9 || upsample.VersionAt(10) != 0 || op.Lookup("", "Gelu").VersionAt(19) != 0 {
		t.Errorf("Upsample: %+v", upsample)
	}
	if !relu.Foldable() || loop.Foldable() || random.Foldable() {
		t.Error("what may be folded is wrong")
	}
	if _, err := op.Find("", "Nothing"); err == nil || !strings.Contains(err.Error(), "Nothing") || !strings.Contains(err.Error(), "ai.onnx") {
		t.Errorf("missing row: %v", err)
	}
	if alpha := op.Lookup("", "LeakyRelu").Attr("alpha"); alpha == nil || alpha.Default.F != 0.01 {
		t.Errorf("LeakyRelu alpha: %+v", alpha)
	}
}

// TestDetectorResize follows the rule by which detectors bring an image to 800 x 1333: one scale from both sides, and sizes that
// pass through If.
func TestDetectorResize(t *testing.T) {
	m, b, in := graphOf(t, "x float[3,480,640]")
	size := b.Op("Cast", vals(b.Op("Slice", vals(b.Op("Shape", in), b.Int64s(1), b.Int64s(3), b.Int64s(0)))), ir.AInt("to", 1))
	lo := b.Op("ReduceMin", vals(size), ir.AInt("keepdims", 0))
	hi := b.Op("ReduceMax", vals(size), ir.AInt("keepdims", 0))
	scale := b.Op("Min", vals(b.Op("Div", vals(b.Float(800), lo)), b.Op("Div", vals(b.Float(1333), hi))))
	x := b.Op("Unsqueeze", vals(in[0], b.Int64s(0)))
	one := b.Op("Unsqueeze", vals(scale, b.Int64s(0)))
	y := b.Op("Resize", vals(x, nil, b.Op("Concat", vals(b.Floats([]float32{1, 1}, 2), one, one), ir.AInt("axis", 0))))
	isOne := b.Op("Equal", vals(b.Op("Gather", vals(b.Op("Shape", vals(y)), b.Const(ir.ScalarInt64(0)))), b.Const(ir.ScalarInt64(1))))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	shape := b.Op("Shape", vals(y))
	hw := b.Op("If", vals(isOne), ir.AGraph("then_branch", branch(t, m.Graph, "then", "Identity", shape)),
		ir.AGraph("else_branch", branch(t, m.Graph, "else", "Neg", shape)))
	grid := b.Op("ConstantOfShape", vals(b.Op("Clip", vals(hw, nil, b.Const(ir.ScalarInt64(800))))))
	list := b.Node(ir.NodeSpec{Op: "SequenceConstruct", Inputs: vals(b.Const(ir.ScalarInt64(2)), b.Const(ir.ScalarInt64(5)))}, 1)[0]
	joined := b.Op("ConstantOfShape", vals(b.Op("ConcatFromSequence", vals(list), ir.AInt("axis", 0), ir.AInt("new_axis", 1))))
	at := b.Op("ConstantOfShape", vals(b.Op("Unsqueeze", vals(b.Op("SequenceAt", vals(list, b.Const(ir.ScalarInt64(-1)))), b.Int64s(0)))))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	for _, c := range []struct {
		v    *ir.Value
		want string
	}{{y, "float[1,3,800,1066]"}, {grid, "float[1,3,800,800]"}, {joined, "float[2,5]"}, {at, "float[5]"}} {
		if got := c.v.Type.String(); got != c.want {
			t.Errorf("%s is %s, want %s", c.v.Name(), got, c.want)
		}
	}
}

func TestConflictIsTyped(t *testing.T) {
	m, b, in := graphOf(t, "x float[2]")
	y := b.Op("Relu", in)
	y.Type = parseType(t, "float[3]")
	var conflict *op.ConflictError
	if err := op.InferModel(m, nil); !errors.As(err, &conflict) || conflict.Value != y.Name() {
		t.Fatalf("conflict is reported as %v", err)
	}
	op.ClearTypes(m.Graph)
	if err := op.InferModel(m, nil); err != nil || y.Type.String() != "float[2]" {
		t.Fatalf("%v, %v", y.Type, err)
	}
}
