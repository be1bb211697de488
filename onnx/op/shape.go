package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// shapeTable lists operators that rearrange or ask for shapes.
var shapeTable = []Schema{
	{Name: "Reshape", Versions: []int64{1, 5, 13, 14, 19, 21, 23, 24, 25}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReshape, eval: evalSameData, Attrs: []AttrSpec{
		intAttr("allowzero", 0),
	}},
	{Name: "Flatten", Versions: []int64{1, 9, 11, 13, 21, 23, 24, 25}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferFlatten, eval: evalSameData, Attrs: []AttrSpec{
		intAttr("axis", 1),
	}},
	{Name: "Squeeze", Versions: []int64{1, 11, 13, 21, 23, 24, 25}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferSqueeze, eval: evalSameData, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"),
	}},
	{Name: "Unsqueeze", Versions: []int64{1, 11, 13, 21, 23, 24, 25}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferUnsqueeze, eval: evalSameData, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"),
	}},
	{Name: "Transpose", Versions: []int64{1, 13, 21, 23, 24, 25}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferTranspose, eval: evalTranspose, Attrs: []AttrSpec{
		optional(ir.AttrInts, "perm"),
	}},
	{Name: "Shape", Versions: []int64{1, 13, 15, 19, 21, 23, 24, 25}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferShape, eval: evalShape, Attrs: []AttrSpec{
		optional(ir.AttrInt, "end"), intAttr("start", 0),
	}},
	{Name: "Size", Versions: []int64{1, 13, 19, 21, 23, 24, 25}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSize, eval: evalSize},
	{Name: "Expand", Versions: []int64{8, 13}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferExpand, eval: evalExpand},
	{Name: "Tile", Versions: []int64{1, 6, 13}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferTile},
	{Name: "DepthToSpace", Versions: []int64{1, 11, 13, 28}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferDepthToSpace, Attrs: []AttrSpec{
		required(ir.AttrInt, "blocksize"), strAttr("mode", "DCR"),
	}},
	{Name: "SpaceToDepth", Versions: []int64{1, 13, 28}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSpaceToDepth, Attrs: []AttrSpec{
		required(ir.AttrInt, "blocksize"), strAttr("mode", "DCR"),
	}},
}

// dims turns numbers into dimensions.
func dims(n []num) ir.Shape {
	out := make(ir.Shape, len(n))
	for i, x := range n {
		out[i] = x.dim()
	}
	return out
}

func nums(s ir.Shape) []num {
	out := make([]num, len(s))
	for i, d := range s {
		out[i] = fromDim(d)
	}
	return out
}

func product(n []num) num {
	p := known(1)
	for _, x := range n {
		p = mul(p, x)
	}
	return p
}

func inferTranspose(c *Ctx) error {
	x := c.Shape(0)
	perm := c.Node.Attr("perm")
	if x == nil {
		if perm != nil && len(perm.Ints) <= maxRank {
			c.Out(0, c.Elem(0), unknownShape(len(perm.Ints)))
			return nil
		}
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	out := make(ir.Shape, len(x))
	if perm == nil {
		for i := range x {
			out[i] = x[len(x)-1-i]
		}
		c.Out(0, c.Elem(0), out)
		return nil
	}
	if len(perm.Ints) != len(x) {
		return fmt.Errorf("perm %v does not have the rank of %v", perm.Ints, x)
	}
	if _, err := axisSet(perm.Ints, len(x)); err != nil {
		return fmt.Errorf("perm %v: %w", perm.Ints, err)
	}
	for i, p := range perm.Ints {
		if p < 0 {
			p += int64(len(x))
		}
		out[i] = x[p]
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

// evalTranspose serves tensors of rank 2 at most.
func evalTranspose(e *evalCtx) []*part {
	p := e.in(0)
	if p == nil || len(p.dims) < 2 {
		return one(p)
	}
	if perm := e.node.Ints("perm"); len(p.dims) > 2 || len(perm) == 2 && perm[0] == 0 {
		return nil
	}
	rows, cols := int(p.dims[0]), int(p.dims[1])
	return one(p.take([]int64{p.dims[1], p.dims[0]}, func(i int) int { return i%rows*cols + i/rows }))
}

func inferSqueeze(c *Ctx) error {
	x := c.Shape(0)
	axes, given, ok := c.axesArg(1, "axes")
	if x == nil || !ok {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	set, err := axisSet(axes, len(x))
	if err != nil {
		return err
	}
	out := ir.Shape{}
	for i, d := range x {
		if !given {
			if !d.Known() {
				c.Out(0, c.Elem(0), nil)
				return nil
			}
			set[i] = d.Size == 1
		}
		if set[i] && d.Known() && d.Size != 1 {
			return fmt.Errorf("axis %d of %v is not 1", i, x)
		}
		if !set[i] {
			out = append(out, d)
		}
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

func inferUnsqueeze(c *Ctx) error {
	x := c.Shape(0)
	axes, _, ok := c.axesArg(1, "axes")
	if !ok {
		if n := c.vectorLen(1); x != nil && n >= 0 && n <= maxRank {
			c.Out(0, c.Elem(0), unknownShape(len(x)+int(n)))
			return nil
		}
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if len(x)+len(axes) > maxRank {
		return fmt.Errorf("%d axes are too many", len(x)+len(axes))
	}
	set, err := axisSet(axes, len(x)+len(axes))
	if err != nil {
		return err
	}
	out := ir.Shape{}
	k := 0
	for _, fresh := range set {
		if fresh {
			out = append(out, ir.D(1))
			continue
		}
		out = append(out, x[k])
		k++
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

func inferShape(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, ir.Int64, unknownShape(1))
		return nil
	}
	from, to := shapeRange(c.Node, len(x))
	c.Out(0, ir.Int64, ir.StaticShape(int64(to-from)))
	return nil
}

// shapeRange is the part of a shape that a Shape node gives.
func shapeRange(n *ir.Node, rank int) (int, int) {
	clamp := func(v int64) int {
		if v < 0 {
			v += int64(rank)
		}
		return int(min(max(v, 0), int64(rank)))
	}
	from, to := clamp(n.Int("start", 0)), clamp(n.Int("end", int64(rank)))
	return from, max(from, to)
}

func evalShape(e *evalCtx) []*part {
	v := e.node.Input(0)
	if v == nil || v.Shape() == nil || v.Type.Kind != ir.KindTensor {
		return nil
	}
	from, to := shapeRange(e.node, len(v.Shape()))
	return one(vector(ir.Int64, nums(v.Shape()[from:to])...))
}

func inferSize(c *Ctx) error {
	c.Out(0, ir.Int64, ir.StaticShape())
	return nil
}

func evalSize(e *evalCtx) []*part {
	v := e.node.Input(0)
	if v == nil || v.Shape() == nil || v.Type.Kind != ir.KindTensor {
		return nil
	}
	return one(scalar(ir.Int64, product(nums(v.Shape()))))
}

func inferExpand(c *Ctx) error {
	target := c.nums(1)
	if target == nil {
		if n := c.vectorLen(1); n >= 0 && n <= maxRank && c.Shape(0) != nil {
			c.Out(0, c.Elem(0), unknownShape(max(int(n), len(c.Shape(0)))))
			return nil
		}
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if len(target) > maxRank {
		return fmt.Errorf("target shape has %d axes", len(target))
	}
	for _, t := range target {
		if n, ok := t.value(); ok && n < 0 {
			return fmt.Errorf("target shape %v is negative", target)
		}
	}
	s, err := broadcast(c.Shape(0), dims(target))
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(0), s)
	return nil
}

func evalExpand(e *evalCtx) []*part {
	p := e.in(0)
	target, ok := e.ints(1)
	if p == nil || !ok {
		return nil
	}
	for _, t := range target {
		if t < 0 {
			return nil
		}
	}
	out, ok := broadcastDims(p.dims, target)
	if !ok {
		return nil
	}
	if n, err := ir.NumElements(out); err != nil || n > maxPart {
		return nil
	}
	st := partStrides(p.dims, len(out))
	return one(p.take(out, func(i int) int { return offset(i, out, st) }))
}

func inferTile(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	reps := c.nums(1)
	if reps == nil {
		c.Out(0, c.Elem(0), unknownShape(len(x)))
		return nil
	}
	if len(reps) != len(x) {
		return fmt.Errorf("%d repeats for %v", len(reps), x)
	}
	out := make(ir.Shape, len(x))
	for i, d := range x {
		if n, ok := reps[i].value(); ok && n < 0 {
			return fmt.Errorf("repeats %v are negative", reps)
		}
		out[i] = mul(fromDim(d), reps[i]).dim()
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

func inferDepthToSpace(c *Ctx) error {
	b := c.Node.Int("blocksize", 0)
	if b <= 0 || b > 1<<20 {
		return fmt.Errorf("blocksize %d is out of range", b)
	}
	if err := c.needRank(0, 4, 4); err != nil {
		return err
	}
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), unknownShape(4))
		return nil
	}
	if x[1].Known() && x[1].Size%(b*b) != 0 {
		return fmt.Errorf("%v channels do not divide by blocksize %d squared", x[1], b)
	}
	c.Out(0, c.Elem(0), ir.Shape{x[0], floorDiv(fromDim(x[1]), b*b).dim(), mul(fromDim(x[2]), known(b)).dim(),
		mul(fromDim(x[3]), known(b)).dim()})
	return nil
}

func inferSpaceToDepth(c *Ctx) error {
	b := c.Node.Int("blocksize", 0)
	if b <= 0 || b > 1<<20 {
		return fmt.Errorf("blocksize %d is out of range", b)
	}
	if err := c.needRank(0, 4, 4); err != nil {
		return err
	}
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), unknownShape(4))
		return nil
	}
	for _, d := range x[2:] {
		if d.Known() && d.Size%b != 0 {
			return fmt.Errorf("spatial size %v does not divide by blocksize %d", d, b)
		}
	}
	c.Out(0, c.Elem(0), ir.Shape{x[0], mul(fromDim(x[1]), known(b*b)).dim(), floorDiv(fromDim(x[2]), b).dim(),
		floorDiv(fromDim(x[3]), b).dim()})
	return nil
}
