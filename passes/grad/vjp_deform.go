package grad

import "mqatc/onnx/ir"

// deformConv is a convolution of images whose every tap lies at an offset of its own, and counts by a mask where there is one: the taps are
// sampled, zero outside the image, and multiplied by the weights. The batch may be of any size.
func deformConv(c *call) *ir.Value {
	x, w, y := c.in(0), c.in(1), c.out(0)
	wd := c.dims(w)
	if len(wd) != 4 {
		return c.fail("weights of shape %v: images have a rule", w.Shape())
	}
	win, ok := c.window(x, y, wd[2:])
	if !ok {
		return nil
	}
	channels, sizes := c.along(x, 1), []int64{c.along(x, 2), c.along(x, 3)}
	out := []int64{c.along(y, 2), c.along(y, 3)}
	groups, parts := c.n.Int("group", 1), c.n.Int("offset_group", 1)
	if c.Err() == nil && (parts < 1 || channels%parts != 0 || groups < 1 || channels != groups*wd[1] || wd[0]%groups != 0) {
		return c.fail("%d channels in %d groups with %d groups of offsets, weights of shape %v", channels, groups, parts, w.Shape())
	}
	if c.Err() != nil {
		return nil
	}
	batch, area, kernel := c.free(x), product(out), product(win.kernel)
	points, each := kernel*area, batch
	if batch > 0 {
		each *= parts
	}
	offsets := c.reshape(c.in(2), each, kernel, 2, area)
	var taps [][]tap
	for a := range 2 {
		k := int64(a)
		at := c.reshape(c.slice(offsets, []int64{k}, []int64{k + 1}, []int64{2}, []int64{1}), each, points)
		taps = append(taps, c.linearTaps(c.add(at, c.floats(win.places(a, out), 1, points)), "zeros", 0, 0, float64(sizes[a]-1)))
	}
	columns := c.sampled(c.reshape(x, each, channels/parts, product(sizes)), taps, sizes, points)
	if m := c.in(4); m != nil {
		columns = c.mul(columns, c.reshape(m, each, 1, points))
	}
	if groups == 1 {
		y = c.op("MatMul", c.reshape(w, wd[0], wd[1]*kernel), c.reshape(columns, batch, wd[1]*kernel, area))
	} else {
		y = c.op("MatMul", c.reshape(w, groups, wd[0]/groups, wd[1]*kernel), c.reshape(columns, batch, groups, wd[1]*kernel, area))
	}
	y = c.reshape(y, append([]int64{batch, wd[0]}, out...)...)
	if b := c.in(3); b != nil {
		y = c.add(y, c.reshape(b, wd[0], 1, 1))
	}
	return y
}

// places are the positions along axis a of two that the kernel's elements read, for each of those in turn at every place of out.
func (w *window) places(a int, out []int64) []float64 {
	var v []float64
	k, p := make([]int64, 2), make([]int64, 2)
	for i := range product(w.kernel) {
		unravel(i, w.kernel, k)
		for j := range product(out) {
			unravel(j, out, p)
			v = append(v, float64(p[a]*w.strides[a]+k[a]*w.dilations[a]-w.lo[a]))
		}
	}
	return v
}

// colToIm adds up blocks where they lie in the image, the opposite of cutting it into columns. The batch may be of any size.
func colToIm(c *call) *ir.Value {
	image, ok := constInts(c.in(1))
	block, ok2 := constInts(c.in(2))
	if !ok || !ok2 {
		return c.fail("the image's and the block's shape must be constants")
	}
	x, y := c.in(0), c.out(0)
	w, ok := c.window(y, y, block)
	channels := c.along(y, 1)
	if !ok || c.Err() != nil {
		return nil
	}
	w.in, w.out = image, make([]int64, len(image))
	for i := range image {
		w.out[i] = (image[i]+w.lo[i]+w.hi[i]-w.extent(i))/w.strides[i] + 1
	}
	kernel := product(block)
	one := make([]float64, kernel*kernel)
	for i := range kernel {
		one[i*(kernel+1)] = 1
	}
	planes, batch := int64(-1), c.free(x)
	if batch > 0 {
		planes = batch * channels
	}
	g := c.adjoint(c.reshape(x, append([]int64{planes, kernel}, w.out...)...), c.floats(one, append([]int64{kernel, 1}, block...)...), y, w, 1)
	return c.reshape(g, append([]int64{batch, channels}, image...)...)
}
