// Package fold computes at compile time what does not depend on the input, and merges normalizations into the linear operators
// before them.
package fold

import (
	"mqatc/onnx/ir"
	"mqatc/passes/clean"
	"mqatc/passes/pass"
)

// Info is the pass's row in the table.
var Info = pass.Info{
	Name: "fold",
	Doc: "What follows from constants and fixed shapes becomes an initializer, unless that would make the model much larger; " +
		"BatchNormalization and per-channel Mul, Div, Add, Sub after Conv, ConvTranspose and Gemm go into weights and bias.",
	After: []pass.Order{
		{Pass: "clean", Why: "a constant in a node hides from the search for constant operands, an Identity hides a normalization from its convolution"},
		{Pass: "rebatch", Why: "the shape of a value with a fixed batch would become a constant with that batch in it"},
	},
	Exact: true,
}

// New makes the pass.
func New() pass.Pass { return pass.Pass{Info: Info, Run: run} }

func run(c *pass.Ctx, m *ir.Model) (bool, error) {
	changed, err := Constants(c, m, true)
	if err != nil {
		return changed, err
	}
	for _, g := range pass.Graphs(m.Graph) {
		for _, step := range []func(*pass.Ctx, *ir.Graph) (bool, error){reshapes, resizes} {
			did, err := step(c, g)
			if err != nil {
				return changed, err
			}
			changed = changed || did
		}
	}
	did, err := linear(c, m)
	if err != nil {
		return changed, err
	}
	changed = changed || did
	if did, err = clean.Dead(m.Graph); err != nil {
		return changed, err
	}
	return changed || did, nil
}
