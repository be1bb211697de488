package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// recurrentTable lists recurrent networks.
var recurrentTable = []Schema{
	{Name: "GRU", Versions: []int64{1, 3, 7, 14, 22}, MinIn: 3, MaxIn: 6, MinOut: 0, MaxOut: 2, Infer: inferRecurrent, Attrs: []AttrSpec{
		optional(ir.AttrFloats, "activation_alpha"), optional(ir.AttrFloats, "activation_beta"), optional(ir.AttrStrings, "activations"),
		optional(ir.AttrFloat, "clip"), strAttr("direction", "forward"), optional(ir.AttrInt, "hidden_size"), intAttr("layout", 0),
		intAttr("linear_before_reset", 0),
	}},
	{Name: "LSTM", Versions: []int64{1, 7, 14, 22}, MinIn: 3, MaxIn: 8, MinOut: 0, MaxOut: 3, Infer: inferRecurrent, Attrs: []AttrSpec{
		optional(ir.AttrFloats, "activation_alpha"), optional(ir.AttrFloats, "activation_beta"), optional(ir.AttrStrings, "activations"),
		optional(ir.AttrFloat, "clip"), strAttr("direction", "forward"), optional(ir.AttrInt, "hidden_size"), intAttr("input_forget", 0),
		intAttr("layout", 0),
	}},
	{Name: "RNN", Versions: []int64{1, 7, 14, 22}, MinIn: 3, MaxIn: 6, MinOut: 0, MaxOut: 2, Infer: inferRecurrent, Attrs: []AttrSpec{
		optional(ir.AttrFloats, "activation_alpha"), optional(ir.AttrFloats, "activation_beta"), optional(ir.AttrStrings, "activations"),
		optional(ir.AttrFloat, "clip"), strAttr("direction", "forward"), optional(ir.AttrInt, "hidden_size"), intAttr("layout", 0),
	}},
}

// inferRecurrent gives Y [T, directions, N, H] and the last states [directions, N, H]; with layout 1 the batch comes first.
func inferRecurrent(c *Ctx) error {
	if err := c.needRank(0, 3, 3); err != nil {
		return err
	}
	x := c.Shape(0)
	if x == nil {
		x = unknownShape(3)
	}
	directions := int64(1)
	switch d := c.Node.Str("direction", "forward"); d {
	case "forward", "reverse":
	case "bidirectional":
		directions = 2
	default:
		return fmt.Errorf("direction %q is none of forward, reverse, bidirectional", d)
	}
	hidden := ir.UnknownDim()
	if r := c.Shape(2); len(r) == 3 {
		hidden = r[2]
	}
	if a := c.Node.Attr("hidden_size"); a != nil {
		if a.I <= 0 {
			return fmt.Errorf("hidden_size %d is not positive", a.I)
		}
		hidden = ir.D(a.I)
	}
	steps, batch := x[0], x[1]
	if c.Node.Int("layout", 0) != 0 {
		steps, batch = x[1], x[0]
		c.Out(0, c.Elem(0), ir.Shape{batch, steps, ir.D(directions), hidden})
		for i := 1; i < c.NumOut(); i++ {
			c.Out(i, c.Elem(0), ir.Shape{batch, ir.D(directions), hidden})
		}
		return nil
	}
	c.Out(0, c.Elem(0), ir.Shape{steps, ir.D(directions), batch, hidden})
	for i := 1; i < c.NumOut(); i++ {
		c.Out(i, c.Elem(0), ir.Shape{ir.D(directions), batch, hidden})
	}
	return nil
}
