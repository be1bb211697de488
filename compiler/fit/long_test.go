package fit

import (
	"context"
	"runtime/debug"
	"testing"

	"mqatc/compiler/problem"
	"mqatc/onnx/op"
	"mqatc/passes/step"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task"
	"mqatc/runtime/train"
	"mqatc/testmodels/cubesat"
)

func TestLongTrainingHoldsItsMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute: runs without -short")
	}
	orttest.TestLibrary(t)
	m, err := cubesat.Network(1, 64, 0.25)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.InferModel(m, nil); err != nil {
		t.Fatal(err)
	}
	spec, err := task.Lookup("cubesat")
	if err != nil {
		t.Fatal(err)
	}
	set, err := cubesat.Generate(cubesat.Config{Size: 64, Seed: 5}, 32, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	prob, err := problem.Open(m, problem.Options{Task: spec, TrainSource: set.Source(), Threads: 1, Augment: "full"})
	if err != nil {
		t.Fatal(err)
	}
	defer prob.Close()
	var early, late int64
	_, err = Run(context.Background(), Options{Model: m, Problem: prob, Params: step.Trainable(m), Rate: train.Constant(1e-3), Steps: 2000, Batch: 4,
		Seed: 3, Threads: 1, Optimizer: step.Optimizer{Name: "adam", EMA: 0.99, ClipNorm: 5},
		After: func(_ *train.Engine, done int) error {
			if done == 200 || done == 2000 {
				debug.FreeOSMemory()
				early, late = late, resident(t, "VmRSS")
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MB after 200 steps, %.1f after 2,000", mb(early), mb(late))
	if late-early > 6<<20 {
		t.Errorf("%.1f MB after 200 steps, %.1f after 2,000", mb(early), mb(late))
	}
}
