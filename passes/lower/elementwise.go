package lower

import (
	"slices"

	"mqatc/onnx/ir"
)

// unary are operators that map each element by itself; further inputs are single numbers.
var unary = map[string]bool{"Relu": true, "LeakyRelu": true, "Sigmoid": true, "HardSigmoid": true, "HardSwish": true, "Tanh": true, "Clip": true, "Elu": true,
	"Softplus": true, "Softsign": true, "Abs": true, "Neg": true, "Sign": true, "Sqrt": true, "Exp": true, "Log": true, "Reciprocal": true, "Erf": true,
	"Round": true, "Floor": true, "Ceil": true, "Identity": true}

// binary are operators that combine equal sizes element by element, or single numbers or numbers by channel with a tensor.
var binary = map[string]bool{"Add": true, "Sub": true, "Mul": true, "Div": true, "Max": true, "Min": true, "Pow": true}

// elementwise works on blocked values where one of the inputs is blocked.
func elementwise(l *lowerer, n *ir.Node) *ir.Value {
	d, ok := dims4(n.Output(0))
	if !ok || !l.whole(d[1]) || n.Output(0).IsOutput() {
		return nil
	}
	any, byChannel := false, -1
	for i, v := range n.Inputs() {
		if v == nil {
			continue
		}
		vd, ok := v.StaticDims()
		switch {
		case !ok || v.DType() != ir.Float32:
			return nil
		case slices.Equal(vd, d):
			any = any || l.blocked[v] != nil
		case product(vd) == 1 && len(vd) <= 4:
		case channels(vd, d[1]) && byChannel < 0 && len(n.Inputs()) == 2:
			byChannel = i
		default:
			return nil
		}
	}
	if !any {
		return nil
	}
	in := make([]*ir.Value, len(n.Inputs()))
	for i, v := range n.Inputs() {
		in[i] = v
		if v == nil {
			continue
		}
		vd, _ := v.StaticDims()
		if slices.Equal(vd, d) {
			in[i] = l.toBlocked(v)
		}
		switch {
		case byChannel < 0:
		case i == byChannel:
			in[i] = l.reshape(in[i], 1, d[1]/l.block, 1, l.block)
		case slices.Equal(vd, d):
			in[i] = l.reshape(in[i], d[0], d[1]/l.block, d[2]*d[3], l.block)
		}
	}
	return l.reshape(l.b.Op(n.Op, in, n.Attrs()...), d...)
}

// channels reports sizes [1, C, 1, 1] or [C, 1, 1].
func channels(d []int64, c int64) bool {
	return slices.Equal(d, []int64{1, c, 1, 1}) || slices.Equal(d, []int64{c, 1, 1})
}

// requantized takes QuantizeLinear and DequantizeLinear of a whole tensor together.
func requantized(l *lowerer, n *ir.Node) *ir.Value {
	q := from(n.Input(0), "QuantizeLinear")
	d, ok := dims4(n.Output(0))
	if q == nil || !ok || !l.whole(d[1]) || n.Output(0).IsOutput() || l.blocked[q.Input(0)] == nil || product(dimsOf(n.Input(1))) != 1 || product(dimsOf(q.Input(1))) != 1 {
		return nil
	}
	in := slices.Clone(q.Inputs())
	in[0] = l.blocked[q.Input(0)]
	codes := l.b.Op("QuantizeLinear", in, q.Attrs()...)
	in = slices.Clone(n.Inputs())
	in[0] = codes
	return l.b.Op("DequantizeLinear", in, n.Attrs()...)
}

// concat joins blocked values along the channels.
func concat(l *lowerer, n *ir.Node) *ir.Value {
	d, ok := dims4(n.Output(0))
	if !ok || n.Output(0).IsOutput() || n.Int("axis", 0) != 1 && n.Int("axis", 0) != -3 {
		return nil
	}
	var in []*ir.Value
	count := 0
	for _, v := range n.Inputs() {
		vd, ok := dims4(v)
		if !ok || !l.whole(vd[1]) {
			return nil
		}
		if l.blocked[v] != nil {
			count++
		}
	}
	if 2*count <= len(n.Inputs()) {
		return nil
	}
	for _, v := range n.Inputs() {
		in = append(in, l.toBlocked(v))
	}
	return l.reshape(l.b.Op("Concat", in, ir.AInt("axis", 1)), d...)
}
