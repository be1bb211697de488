package step

import (
	"mqatc/onnx/ir"
)

// Average is the suffix of the running average of a trained tensor, a state that starts as the tensor itself.
const Average = ".ema"

// average makes the running average of a tensor: a + (1-d)(w - a) with d = min(EMA, (1+t)/(10+t)) in step t, so that the first steps
// of a training from scratch are forgotten as fast as they should be (TensorFlow's ExponentialMovingAverage with num_updates). It has
// the bits of w where w does not move.
func (u *updater) average(w *ir.Value, moved, old *ir.Value) *ir.Value {
	if u.memo[Average] == nil {
		rise := u.op("Div", u.op("Add", u.number, u.Float(1)), u.op("Add", u.number, u.Float(10)))
		u.memo[Average] = u.op("Sub", u.Float(1), u.op("Min", rise, u.Float(u.o.EMA)))
	}
	part := u.op("Mul", u.op("Sub", moved, old), u.fit(u.memo[Average], w))
	return named(u.Builder, "Add", w.Name()+Average+New, old, part)
}
