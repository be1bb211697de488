package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// quantTable lists quantization.
var quantTable = []Schema{
	{Name: "QuantizeLinear", Versions: []int64{10, 13, 19, 21, 23, 24, 25, 28}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferQuantize, Attrs: []AttrSpec{
		intAttr("axis", 1), intAttr("block_size", 0), intAttr("output_dtype", 0), intAttr("precision", 0), intAttr("saturate", 1),
	}},
	{Name: "DequantizeLinear", Versions: []int64{10, 13, 19, 21, 23, 24, 25, 28}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferDequantize, Attrs: []AttrSpec{
		intAttr("axis", 1), intAttr("block_size", 0), intAttr("output_dtype", 0),
	}},
	{Name: "DynamicQuantizeLinear", Versions: []int64{11}, MinIn: 1, MaxIn: 1, MinOut: 3, MaxOut: 3, Infer: inferDynamicQuantize},
}

func inferQuantize(c *Ctx) error {
	d, err := c.dtypeOr("output_dtype", 2, ir.Uint8)
	if err != nil {
		return err
	}
	if err := c.checkScale(); err != nil {
		return err
	}
	c.Out(0, d, c.Shape(0))
	return nil
}

func inferDequantize(c *Ctx) error {
	d := c.Elem(1)
	if a := c.Node.Attr("output_dtype"); a != nil && a.I != 0 {
		var err error
		if d, err = c.dtypeAttr("output_dtype", d); err != nil {
			return err
		}
	}
	if c.Has(2) {
		if err := c.sameElem(0, 2); err != nil {
			return err
		}
	}
	if err := c.checkScale(); err != nil {
		return err
	}
	c.Out(0, d, c.Shape(0))
	return nil
}

// dtypeOr is the element type of input i if present, else that of the attribute, else def.
func (c *Ctx) dtypeOr(name string, i int, def ir.DType) (ir.DType, error) {
	a := c.Node.Attr(name)
	if c.Has(i) {
		e := c.Elem(i)
		if a != nil && a.I != 0 && e != ir.Undefined && ir.DType(a.I) != e {
			return e, fmt.Errorf("attribute %q is %d, input %d is %v", name, a.I, i, e)
		}
		return e, nil
	}
	if a == nil || a.I == 0 {
		return def, nil
	}
	return c.dtypeAttr(name, def)
}

// checkScale reports a scale in input 1 that is neither one number, nor one per slice along the axis, nor blocked.
func (c *Ctx) checkScale() error {
	x, s := c.Shape(0), c.Shape(1)
	if z := c.Shape(2); c.Has(2) && s != nil && z != nil && !(single(s) && single(z)) {
		if len(s) != len(z) {
			return fmt.Errorf("scale %v and zero point %v differ", s, z)
		}
		for i := range s {
			if _, err := meet(s[i], z[i]); err != nil {
				return fmt.Errorf("scale %v and zero point %v differ", s, z)
			}
		}
	}
	if x == nil || single(s) {
		return nil
	}
	block := c.Node.Int("block_size", 0)
	if block < 0 {
		return fmt.Errorf("block_size %d is negative", block)
	}
	a, err := axis(c.Node.Int("axis", 1), len(x))
	if err != nil {
		return err
	}
	if block > 0 {
		if len(s) != len(x) {
			return fmt.Errorf("blocked scale %v does not have the rank of %v", s, x)
		}
		for i := range x {
			want := x[i]
			if i == a {
				want = ceilDiv(fromDim(x[i]), block).dim()
			}
			if _, err := meet(want, s[i]); err != nil {
				return fmt.Errorf("scale %v does not match %v in blocks of %d on axis %d", s, x, block, a)
			}
		}
		return nil
	}
	if len(s) != 1 {
		return fmt.Errorf("scale %v is no vector", s)
	}
	if _, err := meet(x[a], s[0]); err != nil {
		return fmt.Errorf("scale %v does not match axis %d of %v", s, a, x)
	}
	return nil
}

func inferDynamicQuantize(c *Ctx) error {
	c.Out(0, ir.Uint8, c.Shape(0))
	c.Out(1, ir.Float32, ir.StaticShape())
	c.Out(2, ir.Uint8, ir.StaticShape())
	return nil
}

// single reports a shape of one element, written as a scalar or a vector.
func single(s ir.Shape) bool { return len(s) == 0 || len(s) == 1 && s[0].Known() && s[0].Size == 1 }
