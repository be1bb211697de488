package ort

import (
	"fmt"

	"mqatc/onnx/ir"
)

// Evaluator runs small models once, for constant folding: each in a session of its own, on one thread, as written.
type Evaluator struct {
	// ExternalFiles are external data files of the models by name.
	ExternalFiles map[string][]byte
}

// Run loads model, feeds every input and returns all outputs.
func (e Evaluator) Run(model []byte, feeds map[string]*ir.Tensor) (out map[string]*ir.Tensor, err error) {
	s, err := NewSession(model, SessionOptions{OptLevel: DisableAll, Threads: 1, NoArena: true, ExternalFiles: e.ExternalFiles})
	if err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	defer func() {
		if cerr := s.Close(); err == nil && cerr != nil {
			out, err = nil, fmt.Errorf("evaluate: %w", cerr)
		}
	}()
	if out, err = s.Run(feeds, nil); err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	return out, nil
}
