package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// signalTable lists signal processing and the decoding of images.
var signalTable = []Schema{
	{Name: "DFT", Versions: []int64{17, 20}, MinIn: 1, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferDFT, Attrs: []AttrSpec{
		intAttr("axis", 1), intAttr("inverse", 0), intAttr("onesided", 0),
	}},
	{Name: "STFT", Versions: []int64{17}, MinIn: 2, MaxIn: 4, MinOut: 1, MaxOut: 1, Infer: inferSTFT, Attrs: []AttrSpec{intAttr("onesided", 1)}},
	{Name: "MelWeightMatrix", Versions: []int64{17}, MinIn: 5, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferMelWeight, Attrs: []AttrSpec{
		intAttr("output_datatype", 1),
	}},
	{Name: "BlackmanWindow", Versions: []int64{17}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferWindow, Attrs: []AttrSpec{
		intAttr("output_datatype", 1), intAttr("periodic", 1),
	}},
	{Name: "HammingWindow", Versions: []int64{17}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferWindow, Attrs: []AttrSpec{
		intAttr("output_datatype", 1), intAttr("periodic", 1),
	}},
	{Name: "HannWindow", Versions: []int64{17}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferWindow, Attrs: []AttrSpec{
		intAttr("output_datatype", 1), intAttr("periodic", 1),
	}},
	{Name: "ImageDecoder", Versions: []int64{20}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferImageDecoder, Attrs: []AttrSpec{
		strAttr("pixel_format", "RGB"),
	}},
}

// inferImageDecoder gives [H, W, C], all of it empty where the image cannot be decoded.
func inferImageDecoder(c *Ctx) error {
	if err := c.needRank(0, 1, 1); err != nil {
		return err
	}
	c.Out(0, ir.Uint8, unknownShape(3))
	return nil
}

// inferDFT gives [..., bins, ..., 2]; one-sided transforms keep half the bins and one, and their
// inverse gives real numbers [..., n, ..., 1].
func inferDFT(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if len(x) < 2 {
		return fmt.Errorf("input has shape %v, rank 2 or more is needed", x)
	}
	at := c.Node.Int("axis", 1)
	if c.Has(2) {
		v, ok := c.Ints(2)
		if !ok || len(v) != 1 {
			c.Out(0, c.Elem(0), unknownShape(len(x)))
			return nil
		}
		at = v[0]
	} else if c.run.opset >= 20 && c.Node.Attr("axis") == nil {
		at = -2
	}
	a, err := axis(at, len(x))
	if err != nil {
		return err
	}
	n := fromDim(x[a])
	if c.Has(1) {
		n = unknown
		if v := c.nums(1); len(v) == 1 {
			n = v[0]
		}
	}
	half, real := c.Node.Int("onesided", 0) != 0, int64(2)
	if half && c.Node.Int("inverse", 0) != 0 {
		real = 1
		if !c.Has(1) {
			n = mul(sub(n, known(1)), known(2))
		}
	} else if half {
		n = add(floorDiv(n, 2), known(1))
	}
	out := x.Clone()
	out[a] = n.dim()
	out[len(out)-1] = ir.D(real)
	c.Out(0, c.Elem(0), out)
	return nil
}

// inferSTFT gives [N, frames, bins, 2].
func inferSTFT(c *Ctx) error {
	x := c.Shape(0)
	out := unknownShape(4)
	out[3] = ir.D(2)
	frame := unknown
	if v := c.nums(3); len(v) == 1 {
		frame = v[0]
	} else if w := c.Shape(2); len(w) == 1 {
		frame = fromDim(w[0])
	}
	if len(x) > 1 {
		out[0] = x[0]
		if v, ok := c.Ints(1); ok && len(v) == 1 && v[0] > 0 {
			out[1] = add(floorDiv(sub(fromDim(x[1]), frame), v[0]), known(1)).dim()
		}
	}
	if c.Node.Int("onesided", 1) != 0 {
		frame = add(floorDiv(frame, 2), known(1))
	}
	out[2] = frame.dim()
	c.Out(0, c.Elem(0), out)
	return nil
}

func inferMelWeight(c *Ctx) error {
	d, err := c.dtypeAttr("output_datatype", ir.Float32)
	if err != nil {
		return err
	}
	out := unknownShape(2)
	if n := c.nums(1); len(n) == 1 {
		out[0] = add(floorDiv(n[0], 2), known(1)).dim()
	}
	if n := c.nums(0); len(n) == 1 {
		out[1] = n[0].dim()
	}
	c.Out(0, d, out)
	return nil
}

func inferWindow(c *Ctx) error {
	d, err := c.dtypeAttr("output_datatype", ir.Float32)
	if err != nil {
		return err
	}
	out := unknownShape(1)
	if n := c.nums(0); len(n) == 1 {
		out[0] = n[0].dim()
	}
	c.Out(0, d, out)
	return nil
}
