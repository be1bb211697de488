package loss

import "mqatc/onnx/ir"

// smoothL1 is Huber's loss with beta 1, the mean over all elements: d*d/2 where |d| < 1, else |d| - 1/2, with d = y - t. The
// target has the output's type and shape.
func smoothL1(b *builder, o, y *ir.Value) *ir.Value {
	t := b.target(o, ir.Float32, o.Shape(), nil)
	a := b.op("Abs", b.op("Sub", y, t))
	m := b.op("Min", a, b.Float(1))
	each := b.op("Mul", m, b.op("Sub", a, b.op("Mul", m, b.Float(0.5))))
	return b.Op("ReduceMean", []*ir.Value{each}, ir.AInt("keepdims", 0))
}
