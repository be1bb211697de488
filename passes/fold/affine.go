package fold

import (
	"math"

	"mqatc/onnx/ir"
)

// affine is y[c] = scale[c]*x[c] + shift[c] over the channels of a value.
type affine struct{ scale, shift []float64 }

// affineOf reads n as an affine function of x per channel, channels running along axis 1 of a value of the given rank; ok is false
// when it is none, or would change the shape of x.
func affineOf(n *ir.Node, x *ir.Value, rank, channels int) (a affine, ok bool) {
	if n.Domain != "" || len(n.Subgraphs()) > 0 {
		return a, false
	}
	if n.Op == "BatchNormalization" {
		return batchNorm(n, x, channels)
	}
	if len(n.Inputs()) != 2 {
		return a, false
	}
	l, r := n.Input(0), n.Input(1)
	if l == r || l != x && r != x {
		return a, false
	}
	other := r
	if r == x {
		other = l
	}
	c, ok := perChannel(other, rank, channels)
	if !ok {
		return a, false
	}
	a = affine{make([]float64, channels), make([]float64, channels)}
	for i, v := range c {
		s, t := 1.0, 0.0
		switch n.Op {
		case "Mul":
			s = v
		case "Div":
			s = 1 / v
		case "Add":
			t = v
		case "Sub":
			t = -v
			if r == x {
				s, t = -1, v
			}
		default:
			return a, false
		}
		a.scale[i], a.shift[i] = s, t
	}
	return a, n.Op != "Div" || l == x
}

// batchNorm is BatchNormalization in inference: scale*(x - mean)/sqrt(var + epsilon) + B.
func batchNorm(n *ir.Node, x *ir.Value, channels int) (a affine, ok bool) {
	if n.Input(0) != x || n.Int("training_mode", 0) != 0 || n.Int("spatial", 1) != 1 || len(n.Inputs()) != 5 {
		return a, false
	}
	for i, o := range n.Outputs() {
		if i > 0 && o.Used() {
			return a, false
		}
	}
	var p [4][]float64
	for i := range p {
		if p[i], ok = vector(n.Input(i+1), channels); !ok {
			return a, false
		}
	}
	eps := float64(n.Float("epsilon", 1e-5))
	a = affine{make([]float64, channels), make([]float64, channels)}
	for i := range channels {
		a.scale[i] = p[0][i] / math.Sqrt(p[3][i]+eps)
		a.shift[i] = p[1][i] - p[2][i]*a.scale[i]
	}
	return a, true
}

// constFloats is the value of a float or double initializer that cannot be overridden.
func constFloats(v *ir.Value) (*ir.Tensor, []float64, bool) {
	if v == nil || v.Init() == nil || v.IsInput() {
		return nil, nil, false
	}
	t := v.Init()
	if t.DType() != ir.Float32 && t.DType() != ir.Float64 {
		return nil, nil, false
	}
	f, err := t.Floats()
	return t, f, err == nil
}

func vector(v *ir.Value, channels int) ([]float64, bool) {
	t, f, ok := constFloats(v)
	return f, ok && len(t.Dims()) == 1 && len(f) == channels
}

// perChannel reads v as one number per channel: after broadcasting to the given rank all its sizes are 1 but that of axis 1.
func perChannel(v *ir.Value, rank, channels int) ([]float64, bool) {
	t, f, ok := constFloats(v)
	if !ok || len(t.Dims()) > rank || len(f) != 1 && len(f) != channels {
		return nil, false
	}
	for i, d := range t.Dims() {
		if axis := rank - len(t.Dims()) + i; axis != 1 && d != 1 {
			return nil, false
		}
	}
	if len(f) == channels {
		return f, true
	}
	out := make([]float64, channels)
	for i := range out {
		out[i] = f[0]
	}
	return out, true
}
