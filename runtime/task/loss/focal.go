package loss

import "mqatc/onnx/ir"

// Constants of the focal loss (Lin et al. 2017); gamma is 2.
const (
	focalAlpha = 0.25
	focalEdge  = 1e-6 // p is kept this far from 0 and 1
)

// focal is the sum over elements of -alpha t (1-p)^2 log p - (1-alpha) (1-t) p^2 log(1-p), divided by the sum of t, or by 1 where
// that is less. p is sigmoid(y) for logits y, and y itself where the network ends in a Sigmoid. The target has the output's shape
// and values 0 to 1: 1 where an element is positive.
func focal(b *builder, o, y *ir.Value) *ir.Value {
	t := b.target(o, ir.Float32, o.Shape(), &Bounds{Min: 0, Max: 1})
	p := y
	if !squashed(o) {
		p = b.op("Sigmoid", y)
	}
	p = b.op("Clip", p, b.Float(focalEdge), b.Float(1-focalEdge))
	q := b.op("Sub", b.Float(1), p)
	hit := b.op("Mul", b.op("Mul", b.op("Mul", q, q), b.op("Log", p)), t)
	miss := b.op("Mul", b.op("Mul", b.op("Mul", p, p), b.op("Log", q)), b.op("Sub", b.Float(1), t))
	all := b.op("Add", b.op("Mul", hit, b.Float(-focalAlpha)), b.op("Mul", miss, b.Float(focalAlpha-1)))
	rank := len(o.Shape())
	return b.op("Div", b.total(all, rank), b.atLeastOne(b.total(t, rank)))
}

// squashed reports an output that a Sigmoid makes, but for moves of its elements.
func squashed(o *ir.Value) bool {
	for v, i := o, 0; v != nil && v.Producer() != nil && i < 8; i++ {
		switch n := v.Producer(); n.Op {
		case "Sigmoid":
			return true
		case "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity":
			v = n.Input(0)
		default:
			return false
		}
	}
	return false
}
