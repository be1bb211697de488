package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

const (
	microsoft = "com.microsoft"
	nchwc     = "com.microsoft.nchwc"
)

// convAttrs are the attributes that all convolutions share.
var convAttrs = []AttrSpec{
	strAttr("auto_pad", "NOTSET"), optional(ir.AttrInts, "dilations"), intAttr("group", 1), optional(ir.AttrInts, "kernel_shape"),
	optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"), optional(ir.AttrString, "activation"),
	optional(ir.AttrFloats, "activation_params"),
}

var poolAttrs = []AttrSpec{
	strAttr("auto_pad", "NOTSET"), intAttr("ceil_mode", 0), intAttr("count_include_pad", 0), optional(ir.AttrInts, "dilations"),
	required(ir.AttrInts, "kernel_shape"), optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"), intAttr("storage_order", 0),
}

// microsoftTable lists operators of onnxruntime alone. nchwc is the domain of its channel-blocked CPU kernels.
var microsoftTable = []Schema{
	{Domain: microsoft, Name: "FusedMatMul", Versions: []int64{1}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferFusedMatMul, Attrs: []AttrSpec{
		floatAttr("alpha", 1), intAttr("transA", 0), intAttr("transB", 0), intAttr("transBatchA", 0), intAttr("transBatchB", 0)}},
	{Domain: microsoft, Name: "FusedGemm", Versions: []int64{1}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferGemm, Attrs: []AttrSpec{
		floatAttr("alpha", 1), floatAttr("beta", 1), intAttr("transA", 0), intAttr("transB", 0), optional(ir.AttrString, "activation")}},
	{Domain: microsoft, Name: "FusedConv", Versions: []int64{1}, MinIn: 2, MaxIn: 4, MinOut: 1, MaxOut: 1, Infer: inferFusedConv, Attrs: convAttrs},
	{Domain: microsoft, Name: "QuickGelu", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		floatAttr("alpha", 1.702)}},
	{Domain: microsoft, Name: "Gelu", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Domain: microsoft, Name: "QuantizeLinear", Versions: []int64{1}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferQuantize, Attrs: []AttrSpec{
		intAttr("axis", 1), intAttr("block_size", 0)}},
	{Domain: microsoft, Name: "DequantizeLinear", Versions: []int64{1}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferDequantize, Attrs: []AttrSpec{
		intAttr("axis", 1), intAttr("block_size", 0)}},
	{Domain: microsoft, Name: "QLinearAdd", Versions: []int64{1}, MinIn: 7, MaxIn: 8, MinOut: 1, MaxOut: 1, Infer: inferQLinearBinary},
	{Domain: microsoft, Name: "QLinearMul", Versions: []int64{1}, MinIn: 7, MaxIn: 8, MinOut: 1, MaxOut: 1, Infer: inferQLinearBinary},
	{Domain: microsoft, Name: "QLinearLeakyRelu", Versions: []int64{1}, MinIn: 4, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		floatAttr("alpha", 0.01)}},
	{Domain: microsoft, Name: "QLinearSigmoid", Versions: []int64{1}, MinIn: 4, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Domain: microsoft, Name: "QLinearSoftmax", Versions: []int64{1}, MinIn: 5, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		intAttr("axis", -1), required(ir.AttrInt, "opset")}},
	{Domain: microsoft, Name: "QLinearConcat", Versions: []int64{1}, MinIn: 5, MaxIn: Many, MinOut: 1, MaxOut: 1, Infer: inferQLinearConcat, Attrs: []AttrSpec{
		required(ir.AttrInt, "axis")}},
	{Domain: microsoft, Name: "QGemm", Versions: []int64{1}, MinIn: 6, MaxIn: 9, MinOut: 1, MaxOut: 1, Infer: inferQGemm, Attrs: []AttrSpec{
		floatAttr("alpha", 1), intAttr("transA", 0), intAttr("transB", 0)}},
	{Domain: nchwc, Name: "Conv", Versions: []int64{1}, MinIn: 2, MaxIn: 4, MinOut: 1, MaxOut: 1, Infer: inferBlockedConv, Attrs: convAttrs},
	{Domain: nchwc, Name: "MaxPool", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferPool, Attrs: poolAttrs},
	{Domain: nchwc, Name: "AveragePool", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferPool, Attrs: poolAttrs},
	{Domain: nchwc, Name: "GlobalMaxPool", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferGlobalPool},
	{Domain: nchwc, Name: "GlobalAveragePool", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferGlobalPool},
	{Domain: nchwc, Name: "ReorderInput", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferReorderInput, Attrs: []AttrSpec{
		intAttr("channels_last", 0)}},
	{Domain: nchwc, Name: "ReorderOutput", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferReorderOutput, Attrs: []AttrSpec{
		required(ir.AttrInt, "channels"), intAttr("channels_last", 0)}},
}

// inferFusedMatMul is MatMul on operands whose last two axes, or batch axes, may be transposed first.
func inferFusedMatMul(c *Ctx) error {
	if err := c.sameElem(0, 1); err != nil {
		return err
	}
	a, err := transposedOperand(c.Shape(0), c.Node.Int("transBatchA", 0) != 0, c.Node.Int("transA", 0) != 0)
	if err != nil {
		return err
	}
	b, err := transposedOperand(c.Shape(1), c.Node.Int("transBatchB", 0) != 0, c.Node.Int("transB", 0) != 0)
	if err != nil {
		return err
	}
	s, err := matMulShape(a, b)
	if err != nil {
		return err
	}
	c.Out(0, c.elemOf(0, 1), s)
	return nil
}

// transposedOperand moves the first axis behind the other batch axes (batch), then swaps the last two axes (last).
func transposedOperand(s ir.Shape, batch, last bool) (ir.Shape, error) {
	if s == nil || !batch && !last || len(s) == 1 {
		return s, nil
	}
	if len(s) < 2 || batch && len(s) < 3 {
		return nil, fmt.Errorf("shape %v has too few axes to be transposed", s)
	}
	out := s.Clone()
	n := len(out)
	if batch {
		first := out[0]
		copy(out, out[1:n-1])
		out[n-2] = first
	}
	if last {
		out[n-1], out[n-2] = out[n-2], out[n-1]
	}
	return out, nil
}

func inferFusedConv(c *Ctx) error { return convShape(c, 0, 1, 2, c.elemOf(0, 1)) }

// inferBlockedConv is Conv on channel-blocked tensors: shapes are those of the plain layout, with channels padded to the block,
// and the kernel's size stands in kernel_shape.
func inferBlockedConv(c *Ctx) error {
	if err := c.needRank(0, 4, 4); err != nil {
		return err
	}
	x, w := c.Shape(0), c.Shape(1)
	if x == nil || len(w) == 0 {
		c.Out(0, c.Elem(0), unknownShape(4))
		return nil
	}
	var kernel []num
	if len(w) == 4 {
		kernel = []num{fromDim(w[2]), fromDim(w[3])}
	} else if c.Node.Attr("kernel_shape") == nil {
		return fmt.Errorf("weight %v needs kernel_shape", w)
	}
	win, err := c.readWindow(2, kernel)
	if err != nil {
		return err
	}
	out, err := win.spatialOut(ir.Shape{x[0], w[0]}, x)
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

// inferReorderInput pads the channels to the block of the machine, which is at most 16: unknown unless they divide by 16.
func inferReorderInput(c *Ctx) error {
	x := c.Shape(0)
	if err := c.needRank(0, 4, 4); err != nil {
		return err
	}
	if x == nil {
		c.Out(0, c.Elem(0), unknownShape(4))
		return nil
	}
	out := x.Clone()
	if c.Node.Int("channels_last", 0) != 0 {
		out = ir.Shape{x[0], x[3], x[1], x[2]}
	}
	if !out[1].Known() || out[1].Size%16 != 0 {
		out[1] = ir.UnknownDim()
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

func inferReorderOutput(c *Ctx) error {
	x := c.Shape(0)
	if err := c.needRank(0, 4, 4); err != nil {
		return err
	}
	if x == nil {
		x = unknownShape(4)
	}
	channels := c.Node.Int("channels", 0)
	if channels <= 0 {
		return fmt.Errorf("channels %d is not positive", channels)
	}
	out := ir.Shape{x[0], ir.D(channels), x[2], x[3]}
	if c.Node.Int("channels_last", 0) != 0 {
		out = ir.Shape{x[0], x[2], x[3], ir.D(channels)}
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

// inferQLinearBinary reads A, its scale and zero point, then B and its own.
func inferQLinearBinary(c *Ctx) error {
	s, err := broadcast(c.Shape(0), c.Shape(3))
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(0), s)
	return nil
}

// inferQLinearConcat reads the result's scale and zero point, then each tensor with its scale and zero point.
func inferQLinearConcat(c *Ctx) error {
	if c.NumIn()%3 != 2 {
		return fmt.Errorf("%d inputs are not two and then threes", c.NumIn())
	}
	var in []int
	for i := 2; i < c.NumIn(); i += 3 {
		in = append(in, i)
	}
	return concatShape(c, in)
}

// inferQGemm reads A and B with their scales and zero points, the bias, and optionally the result's; without those it is float.
func inferQGemm(c *Ctx) error {
	for _, i := range []int{0, 3} {
		if err := c.needRank(i, 2, 2); err != nil {
			return err
		}
	}
	a, err := transposedOperand(c.Shape(0), false, c.Node.Int("transA", 0) != 0)
	if err != nil {
		return err
	}
	b, err := transposedOperand(c.Shape(3), false, c.Node.Int("transB", 0) != 0)
	if err != nil {
		return err
	}
	s, err := matMulShape(a, b)
	if err != nil {
		return err
	}
	elem := ir.Float32
	if c.Has(7) {
		elem = c.Elem(0)
	}
	c.Out(0, elem, s)
	return nil
}
