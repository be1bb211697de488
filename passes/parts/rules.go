package parts

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/passes/grad"
)

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}

// Operators of the default domain by what they do to the dimension of the images.
var (
	// elementwise ones compute an element from those at its place.
	elementwise = set("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum", "Where", "And", "Or", "Not", "Xor", "Equal", "Less", "LessOrEqual", "Greater",
		"GreaterOrEqual", "Relu", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Clip", "Elu", "Selu", "Celu", "Softplus", "Softsign", "ThresholdedRelu",
		"Abs", "Neg", "Sign", "Sqrt", "Exp", "Log", "Reciprocal", "Erf", "Round", "Floor", "Ceil", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh",
		"Atanh", "Mish", "Gelu", "Cast", "Identity", "QuantizeLinear", "DequantizeLinear", "Mod", "IsNaN", "IsInf", "Shrink")
	// planes are those whose first input, and output, have the images first, and that keep them apart.
	planes = set("Conv", "ConvTranspose", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool", "Resize", "DepthToSpace", "SpaceToDepth",
		"InstanceNormalization", "GroupNormalization", "LRN", "GridSample", "BatchNormalization", "MaxPool")
	// moving ones bring elements elsewhere in the order in which they are; their sizes say whether images stay apart.
	moving = set("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand")
	// along are those that work along one axis, an attribute with this default, which must not be that of the images.
	along = map[string]int64{"Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "ArgMax": 0, "ArgMin": 0, "TopK": -1, "LpNormalization": -1, "Concat": 0, "Split": 0, "Gather": 0,
		"GatherElements": 0, "ScatterElements": 0}
	reduces = set("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")
	// repeats are those that may compute, without the images, what is as large as they are.
	repeats = set("Expand", "ConstantOfShape", "Reshape", "Transpose", "Cast", "Identity", "Mul", "Div", "Add", "Sub", "Neg")
)

// imagewise returns why n's output v, which grows with the images, might mix them.
func (c *cutter) imagewise(n *ir.Node, v *ir.Value) error {
	out, _ := v.StaticDims()
	axis := c.axes[v]
	first := func(inputs int) error {
		for i, x := range n.Inputs() {
			if x == nil || c.kinds[x] == free {
				continue
			}
			if i >= inputs || c.axes[x] != 0 || axis != 0 {
				return fmt.Errorf("input %d holds images", i)
			}
		}
		return nil
	}
	if slices.ContainsFunc(n.Inputs(), func(x *ir.Value) bool { return c.places[x] }) {
		return c.placed(n, v)
	}
	switch {
	case n.Domain == grad.Domain && n.Op == grad.ConvInputGrad:
		return first(1)
	case n.Domain != "":
	case elementwise[n.Op]:
		for _, x := range n.Inputs() {
			if x == nil || c.kinds[x] == free {
				continue
			}
			if d, _ := x.StaticDims(); len(d)-c.axes[x] != len(out)-axis {
				return fmt.Errorf("images stand in different dimensions")
			}
		}
		return nil
	case n.Op == "GridSample":
		return first(2)
	case n.Op == "BatchNormalization" && (len(n.Outputs()) > 1 || n.Int("training_mode", 0) != 0):
	case n.Op == "MaxPool" && len(n.Outputs()) > 1 && v == n.Output(1):
		c.places[v] = true
		return first(1)
	case planes[n.Op]:
		return first(1)
	case moving[n.Op]:
		return nil
	case n.Op == "MatMul":
		return c.product(n, false, false)
	case n.Op == "Gemm":
		return c.product(n, n.Int("transA", 0) != 0, n.Int("transB", 0) != 0)
	case n.Op == "LayerNormalization":
		x := n.Input(0)
		d, _ := x.StaticDims()
		if a := n.Int("axis", -1); (a+int64(len(d)))%int64(len(d)) > int64(axis) {
			return first1(c, n)
		}
	case n.Op == "Slice", n.Op == "Pad", n.Op == "Tile", n.Op == "CumSum":
		return c.within(n)
	case reduces[n.Op]:
		return nil
	default:
		def, ok := along[n.Op]
		if !ok {
			break
		}
		if n.Op == "Gather" && c.kinds[n.Input(0)] == free {
			return nil
		}
		x := n.Input(0)
		if n.Op == "Concat" {
			x = v
		}
		d, _ := x.StaticDims()
		a := n.Int("axis", def)
		if a < 0 {
			a += int64(len(d))
		}
		for i, x := range n.Inputs() {
			if x == nil || c.kinds[x] == free {
				continue
			}
			if c.axes[x] == int(a) || n.Op == "Gather" && i > 0 {
				return fmt.Errorf("%s along the images", n.Op)
			}
		}
		return nil
	}
	return fmt.Errorf("whether %s keeps images apart is not known", n.Op)
}

// placed allows what moves indices of MaxPool, and what reads them among the elements of as many images in one row.
func (c *cutter) placed(n *ir.Node, v *ir.Value) error {
	switch {
	case n.Domain != "":
	case moving[n.Op] && c.places[n.Input(0)] && n.Op != "Transpose":
		c.places[v] = true
		return nil
	case (n.Op == "ScatterElements" || n.Op == "GatherElements") && c.places[n.Input(1)]:
		row := true
		for i, x := range n.Inputs() {
			d, _ := x.StaticDims()
			row = row && len(d) == 1 && c.kinds[x] != free && (i == 1 || !c.places[x])
		}
		if row {
			return nil
		}
	}
	return fmt.Errorf("%s of places of elements", n.Op)
}

// first1 reports inputs after the first that hold images.
func first1(c *cutter, n *ir.Node) error {
	for i, x := range n.Inputs() {
		if i > 0 && x != nil && c.kinds[x] != free {
			return fmt.Errorf("input %d holds images", i)
		}
	}
	return nil
}

// within allows what leaves the dimension of the images as it is.
func (c *cutter) within(n *ir.Node) error {
	x := n.Input(0)
	for i, v := range n.Inputs() {
		if i > 0 && v != nil && (v.Init() == nil || v.IsInput()) {
			return fmt.Errorf("%s by computed numbers", n.Op)
		}
	}
	ints := func(i int) []int64 {
		if v := n.Input(i); v != nil {
			list, _ := v.Init().Ints()
			return list
		}
		return nil
	}
	d, _ := x.StaticDims()
	axis := int64(c.axes[x])
	touched := false
	switch n.Op {
	case "Slice":
		axes := ints(3)
		if n.Input(3) == nil {
			touched = int64(len(ints(1))) > axis
		}
		for _, a := range axes {
			touched = touched || (a+int64(len(d)))%int64(len(d)) == axis
		}
	case "Pad":
		p, axes := ints(1), ints(3)
		if n.Input(3) != nil {
			touched = slices.ContainsFunc(axes, func(a int64) bool { return (a+int64(len(d)))%int64(len(d)) == axis })
		} else {
			touched = len(p) != 2*len(d) || p[axis] != 0 || p[int(axis)+len(d)] != 0
		}
	case "Tile":
		r := ints(1)
		touched = len(r) != len(d) || r[axis] != 1
	case "CumSum":
		a := ints(1)
		touched = len(a) != 1 || (a[0]+int64(len(d)))%int64(len(d)) == axis
	}
	if touched || c.kinds[x] != images {
		return fmt.Errorf("%s along the images", n.Op)
	}
	return nil
}

// product allows products of matrices that do not sum over images.
func (c *cutter) product(n *ir.Node, turnA, turnB bool) error {
	if k := c.summedOver(n, turnA, turnB); k != 0 {
		return fmt.Errorf("%s over the images", n.Op)
	}
	a, b := n.Input(0), n.Input(1)
	if c.kinds[a] == free || c.kinds[b] == free {
		return nil
	}
	da, _ := a.StaticDims()
	db, _ := b.StaticDims()
	if c.axes[a] < len(da)-2 && c.axes[b] < len(db)-2 && len(da)-c.axes[a] == len(db)-c.axes[b] {
		return nil
	}
	return fmt.Errorf("%s of images with images", n.Op)
}

// summedOver is how many of the two factors hold images in the dimension that is summed over.
func (c *cutter) summedOver(n *ir.Node, turnA, turnB bool) int {
	k := 0
	for i, turned := range []bool{turnA, turnB} {
		x := n.Input(i)
		d, _ := x.StaticDims()
		inner := len(d) - 1
		if (i == 1) != turned {
			inner = max(0, len(d)-2)
		}
		if c.kinds[x] != free && c.axes[x] == inner {
			k++
		}
	}
	return k
}

// additive returns why n's output, which no longer grows with the images, might not be the sum of what their parts give.
func (c *cutter) additive(n *ir.Node) error {
	switch {
	case n.Domain == grad.Domain && n.Op == grad.ConvWeightGrad:
		if c.kinds[n.Input(0)] == images && c.kinds[n.Input(1)] == images && c.axes[n.Input(0)] == 0 && c.axes[n.Input(1)] == 0 {
			return nil
		}
	case n.Domain != "":
	case n.Op == "ReduceSum", n.Op == "ReduceSumSquare":
		return nil
	case n.Op == "ReduceMean":
		if len(n.Output(0).Uses()) == 1 && !n.Output(0).IsOutput() {
			u := n.Output(0).Uses()[0]
			if f := u.Node.Input(1 - u.Index); u.Node.Is("Mul") && f.Init() != nil && !f.IsInput() {
				if v, err := f.Init().Floats(); err == nil && len(v) == 1 && v[0]*float64(c.n) == 1 {
					return nil
				}
			}
		}
	case n.Op == "MatMul" && c.summedOver(n, false, false) == 2, n.Op == "Gemm" && n.Input(2) == nil && c.summedOver(n, n.Int("transA", 0) != 0, n.Int("transB", 0) != 0) == 2:
		return nil
	}
	return fmt.Errorf("%s over all images", n.Op)
}
