package op

import (
	"fmt"
	"math"
	"slices"

	"mqatc/onnx/ir"
)

// sliceTable lists operators that join, cut and pad.
var sliceTable = []Schema{
	{Name: "Concat", Versions: []int64{1, 4, 11, 13}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: 1, Infer: inferConcat, eval: evalConcat, Attrs: []AttrSpec{
		required(ir.AttrInt, "axis"),
	}},
	{Name: "Split", Versions: []int64{1, 2, 11, 13, 18}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: Many, Infer: inferSplit, eval: evalSplit, Attrs: []AttrSpec{
		intAttr("axis", 0), optional(ir.AttrInt, "num_outputs"), optional(ir.AttrInts, "split"),
	}},
	{Name: "Slice", Versions: []int64{1, 10, 11, 13}, MinIn: 1, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferSlice, eval: evalSlice, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"), optional(ir.AttrInts, "ends"), optional(ir.AttrInts, "starts"),
	}},
	{Name: "Pad", Versions: []int64{1, 2, 11, 13, 18, 19, 21, 23, 24, 25}, MinIn: 1, MaxIn: 4, MinOut: 1, MaxOut: 1, Infer: inferPad, Attrs: []AttrSpec{
		strAttr("mode", "constant"), optional(ir.AttrInts, "pads"), floatAttr("value", 0.0),
	}},
	{Name: "CenterCropPad", Versions: []int64{18}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCenterCropPad, Attrs: []AttrSpec{
		optional(ir.AttrInts, "axes"),
	}},
}

// sliceSpec is what a Slice does to the axes it names.
type sliceSpec struct {
	axes                []int64
	starts, ends, steps []num
}

// readSlice reads attributes (opset 1) or inputs (opset 10); nil when the axes are not known.
func readSlice(n *ir.Node, part func(i int) []num, has func(i int) bool) (*sliceSpec, error) {
	s := &sliceSpec{}
	if a := n.Attr("starts"); a != nil {
		for _, v := range a.Ints {
			s.starts = append(s.starts, known(v))
		}
		for _, v := range n.Ints("ends") {
			s.ends = append(s.ends, known(v))
		}
		s.axes = n.Ints("axes")
	} else {
		s.starts, s.ends = part(1), part(2)
		if has(3) {
			for _, x := range part(3) {
				v, ok := x.value()
				if !ok {
					return nil, nil
				}
				s.axes = append(s.axes, v)
			}
			if s.axes == nil {
				return nil, nil
			}
		}
		if has(4) {
			if s.steps = part(4); s.steps == nil {
				s.steps = make([]num, max(len(s.starts), len(s.axes)))
			}
		}
	}
	k := max(len(s.starts), len(s.ends), len(s.axes))
	if s.starts == nil {
		s.starts = make([]num, k)
	}
	if s.ends == nil {
		s.ends = make([]num, k)
	}
	if k == 0 && s.axes == nil && part(1) == nil && n.Attr("starts") == nil {
		return nil, nil
	}
	if s.axes == nil {
		for i := 0; i < k; i++ {
			s.axes = append(s.axes, int64(i))
		}
	}
	if s.steps == nil {
		for i := 0; i < k; i++ {
			s.steps = append(s.steps, known(1))
		}
	}
	if len(s.starts) != k || len(s.ends) != k || len(s.axes) != k || len(s.steps) != k {
		return nil, fmt.Errorf("slice has %d starts, %d ends, %d axes, %d steps", len(s.starts), len(s.ends), len(s.axes), len(s.steps))
	}
	return s, nil
}

func inferSlice(c *Ctx) error {
	x := c.Shape(0)
	s, err := readSlice(c.Node, c.nums, c.Has)
	if err != nil {
		return err
	}
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if s == nil {
		c.Out(0, c.Elem(0), unknownShape(len(x)))
		return nil
	}
	if _, err := axisSet(s.axes, len(x)); err != nil {
		return err
	}
	out := x.Clone()
	for i, a := range s.axes {
		k, err := axis(a, len(x))
		if err != nil {
			return err
		}
		if v, ok := s.steps[i].value(); ok && v == 0 {
			return fmt.Errorf("slice step is 0")
		}
		out[k] = sliceLen(fromDim(x[k]), s.starts[i], s.ends[i], s.steps[i]).dim()
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

// sliceBounds clamps start and end for an axis of n elements.
func sliceBounds(n, start, end, step int64) (int64, int64) {
	if start < 0 {
		start = max(start, -n-1) + n
	}
	if end < 0 {
		end = max(end, -n-1) + n
	}
	if step > 0 {
		return min(max(start, 0), n), min(max(end, 0), n)
	}
	return min(max(start, 0), n-1), min(max(end, -1), n-1)
}

func sliceLen(n, start, end, step num) num {
	st, ok := step.value()
	if !ok || st == 0 {
		return unknown
	}
	v, okN := n.value()
	a, okA := start.value()
	b, okB := end.value()
	if okN && okA && okB {
		from, to := sliceBounds(v, a, b, st)
		return known(stepCount(from, to, st))
	}
	if st != 1 || !n.ok {
		if okA && okB && okN {
			return unknown
		}
		if st == -1 && n.ok && okA && okB && a == -1 && b < -math.MaxInt32 {
			return n
		}
		return unknown
	}
	switch {
	case okA && a == 0 && (okB && b >= math.MaxInt32 || end == n):
		return n
	case okA && a == 0 && okB && b < 0 && n.nonNegative() && n.c+b >= 0:
		return add(n, end)
	case okA && a > 0 && okB && b >= math.MaxInt32 && n.nonNegative() && n.c >= a:
		return sub(n, start)
	case okA && okB && a < 0 && (b >= math.MaxInt32) && n.nonNegative() && n.c >= -a:
		return known(-a)
	case okA && a == 0 && end.ok && n.k > 0 && end.k == n.k && end.atom == n.atom && end.c <= n.c && end.c >= 0:
		return end
	}
	return unknown
}

func stepCount(from, to, step int64) int64 {
	if step > 0 {
		if to <= from {
			return 0
		}
		return (to-from-1)/step + 1
	}
	if from <= to {
		return 0
	}
	if step == math.MinInt64 {
		return 1
	}
	return (from-to-1)/(-step) + 1
}

func evalSlice(e *evalCtx) []*part {
	p := e.in(0)
	if p == nil {
		return nil
	}
	get := func(i int) []num {
		if q := e.in(i); q != nil {
			return q.v
		}
		return nil
	}
	s, err := readSlice(e.node, get, e.has)
	if err != nil || s == nil {
		return nil
	}
	if _, err := axisSet(s.axes, len(p.dims)); err != nil {
		return nil
	}
	dims, from, step := append([]int64{}, p.dims...), make([]int64, len(p.dims)), slices.Repeat([]int64{1}, len(p.dims))
	for i, a := range s.axes {
		k, err := axis(a, len(p.dims))
		start, ok := s.starts[i].value()
		end, ok2 := s.ends[i].value()
		st, ok3 := s.steps[i].value()
		if err != nil || !ok || !ok2 || !ok3 || st == 0 {
			return nil
		}
		first, to := sliceBounds(p.dims[k], start, end, st)
		from[k], step[k], dims[k] = first, st, stepCount(first, to, st)
	}
	return one(p.take(dims, func(i int) int {
		at, stride := int64(0), int64(1)
		for k, rest := len(dims)-1, int64(i); k >= 0; k-- {
			at += (from[k] + rest%dims[k]*step[k]) * stride
			rest /= dims[k]
			stride *= p.dims[k]
		}
		return int(at)
	}))
}

func inferPad(c *Ctx) error {
	x := c.Shape(0)
	var pads []num
	if a := c.Node.Attr("pads"); a != nil {
		for _, v := range a.Ints {
			pads = append(pads, known(v))
		}
	} else {
		pads = c.nums(1)
	}
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	axes := make([]int64, len(x))
	for i := range axes {
		axes[i] = int64(i)
	}
	if c.Has(3) {
		var ok bool
		if axes, ok = c.Ints(3); !ok {
			c.Out(0, c.Elem(0), unknownShape(len(x)))
			return nil
		}
	}
	if pads == nil && (c.Node.Attr("pads") == nil || len(x) > 0) {
		c.Out(0, c.Elem(0), unknownShape(len(x)))
		return nil
	}
	if len(pads) != 2*len(axes) {
		return fmt.Errorf("%d pads for %d axes of %v", len(pads), len(axes), x)
	}
	if _, err := axisSet(axes, len(x)); err != nil {
		return err
	}
	out := x.Clone()
	for i, a := range axes {
		k, err := axis(a, len(x))
		if err != nil {
			return err
		}
		n := add(add(fromDim(x[k]), pads[i]), pads[i+len(axes)])
		if v, ok := n.value(); ok && v < 0 {
			return fmt.Errorf("pads %v leave axis %d of %v with %d elements", pads, k, x, v)
		}
		out[k] = n.dim()
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

func inferCenterCropPad(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	target := c.nums(1)
	if target == nil {
		c.Out(0, c.Elem(0), unknownShape(len(x)))
		return nil
	}
	axes := c.Node.Ints("axes")
	if axes == nil {
		for i := range x {
			axes = append(axes, int64(i))
		}
	}
	if len(axes) != len(target) {
		return fmt.Errorf("%d sizes for %d axes", len(target), len(axes))
	}
	out := x.Clone()
	for i, a := range axes {
		k, err := axis(a, len(x))
		if err != nil {
			return err
		}
		out[k] = target[i].dim()
	}
	c.Out(0, c.Elem(0), out)
	return nil
}
