package fold

import (
	"mqatc/onnx/ir"
	"mqatc/passes/pass"
)

// reshapes gives a Reshape whose target is computed from the sizes of its own input a constant target that says the same: 0 for a
// dimension of the input, -1 for the one that is left.
func reshapes(c *pass.Ctx, g *ir.Graph) (bool, error) {
	changed := false
	for _, n := range g.Nodes() {
		x, shape, y := n.Input(0), n.Input(1), n.Output(0)
		if !n.Is("Reshape") || x == nil || shape == nil || y == nil || shape.IsInitializer() || n.Int("allowzero", 0) != 0 {
			continue
		}
		target, ok := relative(x.Shape(), y.Shape())
		if !ok {
			continue
		}
		v, err := g.AddInitializer(g.FreshName(shape.Name()+"_const"), ir.VectorInt64(target...))
		if err != nil {
			return changed, c.Errorf(n, "%w", err)
		}
		if err := g.SetInput(n, 1, v); err != nil {
			return changed, c.Errorf(n, "%w", err)
		}
		n.Pass = c.Pass
		changed = true
	}
	return changed, nil
}

// relative writes to as the target of a Reshape of a value of shape from.
func relative(from, to ir.Shape) ([]int64, bool) {
	if from == nil || len(to) == 0 {
		return nil, false
	}
	target := make([]int64, len(to))
	open := 0
	for i, d := range to {
		switch {
		case d.Known() && d.Size > 0:
			target[i] = d.Size
		case d.Symbol != "" && i < len(from) && from[i].Symbol == d.Symbol:
			target[i] = 0
		case d.Known():
			return nil, false
		default:
			target[i] = -1
			open++
		}
	}
	return target, open <= 1
}
