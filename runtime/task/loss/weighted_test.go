package loss_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/runtime/task/loss"
)

// TestWeighted adds up two losses of one output and one of another: each counts by its weight, in the value and in the gradients.
func TestWeighted(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	outputs := network(t, "", nil, batch(3), batch(4))
	l, err := loss.Weighted([]*loss.Loss{named(t, "smooth-l1", outputs[:1]), named(t, "focal", outputs[1:]), named(t, "smooth-l1", outputs[1:])}, []float64{1.5, 0.1, 3})
	if err != nil {
		t.Fatal(err)
	}
	if want := "smooth-l1=1.5,focal=0.1,smooth-l1=3"; l.Name != want {
		t.Errorf("name %q, want %q", l.Name, want)
	}
	hits, _ := ir.FromFloat32s([]float32{1, 0, 0, 1, 0, 0, 0, 1}, 2, 4)
	feeds := map[string]*ir.Tensor{"a": floats(t, r, -3, 3, 2, 3), "a.target": floats(t, r, -1, 1, 2, 3), "b": floats(t, r, -3, 3, 2, 4), "b.target": hits}
	smooth := func(y []float64, target *ir.Tensor) float64 {
		sum := 0.0
		for i, want := range values(t, target) {
			if d := math.Abs(y[i] - want); d < 1 {
				sum += d * d / 2
			} else {
				sum += d - 0.5
			}
		}
		return sum / float64(len(y))
	}
	compare(t, l, feeds, func(y map[string][]float64) float64 {
		focal := 0.0
		for i, x := range values(t, hits) {
			p := 1 / (1 + math.Exp(-y["b"][i]))
			focal -= 0.25*x*(1-p)*(1-p)*math.Log(p) + 0.75*(1-x)*p*p*math.Log(1-p)
		}
		return 1.5*smooth(y["a"], feeds["a.target"]) + 0.1*focal/3 + 3*smooth(y["b"], hits)
	})
}

// TestWeightedBounds: what two losses want of one target must both hold, and types must agree.
func TestWeightedBounds(t *testing.T) {
	outputs := network(t, "", nil, batch(3))
	classes := named(t, "cross-entropy", outputs)
	narrow := &loss.Loss{Name: "narrow", Model: classes.Model, Bounds: map[string]loss.Bounds{"a.target": {Min: 0, Max: 9}}}
	l, err := loss.Weighted([]*loss.Loss{classes, narrow}, []float64{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	if b := l.Bounds["a.target"]; b != (loss.Bounds{Min: 0, Max: 2}) {
		t.Errorf("bounds %+v", b)
	}
	if _, err := loss.Weighted([]*loss.Loss{classes, named(t, "smooth-l1", outputs)}, []float64{1, 2}); err == nil {
		t.Error("a target of integers and one of numbers are one input")
	}
	for _, weights := range [][]float64{nil, {1}} {
		if _, err := loss.Weighted([]*loss.Loss{classes, narrow}, weights); err == nil {
			t.Errorf("two losses with weights %v", weights)
		}
	}
}

func TestParts(t *testing.T) {
	got, ok, err := loss.Parts("wdr=1, distill=0.1,dir/my=loss.onnx=2e-3")
	want := []loss.Part{{Name: "wdr", Weight: 1}, {Name: "distill", Weight: 0.1}, {Name: "dir/my=loss.onnx", Weight: 2e-3}}
	if err != nil || !ok || !slices.Equal(got, want) {
		t.Errorf("%v, %v, %v", got, ok, err)
	}
	if _, ok, err := loss.Parts("focal"); ok || err != nil {
		t.Errorf("one loss alone: %v, %v", ok, err)
	}
	for _, text := range []string{"wdr=1,distill", "=1", "wdr=0", "wdr=-1", "wdr=x", "wdr=inf", "wdr=nan", "wdr=1,wdr=2", "wdr=1,"} {
		if _, _, err := loss.Parts(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
