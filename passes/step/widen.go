package step

import (
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// elementwise are operators whose inputs are broadcast against each other.
var elementwise = map[string]bool{
	"Add": true, "Sub": true, "Mul": true, "Div": true, "Pow": true, "Min": true, "Max": true, "Where": true,
	"Greater": true, "GreaterOrEqual": true, "Less": true, "LessOrEqual": true, "Equal": true,
}

// widenFrom is the number of elements from which on widening pays for a node of its own.
const widenFrom = 256

// widen gives single numbers the rank of the tensors they are combined with, where these end in dimensions of 1, as the weights of
// pointwise convolutions do. onnxruntime's broadcasting of a tensor of lower rank goes element by element there: 8 ns each, against
// 0.1 for [1,1,1,1].
func widen(g *ir.Graph) error {
	b := ir.NewBuilder(g, Pass, op.InferNode)
	type key struct {
		v    *ir.Value
		rank int
	}
	memo := map[key]*ir.Value{}
	for _, n := range g.Nodes() {
		if n.Domain != "" || !elementwise[n.Op] || n.Output(0) == nil {
			continue
		}
		dims, ok := n.Output(0).StaticDims()
		size, err := ir.NumElements(dims)
		if !ok || err != nil || size < widenFrom || len(dims) < 2 || dims[len(dims)-1] != 1 {
			continue
		}
		for i, v := range n.Inputs() {
			if v == nil || len(v.Shape()) >= len(dims) || !single(v) {
				continue
			}
			k := key{v, len(dims)}
			if memo[k] == nil {
				b.Before, b.Site = n, v.Name()
				memo[k] = wide(b, v, len(dims))
			}
			if b.Err() != nil {
				return b.Err()
			}
			if err := g.SetInput(n, i, memo[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

func single(v *ir.Value) bool {
	dims, ok := v.StaticDims()
	n, err := ir.NumElements(dims)
	return ok && err == nil && n == 1
}

func wide(b *ir.Builder, v *ir.Value, rank int) *ir.Value {
	ones := make([]int64, rank)
	for i := range ones {
		ones[i] = 1
	}
	if v.Init() != nil && !v.IsInput() {
		t, err := v.Init().Reshaped(ones...)
		if err != nil {
			return b.Fail(err)
		}
		return b.Const(t)
	}
	return b.Op("Reshape", []*ir.Value{v, b.Int64s(ones...)})
}
