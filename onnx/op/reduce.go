package op

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// reduceTable lists reductions along axes.
var reduceTable = []Schema{
	{Name: "ReduceL1", Versions: []int64{1, 11, 13, 18}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ReduceL2", Versions: []int64{1, 11, 13, 18}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ReduceLogSum", Versions: []int64{1, 11, 13, 18, 28}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ReduceLogSumExp", Versions: []int64{1, 11, 13, 18, 28}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ReduceMax", Versions: []int64{1, 11, 12, 13, 18, 20}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, eval: evalReduce(maxNum, math.Max), Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ReduceMean", Versions: []int64{1, 11, 13, 18}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ReduceMin", Versions: []int64{1, 11, 12, 13, 18, 20}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, eval: evalReduce(minNum, math.Min), Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ReduceProd", Versions: []int64{1, 11, 13, 18}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, eval: evalReduce(mul, func(a, b float64) float64 { return a * b }), Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ReduceSum", Versions: []int64{1, 11, 13}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, eval: evalReduce(add, func(a, b float64) float64 { return a + b }), Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ReduceSumSquare", Versions: []int64{1, 11, 13, 18}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferReduce, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), intAttr("keepdims", 1), intAttr("noop_with_empty_axes", 0),
	}},
	{Name: "ArgMax", Versions: []int64{1, 11, 12, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferArgMax, Attrs: []AttrSpec{
		intAttr("axis", 0), intAttr("keepdims", 1), intAttr("select_last_index", 0),
	}},
	{Name: "ArgMin", Versions: []int64{1, 11, 12, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferArgMax, Attrs: []AttrSpec{
		intAttr("axis", 0), intAttr("keepdims", 1), intAttr("select_last_index", 0),
	}},
	{Name: "TopK", Versions: []int64{1, 10, 11, 24}, MinIn: 1, MaxIn: 2, MinOut: 2, MaxOut: 2, Infer: inferTopK, Attrs: []AttrSpec{
		intAttr("axis", -1), optional(ir.AttrInt, "k"), intAttr("largest", 1), intAttr("sorted", 1),
	}},
}

func inferReduce(c *Ctx) error {
	axes, given, ok := c.axesArg(1, "axes")
	keep := c.Node.Int("keepdims", 1) != 0
	x := c.Shape(0)
	if x == nil {
		if !keep && (!given || ok && len(axes) == 0) && c.Node.Int("noop_with_empty_axes", 0) == 0 {
			c.Out(0, c.Elem(0), ir.StaticShape())
			return nil
		}
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if !ok {
		if keep {
			c.Out(0, c.Elem(0), unknownShape(len(x)))
		} else if n := c.vectorLen(1); n > 0 && n <= int64(len(x)) {
			c.Out(0, c.Elem(0), unknownShape(len(x)-int(n)))
		} else {
			c.Out(0, c.Elem(0), nil)
		}
		return nil
	}
	set, err := axisSet(axes, len(x))
	if err != nil {
		return err
	}
	if len(axes) == 0 {
		if c.Node.Int("noop_with_empty_axes", 0) != 0 {
			return inferSame(c)
		}
		for i := range set {
			set[i] = true
		}
	}
	c.Out(0, c.Elem(0), reduced(x, set, keep))
	return nil
}

func reduced(x ir.Shape, set []bool, keep bool) ir.Shape {
	out := ir.Shape{}
	for i, d := range x {
		switch {
		case !set[i]:
			out = append(out, d)
		case keep:
			out = append(out, ir.D(1))
		}
	}
	return out
}

func inferArgMax(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, ir.Int64, nil)
		return nil
	}
	set, err := axisSet([]int64{c.Node.Int("axis", 0)}, len(x))
	if err != nil {
		return err
	}
	c.Out(0, ir.Int64, reduced(x, set, c.Node.Int("keepdims", 1) != 0))
	return nil
}

func inferTopK(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		c.Out(1, ir.Int64, nil)
		return nil
	}
	a, err := axis(c.Node.Int("axis", -1), len(x))
	if err != nil {
		return err
	}
	out := x.Clone()
	out[a] = ir.UnknownDim()
	k := unknown
	if n := c.Node.Attr("k"); n != nil {
		k = known(n.I)
	} else if v := c.nums(1); len(v) == 1 {
		k = v[0]
	}
	if n, ok := k.value(); ok && (n < 0 || x[a].Known() && n > x[a].Size) {
		return fmt.Errorf("k is %d, axis %d of %v has %v", n, a, x, x[a])
	}
	out[a] = k.dim()
	c.Out(0, c.Elem(0), out)
	c.Out(1, ir.Int64, out)
	return nil
}

// evalReduce evaluates a reduction of a whole small tensor.
func evalReduce(onInt func(a, b num) num, onFloat func(a, b float64) float64) func(*evalCtx) []*part {
	return func(e *evalCtx) []*part {
		p := e.in(0)
		if p == nil || p.len() == 0 || len(p.dims) > 1 {
			return nil
		}
		if e.node.Int("noop_with_empty_axes", 0) != 0 && len(e.node.Ints("axes")) == 0 && !e.has(1) {
			return one(p)
		}
		out := []int64{}
		if e.node.Int("keepdims", 1) != 0 && len(p.dims) == 1 {
			out = []int64{1}
		}
		q := newPart(p.elem, out)
		if q == nil {
			return nil
		}
		if p.v != nil {
			q.v[0] = p.v[0]
			for _, x := range p.v[1:] {
				q.v[0] = onInt(q.v[0], x)
			}
			return one(q)
		}
		q.f[0] = p.f[0]
		for _, x := range p.f[1:] {
			q.f[0] = round(onFloat(q.f[0], x), q.elem)
		}
		return one(q)
	}
}
