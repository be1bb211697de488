package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// indexTable lists gathering, scattering and selecting by index.
var indexTable = []Schema{
	{Name: "Gather", Versions: []int64{1, 11, 13}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferGather, eval: evalGather, Attrs: []AttrSpec{
		intAttr("axis", 0),
	}},
	{Name: "GatherElements", Versions: []int64{11, 13}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferGatherElements, Attrs: []AttrSpec{
		intAttr("axis", 0),
	}},
	{Name: "GatherND", Versions: []int64{11, 12, 13}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferGatherND, Attrs: []AttrSpec{
		intAttr("batch_dims", 0),
	}},
	{Name: "Scatter", Versions: []int64{9}, Deprecated: 11, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferScatterElements, Attrs: []AttrSpec{
		intAttr("axis", 0),
	}},
	{Name: "ScatterElements", Versions: []int64{11, 13, 16, 18}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferScatterElements, Attrs: []AttrSpec{
		intAttr("axis", 0), strAttr("reduction", "none"),
	}},
	{Name: "ScatterND", Versions: []int64{11, 13, 16, 18}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferScatterND, Attrs: []AttrSpec{
		strAttr("reduction", "none"),
	}},
	{Name: "Compress", Versions: []int64{9, 11, 28}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCompress, Attrs: []AttrSpec{
		optional(ir.AttrInt, "axis"),
	}},
	{Name: "NonZero", Versions: []int64{9, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferNonZero, eval: evalNonZero},
	{Name: "OneHot", Versions: []int64{9, 11, 28}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferOneHot, Attrs: []AttrSpec{intAttr("axis", -1)}},
	{Name: "Unique", Versions: []int64{11, 28}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 4, Infer: inferUnique, eval: evalUnique, Attrs: []AttrSpec{
		optional(ir.AttrInt, "axis"), intAttr("sorted", 1),
	}},
	{Name: "CumSum", Versions: []int64{11, 14}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferIndexed, Attrs: []AttrSpec{
		intAttr("exclusive", 0), intAttr("reverse", 0),
	}},
	{Name: "CumProd", Versions: []int64{26}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferIndexed, Attrs: []AttrSpec{
		intAttr("exclusive", 0), intAttr("reverse", 0),
	}},
	{Name: "ReverseSequence", Versions: []int64{10, 28}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferIndexed, Attrs: []AttrSpec{
		intAttr("batch_axis", 1), intAttr("time_axis", 0),
	}},
	{Name: "Trilu", Versions: []int64{14}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferIndexed, Attrs: []AttrSpec{intAttr("upper", 1)}},
}

func inferGather(c *Ctx) error {
	x, idx := c.Shape(0), c.Shape(1)
	if x == nil || idx == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	a, err := axis(c.Node.Int("axis", 0), len(x))
	if err != nil {
		return err
	}
	if x[a].Known() {
		for _, i := range c.nums(1) {
			if v, ok := i.value(); ok && (v < -x[a].Size || v >= x[a].Size) {
				return fmt.Errorf("index %d is out of range for axis %d of %v", v, a, x)
			}
		}
	}
	out := append(append(append(ir.Shape{}, x[:a]...), idx...), x[a+1:]...)
	if len(out) > maxRank {
		return fmt.Errorf("the result has %d axes", len(out))
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

func evalGather(e *evalCtx) []*part {
	p := e.in(0)
	q := e.in(1)
	if p == nil || q == nil || len(p.dims) != 1 || e.node.Int("axis", 0) > 0 {
		return nil
	}
	idx, ok := q.ints()
	if !ok {
		return nil
	}
	return one(p.take(q.dims, func(i int) int {
		if idx[i] < 0 {
			return int(idx[i]) + p.len()
		}
		return int(idx[i])
	}))
}

func inferGatherElements(c *Ctx) error {
	if x, i := c.Shape(0), c.Shape(1); x != nil && i != nil && len(x) != len(i) {
		return fmt.Errorf("data %v and indices %v differ in rank", x, i)
	}
	if x := c.Shape(0); x != nil {
		if _, err := axis(c.Node.Int("axis", 0), len(x)); err != nil {
			return err
		}
	}
	c.Out(0, c.Elem(0), c.Shape(1))
	return nil
}

func inferGatherND(c *Ctx) error {
	x, idx := c.Shape(0), c.Shape(1)
	if x == nil || idx == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	b := c.Node.Int("batch_dims", 0)
	if len(idx) < 1 || len(x) < 1 || b < 0 || b >= int64(min(len(x), len(idx))) {
		return fmt.Errorf("data %v, indices %v and batch_dims %d do not go together", x, idx, b)
	}
	last := idx[len(idx)-1]
	if !last.Known() {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if last.Size > int64(len(x))-b {
		return fmt.Errorf("indices %v address more axes than %v has", idx, x)
	}
	c.Out(0, c.Elem(0), append(append(ir.Shape{}, idx[:len(idx)-1]...), x[b+last.Size:]...))
	return nil
}

func inferScatterElements(c *Ctx) error {
	if err := c.sameElem(0, 2); err != nil {
		return err
	}
	x := c.Shape(0)
	if x != nil {
		if _, err := axis(c.Node.Int("axis", 0), len(x)); err != nil {
			return err
		}
		for i := 1; i < 3; i++ {
			if err := c.needRank(i, len(x), len(x)); err != nil {
				return err
			}
		}
	}
	return inferSame(c)
}

func inferScatterND(c *Ctx) error {
	if err := c.sameElem(0, 2); err != nil {
		return err
	}
	x, idx, up := c.Shape(0), c.Shape(1), c.Shape(2)
	if x != nil && idx != nil && len(idx) > 0 && idx[len(idx)-1].Known() {
		k := idx[len(idx)-1].Size
		if k > int64(len(x)) {
			return fmt.Errorf("indices %v address more axes than %v has", idx, x)
		}
		want := append(append(ir.Shape{}, idx[:len(idx)-1]...), x[k:]...)
		if up != nil && len(up) != len(want) {
			return fmt.Errorf("updates %v should have shape %v", up, want)
		}
		for i, d := range up {
			if _, err := meet(d, want[i]); err != nil {
				return fmt.Errorf("updates %v should have shape %v", up, want)
			}
		}
	}
	return inferSame(c)
}

func inferCompress(c *Ctx) error {
	x := c.Shape(0)
	a := c.Node.Attr("axis")
	if a == nil {
		size := unknown
		if x != nil {
			size = product(nums(x))
		}
		c.Out(0, c.Elem(0), ir.Shape{c.chosen(1, size).dim()})
		return nil
	}
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	k, err := axis(a.I, len(x))
	if err != nil {
		return err
	}
	out := x.Clone()
	out[k] = c.chosen(1, fromDim(x[k])).dim()
	c.Out(0, c.Elem(0), out)
	return nil
}

// chosen is how many of the first size elements of input i are true; all of them are looked at where size is not known.
func (c *Ctx) chosen(i int, size num) num {
	v, ok := c.Ints(i)
	if !ok {
		return unknown
	}
	if n, fixed := size.value(); fixed {
		v = v[:min(int64(len(v)), n)]
	}
	count := int64(0)
	for _, b := range v {
		if b != 0 {
			count++
		}
	}
	return known(count)
}

func inferNonZero(c *Ctx) error {
	out := unknownShape(2)
	if x := c.Shape(0); x != nil {
		out[0] = ir.D(int64(max(len(x), 1)))
	}
	if v, ok := c.Floats(0); ok {
		n := int64(0)
		for _, b := range v {
			if b != 0 {
				n++
			}
		}
		out[1] = ir.D(n)
	}
	c.Out(0, ir.Int64, out)
	return nil
}

// evalNonZero serves vectors.
func evalNonZero(e *evalCtx) []*part {
	p := e.in(0)
	if p == nil || len(p.dims) != 1 {
		return nil
	}
	f, ok := p.floats()
	if !ok {
		return nil
	}
	var at []num
	for i, x := range f {
		if x != 0 {
			at = append(at, known(int64(i)))
		}
	}
	q := vector(ir.Int64, at...)
	q.dims = []int64{1, int64(len(at))}
	return one(q)
}

func inferOneHot(c *Ctx) error {
	idx := c.Shape(0)
	if idx == nil {
		c.Out(0, c.Elem(2), nil)
		return nil
	}
	a, err := axis(c.Node.Int("axis", -1), len(idx)+1)
	if err != nil {
		return err
	}
	depth := ir.UnknownDim()
	if d := c.nums(1); len(d) == 1 {
		depth = d[0].dim()
	} else if f := c.floatsAt(1); len(f) == 1 && f[0] >= 0 && f[0] < 1<<31 {
		depth = ir.D(int64(f[0]))
	}
	out := append(append(append(ir.Shape{}, idx[:a]...), depth), idx[a:]...)
	c.Out(0, c.Elem(2), out)
	return nil
}

func inferUnique(c *Ctx) error {
	x := c.Shape(0)
	out := unknownShape(1)
	if a := c.Node.Attr("axis"); a != nil {
		out = nil
		if x != nil {
			k, err := axis(a.I, len(x))
			if err != nil {
				return err
			}
			out = x.Clone()
			out[k] = ir.UnknownDim()
		}
	}
	c.Out(0, c.Elem(0), out)
	for i := 1; i < c.NumOut(); i++ {
		c.Out(i, ir.Int64, unknownShape(1))
	}
	for i, o := range c.Node.Outputs() {
		if p := c.run.part(o); p != nil {
			c.Out(i, p.elem, ir.StaticShape(p.dims...))
		}
	}
	return nil
}

// inferIndexed is inferSame for operators whose axis is an input: CumSum, CumProd, ReverseSequence, Trilu.
func inferIndexed(c *Ctx) error {
	if err := c.needRank(0, 1, maxRank); err != nil {
		return err
	}
	return inferSame(c)
}
