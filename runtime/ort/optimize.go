package ort

import (
	"fmt"
	"os"
	"path/filepath"
)

// Optimize returns the serialized model as onnxruntime runs it with the options given. Loaded with DisableAll by
// the same library on the same machine it gives the same results.
func Optimize(model []byte, opts SessionOptions) (_ []byte, err error) {
	dir, err := os.MkdirTemp("", "mqatc-")
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: optimize: %w", err)
	}
	defer os.RemoveAll(dir)
	opts.OptimizedModelPath, opts.Profile = filepath.Join(dir, "model.onnx"), ""
	s, err := NewSession(model, opts)
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(opts.OptimizedModelPath)
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: optimize: %w", err)
	}
	return raw, nil
}
