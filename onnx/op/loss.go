package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// lossTable lists losses.
var lossTable = []Schema{
	{Name: "NegativeLogLikelihoodLoss", Versions: []int64{12, 13, 22}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferLoss, Attrs: []AttrSpec{
		optional(ir.AttrInt, "ignore_index"), strAttr("reduction", "mean"),
	}},
	{Name: "SoftmaxCrossEntropyLoss", Versions: []int64{12, 13}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 2, Infer: inferLoss, Attrs: []AttrSpec{
		optional(ir.AttrInt, "ignore_index"), strAttr("reduction", "mean"),
	}},
}

// inferLoss serves losses over logits or log-probabilities [N, C, d1, ...] and labels [N, d1, ...].
func inferLoss(c *Ctx) error {
	labels := c.Shape(1)
	if x := c.Shape(0); x != nil {
		if len(x) < 2 {
			return fmt.Errorf("input has shape %v, rank 2 or more is needed", x)
		}
		want := append(ir.Shape{x[0]}, x[2:]...)
		if labels != nil && len(labels) != len(want) {
			return fmt.Errorf("labels %v should have shape %v", labels, want)
		}
		for i := range labels {
			if _, err := meet(want[i], labels[i]); err != nil {
				return fmt.Errorf("labels %v should have shape %v", labels, want)
			}
		}
	}
	switch r := c.Node.Str("reduction", "mean"); r {
	case "none":
		c.Out(0, c.Elem(0), labels)
	case "mean", "sum":
		c.Out(0, c.Elem(0), ir.StaticShape())
	default:
		return fmt.Errorf("reduction %q is none of none, mean, sum", r)
	}
	c.Out(1, c.Elem(0), c.Shape(0))
	return nil
}
