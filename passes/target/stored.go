package target

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/weights"
)

// Stored is a trained tensor as an emitted model holds it: element i is worth x * Scales[channel], x being the code, Codebook[code], or
// for the bias of an integer layer a float; or it is the float itself where there are no scales.
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
	biases := map[*ir.Value]*ir.Node{}
	for n := c.Graph.First(); n != nil; n = n.Next() {
		if v, _, err := storedBias(n); n.Is("DequantizeLinear") && err == nil && v.Init().DType() == ir.Float16 {
			biases[v] = n
		}
	}
	var out []Stored
	for _, v := range c.Graph.Initializers() {
		if v.Init() == nil {
			continue
		}
		s := Stored{Name: v.Name(), Dims: v.Init().Dims(), Type: v.Init().DType(), Axis: -1}
		ok := float[v]
		if d := biases[v]; d != nil {
			if err := s.bias(d); err != nil {
				return nil, fmt.Errorf("bias %q: %w", s.Name, err)
			}
			ok = true
		} else if !ok && !s.Type.IsFloat() {
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

// bias reads the scales of the bias behind d.
func (s *Stored) bias(d *ir.Node) error {
	_, factor, err := storedBias(d)
	if err != nil {
		return err
	}
	scale, dims, err := scaleOf(d.Input(1))
	if err != nil {
		return err
	}
	for _, x := range scale {
		s.Scales = append(s.Scales, x*factor)
	}
	if len(dims) > 0 {
		s.Axis = 0
	}
	return nil
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
	case n.Is("Mul"):
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
		return f, constant(v).Init().Dims(), nil
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
	return out, constant(v.Producer().Input(0)).Init().Dims(), nil
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
