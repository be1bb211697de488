package target

import (
	"testing"

	"mqatc/onnx/ir"
)

func TestSquashedOutputsNearZero(t *testing.T) {
	g := ir.NewGraph("g")
	b := ir.NewBuilder(g, "", nil)
	x, err := g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	squashed := b.Op("Reshape", []*ir.Value{b.Op("Sigmoid", []*ir.Value{x}), b.Int64s(2)})
	if floor(squashed) != leastPeak || floor(b.Op("Relu", []*ir.Value{squashed})) != 0 || floor(x) != 0 {
		t.Error("only moved results of squashing functions have a floor")
	}
	one := func(v float32) []map[string]*ir.Tensor {
		y, err := ir.FromFloat32s([]float32{v, v}, 2)
		if err != nil {
			t.Fatal(err)
		}
		return []map[string]*ir.Tensor{{"y": y}}
	}
	for _, c := range []struct {
		ref, got float32
		least    float64
		fault    bool
	}{{1e-3, 1e-3 + 2e-7, leastPeak, false}, {1e-3, 1e-3 + 2e-7, 0, true}, {0.5, 0.5 + 1e-4, leastPeak, true}} {
		a, err := compare("y", one(c.ref), one(c.got), c.least)
		if err != nil {
			t.Fatal(err)
		}
		if (a.fault(Basic, true) != "") != c.fault {
			t.Errorf("%g against %g with least %g: %q", c.got, c.ref, c.least, a.fault(Basic, true))
		}
	}
}
