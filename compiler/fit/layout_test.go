package fit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/memory"
	"mqatc/passes/step"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/train"
	"mqatc/testmodels/cubesat"
)

// TestLayoutKeepsBits runs steps with values in one block and states overwritten, and as onnxruntime allocates them.
func TestLayoutKeepsBits(t *testing.T) {
	orttest.TestLibrary(t)
	if !orderKnown() {
		t.Fatal("onnxruntime runs nodes in another order than memory.Order says")
	}
	m, err := cubesat.Network(1, 64, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.InferModel(m, nil); err != nil {
		t.Fatal(err)
	}
	loss, err := distill.Loss(m.Graph.Outputs())
	if err != nil {
		t.Fatal(err)
	}
	for _, optimizer := range []step.Optimizer{{Name: "sgd", Momentum: 0.9, EMA: 0.9}, {Name: "adamw", WeightDecay: 0.01, ClipNorm: 1}} {
		for _, lower := range []bool{false, true} {
			if !lower && optimizer.ClipNorm > 0 {
				continue // what it adds does not depend on the forms
			}
			var first map[string]*ir.Tensor
			for _, recompute := range []int{0, memory.Auto} {
				o := Options{Model: m, Problem: towards{loss: loss}, Params: step.Trainable(m), Batch: 3, Threads: 2, Recompute: recompute, Lower: lower,
					Optimizer: optimizer}
				name := fmt.Sprintf("%s, lower %v, recompute %d", optimizer.Name, lower, recompute)
				so, _, err := o.stepOptions()
				if err != nil {
					t.Fatal(err)
				}
				g, _, err := o.graphs(so)
				if err != nil {
					t.Fatal(err)
				}
				plain := train.Config{Threads: 2}
				if plain.State, err = o.start(); err != nil {
					t.Fatal(err)
				}
				if plain.Step, err = format.Marshal(g); err != nil {
					t.Fatal(err)
				}
				a, err := train.New(plain)
				if err != nil {
					t.Fatal(err)
				}
				b, _, err := laid(plain)
				if err != nil {
					t.Fatal(err)
				}
				want, got := after(t, a, g), after(t, b, g)
				equal(t, name+", with a layout", want, got)
				if first == nil {
					first = got
				}
				equal(t, name+", against none", first, got)
			}
		}
	}
}

// after is the state after some steps on random feeds.
func after(t *testing.T, e *train.Engine, g *ir.Model) map[string]*ir.Tensor {
	t.Helper()
	defer e.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	feeds := train.Feeds{}
	for _, v := range g.Graph.Inputs() {
		if e.IsState(v.Name()) || v.Name() == step.LR || v.Name() == step.StepNumber {
			continue
		}
		dims, _ := v.StaticDims()
		n, err := ir.NumElements(dims)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = rng.Float32()
		}
		if feeds[v.Name()], err = ir.FromFloat32s(x, dims...); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := e.Step(1e-2, feeds); err != nil {
			t.Fatal(err)
		}
	}
	s, err := e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func equal(t *testing.T, name string, want, got map[string]*ir.Tensor) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: %d states, want %d", name, len(got), len(want))
	}
	for k, w := range want {
		if got[k] == nil || !bytes.Equal(w.Raw(), got[k].Raw()) {
			t.Errorf("%s: %s differs", name, k)
		}
	}
}
