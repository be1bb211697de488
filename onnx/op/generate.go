package op

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// generateTable lists constants, ranges, casts and random tensors.
var generateTable = []Schema{
	{Name: "Constant", Versions: []int64{1, 9, 11, 12, 13, 19, 21, 23, 24, 25}, MinIn: 0, MaxIn: 0, MinOut: 1, MaxOut: 1, Infer: inferConstant, eval: evalConstant, Attrs: []AttrSpec{
		optional(ir.AttrSparse, "sparse_value"), optional(ir.AttrTensor, "value"), optional(ir.AttrFloat, "value_float"),
		optional(ir.AttrFloats, "value_floats"), optional(ir.AttrInt, "value_int"), optional(ir.AttrInts, "value_ints"),
		optional(ir.AttrString, "value_string"), optional(ir.AttrStrings, "value_strings"),
	}},
	{Name: "ConstantOfShape", Versions: []int64{9, 20, 21, 23, 24, 25}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferConstantOfShape, eval: evalConstantOfShape, Attrs: []AttrSpec{
		optional(ir.AttrTensor, "value"),
	}},
	{Name: "Range", Versions: []int64{11, 27}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferRange, eval: evalRange, Attrs: []AttrSpec{
		intAttr("stash_type", 1),
	}},
	{Name: "Cast", Versions: []int64{1, 6, 9, 13, 19, 21, 23, 24, 25, 28}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferCast, eval: evalCast, Attrs: []AttrSpec{
		strAttr("round_mode", "up"), intAttr("saturate", 1), required(ir.AttrInt, "to"),
	}},
	{Name: "BitCast", Versions: []int64{26}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferBitCast, Attrs: []AttrSpec{required(ir.AttrInt, "to")}},
	{Name: "CastLike", Versions: []int64{15, 19, 21, 23, 24, 25}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCastLike, eval: evalCastLike, Attrs: []AttrSpec{
		strAttr("round_mode", "up"), intAttr("saturate", 1),
	}},
	{Name: "EyeLike", Versions: []int64{9, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferLike, Attrs: []AttrSpec{
		optional(ir.AttrInt, "dtype"), intAttr("k", 0),
	}},
	{Name: "Bernoulli", Versions: []int64{15, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Random: true, Infer: inferLike, Attrs: []AttrSpec{
		optional(ir.AttrInt, "dtype"), optional(ir.AttrFloat, "seed"),
	}},
	{Name: "RandomNormalLike", Versions: []int64{1, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Random: true, Infer: inferLike, Attrs: []AttrSpec{
		optional(ir.AttrInt, "dtype"), floatAttr("mean", 0.0), floatAttr("scale", 1.0), optional(ir.AttrFloat, "seed"),
	}},
	{Name: "RandomUniformLike", Versions: []int64{1, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Random: true, Infer: inferLike, Attrs: []AttrSpec{
		optional(ir.AttrInt, "dtype"), floatAttr("high", 1.0), floatAttr("low", 0.0), optional(ir.AttrFloat, "seed"),
	}},
	{Name: "RandomNormal", Versions: []int64{1, 22}, MinIn: 0, MaxIn: 0, MinOut: 1, MaxOut: 1, Random: true, Infer: inferRandom, Attrs: []AttrSpec{
		intAttr("dtype", 1), floatAttr("mean", 0.0), floatAttr("scale", 1.0), optional(ir.AttrFloat, "seed"),
		required(ir.AttrInts, "shape"),
	}},
	{Name: "RandomUniform", Versions: []int64{1, 22}, MinIn: 0, MaxIn: 0, MinOut: 1, MaxOut: 1, Random: true, Infer: inferRandom, Attrs: []AttrSpec{
		intAttr("dtype", 1), floatAttr("high", 1.0), floatAttr("low", 0.0), optional(ir.AttrFloat, "seed"),
		required(ir.AttrInts, "shape"),
	}},
	{Name: "Multinomial", Versions: []int64{7, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Random: true, Infer: inferMultinomial, Attrs: []AttrSpec{
		intAttr("dtype", 6), intAttr("sample_size", 1), optional(ir.AttrFloat, "seed"),
	}},
}

func inferConstant(c *Ctx) error {
	for _, a := range c.Node.Attrs() {
		switch {
		case a.Name == "value" && a.T != nil:
			c.OutType(0, a.T.Type())
		case a.Name == "sparse_value" && a.Sparse != nil && a.Sparse.Values != nil:
			for _, d := range a.Sparse.Dims {
				if d < 0 {
					return fmt.Errorf("sparse value has shape %v", a.Sparse.Dims)
				}
			}
			c.Out(0, a.Sparse.Values.DType(), ir.StaticShape(a.Sparse.Dims...))
		case a.Name == "value_float":
			c.Out(0, ir.Float32, ir.StaticShape())
		case a.Name == "value_floats":
			c.Out(0, ir.Float32, ir.StaticShape(int64(len(a.Floats))))
		case a.Name == "value_int":
			c.Out(0, ir.Int64, ir.StaticShape())
		case a.Name == "value_ints":
			c.Out(0, ir.Int64, ir.StaticShape(int64(len(a.Ints))))
		case a.Name == "value_string":
			c.Out(0, ir.String, ir.StaticShape())
		case a.Name == "value_strings":
			c.Out(0, ir.String, ir.StaticShape(int64(len(a.Strings))))
		case a.Ref != "":
			return nil
		default:
			return fmt.Errorf("attribute %q holds no value", a.Name)
		}
	}
	if len(c.Node.Attrs()) != 1 {
		return fmt.Errorf("a constant needs exactly one value, has %d", len(c.Node.Attrs()))
	}
	return nil
}

func evalConstant(e *evalCtx) []*part {
	for _, a := range e.node.Attrs() {
		switch a.Name {
		case "value":
			return one(fromTensor(a.T))
		case "value_int":
			return one(scalar(ir.Int64, known(a.I)))
		case "value_ints":
			t := ir.VectorInt64(a.Ints...)
			return one(fromTensor(t))
		case "value_float":
			return one(fromTensor(ir.ScalarFloat32(a.F)))
		case "value_floats":
			t, err := ir.FromFloat32s(a.Floats, int64(len(a.Floats)))
			if err == nil {
				return one(fromTensor(t))
			}
		}
	}
	return nil
}

func inferConstantOfShape(c *Ctx) error {
	elem := ir.Float32
	if a := c.Node.Attr("value"); a != nil && a.T != nil {
		if a.T.Len() != 1 {
			return fmt.Errorf("value has %d elements, must have one", a.T.Len())
		}
		elem = a.T.DType()
	}
	n := c.nums(0)
	if n == nil {
		c.Out(0, elem, c.rankFrom(0))
		return nil
	}
	if len(n) > maxRank {
		return fmt.Errorf("the result has %d axes", len(n))
	}
	for _, x := range n {
		if v, ok := x.value(); ok && v < 0 {
			return fmt.Errorf("shape %v is negative", n)
		}
	}
	c.Out(0, elem, dims(n))
	return nil
}

func evalConstantOfShape(e *evalCtx) []*part {
	d, ok := e.ints(0)
	if !ok {
		return nil
	}
	value := newPart(ir.Float32, []int64{1})
	value.f[0] = 0
	if a := e.node.Attr("value"); a != nil {
		if value = fromTensor(a.T); value == nil || value.len() != 1 {
			return nil
		}
	}
	return one(value.take(d, func(int) int { return 0 }))
}

func inferRange(c *Ctx) error {
	if err := c.sameElem(0, 1, 2); err != nil {
		return err
	}
	c.Out(0, c.elemOf(0, 1, 2), dims([]num{c.rangeLen()}))
	return nil
}

func (c *Ctx) rangeLen() num {
	if a, b, s := c.nums(0), c.nums(1), c.nums(2); len(a) == 1 && len(b) == 1 && len(s) == 1 {
		step, ok := s[0].value()
		from, okA := a[0].value()
		to, okB := b[0].value()
		switch {
		case ok && step != 0 && okA && okB:
			if _, fits := subInt(to, from); !fits {
				return unknown
			}
			return known(stepCount(from, to, step))
		case ok && step > 0 && okA && from == 0:
			return ceilDiv(b[0], step)
		case ok && step == 1:
			return sub(b[0], a[0])
		}
		return unknown
	}
	a, okA := c.Floats(0)
	b, okB := c.Floats(1)
	s, okS := c.Floats(2)
	if !okA || !okB || !okS || len(a) != 1 || len(b) != 1 || len(s) != 1 || s[0] == 0 {
		return unknown
	}
	n := math.Ceil((b[0] - a[0]) / s[0])
	if math.IsNaN(n) || n > 1<<40 {
		return unknown
	}
	return known(int64(max(n, 0)))
}

func evalRange(e *evalCtx) []*part {
	a, ok := e.ints(0)
	b, ok2 := e.ints(1)
	s, ok3 := e.ints(2)
	if !ok || !ok2 || !ok3 || len(a) != 1 || len(b) != 1 || len(s) != 1 || s[0] == 0 {
		return nil
	}
	if _, fits := subInt(b[0], a[0]); !fits {
		return nil
	}
	p := newPart(e.in(0).elem, []int64{stepCount(a[0], b[0], s[0])})
	if p == nil || p.v == nil {
		return nil
	}
	for i := range p.v {
		p.v[i] = known(a[0] + int64(i)*s[0])
	}
	return one(p)
}

// dtypeAttr is the element type that an attribute names, or def.
func (c *Ctx) dtypeAttr(name string, def ir.DType) (ir.DType, error) {
	a := c.Node.Attr(name)
	if a == nil || a.Ref != "" {
		return def, nil
	}
	if a.I < 0 || a.I > 1<<20 || !ir.DType(a.I).Valid() {
		return def, fmt.Errorf("attribute %q names no element type: %d", name, a.I)
	}
	return ir.DType(a.I), nil
}

func inferCast(c *Ctx) error {
	d, err := c.dtypeAttr("to", ir.Undefined)
	if err != nil {
		return err
	}
	c.Out(0, d, c.Shape(0))
	return nil
}

func inferCastLike(c *Ctx) error {
	c.Out(0, c.Elem(1), c.Shape(0))
	return nil
}

// inferLike serves EyeLike, RandomNormalLike, RandomUniformLike, Bernoulli: input 0's shape, element type by attribute dtype.
func inferLike(c *Ctx) error {
	d, err := c.dtypeAttr("dtype", c.Elem(0))
	if err != nil {
		return err
	}
	c.Out(0, d, c.Shape(0))
	return nil
}

func inferRandom(c *Ctx) error {
	d, err := c.dtypeAttr("dtype", ir.Float32)
	if err != nil {
		return err
	}
	s := c.Node.Ints("shape")
	for _, n := range s {
		if n < 0 {
			return fmt.Errorf("shape %v is negative", s)
		}
	}
	c.Out(0, d, ir.StaticShape(s...))
	return nil
}

func inferMultinomial(c *Ctx) error {
	d, err := c.dtypeAttr("dtype", ir.Int32)
	if err != nil {
		return err
	}
	out := ir.Shape{ir.UnknownDim(), known(c.Node.Int("sample_size", 1)).dim()}
	if x := c.Shape(0); len(x) > 0 {
		out[0] = x[0]
	}
	c.Out(0, d, out)
	return nil
}

// inferBitCast keeps the shape; both element types have the same width.
func inferBitCast(c *Ctx) error {
	d, err := c.dtypeAttr("to", ir.Undefined)
	if err != nil {
		return err
	}
	if e := c.Elem(0); e != ir.Undefined && e.Bits() != d.Bits() {
		return fmt.Errorf("%v and %v differ in width", e, d)
	}
	c.Out(0, d, c.Shape(0))
	return nil
}
