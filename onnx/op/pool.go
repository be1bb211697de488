package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// poolTable lists pooling.
var poolTable = []Schema{
	{Name: "AveragePool", Versions: []int64{1, 7, 10, 11, 19, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferPool, Attrs: []AttrSpec{
		strAttr("auto_pad", "NOTSET"), intAttr("ceil_mode", 0), intAttr("count_include_pad", 0), optional(ir.AttrInts, "dilations"),
		required(ir.AttrInts, "kernel_shape"), optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"),
	}},
	{Name: "MaxPool", Versions: []int64{1, 8, 10, 11, 12, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 2, Infer: inferPool, Attrs: []AttrSpec{
		strAttr("auto_pad", "NOTSET"), intAttr("ceil_mode", 0), optional(ir.AttrInts, "dilations"),
		required(ir.AttrInts, "kernel_shape"), optional(ir.AttrInts, "pads"), intAttr("storage_order", 0),
		optional(ir.AttrInts, "strides"),
	}},
	{Name: "LpPool", Versions: []int64{1, 2, 11, 18, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferPool, Attrs: []AttrSpec{
		strAttr("auto_pad", "NOTSET"), intAttr("ceil_mode", 0), optional(ir.AttrInts, "dilations"),
		required(ir.AttrInts, "kernel_shape"), intAttr("p", 2), optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"),
	}},
	{Name: "GlobalAveragePool", Versions: []int64{1, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferGlobalPool},
	{Name: "GlobalMaxPool", Versions: []int64{1, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferGlobalPool},
	{Name: "GlobalLpPool", Versions: []int64{1, 2, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferGlobalPool, Attrs: []AttrSpec{
		intAttr("p", 2),
	}},
	{Name: "MaxRoiPool", Versions: []int64{1, 22}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferMaxRoiPool, Attrs: []AttrSpec{
		required(ir.AttrInts, "pooled_shape"), floatAttr("spatial_scale", 1.0),
	}},
	{Name: "MaxUnpool", Versions: []int64{9, 11, 22}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferMaxUnpool, Attrs: []AttrSpec{
		required(ir.AttrInts, "kernel_shape"), optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"),
	}},
}

func inferPool(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		if k := c.Node.Ints("kernel_shape"); k != nil && len(k) <= maxRank {
			x = unknownShape(len(k) + 2)
		}
	}
	if len(x) < 3 {
		return fmt.Errorf("input has shape %v, rank 3 or more is needed", x)
	}
	w, err := c.readWindow(len(x)-2, nil)
	if err != nil {
		return err
	}
	out, err := w.spatialOut(ir.Shape{x[0], x[1]}, x)
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(0), out)
	c.Out(1, ir.Int64, out)
	return nil
}

func inferGlobalPool(c *Ctx) error {
	if err := c.needRank(0, 2, maxRank); err != nil {
		return err
	}
	out := c.Shape(0).Clone()
	for i := 2; i < len(out); i++ {
		out[i] = ir.D(1)
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

func inferMaxRoiPool(c *Ctx) error {
	size := c.Node.Ints("pooled_shape")
	if len(size) != 2 || size[0] <= 0 || size[1] <= 0 {
		return fmt.Errorf("pooled_shape %v is not two positive sizes", size)
	}
	out := ir.Shape{ir.UnknownDim(), ir.UnknownDim(), ir.D(size[0]), ir.D(size[1])}
	if x := c.Shape(0); len(x) > 1 {
		out[1] = x[1]
	}
	if r := c.Shape(1); len(r) > 0 {
		out[0] = r[0]
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

func inferMaxUnpool(c *Ctx) error {
	x := c.Shape(0)
	if c.Has(2) {
		if n := c.nums(2); n != nil && len(n) <= maxRank {
			c.Out(0, c.Elem(0), dims(n))
			return nil
		}
		c.Out(0, c.Elem(0), c.rankFrom(2))
		return nil
	}
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if len(x) < 3 {
		return fmt.Errorf("input has shape %v, rank 3 or more is needed", x)
	}
	w, err := c.readWindow(len(x)-2, nil)
	if err != nil {
		return err
	}
	spatial, err := c.transposedOut(w, x[2:])
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(0), append(ir.Shape{x[0], x[1]}, spatial...))
	return nil
}
