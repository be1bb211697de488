package grad

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// vjpResize: resizing is linear and separable, so the gradient multiplies each resized dimension by the transpose of its matrix.
// Nearest neighbours repeated a whole number of times are an average pool. The region of tf_crop_and_resize must be constant.
func vjpResize(c *call, i int) *ir.Value {
	if i != 0 {
		return c.fail("roi, scales and sizes have no gradient")
	}
	in, out := c.dims(c.in(0)), c.dims(c.out(0))
	if c.Err() != nil {
		return nil
	}
	scales, err := c.resizeScales(in, out)
	if err != nil {
		return c.Fail(err)
	}
	roi, err := c.resizeRegion(len(in))
	if err != nil {
		return c.Fail(err)
	}
	if f := c.repeats(in, out, scales); f != nil {
		dy := c.Op("AveragePool", []*ir.Value{c.dy()}, ir.AInts("kernel_shape", f...), ir.AInts("strides", f...))
		return c.scale(dy, float64(product(f)))
	}
	g := c.dy()
	for a := range in {
		if in[a] == out[a] && scales[a] == 1 && (roi == nil || roi[a] == [2]float32{0, 1}) {
			continue
		}
		m, err := c.resizeMatrix(a, in[a], out[a], scales[a], roi)
		if err != nil {
			return c.Fail(err)
		}
		g = c.alongAxis(g, m, int64(a), in[a], out[a])
	}
	return g
}

// alongAxis multiplies an axis of g by the transpose of m [out, in].
func (c *call) alongAxis(g *ir.Value, m []float64, axis, in, out int64) *ir.Value {
	rank := c.rank(g)
	last := int64(rank - 1)
	if axis == last-1 && rank > 1 {
		t := make([]float64, len(m))
		for o := int64(0); o < out; o++ {
			for i := int64(0); i < in; i++ {
				t[i*out+o] = m[o*in+i]
			}
		}
		return c.op("MatMul", c.floats(t, in, out), g)
	}
	perm := seq(0, rank)
	perm[axis], perm[last] = last, axis
	return c.transpose(c.op("MatMul", c.transpose(g, perm...), c.floats(m, out, in)), perm...)
}

// resizeScales gives the scale of every dimension.
func (c *call) resizeScales(in, out []int64) ([]float32, error) {
	s := make([]float32, len(in))
	for a := range s {
		s[a] = 1
		if in[a] != out[a] && in[a] > 0 {
			s[a] = float32(out[a]) / float32(in[a])
		}
	}
	v := c.in(2)
	if v == nil || (len(v.Shape()) == 1 && v.Shape()[0].Known() && v.Shape()[0].Size == 0) {
		return s, c.keepAspect(s, in)
	}
	given, ok := constFloats(v)
	if !ok {
		return nil, fmt.Errorf("scales must be constants")
	}
	if len(given) == 0 {
		return s, c.keepAspect(s, in)
	}
	axes := c.resizeAxes(len(in))
	if len(axes) != len(given) {
		return nil, fmt.Errorf("%d scales for %d axes", len(given), len(axes))
	}
	for k, a := range axes {
		if a = c.axis(a, len(in)); c.Err() != nil {
			return nil, c.Err()
		}
		s[a] = float32(given[k])
	}
	return s, nil
}

func (c *call) resizeAxes(rank int) []int64 {
	if axes := c.n.Ints("axes"); axes != nil {
		return axes
	}
	return seq(0, rank)
}

// keepAspect sets the one scale that keep_aspect_ratio_policy chooses for the given sizes.
func (c *call) keepAspect(s []float32, in []int64) error {
	policy := c.n.Str("keep_aspect_ratio_policy", "stretch")
	if policy == "stretch" {
		return nil
	}
	axes := c.resizeAxes(len(in))
	sizes, ok := constInts(c.in(3))
	if !ok || len(sizes) != len(axes) {
		return fmt.Errorf("sizes must be constants, one per axis")
	}
	var f float32
	for k, a := range axes {
		r := float32(sizes[k]) / float32(in[c.axis(a, len(in))])
		if k == 0 || policy == "not_larger" && r < f || policy == "not_smaller" && r > f {
			f = r
		}
	}
	for _, a := range axes {
		s[c.axis(a, len(in))] = f
	}
	return nil
}

// resizeRegion gives the region of tf_crop_and_resize for every dimension, nil for another mode.
func (c *call) resizeRegion(rank int) ([][2]float32, error) {
	if c.n.Str("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize" {
		return nil, nil
	}
	axes := c.resizeAxes(rank)
	given, ok := constFloats(c.in(1))
	if !ok || len(given) != 2*len(axes) {
		return nil, fmt.Errorf("roi must be constants, two per axis")
	}
	roi := make([][2]float32, rank)
	for a := range roi {
		roi[a] = [2]float32{0, 1}
	}
	for k, a := range axes {
		roi[c.axis(a, rank)] = [2]float32{float32(given[k]), float32(given[len(axes)+k])}
	}
	return roi, c.Err()
}

// repeats gives the factors of a nearest-neighbour resize of [N, C, spatial...] that repeats every element a whole number of
// times; nil for any other.
func (c *call) repeats(in, out []int64, scales []float32) []int64 {
	if c.n.Str("mode", "nearest") != "nearest" || len(in) < 3 || len(in) > 5 || in[0] != out[0] || in[1] != out[1] {
		return nil
	}
	var f []int64
	for a := 2; a < len(in); a++ {
		if in[a] < 1 || out[a]%in[a] != 0 {
			return nil
		}
		f = append(f, out[a]/in[a])
		for o := int64(0); o < out[a]; o++ {
			x, err := sourceCoordinate(c.n, o, in[a], out[a], scales[a])
			if err != nil || nearest(c.n, x, in[a]) != o/f[a-2] {
				return nil
			}
		}
	}
	return f
}

// sourceCoordinate is where output element o lies on the input's axis (ONNX Resize, coordinate_transformation_mode), in single
// precision as runtimes compute it.
func sourceCoordinate(n *ir.Node, o, in, out int64, scale float32) (float32, error) {
	x := float32(o)
	switch mode := n.Str("coordinate_transformation_mode", "half_pixel"); mode {
	case "half_pixel":
		return (x+0.5)/scale - 0.5, nil
	case "half_pixel_symmetric":
		adjust := float32(out) / (scale * float32(in))
		return float32(in)/2*(1-adjust) + (x+0.5)/scale - 0.5, nil
	case "pytorch_half_pixel":
		if out <= 1 {
			return 0, nil
		}
		return (x+0.5)/scale - 0.5, nil
	case "align_corners":
		if out <= 1 {
			return 0, nil
		}
		return x * float32(in-1) / float32(out-1), nil
	case "asymmetric":
		return x / scale, nil
	default:
		return 0, fmt.Errorf("coordinate_transformation_mode %q", mode)
	}
}

func nearest(n *ir.Node, x float32, in int64) int64 {
	var q float64
	switch v := float64(x); n.Str("nearest_mode", "round_prefer_floor") {
	case "round_prefer_ceil":
		q = math.Floor(v + 0.5)
	case "floor":
		q = math.Floor(v)
	case "ceil":
		q = math.Ceil(v)
	default:
		q = math.Ceil(v - 0.5)
	}
	return min(max(int64(q), 0), in-1)
}

// resizeMatrix is the matrix [out, in] of a resize along axis a; roi is nil but for tf_crop_and_resize.
func (c *call) resizeMatrix(a int, in, out int64, scale float32, roi [][2]float32) ([]float64, error) {
	n := c.n
	if in < 1 || out*in > 1<<26 {
		return nil, fmt.Errorf("resizing an axis from %d to %d", in, out)
	}
	m := make([]float64, out*in)
	put := func(o, i int64, w float64) { m[o*in+min(max(i, 0), in-1)] += w }
	for o := int64(0); o < out; o++ {
		var x float32
		if roi != nil {
			x = regionCoordinate(roi[a], o, in, out)
			if x < 0 || x > float32(in-1) {
				continue // the extrapolation value, a constant
			}
		} else {
			var err error
			if x, err = sourceCoordinate(n, o, in, out, scale); err != nil {
				return nil, err
			}
		}
		if n.Int("antialias", 0) != 0 && scale < 1 && n.Str("mode", "nearest") != "nearest" {
			antialias(n, m[o*in:(o+1)*in], float64(x), float64(scale))
			continue
		}
		switch mode := n.Str("mode", "nearest"); mode {
		case "nearest":
			put(o, nearest(n, x, in), 1)
		case "linear":
			x := min(max(float64(x), 0), float64(in-1))
			lo := int64(x)
			put(o, lo, 1-(x-float64(lo)))
			put(o, lo+1, x-float64(lo))
		case "cubic":
			lo := int64(math.Floor(float64(x)))
			w := cubicWeights(float64(x)-float64(lo), float64(n.Float("cubic_coeff_a", -0.75)))
			if n.Int("exclude_outside", 0) != 0 {
				excludeOutside(&w, lo, in)
			}
			for k := range w {
				put(o, lo-1+int64(k), w[k])
			}
		default:
			return nil, fmt.Errorf("mode %q", mode)
		}
	}
	return m, nil
}

func regionCoordinate(roi [2]float32, o, in, out int64) float32 {
	last := float32(in - 1)
	if out <= 1 {
		return 0.5 * (roi[0] + roi[1]) * last
	}
	return roi[0]*last + float32(o)*(roi[1]-roi[0])*last/float32(out-1)
}

// antialias sets the weights of a row: the filter stretched by 1/scale around x, normalized; what lies outside counts for the border
// unless exclude_outside.
func antialias(n *ir.Node, row []float64, x, scale float64) {
	a := float64(n.Float("cubic_coeff_a", -0.75))
	filter, support := func(t float64) float64 { return math.Max(0, 1-t) }, 1/scale
	if n.Str("mode", "nearest") == "cubic" {
		support = 2 / scale
		filter = func(t float64) float64 {
			switch {
			case t < 1:
				return cubicWeights(t, a)[1]
			case t < 2:
				return cubicWeights(t-1, a)[0]
			}
			return 0
		}
	}
	sum, last := 0.0, len(row)-1
	for i := int(math.Ceil(x - support)); float64(i) < x+support; i++ {
		if (i < 0 || i > last) && n.Int("exclude_outside", 0) != 0 {
			continue
		}
		w := filter(math.Abs(float64(i)-x) * scale)
		row[min(max(i, 0), last)] += w
		sum += w
	}
	for i := range row {
		row[i] /= sum
	}
}

// cubicWeights are the weights of the elements at -1, 0, 1, 2 for a position t in [0, 1) (Keys 1981, with parameter a).
func cubicWeights(t, a float64) [4]float64 {
	near := func(s float64) float64 { return ((a+2)*s-(a+3))*s*s + 1 }
	far := func(s float64) float64 { return ((a*s-5*a)*s+8*a)*s - 4*a }
	return [4]float64{far(t + 1), near(t), near(1 - t), far(2 - t)}
}

func excludeOutside(w *[4]float64, lo, in int64) {
	sum := 0.0
	for k := range w {
		if p := lo - 1 + int64(k); p < 0 || p >= in {
			w[k] = 0
		}
		sum += w[k]
	}
	for k := range w {
		w[k] /= sum
	}
}
