package quant

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/passes/clean"
)

// Bake makes constants of the fake-quantized weights of m, which r and codes tell of as Insert and Collect made them: the same network
// for inference, without the arithmetic of rounding.
func Bake(m *ir.Model, r *Report, codes []*Codes) error {
	for i, ins := range r.Weights {
		old := m.Graph.Value(ins.Output)
		if old == nil || old.Producer() == nil {
			continue
		}
		t, err := ir.FromFloat32s(codes[i].Values(), ins.Dims...)
		if err != nil {
			return fmt.Errorf("quant: weight %q: %w", ins.Name, err)
		}
		v, err := m.Graph.AddInitializer(m.Graph.FreshName(ins.Name+".baked"), t)
		if err != nil {
			return fmt.Errorf("quant: weight %q: %w", ins.Name, err)
		}
		if err := m.Graph.ReplaceAllUses(old, v); err != nil {
			return fmt.Errorf("quant: weight %q: %w", ins.Name, err)
		}
	}
	_, err := clean.Dead(m.Graph)
	return err
}
