package format

import (
	"fmt"

	"mqatc/onnx/ir"
)

// Normalizations, softmax and dropout.

func batchNormSpatial(u *upgrader, n *ir.Node) error {
	if n.Int("spatial", 1) != 1 {
		return fmt.Errorf("spatial=0, statistics per position, has no successor")
	}
	n.RemoveAttr("spatial")
	return nil
}

// batchNormOutputs: up to opset 13 more than one output meant training mode.
func batchNormOutputs(u *upgrader, n *ir.Node) error {
	for i := 1; i < len(n.Outputs()); i++ {
		if n.Output(i) != nil {
			return fmt.Errorf("it is in training mode (it has output %q); export the network in evaluation mode", n.Output(i).Name())
		}
	}
	return nil
}

func dropoutMask(u *upgrader, n *ir.Node) error {
	if m := n.Output(1); m != nil && m.Used() {
		return fmt.Errorf("its mask %q, once of the type of the data, is used", m.Name())
	}
	return nil
}

func dropoutRatio(u *upgrader, n *ir.Node) error {
	a := n.Attr("ratio")
	if a == nil {
		return nil
	}
	if a.Ref != "" || a.Kind != ir.AttrFloat {
		return fmt.Errorf("its ratio is not a number")
	}
	v, err := u.constant(ir.ScalarFloat32(a.F), nil)
	if err != nil {
		return err
	}
	n.RemoveAttr("ratio")
	return u.g.SetInput(n, 1, v)
}

// flattenedAxis keeps the meaning of Softmax, LogSoftmax and Hardmax before opset 13: they saw their input as a matrix whose rows
// begin at axis. Where only one dimension of a row is not 1 it is the new axis; otherwise the matrix is made and undone.
func flattenedAxis(u *upgrader, n *ir.Node) error {
	if a := n.Attr("axis"); a != nil && a.Ref != "" {
		return fmt.Errorf("its axis refers to a function's attribute")
	}
	axis := n.Int("axis", 1)
	x := n.Input(0)
	if x == nil {
		return fmt.Errorf("it has no input")
	}
	if s := x.Shape(); s.HasRank() {
		rank := int64(len(s))
		if axis < 0 {
			axis += rank
		}
		if axis < 0 || axis > rank {
			return fmt.Errorf("axis %d of a value of rank %d", n.Int("axis", 1), rank)
		}
		if only, ok := onlyAxis(s, int(axis)); ok {
			n.SetAttr(ir.AInt("axis", int64(only)))
			return nil
		}
	} else if axis == -1 {
		n.SetAttr(ir.AInt("axis", -1))
		return nil
	}
	b := u.b
	shape := b.Op("Shape", []*ir.Value{x})
	flat := b.Op("Flatten", []*ir.Value{x}, ir.AInt("axis", axis))
	rows := b.Op(n.Op, []*ir.Value{flat}, ir.AInt("axis", -1))
	if b.Err() != nil {
		return b.Err()
	}
	if err := u.g.SetInput(n, 0, rows); err != nil {
		return err
	}
	n.Op = "Reshape"
	n.RemoveAttr("axis")
	return u.g.SetInput(n, 1, shape)
}

// onlyAxis finds the one dimension from axis on that may differ from 1.
func onlyAxis(s ir.Shape, axis int) (int, bool) {
	found := -1
	for i := axis; i < len(s); i++ {
		if s[i].Known() && s[i].Size == 1 {
			continue
		}
		if found >= 0 {
			return 0, false
		}
		found = i
	}
	if found < 0 && axis < len(s) {
		return axis, true
	}
	return found, found >= 0
}

// groupNormScale spreads scale and bias, one per group before opset 21, over the channels.
func groupNormScale(u *upgrader, n *ir.Node) error {
	groups := n.Int("num_groups", 0)
	s := n.Input(0).Shape()
	if groups <= 0 || len(s) < 2 || !s[1].Known() || s[1].Size%groups != 0 {
		return fmt.Errorf("%d groups over a number of channels that is not known (input shape %v)", groups, s)
	}
	for i := 1; i <= 2; i++ {
		column, err := u.constant(ir.VectorInt64(groups, 1), nil)
		if err != nil {
			return err
		}
		wide, err := u.constant(ir.VectorInt64(groups, s[1].Size/groups), nil)
		if err != nil {
			return err
		}
		all, err := u.constant(ir.VectorInt64(-1), nil)
		if err != nil {
			return err
		}
		v := u.b.Op("Reshape", []*ir.Value{n.Input(i), column})
		v = u.b.Op("Expand", []*ir.Value{v, wide})
		v = u.b.Op("Reshape", []*ir.Value{v, all})
		if u.b.Err() != nil {
			return u.b.Err()
		}
		if err := u.g.SetInput(n, i, v); err != nil {
			return err
		}
	}
	return nil
}
