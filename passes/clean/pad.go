package clean

import (
	"math"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/pass"
)

// leastNormal is the smallest float32 that arithmetic does not flush to zero.
const leastNormal = 0x1p-126

// pooledPads makes the zeros that a Pad puts before a MaxPool the smallest positive number.
//
// Workaround: onnxruntime 1.30 joins such a Pad of zeros to the MaxPool from its basic optimizations on, although a MaxPool's own padding
// never wins: where all of a window at the border is negative, its result changes from level to level. 1.32 does not.
func pooledPads(c *pass.Ctx, g *ir.Graph) (bool, error) {
	var least *ir.Value
	for _, n := range g.Nodes() {
		if !n.Is("Pad") || n.Str("mode", "constant") != "constant" || n.Input(0) == nil || n.Input(1) == nil || n.Input(0).DType() != ir.Float32 || !pooled(n.Output(0)) {
			continue
		}
		if v := n.Input(2); v != nil {
			if f, ok := op.ConstFloats(v); !ok || len(f) != 1 || math.Abs(f[0]) >= leastNormal {
				continue
			}
		}
		if least == nil {
			var err error
			if least, err = g.AddInitializer(g.FreshName("least"), ir.ScalarFloat32(leastNormal)); err != nil {
				return false, err
			}
		}
		if err := g.SetInput(n, 2, least); err != nil {
			return true, c.Errorf(n, "%w", err)
		}
	}
	return least != nil, nil
}

func pooled(v *ir.Value) bool {
	for _, u := range v.Uses() {
		if u.Node.Is("MaxPool") {
			return true
		}
	}
	return false
}
