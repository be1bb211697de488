package grad

import (
	"math"

	"mqatc/onnx/ir"
)

// fourier is a discrete Fourier transform along an axis of static size, as products with matrices of cosines and sines.
func fourier(c *call) *ir.Value {
	x := c.in(0)
	rank := c.rank(x)
	axis, ok := c.fourierAxis(rank)
	if !ok {
		return nil
	}
	have, parts := c.along(x, axis), c.along(x, int64(rank-1))
	length := have
	if v := c.in(1); v != nil {
		l, ok := constInts(v)
		if !ok || len(l) != 1 || l[0] < 1 {
			return c.fail("dft_length must be a constant")
		}
		length = l[0]
	}
	inverse, half := c.n.Int("inverse", 0) != 0, c.n.Int("onesided", 0) != 0
	if inverse && half {
		return c.fail("onesided together with inverse")
	}
	if c.Err() != nil {
		return nil
	}
	used, out := min(have, length), length
	if half {
		out = length/2 + 1
	}
	if used < have {
		x = c.slice(x, []int64{0}, []int64{used}, []int64{axis}, []int64{1})
	}
	cos, sin := make([]float64, used*out), make([]float64, used*out)
	for j := range used {
		for k := range out {
			angle := -2 * math.Pi * float64(j*k%length) / float64(length)
			scale := 1.0
			if inverse {
				angle, scale = -angle, 1/float64(length)
			}
			cos[j*out+k], sin[j*out+k] = scale*math.Cos(angle), scale*math.Sin(angle)
		}
	}
	last := int64(rank - 1)
	times := func(v *ir.Value, m []float64) *ir.Value { return c.alongAxis(v, m, axis, out, used) }
	if parts == 1 {
		return c.joined([]*ir.Value{times(x, cos), times(x, sin)}, last)
	}
	part := func(k int64) *ir.Value { return c.slice(x, []int64{k}, []int64{k + 1}, []int64{last}, []int64{1}) }
	re, im := part(0), part(1)
	return c.joined([]*ir.Value{c.sub(times(re, cos), times(im, sin)), c.add(times(re, sin), times(im, cos))}, last)
}

// fourierAxis is the axis of a DFT: an input from opset 20 on, an attribute before. The defaults of both agree for rank 3 alone.
func (c *call) fourierAxis(rank int) (axis int64, ok bool) {
	switch v, a := c.in(2), c.n.Attr("axis"); {
	case v != nil:
		k, known := constInts(v)
		if !known || len(k) != 1 {
			c.fail("axis must be a constant")
			return 0, false
		}
		axis = k[0]
	case a != nil:
		axis = a.I
	case rank == 3:
		axis = 1
	default:
		c.fail("no axis for an input of rank %d", rank)
		return 0, false
	}
	axis = c.axis(axis, rank)
	if c.Err() == nil && axis == int64(rank-1) {
		c.fail("axis %d holds the parts of complex numbers", axis)
	}
	return axis, c.Err() == nil
}
