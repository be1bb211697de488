package loss

import "mqatc/onnx/ir"

// leastProbability keeps the logarithm of a probability finite.
const leastProbability = 1e-7

// mostClasses bounds the constant that numbers the classes.
const mostClasses = 1 << 20

// crossEntropy is -log softmax(y)[t], the mean over the positions with a class. y holds logits [N, C, d...] with at least two
// classes; where the network ends in a Softmax over the classes, y are probabilities and the loss is -log y[t]. The target is the
// class of each position, int64 [N, d...]; -1 leaves a position out.
func crossEntropy(b *builder, o, y *ir.Value) *ir.Value {
	s := o.Shape()
	if len(s) < 2 || !s[1].Known() || s[1].Size < 2 {
		return b.Fail(b.refuse(o, "cross-entropy needs logits [N, C, ...] of 2 classes or more, not %v", o.Type))
	}
	classes := s[1].Size
	if classes > mostClasses {
		return b.Fail(b.refuse(o, "cross-entropy takes %d classes at most, not %v", mostClasses, o.Type))
	}
	shape := append(ir.Shape{s[0]}, s[2:]...)
	t := b.target(o, ir.Int64, shape, &Bounds{Min: -1, Max: float64(classes - 1)})
	var logp *ir.Value
	if overClasses(o) {
		logp = b.op("Log", b.op("Clip", y, b.Float(leastProbability), b.Float(1)))
	} else {
		logp = b.Op("LogSoftmax", []*ir.Value{y}, ir.AInt("axis", 1))
	}
	each, dims := make([]int64, classes), make([]int64, len(s))
	for i := range each {
		each[i] = int64(i)
	}
	for i := range dims {
		dims[i] = 1
	}
	dims[1] = classes
	index, err := ir.FromInt64s(each, dims...)
	if err != nil {
		return b.Fail(err)
	}
	is := b.op("Equal", b.op("Unsqueeze", t, b.Int64s(1)), b.Const(index))
	hot := b.Op("Cast", []*ir.Value{is}, ir.AInt("to", int64(ir.Float32)))
	sum := b.total(b.op("Mul", logp, hot), len(s))
	return b.op("Neg", b.op("Div", sum, b.atLeastOne(b.total(hot, len(s)))))
}

// overClasses reports an output that a Softmax over the classes makes.
func overClasses(o *ir.Value) bool {
	n := o.Producer()
	for n != nil && n.Is("Identity") {
		n = n.Input(0).Producer()
	}
	if n == nil || !n.Is("Softmax") {
		return false
	}
	axis := n.Int("axis", -1)
	return axis == 1 || axis == int64(1-len(o.Shape()))
}
