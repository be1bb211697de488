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
	t := constantOf(n.Input(1))
	if t == nil {
		return fmt.Errorf("its scales are computed at run time, so that rounding up or down is not known; export the network again with opset %d", upgradeLow)
	}
	scales, err := t.Floats()
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

// resizeNearestModes: tf_half_pixel_for_nn left in opset 13. Rounding it down equals half_pixel rounded to nearest, ties up.
func resizeNearestModes(u *upgrader, n *ir.Node) error {
	if n.Str("coordinate_transformation_mode", "") != "tf_half_pixel_for_nn" {
		return nil
	}
	if n.Str("mode", "nearest") != "nearest" || n.Str("nearest_mode", "round_prefer_floor") != "floor" {
		return fmt.Errorf("coordinate_transformation_mode tf_half_pixel_for_nn has a successor only with nearest_mode floor")
	}
	n.SetAttr(ir.AString("coordinate_transformation_mode", "half_pixel"))
	n.SetAttr(ir.AString("nearest_mode", "round_prefer_ceil"))
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
