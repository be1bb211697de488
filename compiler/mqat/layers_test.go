package mqat

import (
	"maps"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

func TestWidths(t *testing.T) {
	g := ir.NewGraph("net")
	b := &Bench{home: map[string]string{"a": "body", "b": "body", "c": "head", "d": "neck"}, layerBits: map[string]int{"a": 8, "b": 4, "c": 2}}
	for _, name := range []string{"a", "b", "c", "d"} {
		v, err := g.AddInput(name, ir.TensorType(ir.Float32, ir.Shape{ir.D(1)}))
		if err != nil {
			t.Fatal(err)
		}
		b.params = append(b.params, weights.Param{Value: v, Kind: weights.Weight})
	}
	for _, c := range []struct{ modules, want map[string]int }{
		{map[string]int{"body": 8}, map[string]int{"a": 8, "b": 4}}, // layers of other modules stay as they are
		{map[string]int{"head": 32}, map[string]int{"c": 32}},
		{map[string]int{"neck": 4}, map[string]int{"d": 4}},
		{map[string]int{"body": 8, "head": 2}, map[string]int{"a": 8, "b": 4, "c": 2}},
	} {
		if got := b.widths(c.modules); !maps.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.modules, got, c.want)
		}
	}
}

func TestDisagreementIsOneNumber(t *testing.T) {
	got, want := map[string]*ir.Tensor{}, map[string]*ir.Tensor{}
	for i, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		for k, m := range []map[string]*ir.Tensor{got, want} {
			x, err := ir.FromFloat32s([]float32{1, float32(i*i*k) / 7}, 2)
			if err != nil {
				t.Fatal(err)
			}
			m[name] = x
		}
	}
	first := -1.0
	for range 50 {
		d, err := disagreement([]map[string]*ir.Tensor{got}, []map[string]*ir.Tensor{want})
		if err != nil {
			t.Fatal(err)
		}
		if first < 0 {
			first = d
		}
		if d != first {
			t.Fatalf("%v, then %v", first, d)
		}
	}
}
