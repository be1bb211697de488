package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// detectTable lists detection and grid sampling.
var detectTable = []Schema{
	{Name: "NonMaxSuppression", Versions: []int64{10, 11}, MinIn: 2, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferNonMaxSuppression, Attrs: []AttrSpec{
		intAttr("center_point_box", 0),
	}},
	{Name: "RoiAlign", Versions: []int64{10, 16, 22}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferRoiAlign, Attrs: []AttrSpec{
		strAttr("coordinate_transformation_mode", "half_pixel"), strAttr("mode", "avg"), intAttr("output_height", 1),
		intAttr("output_width", 1), intAttr("sampling_ratio", 0), floatAttr("spatial_scale", 1.0),
	}},
	{Name: "GridSample", Versions: []int64{16, 20, 22}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferGridSample, Attrs: []AttrSpec{
		intAttr("align_corners", 0), strAttr("mode", "linear"), strAttr("padding_mode", "zeros"),
	}},
	{Name: "AffineGrid", Versions: []int64{20}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferAffineGrid, Attrs: []AttrSpec{
		intAttr("align_corners", 0),
	}},
}

func inferNonMaxSuppression(c *Ctx) error {
	for i := 0; i < 2; i++ {
		if err := c.needRank(i, 3, 3); err != nil {
			return err
		}
	}
	c.Out(0, ir.Int64, ir.Shape{ir.UnknownDim(), ir.D(3)})
	return nil
}

func inferRoiAlign(c *Ctx) error {
	if err := c.needRank(0, 4, 4); err != nil {
		return err
	}
	if err := c.needRank(1, 2, 2); err != nil {
		return err
	}
	h, w := c.Node.Int("output_height", 1), c.Node.Int("output_width", 1)
	if h <= 0 || w <= 0 {
		return fmt.Errorf("output size %d x %d is not positive", h, w)
	}
	out := ir.Shape{ir.UnknownDim(), ir.UnknownDim(), ir.D(h), ir.D(w)}
	if r := c.Shape(1); r != nil {
		out[0] = r[0]
	} else if b := c.Shape(2); len(b) == 1 {
		out[0] = b[0]
	}
	if x := c.Shape(0); x != nil {
		out[1] = x[1]
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

func inferGridSample(c *Ctx) error {
	x, grid := c.Shape(0), c.Shape(1)
	rank := max(len(x), len(grid))
	if rank == 0 {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if rank < 3 || x != nil && grid != nil && len(x) != len(grid) {
		return fmt.Errorf("input %v and grid %v do not have equal rank of 3 or more", x, grid)
	}
	out := unknownShape(rank)
	if grid != nil {
		copy(out, grid[:1])
		copy(out[2:], grid[1:rank-1])
		if last := grid[rank-1]; last.Known() && last.Size != int64(rank-2) {
			return fmt.Errorf("grid %v holds %v coordinates, %d are needed", grid, last, rank-2)
		}
	}
	if x != nil {
		d, err := meet(x[0], out[0])
		if err != nil {
			return fmt.Errorf("batch: %w", err)
		}
		out[0], out[1] = d, x[1]
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

// inferAffineGrid gives [N, H, W, 2] or [N, D, H, W, 3] for size [N, C, (D,) H, W].
func inferAffineGrid(c *Ctx) error {
	size := c.nums(1)
	if size == nil {
		if r := c.rankFrom(1); r != nil {
			c.Out(0, c.Elem(0), r)
			return nil
		}
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if len(size) != 4 && len(size) != 5 {
		return fmt.Errorf("size %v has neither 4 nor 5 entries", size)
	}
	out := append(append([]num{size[0]}, size[2:]...), known(int64(len(size)-2)))
	c.Out(0, c.Elem(0), dims(out))
	return nil
}
