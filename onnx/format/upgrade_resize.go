package format

import (
	"fmt"

	"mqatc/onnx/ir"
)

// Resampling operators.

func upsampleScales(u *upgrader, n *ir.Node) error {
	if n.Attr("scales") == nil {
		return fmt.Errorf("scales are missing")
	}
	return u.input(n, "scales", 1)
}

// upsampleToResize: Upsample, whose scales are at least 1, is Resize with asymmetric coordinates rounded down.
func upsampleToResize(u *upgrader, n *ir.Node) error {
	n.Op = "Resize"
	return asymmetric(u, n, "floor")
}

// asymmetric moves scales behind the new input roi and states the coordinates that were implied.
func asymmetric(u *upgrader, n *ir.Node, nearest string) error {
	scales := n.Input(1)
	if scales == nil {
		return fmt.Errorf("scales are missing")
	}
	n.SetAttr(ir.AString("coordinate_transformation_mode", "asymmetric"))
	switch mode := n.Str("mode", "nearest"); mode {
	case "nearest":
		n.SetAttr(ir.AString("nearest_mode", nearest))
	case "linear", "bilinear":
		n.SetAttr(ir.AString("mode", "linear"))
	default:
		return fmt.Errorf("mode %q is unknown", mode)
	}
	if err := u.g.SetInput(n, 2, scales); err != nil {
		return err
	}
	return u.g.SetInput(n, 1, nil)
}

// resizeModes: Resize of opset 10 has asymmetric coordinates, rounded down where it enlarges and up where it shrinks.
func resizeModes(u *upgrader, n *ir.Node) error {
	if len(n.Inputs()) > 2 {
		return nil
	}
	if n.Str("mode", "nearest") != "nearest" {
		return asymmetric(u, n, "")
	}
	scales, err := resizeScales(n)
	if err != nil {
		return err
	}
	up, down := false, false
	for _, s := range scales {
		up, down = up || s > 1, down || s < 1
	}
	switch {
	case up && down:
		return fmt.Errorf("it enlarges and shrinks at once, %v", scales)
	case down:
		return asymmetric(u, n, "ceil")
	}
	return asymmetric(u, n, "floor")
}

// resizeScales are the constant scales of a Resize of opset 10, or those that follow from the sizes of its input and output.
func resizeScales(n *ir.Node) ([]float64, error) {
	if t := constantOf(n.Input(1)); t != nil {
		return t.Floats()
	}
	if x, y := n.Input(0), n.Output(0); x != nil && y != nil {
		from, known := x.StaticDims()
		to, knownToo := y.StaticDims()
		if known && knownToo && len(from) == len(to) {
			scales := make([]float64, len(to))
			for i := range to {
				scales[i] = float64(to[i]) / float64(max(from[i], 1))
			}
			return scales, nil
		}
	}
	return nil, fmt.Errorf("its scales are computed at run time, so that rounding up or down is not known; export the network again with opset %d", upgradeLow)
}

// constantOf is the tensor of an initializer or Constant node, nil for other values.
func constantOf(v *ir.Value) *ir.Tensor {
	if v == nil {
		return nil
	}
	if t := v.Init(); t != nil {
		return t
	}
	if p := v.Producer(); p != nil && p.Is("Constant") {
		if a := p.Attr("value"); a != nil {
			return a.T
		}
	}
	return nil
}

// resizeNearestModes: tf_half_pixel_for_nn left in opset 13. It lies half a pixel above half_pixel, so that rounding down and to
// nearest become rounding to nearest and up.
func resizeNearestModes(u *upgrader, n *ir.Node) error {
	if n.Str("coordinate_transformation_mode", "") != "tf_half_pixel_for_nn" {
		return nil
	}
	mode := n.Str("nearest_mode", "round_prefer_floor")
	next, ok := map[string]string{"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}[mode]
	if !ok || n.Str("mode", "nearest") != "nearest" {
		return fmt.Errorf("coordinate_transformation_mode tf_half_pixel_for_nn with nearest_mode %s has no successor", mode)
	}
	n.SetAttr(ir.AString("coordinate_transformation_mode", "half_pixel"))
	n.SetAttr(ir.AString("nearest_mode", next))
	return nil
}

func roiAlignOffset(u *upgrader, n *ir.Node) error {
	n.SetAttr(ir.AString("coordinate_transformation_mode", "output_half_pixel"))
	return nil
}

func gridSampleMode(u *upgrader, n *ir.Node) error {
	switch n.Str("mode", "bilinear") {
	case "bilinear":
		n.SetAttr(ir.AString("mode", "linear"))
	case "bicubic":
		n.SetAttr(ir.AString("mode", "cubic"))
	}
	return nil
}
