package grad

import (
	"math"

	"mqatc/onnx/ir"
)

// roiAlign averages samples in each cell of each region. Bilinear sampling is separable, so a region's result is the product of a
// matrix of row weights, its image and a matrix of column weights.
func roiAlign(c *call) *ir.Value {
	x, rois := c.in(0), c.in(1)
	xd, rd := c.dims(x), c.dims(rois)
	if c.Err() != nil {
		return nil
	}
	if mode := c.n.Str("mode", "avg"); mode != "avg" {
		return c.fail("mode %q", mode)
	}
	height, width := c.n.Int("output_height", 1), c.n.Int("output_width", 1)
	rows := c.roiWeights(rois, 1, height, xd[2])
	cols := c.op("Unsqueeze", c.transpose(c.roiWeights(rois, 0, width, xd[3]), 0, 2, 1), c.Int64s(1))
	if xd[0] == 1 {
		// One product for all regions, instead of a copy of the image for each.
		y := c.op("MatMul", c.reshape(rows, rd[0]*height, xd[2]), c.reshape(x, xd[1:]...))
		y = c.transpose(c.reshape(y, xd[1], rd[0], height, xd[3]), 1, 0, 2, 3)
		return c.op("MatMul", y, cols)
	}
	images := c.Op("Gather", []*ir.Value{x, c.in(2)}, ir.AInt("axis", 0)) // [regions, C, H, W]
	return c.op("MatMul", c.op("MatMul", c.op("Unsqueeze", rows, c.Int64s(1)), images), cols)
}

// roiWeights are what the elements along an axis of size dim weigh in each cell of each region, [regions, cells, dim]; axis is that of
// the regions' corners, 0 for x.
func (c *call) roiWeights(rois *ir.Value, axis, cells, dim int64) *ir.Value {
	scale, shift, least := float64(c.n.Float("spatial_scale", 1)), -0.5, false
	if c.n.Str("coordinate_transformation_mode", "half_pixel") == "output_half_pixel" {
		shift, least = 0, true
	}
	edge := func(k int64) *ir.Value {
		v := c.slice(rois, []int64{axis + k}, []int64{axis + k + 1}, []int64{1}, []int64{1})
		return c.add(c.scale(v, scale), c.num(shift))
	}
	from := edge(0)
	size := c.sub(edge(2), from)
	if least {
		size = c.op("Max", size, c.num(1))
	}
	size = c.scale(size, 1/float64(cells))
	sample, taken, count := c.roiSamples(size)
	first, places := make([]float64, cells), make([]float64, dim)
	for k := range first {
		first[k] = float64(k)
	}
	for k := range places {
		places[k] = float64(k)
	}
	// at is [regions, cells, samples].
	deep := func(v *ir.Value, axis int64) *ir.Value { return c.op("Unsqueeze", v, c.Int64s(axis)) }
	at := c.add(c.floats(first, 1, cells, 1), sample)
	at = c.add(deep(from, 2), c.mul(deep(size, 2), at))
	inside := c.mask(c.op("And", c.op("Not", c.op("Less", at, c.num(-1))), c.op("Not", c.op("Greater", at, c.num(float64(dim))))))
	if taken != nil {
		inside = c.mul(inside, taken)
	}
	at = c.op("Clip", at, c.num(0), c.num(float64(dim-1)))
	near := c.sub(deep(at, 3), c.floats(places, 1, 1, 1, dim))
	w := c.mul(c.op("Relu", c.sub(c.num(1), c.op("Abs", near))), deep(inside, 3))
	return c.div(c.sum(w, false, 2), count)
}

// roiSamples are the samples of a cell along an axis, as parts of the cell's size, [1 or regions, 1, samples]; which of them a region
// takes, nil where all do, and how many those are, at least one. Without a sampling_ratio a region takes as many as pixels that its cell, of size
// [regions, 1], begins; the graph finds the most.
func (c *call) roiSamples(size *ir.Value) (at, taken, count *ir.Value) {
	if ratio := c.n.Int("sampling_ratio", 0); ratio > 0 {
		parts := make([]float64, ratio)
		for k := range parts {
			parts[k] = (float64(k) + 0.5) / float64(ratio)
		}
		return c.floats(parts, 1, 1, ratio), nil, c.num(float64(ratio))
	}
	whole := c.Op("Cast", []*ir.Value{c.op("Ceil", size)}, ir.AInt("to", int64(ir.Int64)))
	least := c.op("Max", whole, c.Int64s(1))
	most := c.Op("ReduceMax", []*ir.Value{least}, ir.AInt("keepdims", 0))
	zero, one := c.Const(ir.ScalarInt64(0)), c.Const(ir.ScalarInt64(1))
	k := c.op("Unsqueeze", c.mask(c.op("Range", zero, most, one)), c.Int64s(0, 1))
	count = c.op("Unsqueeze", c.mask(least), c.Int64s(2))
	taken = c.mask(c.op("Less", k, c.op("Unsqueeze", c.mask(whole), c.Int64s(2))))
	return c.div(c.add(k, c.num(0.5)), count), taken, count
}

// maxRoiPool takes the largest element of each cell of each region, columns first. Cells have whole elements as corners, so regions
// have no gradient; an empty cell gives zero.
func maxRoiPool(c *call) *ir.Value {
	x, rois := c.in(0), c.in(1)
	xd, size := c.dims(x), c.n.Ints("pooled_shape")
	if c.Err() != nil || len(xd) != 4 || len(size) != 2 {
		return c.fail("input of shape %v, pooled_shape %v", x.Shape(), size)
	}
	image := c.Op("Cast", []*ir.Value{c.slice(rois, []int64{0}, []int64{1}, []int64{1}, []int64{1})}, ir.AInt("to", int64(ir.Int64)))
	y := c.Op("Gather", []*ir.Value{x, c.op("Squeeze", image, c.Int64s(1))}, ir.AInt("axis", 0)) // [regions, C, H, W]
	rows, full := c.roiCells(rois, 1, size[0], xd[2])
	columns, fullColumns := c.roiCells(rois, 0, size[1], xd[3])
	lowest := c.num(math.Inf(-1))
	most := func(v *ir.Value, axis int64) *ir.Value {
		return c.Op("ReduceMax", []*ir.Value{v}, ir.AInts("axes", axis), ir.AInt("keepdims", 0))
	}
	in := c.op("Unsqueeze", rows, c.Int64s(1, 4)) // [regions, 1, cells, H, 1]
	y = most(c.op("Where", in, c.op("Unsqueeze", y, c.Int64s(2)), lowest), 3)
	in = c.op("Unsqueeze", columns, c.Int64s(1, 2)) // [regions, 1, 1, cells, W]
	y = most(c.op("Where", in, c.op("Unsqueeze", y, c.Int64s(3)), lowest), 4)
	some := c.op("And", c.op("Unsqueeze", full, c.Int64s(1, 3)), c.op("Unsqueeze", fullColumns, c.Int64s(1, 2)))
	return c.op("Where", some, y, c.num(0))
}

// roiCells tells which elements along an axis of size dim are in each cell of each region, [regions, cells, dim], and which cells have
// any, [regions, cells]; axis is that of the regions' corners, 0 for x.
func (c *call) roiCells(rois *ir.Value, axis, cells, dim int64) (in, some *ir.Value) {
	corner := func(k int64) *ir.Value {
		v := c.slice(rois, []int64{1 + axis + k}, []int64{2 + axis + k}, []int64{1}, []int64{1})
		return c.op("Floor", c.add(c.scale(v, float64(c.n.Float("spatial_scale", 1))), c.num(0.5)))
	}
	numbers := func(n int64, first float64) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = first + float64(i)
		}
		return v
	}
	from := corner(0)
	step := c.div(c.op("Max", c.add(c.sub(corner(2), from), c.num(1)), c.num(1)), c.num(float64(cells)))
	start := c.add(from, c.op("Floor", c.mul(step, c.floats(numbers(cells, 0), 1, cells))))
	end := c.add(from, c.op("Ceil", c.mul(step, c.floats(numbers(cells, 1), 1, cells))))
	start, end = c.op("Clip", start, c.num(0), c.num(float64(dim))), c.op("Clip", end, c.num(0), c.num(float64(dim)))
	at := c.floats(numbers(dim, 0), 1, 1, dim)
	before := c.op("Less", at, c.op("Unsqueeze", start, c.Int64s(2)))
	return c.op("And", c.op("Not", before), c.op("Less", at, c.op("Unsqueeze", end, c.Int64s(2)))), c.op("Less", start, end)
}
