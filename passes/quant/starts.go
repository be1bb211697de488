package quant

import (
	"sync"

	"mqatc/onnx/ir"
)

// Starts remembers what Start gave for tensors of one network, which it keeps alive. The nil Starts remembers nothing.
type Starts struct {
	mu    sync.Mutex
	scale map[startKey][]float32
}

type startKey struct {
	tensor                           *ir.Tensor
	quantizer                        string
	axis, bits, pairLimit, scaleBits int
}

// Of is s.Start of the elements of t. The result must not be changed.
func (r *Starts) Of(s Site, t *ir.Tensor) ([]float32, error) {
	k := startKey{t, s.Quantizer, s.Axis, s.Bits, s.PairLimit, s.ScaleBits}
	if r != nil {
		r.mu.Lock()
		scale := r.scale[k]
		r.mu.Unlock()
		if scale != nil {
			return scale, nil
		}
	}
	w, err := t.Float32s()
	if err != nil {
		return nil, err
	}
	scale, err := s.Start(w)
	if err != nil || r == nil {
		return scale, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scale == nil {
		r.scale = map[startKey][]float32{}
	}
	r.scale[k] = scale
	return scale, nil
}
