package fold

import (
	"math"

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

// resizes gives a Resize whose sizes are computed from those of its own input constant scales, where they say exactly the same.
func resizes(c *pass.Ctx, g *ir.Graph) (bool, error) {
	changed := false
	for _, n := range g.Nodes() {
		x, sizes, y := n.Input(0), n.Input(3), n.Output(0)
		if !n.Is("Resize") || x == nil || sizes == nil || y == nil || sizes.IsInitializer() || n.Attr("axes") != nil ||
			n.Str("keep_aspect_ratio_policy", "stretch") != "stretch" || n.Str("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize" {
			continue
		}
		scales, ok := exactScales(x.Shape(), y.Shape())
		if !ok {
			continue
		}
		t, err := ir.FromFloat32s(scales, int64(len(scales)))
		if err != nil {
			return changed, c.Errorf(n, "%w", err)
		}
		v, err := g.AddInitializer(g.FreshName(sizes.Name()+"_scales"), t)
		if err != nil {
			return changed, c.Errorf(n, "%w", err)
		}
		if err := g.SetInput(n, 3, nil); err != nil {
			return changed, c.Errorf(n, "%w", err)
		}
		if err := g.SetInput(n, 2, v); err != nil {
			return changed, c.Errorf(n, "%w", err)
		}
		n.Pass = c.Pass
		changed = true
	}
	return changed, nil
}

// exactScales is to over from where every quotient is a whole number, a power of two, or one symbol over itself: then a runtime that
// multiplies by the scale gets the same size, and the same positions, as one that divides the sizes.
func exactScales(from, to ir.Shape) ([]float32, bool) {
	if from == nil || len(from) == 0 || len(from) != len(to) {
		return nil, false
	}
	scales := make([]float32, len(to))
	for i := range to {
		switch {
		case from[i].Known() && to[i].Known() && from[i].Size > 0 && to[i].Size > 0:
			q := float64(to[i].Size) / float64(from[i].Size)
			_, exp := math.Frexp(q)
			if q != math.Trunc(q) && q != math.Ldexp(1, exp-1) || q > 1<<20 {
				return nil, false
			}
			scales[i] = float32(q)
		case from[i].Symbol != "" && from[i].Symbol == to[i].Symbol:
			scales[i] = 1
		default:
			return nil, false
		}
	}
	return scales, true
}
