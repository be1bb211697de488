package mqat

import (
	"math"
	"testing"

	"mqatc/compiler/plan"
	"mqatc/passes/weights"
)

// Sensitivities of the network as it came count per squared error of weights that equalization has stretched since.
func TestSensitivitiesFollowEqualization(t *testing.T) {
	b := &Bench{}
	if got := b.unstretched(plan.Sensitivity{Source: "x"}); got.Lambda != nil {
		t.Errorf("a network that was not equalized got sensitivities %v", got.Lambda)
	}
	b.weight = map[string]weights.Param{"a": {}, "b": {}}
	b.stretched = map[string]float64{"a": 4}
	got := b.unstretched(plan.Sensitivity{Source: "x", Lambda: map[string]float64{"a": 2, "b": 3}})
	if got.Lambda["a"] != 0.5 || got.Lambda["b"] != 3 {
		t.Errorf("sensitivities %v, want a 0.5 and b 3: the squared error of a is four times what it was", got.Lambda)
	}
	got = b.unstretched(plan.Sensitivity{Source: plan.Weights})
	if math.Abs(got.Lambda["a"]-0.25) > 1e-12 || got.Lambda["b"] != 1 {
		t.Errorf("without sensitivities %v, want a 0.25 and b 1", got.Lambda)
	}
}
