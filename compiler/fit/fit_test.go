package fit_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"mqatc/compiler/fit"
	"mqatc/compiler/problem"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/step"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task"
	"mqatc/runtime/train"
	"mqatc/testmodels/cubesat"
)

// poses is a small pose network with images to train it on.
func poses(t *testing.T) (*ir.Model, problem.Problem) {
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
	set, err := cubesat.Generate(cubesat.Config{Size: 64, Seed: 5}, 64, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	prob, err := problem.Open(m, problem.Options{Task: spec, TrainSource: set.Source(), Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prob.Close() })
	return m, prob
}

func TestInterruptedTrainingEndsWithTheSameBits(t *testing.T) {
	m, prob := poses(t)
	const steps = 20
	options := func(path string) fit.Options {
		return fit.Options{Model: m, Problem: prob, Params: step.Trainable(m), Rate: train.Cosine(0.01, 0.1, 0), Steps: steps, Batch: 8, Seed: 3, Threads: 1,
			Optimizer: step.Optimizer{Name: "nesterov", Momentum: 0.9, ClipNorm: 5, EMA: 0.9}, Micro: 4, Path: path, Key: "test"}
	}
	whole, err := fit.Run(context.Background(), options(filepath.Join(t.TempDir(), "whole")))
	if err != nil {
		t.Fatal(err)
	}
	if !(whole.LossTo < whole.LossFrom) {
		t.Errorf("loss %g -> %g", whole.LossFrom, whole.LossTo)
	}
	ctx, cancel := context.WithCancel(context.Background())
	path := filepath.Join(t.TempDir(), "cut")
	o := options(path)
	o.After = func(_ *train.Engine, done int) error {
		if done == 7 {
			cancel()
		}
		return nil
	}
	if _, err := fit.Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	c, err := train.ReadCheckpoint(path)
	if err != nil || c.Step != 7 {
		t.Fatalf("checkpoint at step %v: %v", c, err)
	}
	cut, err := fit.Run(context.Background(), options(path))
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range whole.Values {
		if !bytes.Equal(v.Raw(), cut.Values[name].Raw()) {
			t.Errorf("%s differs after an interruption", name)
		}
	}
	if len(whole.Curve) != len(cut.Curve) || whole.Curve[3] != cut.Curve[3] {
		t.Error("the loss curve differs")
	}
}

func TestRateThatDoesNotRaiseTheLoss(t *testing.T) {
	m, prob := poses(t)
	o := fit.Options{Model: m, Problem: prob, Params: step.Trainable(m), Batch: 8, Seed: 3, Threads: 1, Optimizer: step.Optimizer{Name: "sgd"}}
	for _, c := range []struct {
		rates []float64
		want  float64
	}{
		{[]float64{1e6, 1e-3}, 1e-3},
		{[]float64{1e6, 1e5}, 0},
		{nil, 0},
	} {
		rate, ok, err := fit.Rate(context.Background(), o, c.rates)
		if err != nil {
			t.Fatal(err)
		}
		if rate != c.want || ok != (c.want > 0) {
			t.Errorf("of %v: %g, %v; want %g", c.rates, rate, ok, c.want)
		}
	}
}
