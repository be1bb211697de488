package quant

import (
	"fmt"

	"mqatc/onnx/ir"
)

// Codes are a weight as integers: element i is worth Grid.Level(Q[i]) * Scale[channel of i].
type Codes struct {
	Name      string
	Quantizer string
	Dims      []int64
	Axis      int // of the channels; -1 for one scale
	Bits      int
	Grid      Grid
	Q         []int16
	Scale     []float32
}

// newCodes rounds w to the grid as the fake-quantization graph does.
func newCodes(s Site, w []float32, scale []float32, g Grid) (*Codes, error) {
	l := layoutOf(s.Dims, s.Axis)
	if len(scale) != l.channels || len(w) != l.outer*l.channels*l.inner {
		return nil, fmt.Errorf("weight %q: %d scales and %d elements for shape %v along axis %d", s.Name, len(scale), len(w), s.Dims, s.Axis)
	}
	for c, x := range scale {
		if !(x > 0) {
			return nil, fmt.Errorf("weight %q: scale %g of channel %d is not positive", s.Name, x, c)
		}
	}
	c := &Codes{Name: s.Name, Quantizer: s.Quantizer, Dims: s.Dims, Axis: s.Axis, Bits: s.Bits, Grid: g, Q: make([]int16, len(w)), Scale: scale}
	for i, x := range w {
		if x != x {
			return nil, fmt.Errorf("weight %q: element %d is not a number", s.Name, i)
		}
		c.Q[i] = g.Nearest(x / scale[l.channel(i)])
	}
	return c, nil
}

// Values are the weights that the codes stand for, those that the fake-quantized graph uses.
func (c *Codes) Values() []float32 {
	l := layoutOf(c.Dims, c.Axis)
	out := make([]float32, len(c.Q))
	for i, q := range c.Q {
		out[i] = c.Grid.Level(q) * c.Scale[l.channel(i)]
	}
	return out
}

// Channel is the channel of element i.
func (c *Codes) Channel(i int) int { return layoutOf(c.Dims, c.Axis).channel(i) }

// Integers are the codes as integers of one uniform grid with their scales, ready for a DequantizeLinear; false when the codebook
// has none that fits the container of its width.
func (c *Codes) Integers() (q []int64, scale []float32, ok bool) {
	u, ok := c.Grid.uniform(c.Bits)
	if !ok {
		return nil, nil, false
	}
	q = make([]int64, len(c.Q))
	scale = c.Scale
	if c.Grid.Levels == nil {
		for i, x := range c.Q {
			q[i] = int64(x)
		}
		return q, scale, true
	}
	scale = make([]float32, len(c.Scale))
	for i, s := range c.Scale {
		scale[i] = s / float32(u.Hi) // exact: Hi is a power of two
	}
	for i, x := range c.Q {
		q[i] = int64(c.Grid.Levels[x] * float32(u.Hi))
	}
	return q, scale, true
}

// Container is the element type the codes are stored in.
func (c *Codes) Container() ir.DType { return Container(c.Bits) }
