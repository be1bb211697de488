package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// microsoftQuantTable lists operators of onnxruntime on quantized tensors, which its tools and optimizer write.
var microsoftQuantTable = []Schema{
	{Domain: microsoft, Name: "DynamicQuantizeMatMul", Versions: []int64{1}, MinIn: 3, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferScaledMatMul(0)},
	{Domain: microsoft, Name: "MatMulIntegerToFloat", Versions: []int64{1}, MinIn: 4, MaxIn: 7, MinOut: 1, MaxOut: 1, Infer: inferScaledMatMul(2)},
	{Domain: microsoft, Name: "QLinearAveragePool", Versions: []int64{1}, MinIn: 2, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferLaidOutPool, Attrs: append([]AttrSpec{
		intAttr("channels_last", 0)}, poolAttrs...)},
	{Domain: microsoft, Name: "QLinearGlobalAveragePool", Versions: []int64{1}, MinIn: 5, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferLaidOutGlobalPool, Attrs: []AttrSpec{
		intAttr("channels_last", 0)}},
	{Domain: microsoft, Name: "NhwcMaxPool", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferLaidOutPool, Attrs: poolAttrs},
	{Domain: microsoft, Name: "QLinearReduceMean", Versions: []int64{1}, MinIn: 2, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferQLinearReduce, Attrs: []AttrSpec{
		required(ir.AttrInts, "axes"), required(ir.AttrInt, "keepdims")}},
	{Domain: microsoft, Name: "QLinearWhere", Versions: []int64{1}, MinIn: 9, MaxIn: 9, MinOut: 1, MaxOut: 1, Infer: inferQLinearWhere},
}

// inferScaledMatMul gives a product of the element type of input elem.
func inferScaledMatMul(elem int) func(*Ctx) error {
	return func(c *Ctx) error {
		s, err := matMulShape(c.Shape(0), c.Shape(1))
		if err != nil {
			return err
		}
		c.Out(0, c.Elem(elem), s)
		return nil
	}
}

// channelsLast reports whether the channels of a node's tensors stand in the last axis.
func (c *Ctx) channelsLast() bool {
	return c.Node.Op == "NhwcMaxPool" || c.Node.Int("channels_last", 0) != 0
}

// inferLaidOutPool is inferPool for tensors [N, C, d...] or, with channels last, [N, d..., C].
func inferLaidOutPool(c *Ctx) error {
	if !c.channelsLast() {
		return inferPool(c)
	}
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if len(x) < 3 {
		return fmt.Errorf("input has shape %v, rank 3 or more is needed", x)
	}
	n, channels := x[0], x[len(x)-1]
	w, err := c.readWindow(len(x)-2, nil)
	if err != nil {
		return err
	}
	first := append(ir.Shape{n, channels}, x[1:len(x)-1]...)
	out, err := w.spatialOut(ir.Shape{n, channels}, first)
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(0), append(append(ir.Shape{n}, out[2:]...), channels))
	return nil
}

func inferLaidOutGlobalPool(c *Ctx) error {
	if !c.channelsLast() {
		return inferGlobalPool(c)
	}
	if err := c.needRank(0, 2, maxRank); err != nil {
		return err
	}
	out := c.Shape(0).Clone()
	for i := 1; i < len(out)-1; i++ {
		out[i] = ir.D(1)
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

// inferQLinearReduce is inferReduce with the axes in an attribute; input 1 is a scale.
func inferQLinearReduce(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	set, err := axisSet(c.Node.Ints("axes"), len(x))
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(0), reduced(x, set, c.Node.Int("keepdims", 1) != 0))
	return nil
}

// inferQLinearWhere reads the condition, then x and y, each with scale and zero point.
func inferQLinearWhere(c *Ctx) error {
	s, err := broadcast(c.Shape(1), c.Shape(4))
	if err != nil {
		return err
	}
	if s, err = broadcast(c.Shape(0), s); err != nil {
		return err
	}
	c.Out(0, c.elemOf(1, 4), s)
	return nil
}
