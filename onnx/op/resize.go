package op

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// resizeTable lists resampling.
var resizeTable = []Schema{
	{Name: "Resize", Versions: []int64{10, 11, 13, 18, 19}, MinIn: 1, MaxIn: 4, MinOut: 1, MaxOut: 1, Infer: inferResize, Attrs: []AttrSpec{
		intAttr("antialias", 0), optional(ir.AttrInts, "axes"), strAttr("coordinate_transformation_mode", "half_pixel"),
		floatAttr("cubic_coeff_a", -0.75), intAttr("exclude_outside", 0), floatAttr("extrapolation_value", 0.0),
		strAttr("keep_aspect_ratio_policy", "stretch"), strAttr("mode", "nearest"), strAttr("nearest_mode", "round_prefer_floor"),
	}},
	{Name: "Upsample", Versions: []int64{1, 7, 9}, Deprecated: 10, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferUpsample, Attrs: []AttrSpec{
		strAttr("mode", "nearest"), optional(ir.AttrFloats, "scales"),
	}},
}

func inferResize(c *Ctx) error {
	x := c.Shape(0)
	scales, sizes := 2, 3
	if c.NumIn() == 2 {
		scales, sizes = 1, -1
	}
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	axes := c.Node.Ints("axes")
	if axes == nil {
		for i := range x {
			axes = append(axes, int64(i))
		}
	}
	if _, err := axisSet(axes, len(x)); err != nil {
		return err
	}
	out := unknownShape(len(x))
	named := make([]bool, len(x))
	for i, a := range axes {
		k, err := axis(a, len(x))
		if err != nil {
			return err
		}
		axes[i], named[k] = int64(k), true
	}
	for k := range out {
		if !named[k] {
			out[k] = x[k]
		}
	}
	if p := c.floatsAt(scales); len(p) > 0 {
		if err := scaleDims(x, out, axes, p); err != nil {
			return err
		}
	} else if n := c.nums(sizes); len(n) > 0 {
		if len(n) != len(axes) {
			return fmt.Errorf("%d sizes for %d axes of %v", len(n), len(axes), x)
		}
		for i, a := range axes {
			if v, ok := n[i].value(); ok && v <= 0 {
				return fmt.Errorf("sizes %v are not positive", n)
			}
			out[a] = n[i].dim()
		}
		keepAspect(c.Node.Str("keep_aspect_ratio_policy", "stretch"), x, out, axes)
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

// floatsAt is the value of a float input as far as it is known (NaN elsewhere).
func (c *Ctx) floatsAt(i int) []float64 {
	if p := c.run.part(c.Node.Input(i)); p != nil {
		return p.f
	}
	return nil
}

// scaleDims sets the scaled axes of out to floor(x * scale), in the float arithmetic of the standard.
func scaleDims(x, out ir.Shape, axes []int64, scales []float64) error {
	if len(scales) != len(axes) {
		return fmt.Errorf("%d scales for %d axes of %v", len(scales), len(axes), x)
	}
	for i, a := range axes {
		s, d := scales[i], x[a]
		switch {
		case math.IsNaN(s):
			out[a] = ir.UnknownDim()
		case s <= 0:
			return fmt.Errorf("scales %v are not positive", scales)
		case s == 1:
			out[a] = d
		case d.Known():
			n := math.Floor(float64(float32(d.Size) * float32(s)))
			if n > 1<<62 {
				return fmt.Errorf("scales %v of %v overflow", scales, x)
			}
			out[a] = ir.D(int64(n))
		case s == math.Trunc(s) && s < 1<<31:
			out[a] = mul(fromDim(d), known(int64(s))).dim()
		case 1/s == math.Trunc(1/s) && 1/s < 1<<31:
			out[a] = floorDiv(fromDim(d), int64(1/s)).dim()
		default:
			out[a] = ir.UnknownDim()
		}
	}
	return nil
}

// keepAspect turns the sizes asked for into those that one scale for all axes gives.
func keepAspect(policy string, x, out ir.Shape, axes []int64) {
	if policy == "stretch" || policy == "" {
		return
	}
	scale := 0.0
	for i, a := range axes {
		if !x[a].Known() || !out[a].Known() || x[a].Size == 0 {
			for _, b := range axes {
				out[b] = ir.UnknownDim()
			}
			return
		}
		s := float64(out[a].Size) / float64(x[a].Size)
		if i == 0 || policy == "not_larger" && s < scale || policy == "not_smaller" && s > scale {
			scale = s
		}
	}
	for _, a := range axes {
		if n := math.Floor(scale*float64(x[a].Size) + 0.5); n < 1<<62 {
			out[a] = ir.D(int64(n))
		} else {
			out[a] = ir.UnknownDim()
		}
	}
}

func inferUpsample(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	scales := c.floatsAt(1)
	if a := c.Node.Attr("scales"); a != nil {
		scales = nil
		for _, s := range a.Floats {
			scales = append(scales, float64(s))
		}
	}
	out := unknownShape(len(x))
	if scales != nil {
		axes := make([]int64, len(x))
		for i := range axes {
			axes[i] = int64(i)
		}
		if err := scaleDims(x, out, axes, scales); err != nil {
			return err
		}
	}
	c.Out(0, c.Elem(0), out)
	return nil
}
