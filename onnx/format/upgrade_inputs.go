package format

import (
	"fmt"

	"mqatc/onnx/ir"
)

// Operators whose attributes became inputs.

func axesInput(u *upgrader, n *ir.Node) error { return u.input(n, "axes", 1) }

func sliceBounds(u *upgrader, n *ir.Node) error {
	if n.Attr("starts") == nil || n.Attr("ends") == nil {
		return fmt.Errorf("starts or ends are missing")
	}
	for i, name := range []string{"starts", "ends", "axes"} {
		if err := u.input(n, name, i+1); err != nil {
			return err
		}
	}
	return nil
}

func padAmounts(u *upgrader, n *ir.Node) error {
	if n.Attr("pads") == nil {
		return fmt.Errorf("pads are missing")
	}
	if err := u.input(n, "pads", 1); err != nil {
		return err
	}
	if n.Str("mode", "constant") != "constant" {
		n.RemoveAttr("value")
	}
	return u.scalarLike(n, "value", 2)
}

func clipBounds(u *upgrader, n *ir.Node) error {
	if err := u.scalarLike(n, "min", 1); err != nil {
		return err
	}
	return u.scalarLike(n, "max", 2)
}

func topK(u *upgrader, n *ir.Node) error {
	k := n.Attr("k")
	if k == nil || k.Kind != ir.AttrInt || k.Ref != "" {
		return fmt.Errorf("k is missing")
	}
	v, err := u.constant(ir.VectorInt64(k.I), nil)
	if err != nil {
		return err
	}
	n.RemoveAttr("k")
	return u.g.SetInput(n, 1, v)
}

func splitSizes(u *upgrader, n *ir.Node) error { return u.input(n, "split", 1) }

// splitCount states the number of parts, which is no longer taken from the number of outputs.
func splitCount(u *upgrader, n *ir.Node) error {
	if n.Input(1) == nil {
		n.SetAttr(ir.AInt("num_outputs", int64(len(n.Outputs()))))
	}
	return nil
}

func dftAxis(u *upgrader, n *ir.Node) error {
	if a := n.Attr("axis"); a != nil && a.Ref != "" {
		return fmt.Errorf("its axis refers to a function's attribute")
	}
	v, err := u.constant(ir.ScalarInt64(n.Int("axis", 1)), nil)
	if err != nil {
		return err
	}
	n.RemoveAttr("axis")
	return u.g.SetInput(n, 2, v)
}

func scatterElements(u *upgrader, n *ir.Node) error {
	n.Op = "ScatterElements"
	return nil
}
