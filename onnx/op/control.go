package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// controlTable lists control flow.
var controlTable = []Schema{
	{Name: "If", Versions: []int64{1, 11, 13, 16, 19, 21, 23, 24, 25}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: Many, Infer: inferIf, eval: evalIf, Attrs: []AttrSpec{
		required(ir.AttrGraph, "else_branch"), required(ir.AttrGraph, "then_branch"),
	}},
	{Name: "Loop", Versions: []int64{1, 11, 13, 16, 19, 21, 23, 24, 25}, MinIn: 2, MaxIn: Many, Gaps: true, MinOut: 1, MaxOut: Many, Infer: inferLoop, Attrs: []AttrSpec{
		required(ir.AttrGraph, "body"),
	}},
	{Name: "Scan", Versions: []int64{8, 9, 11, 16, 19, 21, 23, 24, 25}, MinIn: 0, MaxIn: Many, MinOut: 1, MaxOut: Many, Infer: inferScan, Attrs: []AttrSpec{
		required(ir.AttrGraph, "body"), optional(ir.AttrInts, "directions"), required(ir.AttrInt, "num_scan_inputs"),
		optional(ir.AttrInts, "scan_input_axes"), optional(ir.AttrInts, "scan_input_directions"),
		optional(ir.AttrInts, "scan_output_axes"), optional(ir.AttrInts, "scan_output_directions"),
	}},
}

func (c *Ctx) body(name string) (*ir.Graph, error) {
	a := c.Node.Attr(name)
	if a == nil || a.G == nil {
		return nil, fmt.Errorf("attribute %q holds no graph", name)
	}
	return a.G, nil
}

// inferIf gives the type of the branch that a constant condition takes, else what both branches share.
func inferIf(c *Ctx) error {
	var outs [2][]*ir.Value
	for i, name := range []string{"then_branch", "else_branch"} {
		g, err := c.body(name)
		if err != nil {
			return err
		}
		if len(g.Outputs()) != c.NumOut() {
			return fmt.Errorf("%s has %d outputs, the node %d", name, len(g.Outputs()), c.NumOut())
		}
		outs[i] = g.Outputs()
	}
	taken := -1
	if v, ok := c.Ints(0); ok && len(v) == 1 {
		taken = 1
		if v[0] != 0 {
			taken = 0
		}
	}
	for i, name := range []string{"then_branch", "else_branch"} {
		g, err := c.body(name)
		if err != nil {
			return err
		}
		if err := c.run.graph(c.run, g); err != nil && (taken < 0 || taken == i) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for k := 0; k < c.NumOut(); k++ {
		if taken >= 0 {
			c.OutType(k, outs[taken][k].Type)
			continue
		}
		a, b := outs[0][k].Type, outs[1][k].Type
		if a.Kind == ir.KindTensor && b.Kind == ir.KindTensor && a.Elem != b.Elem && a.Elem != 0 && b.Elem != 0 {
			return fmt.Errorf("output %d is %v in one branch and %v in the other", k, a, b)
		}
		c.OutType(k, common(a, b))
	}
	return nil
}

// evalIf evaluates the branch that a constant condition takes.
func evalIf(e *evalCtx) []*part {
	v, ok := e.ints(0)
	if !ok || len(v) != 1 {
		return nil
	}
	name := "else_branch"
	if v[0] != 0 {
		name = "then_branch"
	}
	a := e.node.Attr(name)
	if a == nil || a.G == nil {
		return nil
	}
	var outs []*part
	for _, o := range a.G.Outputs() {
		outs = append(outs, e.run.part(o))
	}
	return outs
}

// loosen is a carried value's type inside a loop: what input and output of the body share.
func loosen(t ir.Type) ir.Type {
	t = t.Clone()
	for i := range t.Shape {
		t.Shape[i] = ir.UnknownDim()
	}
	return t
}

// setBodyInput gives a body's input a type, keeping what the file says of it.
func setBodyInput(v *ir.Value, t ir.Type) {
	if v.Type.Kind == ir.KindUnknown || v.Type.Kind == ir.KindTensor && v.Type.Elem == ir.Undefined {
		v.Type = t.Clone()
		return
	}
	if v.Type.Kind == ir.KindTensor && v.Type.Shape == nil && t.Kind == ir.KindTensor && t.Elem == v.Type.Elem {
		v.Type.Shape = t.Shape.Clone()
	}
}

// inferLoop runs the body with the carried values' first types; a dimension that the body changes is inferred as unknown.
func inferLoop(c *Ctx) error {
	g, err := c.body("body")
	if err != nil {
		return err
	}
	carried := c.NumIn() - 2
	if len(g.Inputs()) != carried+2 || len(g.Outputs()) < carried+1 || len(g.Outputs()) != c.NumOut()+1 {
		return fmt.Errorf("the body has %d inputs and %d outputs, the node %d and %d", len(g.Inputs()), len(g.Outputs()), c.NumIn(), c.NumOut())
	}
	setBodyInput(g.Inputs()[0], ir.TensorType(ir.Int64, ir.StaticShape()))
	setBodyInput(g.Inputs()[1], ir.TensorType(ir.Bool, ir.StaticShape()))
	for i := 0; i < carried; i++ {
		setBodyInput(g.Inputs()[i+2], loosen(c.In(i+2)))
	}
	if err := c.run.graph(c.run, g); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	trips := unknown
	if n := c.nums(0); len(n) == 1 {
		if cond, ok := c.Ints(1); (ok && len(cond) == 1 && cond[0] != 0 || !c.Has(1)) && constantCondition(g) {
			trips = n[0]
		}
	}
	for i := 0; i < carried; i++ {
		c.OutType(i, common(c.In(i+2), g.Outputs()[i+1].Type))
	}
	for i := carried; i < c.NumOut(); i++ {
		t := g.Outputs()[i+1].Type
		if t.Kind != ir.KindTensor || t.Shape == nil || len(t.Shape) >= maxRank {
			c.Out(i, t.Elem, nil)
			continue
		}
		c.Out(i, t.Elem, append(ir.Shape{trips.dim()}, t.Shape...))
	}
	return nil
}

// constantCondition reports whether a loop body hands on its condition unchanged.
func constantCondition(g *ir.Graph) bool {
	v := g.Outputs()[0]
	for v != nil && v.Producer() != nil && v.Producer().Is("Identity") {
		v = v.Producer().Input(0)
	}
	return v == g.Inputs()[1]
}

// inferScan serves version 9 on; version 8, whose first input is a vector of lengths, keeps the file's types.
func inferScan(c *Ctx) error {
	if c.run.opset == 8 || !c.Has(0) {
		return nil
	}
	g, err := c.body("body")
	if err != nil {
		return err
	}
	scans := int(min(c.Node.Int("num_scan_inputs", 0), Many))
	state := c.NumIn() - scans
	if scans < 1 || state < 0 || len(g.Inputs()) != c.NumIn() || len(g.Outputs()) != c.NumOut() || c.NumOut() < state {
		return fmt.Errorf("the body has %d inputs and %d outputs, the node %d and %d with %d scanned", len(g.Inputs()), len(g.Outputs()),
			c.NumIn(), c.NumOut(), scans)
	}
	length := ir.UnknownDim()
	axes := c.Node.Ints("scan_input_axes")
	for i, v := range g.Inputs() {
		t := c.In(i).Clone()
		if i < state {
			setBodyInput(v, loosen(t))
			continue
		}
		if t.Shape != nil {
			a := int64(0)
			if k := i - state; k < len(axes) {
				a = axes[k]
			}
			k, err := axis(a, len(t.Shape))
			if err != nil {
				return err
			}
			if length, err = meet(length, t.Shape[k]); err != nil {
				return fmt.Errorf("scan length: %w", err)
			}
			t.Shape = append(t.Shape[:k:k], t.Shape[k+1:]...)
		}
		setBodyInput(v, t)
	}
	if err := c.run.graph(c.run, g); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	outAxes := c.Node.Ints("scan_output_axes")
	for i, o := range g.Outputs() {
		if i < state {
			c.OutType(i, common(c.In(i), o.Type))
			continue
		}
		s := o.Type.Shape
		if s == nil || len(s) >= maxRank {
			c.Out(i, o.Type.Elem, nil)
			continue
		}
		a := int64(0)
		if k := i - state; k < len(outAxes) {
			a = outAxes[k]
		}
		k, err := axis(a, len(s)+1)
		if err != nil {
			return err
		}
		c.Out(i, o.Type.Elem, append(append(append(ir.Shape{}, s[:k]...), length), s[k:]...))
	}
	return nil
}
