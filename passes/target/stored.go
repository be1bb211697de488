package target

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/weights"
)

// Stored is a trained tensor as an emitted model holds it: element i is worth (code - 0) * Scales[channel], or
// Codebook[code] * Scales[channel], or the float itself where there are no scales.
type Stored struct {
	Name     string
	Dims     []int64
	Type     ir.DType
	Axis     int       // of the scales; -1 for one scale or none
	Scales   []float32 // none for float tensors
	Codebook []float32
}

// StoredTensors lists the trained tensors of an emitted model in the order of its initializers: packed weights and integer biases
// with their scales, and what stayed float.
func StoredTensors(m *ir.Model) ([]Stored, error) {
	c, err := m.Clone()
	if err != nil {
		return nil, err
	}
	if err := op.InferModel(c, nil); err != nil {
		return nil, fmt.Errorf("stored tensors: %w", err)
	}
	float := map[*ir.Value]bool{}
	for _, p := range weights.Find(c.Graph) {
		float[p.Value] = true
	}
	var out []Stored
	for _, v := range c.Graph.Initializers() {
		if v.Init() == nil {
			continue
		}
		s := Stored{Name: v.Name(), Dims: v.Init().Dims(), Type: v.Init().DType(), Axis: -1}
		ok := float[v]
		if !ok {
			for _, u := range v.Uses() {
				if u.Index == 0 && s.read(u.Node) {
					ok = true
					break
				}
			}
		}
		if ok {
			out = append(out, s)
		}
	}
	return out, nil
}

// read follows the codes from n, which reads them, to their scales.
func (s *Stored) read(n *ir.Node) bool {
	if n.Is("Cast") && len(n.Output(0).Uses()) > 0 {
		n = n.Output(0).Uses()[0].Node
	}
	if n.Is("Gather") && n.Input(1) != nil {
		levels, err := constFloats(n.Input(0))
		if err != nil || len(n.Output(0).Uses()) == 0 {
			return false
		}
		s.Codebook = levels
		n = n.Output(0).Uses()[0].Node
	}
	scale, dims, err := scaleOf(n.Input(1))
	if err != nil {
		return false
	}
	switch {
	case n.Is("DequantizeLinear"):
		if len(dims) > 0 {
			s.Axis = int(n.Int("axis", 1))
			if len(s.Dims) == 1 {
				s.Axis = 0
			}
		}
	case n.Is("Mul") && s.Type != ir.Float32:
		for i, d := range dims {
			if d > 1 || i == 0 && len(scale) == 1 {
				s.Axis = len(s.Dims) - len(dims) + i
			}
		}
	default:
		return false
	}
	s.Scales = scale
	return true
}

// scaleOf is a constant scale, or the product of a weight's and an activation's.
func scaleOf(v *ir.Value) ([]float32, []int64, error) {
	if f, err := constFloats(v); err == nil {
		return f, v.Init().Dims(), nil
	}
	if v == nil || v.Producer() == nil || !v.Producer().Is("Mul") {
		return nil, nil, fmt.Errorf("no constant scale")
	}
	w, err := constFloats(v.Producer().Input(0))
	if err != nil {
		return nil, nil, err
	}
	x, err := constFloats(v.Producer().Input(1))
	if err != nil || len(x) != 1 {
		return nil, nil, fmt.Errorf("no constant scale")
	}
	out := make([]float32, len(w))
	for i := range w {
		out[i] = w[i] * x[0]
	}
	return out, v.Producer().Input(0).Init().Dims(), nil
}

// External says which initializers of an emitted model go to the file of weights: the packed ones, and float tensors of a kilobyte
// and more. What is smaller costs less inside the model than the reference to it.
func (e *Emitted) External(v *ir.Value) bool {
	for _, w := range e.Weights {
		if w.Name == v.Name() {
			return true
		}
	}
	return v.Init() != nil && v.Init().DType().IsFloat() && len(v.Init().Raw()) >= 1024
}
