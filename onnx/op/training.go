package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// previewTraining is the domain of ONNX's optimizers and of Gradient.
const previewTraining = "ai.onnx.preview.training"

var trainingTable = []Schema{
	{Domain: previewTraining, Name: "Adagrad", Versions: []int64{1}, MinIn: 3, MaxIn: Many, MinOut: 1, MaxOut: Many, Infer: inferOptimizer(3, 0, 2), Attrs: []AttrSpec{
		floatAttr("decay_factor", 0), floatAttr("epsilon", 1e-6), floatAttr("norm_coefficient", 0),
	}},
	{Domain: previewTraining, Name: "Adam", Versions: []int64{1}, MinIn: 3, MaxIn: Many, MinOut: 1, MaxOut: Many, Infer: inferOptimizer(4, 0, 2, 3), Attrs: []AttrSpec{
		floatAttr("alpha", 0.9), floatAttr("beta", 0.999), floatAttr("epsilon", 1e-6), floatAttr("norm_coefficient", 0),
		floatAttr("norm_coefficient_post", 0),
	}},
	{Domain: previewTraining, Name: "Momentum", Versions: []int64{1}, MinIn: 3, MaxIn: Many, MinOut: 1, MaxOut: Many, Infer: inferOptimizer(3, 0, 2), Attrs: []AttrSpec{
		required(ir.AttrFloat, "alpha"), required(ir.AttrFloat, "beta"), required(ir.AttrString, "mode"),
		required(ir.AttrFloat, "norm_coefficient"),
	}},
	{Domain: previewTraining, Name: "Gradient", Versions: []int64{1}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: Many, Infer: inferGradient, Attrs: []AttrSpec{
		required(ir.AttrStrings, "xs"), required(ir.AttrString, "y"), optional(ir.AttrStrings, "zs"),
	}},
}

// inferOptimizer serves operators whose inputs are the learning rate, the step, and then lists of equal length (tensors,
// gradients, states); updated are the numbers of the lists that come out again.
func inferOptimizer(lists int, updated ...int) func(*Ctx) error {
	return func(c *Ctx) error {
		n := (c.NumIn() - 2) / lists
		if n*lists != c.NumIn()-2 || n*len(updated) != c.NumOut() {
			return fmt.Errorf("%d inputs and %d outputs are not two and then lists of %d and %d", c.NumIn(), c.NumOut(), lists, len(updated))
		}
		for i, list := range updated {
			for k := 0; k < n; k++ {
				c.OutType(i*n+k, c.In(2+list*n+k))
			}
		}
		return nil
	}
}

// inferGradient gives each derivative the type of what is differentiated for: the first inputs, by the names in xs.
func inferGradient(c *Ctx) error {
	xs := len(c.Node.Attr("xs").Strings)
	if c.NumOut() > xs || xs > c.NumIn() {
		return fmt.Errorf("%d outputs and %d inputs for the %d names in xs", c.NumOut(), c.NumIn(), xs)
	}
	for i := 0; i < c.NumOut(); i++ {
		c.OutType(i, c.In(i))
	}
	return nil
}
