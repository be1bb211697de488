package grad

import (
	"math"

	"mqatc/onnx/ir"
)

// tap is an element that a sample reads along one axis: its index and weight, [N, P] for P samples of each of N images.
type tap struct{ at, weight *ir.Value }

// gridSample reads the input [N, C, spatial...] at the points of the grid [N, spatial..., axes], whose last axis begins with the
// innermost dimension. Every sample is a sum over taps, the product of those of each axis.
func gridSample(c *call) *ir.Value {
	x, grid := c.in(0), c.in(1)
	xd, gd := c.dims(x), c.dims(grid)
	axes := len(xd) - 2
	if c.Err() != nil || axes < 1 || len(gd) != len(xd) || gd[len(gd)-1] != int64(axes) {
		return c.fail("input of shape %v with a grid of shape %v", x.Shape(), grid.Shape())
	}
	points := product(gd[1 : len(gd)-1])
	flat := c.reshape(x, xd[0], xd[1], product(xd[2:]))
	grid = c.reshape(grid, gd[0], points, int64(axes))
	var taps [][]tap
	for a := range axes {
		k := int64(axes - 1 - a)
		at := c.reshape(c.slice(grid, []int64{k}, []int64{k + 1}, []int64{2}, []int64{1}), gd[0], points)
		taps = append(taps, c.gridTaps(at, xd[2+a]))
	}
	y := c.sampled(flat, taps, xd[2:], points)
	return c.reshape(y, append([]int64{xd[0], xd[1]}, gd[1:len(gd)-1]...)...)
}

// sampled reads flat [N, C, product(sizes)] at points, [N, C, points]: the sum over one tap of every axis, in all ways. The size N may
// be free.
func (c *call) sampled(flat *ir.Value, taps [][]tap, sizes []int64, points int64) *ir.Value {
	to := []int64{max(c.free(flat), 1), c.along(flat, 1), points}
	var sum *ir.Value
	for _, pick := range combinations(taps) {
		index, weight := pick[0].at, pick[0].weight
		for a := 1; a < len(sizes); a++ {
			index = c.add(c.scale(index, float64(sizes[a])), pick[a].at)
			weight = c.mul(weight, pick[a].weight)
		}
		index = c.op("Unsqueeze", c.Op("Cast", []*ir.Value{index}, ir.AInt("to", int64(ir.Int64))), c.Int64s(1))
		index = c.op("Expand", index, c.Int64s(to...))
		v := c.Op("GatherElements", []*ir.Value{flat, index}, ir.AInt("axis", 2))
		v = c.mul(v, c.op("Unsqueeze", weight, c.Int64s(1)))
		if sum == nil {
			sum = v
		} else {
			sum = c.add(sum, v)
		}
	}
	return sum
}

// free is the size of v along its first axis, -1 where it is not static.
func (c *call) free(v *ir.Value) int64 {
	if s := v.Shape(); len(s) > 0 && s[0].Known() {
		return s[0].Size
	}
	return -1
}

// combinations picks one tap of every axis in all ways.
func combinations(taps [][]tap) [][]tap {
	out := [][]tap{nil}
	for _, ts := range taps {
		var next [][]tap
		for _, o := range out {
			for _, t := range ts {
				next = append(next, append(append([]tap{}, o...), t))
			}
		}
		out = next
	}
	return out
}

// gridTaps are the taps along an axis of size dim for positions g in [-1, 1].
func (c *call) gridTaps(g *ir.Value, dim int64) []tap {
	last := float64(dim - 1)
	lo, hi := -0.5, last+0.5
	if c.n.Int("align_corners", 0) != 0 {
		lo, hi = 0, last
	}
	x := c.add(c.scale(c.add(g, c.num(1)), (hi-lo)/2), c.num(lo))
	mode := c.n.Str("mode", "linear")
	cubic := mode == "cubic" || mode == "bicubic"
	pad := c.n.Str("padding_mode", "zeros")
	if !cubic {
		switch pad {
		case "border":
			x = c.op("Clip", x, c.num(0), c.num(last))
		case "reflection":
			x = c.op("Clip", c.reflect(x, lo, hi), c.num(0), c.num(last))
		}
	}
	if mode == "nearest" {
		return []tap{c.padTap(c.op("Round", x), c.filled(1, 1, 1), pad, lo, hi, last)}
	}
	if !cubic {
		return c.linearTaps(x, pad, lo, hi, last)
	}
	floor := c.op("Floor", x)
	t := c.sub(x, floor)
	var out []tap
	for k := -1.0; k <= 2; k++ {
		s := c.sub(c.num(k), t) // distance, of known sign
		if k < 1 {
			s = c.neg(s)
		}
		w := c.keys(s, k == 0 || k == 1)
		out = append(out, c.padTap(c.moved(floor, k), w, pad, lo, hi, last))
	}
	return out
}

// linearTaps are the taps of linear interpolation at positions x, counted in elements, along an axis whose last element is last.
func (c *call) linearTaps(x *ir.Value, pad string, lo, hi, last float64) []tap {
	floor := c.op("Floor", x)
	t := c.sub(x, floor)
	near := c.padTap(floor, c.sub(c.num(1), t), pad, lo, hi, last)
	return []tap{near, c.padTap(c.moved(floor, 1), t, pad, lo, hi, last)}
}

func (c *call) moved(at *ir.Value, k float64) *ir.Value {
	if k == 0 {
		return at
	}
	return c.add(at, c.num(k))
}

// keys is Keys' cubic kernel with a = -0.75 at distance s, within 1 when near, else between 1 and 2.
func (c *call) keys(s *ir.Value, near bool) *ir.Value {
	const a = -0.75
	f := [4]float64{1, 0, -(a + 3), a + 2}
	if !near {
		f = [4]float64{-4 * a, 8 * a, -5 * a, a}
	}
	w := c.num(f[3])
	for k := 2; k >= 0; k-- {
		w = c.add(c.mul(w, s), c.num(f[k]))
	}
	return w
}

// padTap moves an index into the axis as the padding mode says, or gives it weight zero. No gradient flows through the index.
func (c *call) padTap(at, w *ir.Value, pad string, lo, hi, last float64) tap {
	switch pad {
	case "zeros":
		inside := c.mask(c.op("And", c.op("Greater", at, c.num(-0.5)), c.op("Less", at, c.num(last+0.5))))
		w = c.mul(w, inside)
	case "reflection":
		at = c.reflect(at, lo, hi)
	}
	return tap{c.op("Clip", at, c.num(0), c.num(last)), w}
}

// reflect folds x into [lo, hi].
func (c *call) reflect(x *ir.Value, lo, hi float64) *ir.Value {
	span := hi - lo
	if span <= 0 {
		return c.mul(x, c.num(0))
	}
	d := c.op("Abs", c.sub(x, c.num(lo)))
	rest := c.sub(d, c.scale(c.op("Floor", c.scale(d, 1/(2*span))), 2*span))
	return c.add(c.sub(c.num(span), c.op("Abs", c.sub(rest, c.num(span)))), c.num(lo))
}

// affineGrid multiplies the normalized positions of a constant size by theta [N, axes, axes+1].
func affineGrid(c *call) *ir.Value {
	theta := c.in(0)
	size, ok := constInts(c.in(1))
	if !ok || len(size) < 4 || len(size) > 5 {
		return c.fail("size must be a constant")
	}
	spatial := size[2:]
	axes := int64(len(spatial))
	points := product(spatial)
	base := make([]float64, 0, points*(axes+1))
	at := make([]int64, axes)
	for p := range points {
		unravel(p, spatial, at)
		for a := axes - 1; a >= 0; a-- {
			n := float64(spatial[a])
			pos := (2*float64(at[a])+1)/n - 1
			if c.n.Int("align_corners", 0) != 0 {
				pos = 2*float64(at[a])/math.Max(n-1, 1) - 1
			}
			base = append(base, pos)
		}
		base = append(base, 1)
	}
	g := c.op("MatMul", c.floats(base, points, axes+1), c.transpose(theta, 0, 2, 1))
	return c.reshape(g, append(append([]int64{size[0]}, spatial...), axes)...)
}
