package passes_test

import (
	"context"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes"
	"mqatc/passes/clean"
	"mqatc/passes/fold"
	"mqatc/passes/pass"
	"mqatc/passes/rebatch"
)

func loadUpgraded(t *testing.T, path string) *ir.Model {
	t.Helper()
	m, err := format.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := format.Upgrade(m, 17); err != nil {
		t.Fatal(err)
	}
	return m
}

// dynamicSizes are sizes for inputs that the networks leave open.
var dynamicSizes = map[string][]int64{"x": {1, 3, 160, 96}}

// beforeSquashing makes the inputs of a final Sigmoid the outputs: where all scores are near 0, the rounding of Sigmoid itself is
// large beside them.
func beforeSquashing(t *testing.T, m *ir.Model) {
	t.Helper()
	outs := append([]*ir.Value(nil), m.Graph.Outputs()...)
	for i, o := range outs {
		if p := o.Producer(); p != nil && p.Is("Sigmoid") {
			outs[i] = p.Input(0)
		}
	}
	if err := m.Graph.SetOutputs(outs...); err != nil {
		t.Fatal(err)
	}
}

// realModel is a network with random inputs and what it makes of them.
func realModel(t *testing.T, e pass.Env, path string) (m *ir.Model, in, want map[string]*ir.Tensor) {
	t.Helper()
	m = loadUpgraded(t, path)
	beforeSquashing(t, m)
	in, err := feeds(m, 1, dynamicSizes)
	if err != nil {
		t.Fatal(err)
	}
	return m, in, evaluate(t, e, m, in)
}

func TestPassesKeepTheResultsOfRealModels(t *testing.T) {
	e := env(t)
	for _, path := range modelFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m, in, want := realModel(t, e, path)
			var rep rebatch.Report
			for _, x := range []pass.Pass{clean.New(), rebatch.New(rebatch.Options{InputShapes: dynamicSizes}, &rep), fold.New()} {
				p := passes.Pipeline{Passes: []pass.Pass{x}, Env: e}
				res, err := p.Run(context.Background(), m)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%+v", res.Log)
				sameOutputs(t, want, evaluate(t, e, m, in), 1e-5)
			}
			if !rep.Free {
				t.Errorf("the batch is not free: %s", rep.Reason)
			}
			t.Logf("rebatch: %d nodes rewritten", len(rep.Rewritten))
			left := map[string]int{}
			for n := m.Graph.First(); n != nil; n = n.Next() {
				left[n.Op]++
			}
			t.Logf("operators left: %v", left)
			for _, op := range []string{"Constant", "Identity", "BatchNormalization", "Shape"} {
				if left[op] > 0 {
					t.Errorf("%d %s nodes are left", left[op], op)
				}
			}
		})
	}
}
