package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// sequenceTable lists sequences and optionals.
var sequenceTable = []Schema{
	{Name: "SequenceConstruct", Versions: []int64{11}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: 1, Infer: inferSequenceConstruct},
	{Name: "SequenceEmpty", Versions: []int64{11}, MinIn: 0, MaxIn: 0, MinOut: 1, MaxOut: 1, Infer: inferSequenceEmpty, Attrs: []AttrSpec{
		optional(ir.AttrInt, "dtype"),
	}},
	{Name: "SequenceAt", Versions: []int64{11}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferSequenceAt, eval: evalSequenceAt},
	{Name: "SequenceInsert", Versions: []int64{11}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferSequenceInsert},
	{Name: "SequenceErase", Versions: []int64{11}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "SequenceLength", Versions: []int64{11}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSequenceLength},
	{Name: "SplitToSequence", Versions: []int64{11, 24}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferSplitToSequence, Attrs: []AttrSpec{
		intAttr("axis", 0), intAttr("keepdims", 1),
	}},
	{Name: "ConcatFromSequence", Versions: []int64{11}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferConcatFromSequence, eval: evalConcatFromSequence, Attrs: []AttrSpec{
		required(ir.AttrInt, "axis"), intAttr("new_axis", 0),
	}},
	{Name: "SequenceMap", Versions: []int64{17}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: Many, Infer: inferSequenceMap, Attrs: []AttrSpec{
		required(ir.AttrGraph, "body"),
	}},
	{Name: "Optional", Versions: []int64{15, 28}, MinIn: 0, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferOptional, Attrs: []AttrSpec{
		optional(ir.AttrType, "type"),
	}},
	{Name: "OptionalGetElement", Versions: []int64{15, 18, 28}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferOptionalGet},
	{Name: "OptionalHasElement", Versions: []int64{15, 18, 28}, MinIn: 0, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferOptionalHas},
}

func sequenceOf(t ir.Type) ir.Type { return ir.Type{Kind: ir.KindSequence, Inner: &t} }

// member is the type of the elements of the sequence or optional in input i.
func (c *Ctx) member(i int, kind ir.TypeKind) (ir.Type, error) {
	t := c.In(i)
	if t.Kind == ir.KindUnknown {
		return ir.Type{}, nil
	}
	if t.Kind != kind || t.Inner == nil {
		return ir.Type{}, fmt.Errorf("input %d is %v", i, t)
	}
	return *t.Inner, nil
}

// common is what two types share: dimensions that differ become unknown.
func common(a, b ir.Type) ir.Type {
	if a.Kind != b.Kind || a.Elem != b.Elem {
		return ir.Type{}
	}
	if a.Inner != nil && b.Inner != nil {
		in := common(*a.Inner, *b.Inner)
		a.Inner = &in
		return a
	}
	a.Shape = commonShape(a.Shape, b.Shape)
	return a
}

func commonShape(a, b ir.Shape) ir.Shape {
	if a == nil || b == nil || len(a) != len(b) {
		return nil
	}
	out := a.Clone()
	for i := range out {
		if out[i].Size != b[i].Size || out[i].Symbol != b[i].Symbol {
			out[i] = ir.UnknownDim()
		}
	}
	return out
}

func inferSequenceConstruct(c *Ctx) error {
	t := c.In(0)
	for i := 1; i < c.NumIn(); i++ {
		t = common(t, c.In(i))
	}
	c.OutType(0, sequenceOf(t))
	return nil
}

func inferSequenceEmpty(c *Ctx) error {
	d, err := c.dtypeAttr("dtype", ir.Float32)
	if err != nil {
		return err
	}
	c.OutType(0, sequenceOf(ir.TensorType(d, nil)))
	return nil
}

func inferSequenceAt(c *Ctx) error {
	t, err := c.member(0, ir.KindSequence)
	if err != nil {
		return err
	}
	if i, ok := c.Ints(1); ok && len(i) == 1 {
		if v := listed(c.Node.Input(0), i[0]); v != nil {
			t = v.Type
		}
	}
	c.OutType(0, t)
	return nil
}

// listed is element i of a sequence that a SequenceConstruct lists; nil when it is not one.
func listed(seq *ir.Value, i int64) *ir.Value {
	if seq == nil || seq.Producer() == nil || !seq.Producer().Is("SequenceConstruct") {
		return nil
	}
	in := seq.Producer().Inputs()
	if i < 0 {
		i += int64(len(in))
	}
	if i < 0 || i >= int64(len(in)) {
		return nil
	}
	return in[i]
}

func evalSequenceAt(e *evalCtx) []*part {
	if i, ok := e.ints(1); ok && len(i) == 1 {
		return one(e.run.part(listed(e.node.Input(0), i[0])))
	}
	return nil
}

// evalConcatFromSequence joins listed scalars to a vector, or listed vectors.
func evalConcatFromSequence(e *evalCtx) []*part {
	seq := e.node.Input(0)
	if e.node.Int("axis", 0) != 0 || listed(seq, 0) == nil {
		return nil
	}
	rank := 1 - int(e.node.Int("new_axis", 0))
	var ps []*part
	for _, v := range seq.Producer().Inputs() {
		p := e.run.part(v)
		if p == nil || len(p.dims) != rank {
			return nil
		}
		ps = append(ps, p.view([]int64{int64(p.len())}))
	}
	return one(joinParts(ps))
}

func inferSequenceInsert(c *Ctx) error {
	t, err := c.member(0, ir.KindSequence)
	if err != nil {
		return err
	}
	if p := c.Node.Input(0).Producer(); p == nil || !p.Is("SequenceEmpty") {
		t = common(t, c.In(1))
	} else {
		t = c.In(1)
	}
	c.OutType(0, sequenceOf(t))
	return nil
}

func inferSequenceLength(c *Ctx) error {
	c.Out(0, ir.Int64, ir.StaticShape())
	return nil
}

func inferSplitToSequence(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.OutType(0, sequenceOf(ir.TensorType(c.Elem(0), nil)))
		return nil
	}
	a, err := axis(c.Node.Int("axis", 0), len(x))
	if err != nil {
		return err
	}
	out := x.Clone()
	out[a] = ir.UnknownDim()
	if !c.Has(1) {
		out[a] = ir.D(1)
		if c.Node.Int("keepdims", 1) == 0 {
			out = append(out[:a:a], out[a+1:]...)
		}
	} else if s := c.Shape(1); s != nil && len(s) == 0 {
		if n := c.nums(1); len(n) == 1 && x[a].Known() && n[0].isKnown() && n[0].c > 0 && x[a].Size%n[0].c == 0 {
			out[a] = n[0].dim()
		}
	}
	c.OutType(0, sequenceOf(ir.TensorType(c.Elem(0), out)))
	return nil
}

func inferConcatFromSequence(c *Ctx) error {
	t, err := c.member(0, ir.KindSequence)
	if err != nil {
		return err
	}
	if t.Shape == nil {
		c.Out(0, t.Elem, nil)
		return nil
	}
	var list []*ir.Value
	if listed(c.Node.Input(0), 0) != nil {
		list = c.Node.Input(0).Producer().Inputs()
	}
	rank := len(t.Shape)
	fresh := c.Node.Int("new_axis", 0) != 0
	if fresh {
		rank++
	}
	a, err := axis(c.Node.Int("axis", 0), rank)
	if err != nil {
		return err
	}
	out := t.Shape.Clone()
	if fresh {
		out = append(append(append(ir.Shape{}, out[:a]...), ir.UnknownDim()), t.Shape[a:]...)
	}
	out[a] = joined(list, a, fresh).dim()
	c.Out(0, t.Elem, out)
	return nil
}

// joined is the size along axis a of listed tensors after one another, or stacked; unknown for no list.
func joined(list []*ir.Value, a int, stacked bool) num {
	if len(list) == 0 {
		return unknown
	}
	if stacked {
		return known(int64(len(list)))
	}
	sum := known(0)
	for _, v := range list {
		if v == nil || a >= len(v.Shape()) {
			return unknown
		}
		sum = add(sum, fromDim(v.Shape()[a]))
	}
	return sum
}

// inferSequenceMap runs the body with the elements of sequences, and with tensors as they are.
func inferSequenceMap(c *Ctx) error {
	g, err := c.body("body")
	if err != nil {
		return err
	}
	if len(g.Inputs()) != c.NumIn() || len(g.Outputs()) != c.NumOut() {
		return fmt.Errorf("the body has %d inputs and %d outputs, the node %d and %d", len(g.Inputs()), len(g.Outputs()), c.NumIn(), c.NumOut())
	}
	for i, v := range g.Inputs() {
		t := c.In(i)
		if i == 0 || t.Kind == ir.KindSequence {
			if t, err = c.member(i, ir.KindSequence); err != nil {
				return err
			}
		}
		setBodyInput(v, t)
	}
	if err := c.run.graph(c.run, g); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	for i, o := range g.Outputs() {
		c.OutType(i, sequenceOf(o.Type))
	}
	return nil
}

func inferOptional(c *Ctx) error {
	t := c.In(0)
	if a := c.Node.Attr("type"); a != nil && a.Type != nil {
		t = *a.Type
	}
	c.OutType(0, ir.Type{Kind: ir.KindOptional, Inner: &t})
	return nil
}

func inferOptionalGet(c *Ctx) error {
	if c.In(0).Kind != ir.KindOptional {
		return inferSame(c)
	}
	t, err := c.member(0, ir.KindOptional)
	if err != nil {
		return err
	}
	c.OutType(0, t)
	return nil
}

func inferOptionalHas(c *Ctx) error {
	c.Out(0, ir.Bool, ir.StaticShape())
	return nil
}
