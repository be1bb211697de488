package grad

import "mqatc/onnx/ir"

// weightGradDepthwise is weightGrad for one input channel per group. At stride 1, small kernels are fastest as one product and
// sum per tap, larger ones on large maps as a matrix product of shifted rows and shifted columns; everything else is a Conv.
func (c *call) weightGradDepthwise(big, small *ir.Value, wd []int64, w window, group int64) *ir.Value {
	if w.dense() && wd[0] == group {
		if product(w.kernel) <= 9 {
			return c.depthwiseTaps(big, small, wd, w)
		}
		if len(w.kernel) == 2 && product(w.dilations) == 1 && product(w.out) >= 512 {
			return c.depthwiseRows(big, small, wd, w)
		}
	}
	return c.depthwiseConv(big, small, wd, w, group)
}

// depthwiseConv convolves each of the N*C planes of big with the matching planes of small as its kernel.
func (c *call) depthwiseConv(big, small *ir.Value, wd []int64, w window, group int64) *ir.Value {
	rank := len(w.kernel)
	n := c.dims(big)[0]
	planes := c.reshape(big, append([]int64{1, n * group}, w.in...)...)
	kernel := c.reshape(small, append([]int64{n * wd[0], 1}, w.out...)...)
	pads := append(append([]int64{}, w.lo...), repeat(0, rank)...)
	more := false
	for i := 0; i < rank; i++ {
		t := w.trailing(i)
		pads[rank+i] = max(t, 0)
		more = more || -t >= w.dilations[i]
	}
	y := c.Op("Conv", []*ir.Value{planes, kernel}, ir.AInts("kernel_shape", w.out...), ir.AInts("strides", w.dilations...),
		ir.AInts("dilations", w.strides...), ir.AInts("pads", pads...), ir.AInt("group", n*group))
	if more {
		y = c.slice(y, repeat(0, rank), w.kernel, seq(2, rank+2), repeat(1, rank))
	}
	return c.reshape(c.sum(c.reshape(y, n, wd[0], product(w.kernel)), false, 0), wd...)
}

// padded is big with the padding the windows reach, and zeros for more rows at the end.
func (c *call) padded(big *ir.Value, w window, more int64) *ir.Value {
	lo, hi := []int64{0, 0}, []int64{0, 0}
	for i := range w.kernel {
		lo, hi = append(lo, w.lo[i]), append(hi, max(w.trailing(i), 0))
	}
	hi[2] += more
	return c.pad(big, lo, hi)
}

func (c *call) depthwiseTaps(big, small *ir.Value, wd []int64, w window) *ir.Value {
	rank := len(w.kernel)
	x := c.padded(big, w, 0)
	tap, starts, ends := make([]int64, rank), make([]int64, rank), make([]int64, rank)
	var parts []*ir.Value
	for t := int64(0); t < product(w.kernel); t++ {
		unravel(t, w.kernel, tap)
		for i := range tap {
			starts[i] = tap[i] * w.dilations[i]
			ends[i] = starts[i] + w.out[i]
		}
		s := x
		if have := c.dims(x); !equal(have[2:], w.out) {
			s = c.slice(x, starts, ends, seq(2, rank+2), repeat(1, rank))
		}
		parts = append(parts, c.reshape(c.overChannel(c.mul(s, small)), wd[0], 1))
	}
	if len(parts) == 1 {
		return c.reshape(parts[0], wd...)
	}
	return c.reshape(c.Op("Concat", parts, ir.AInt("axis", 1)), wd...)
}

// depthwiseRows lays small into the padded grid of big at each row offset, shifts big by each column offset, and multiplies the
// two for each plane: [kernel rows, grid] x [grid, kernel columns].
func (c *call) depthwiseRows(big, small *ir.Value, wd []int64, w window) *ir.Value {
	n, ch := c.dims(big)[0], wd[0]
	x := c.padded(big, w, 1)
	d := c.dims(x)
	if c.Err() != nil {
		return nil
	}
	rows, cols := d[2]-1, d[3]
	grid := rows * cols
	flat := c.reshape(x, n*ch, 1, grid+cols)
	var xs, ds []*ir.Value
	for b := int64(0); b < w.kernel[1]; b++ {
		xs = append(xs, c.slice(flat, []int64{b}, []int64{b + grid}, []int64{2}, []int64{1}))
	}
	for a := int64(0); a < w.kernel[0]; a++ {
		p := c.pad(small, []int64{0, 0, a, 0}, []int64{0, 0, rows - w.out[0] - a, cols - w.out[1]})
		ds = append(ds, c.reshape(p, n*ch, 1, grid))
	}
	at := ir.AInt("axis", 1)
	g := c.op("MatMul", c.Op("Concat", ds, at), c.transpose(c.Op("Concat", xs, at), 0, 2, 1))
	return c.reshape(c.sum(c.reshape(g, n, ch, product(w.kernel)), false, 0), wd...)
}
