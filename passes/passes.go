// Package passes runs passes over models: it checks their order, verifies the graph after each, times, dumps, and keeps what is
// needed to reproduce a failure. The table of all passes is here; each pass has a package of its own.
package passes

import (
	"mqatc/passes/clean"
	"mqatc/passes/equalize"
	"mqatc/passes/fold"
	"mqatc/passes/lower"
	"mqatc/passes/pass"
	"mqatc/passes/rebatch"
)

// Table lists all passes in the order in which they run where several do.
var Table = []pass.Info{
	clean.Info,
	rebatch.Info,
	fold.Info,
	equalize.Info,
	{
		Name: "quant",
		Doc:  "Weights and activations are fake-quantized where the target's placement rules say, with trainable scales.",
		After: []pass.Order{
			{Pass: "clean", Why: "weights are found as initializers"},
			{Pass: "fold", Why: "a normalization folded into weights afterwards would move them off their grid"},
			{Pass: "equalize", Why: "scales are chosen for the channels as they will be"},
		},
	},
	{
		Name: "step",
		Doc:  "The loss is merged onto the model, differentiated, and the optimizer appended: the graph of one training step.",
		After: []pass.Order{
			{Pass: "rebatch", Why: "a step runs several images at once"},
			{Pass: "quant", Why: "training has to see the rounding that will run"},
		},
	},
	lower.Info,
	{
		Name:  "emit",
		Doc:   "Fake quantization becomes QuantizeLinear and DequantizeLinear on packed integers, as the target wants them.",
		After: []pass.Order{{Pass: "quant", Why: "what is emitted is what was trained"}},
	},
}

// Find returns the row of a pass.
func Find(name string) (pass.Info, bool) {
	for _, i := range Table {
		if i.Name == name {
			return i, true
		}
	}
	return pass.Info{}, false
}
