package step_test

import (
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/step"
)

// TestSingleNumbersHaveTheRankOfPointwiseWeights looks at the pose network's step, which has many 1x1 convolutions.
func TestSingleNumbersHaveTheRankOfPointwiseWeights(t *testing.T) {
	m, _, loss := poseProblem(t, 64, 0.25, 1)
	s, err := step.Build(m, step.Options{Loss: loss, Batch: 2, Params: step.Trainable(m),
		Optimizer: step.Optimizer{Name: "nesterov", WeightDecay: 1e-4, ClipNorm: 5}})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for n := s.Graph.First(); n != nil; n = n.Next() {
		if !n.Is("Mul") && !n.Is("Add") && !n.Is("Sub") {
			continue
		}
		out, _ := n.Output(0).StaticDims()
		if size, _ := ir.NumElements(out); len(out) != 4 || out[3] != 1 || size < 256 {
			continue
		}
		seen++
		for _, v := range n.Inputs() {
			if len(v.Shape()) != 4 {
				t.Errorf("%v combines %v with %v", n, n.Output(0).Type, v.Type)
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d such nodes", seen)
	}
}
