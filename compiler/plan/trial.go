package plan

import (
	"fmt"
	"os"
	"path/filepath"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/quant"
	"mqatc/passes/target"
)

// Files returns a function for Input.FileAfter: it rounds the weights of in at the given widths, emits the model into a temporary
// folder and measures the files. Activation ranges, which change no size, are made up. mark, if not nil, adds to the emitted model
// what a run adds (its task).
func Files(in Input, layers bool, mark func(*ir.Model) error) func(bits map[string]int) (int64, error) {
	units := Modules(in.Partition)
	if layers {
		units = Layers(in.Partition)
	}
	return func(bits map[string]int) (n int64, err error) {
		dir, err := os.MkdirTemp("", "mqatc-plan-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		m, external, err := trial(in, units, bits)
		if err != nil {
			return 0, err
		}
		if mark != nil {
			if err := mark(m); err != nil {
				return 0, err
			}
		}
		path := filepath.Join(dir, "model.onnx")
		placed, err := format.Save(m, path, format.SaveOptions{ExternalFile: "weights.bin", External: func(v *ir.Value) bool { return external[v.Name()] }})
		if err != nil {
			return 0, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		n = info.Size()
		if k := len(placed); k > 0 {
			n += placed[k-1].Offset + placed[k-1].Bytes
		}
		return n, nil
	}
}

// trial emits the model with rounded weights and names the weights that are stored outside the model file.
func trial(in Input, units []Unit, bits map[string]int) (*ir.Model, map[string]bool, error) {
	m, err := in.Model.Clone()
	if err != nil {
		return nil, nil, err
	}
	quantizer := in.Quantizer
	if quantizer == "" {
		quantizer = "lsq"
	}
	spec := quant.Spec{Weights: map[string]quant.WeightSpec{}, Ranges: map[string]quant.Range{}, Narrow: in.Target.Narrow}
	on := map[string]bool{}
	for _, u := range units {
		b, ok := bits[u.Name]
		if !ok {
			return nil, nil, fmt.Errorf("no width is given for %s", u.Name)
		}
		if b == Float {
			continue
		}
		for _, w := range u.Weights {
			on[w.Value.Name()] = true
			ws := in.Target.WeightSpec(b, quantizer, in.PerTensor)
			if ws.Scale, err = in.Starts.Of(quant.SiteOf(w, ws), m.Graph.Value(w.Value.Name()).Init()); err != nil {
				return nil, nil, fmt.Errorf("weight %q: %w", w.Value.Name(), err)
			}
			spec.Weights[w.Value.Name()] = ws
		}
	}
	if len(on) == 0 {
		return m, nil, nil
	}
	if spec.Activations, err = in.Target.Place(m, on); err != nil {
		return nil, nil, err
	}
	for _, p := range spec.Activations.Points {
		spec.Ranges[p.Value] = quant.Range{Min: -8, Max: 8}
	}
	r, err := quant.Insert(m, spec)
	if err != nil {
		return nil, nil, err
	}
	if err := freeze(m, r); err != nil {
		return nil, nil, err
	}
	codes, err := quant.Collect(m, r)
	if err != nil {
		return nil, nil, err
	}
	e, err := in.Target.Emit(m, r, codes, spec.Activations, target.EmitOptions{})
	if err != nil {
		return nil, nil, err
	}
	external := map[string]bool{}
	for _, w := range e.Weights {
		external[w.Name] = true
	}
	return e.Model, external, nil
}

// freeze puts the weights of quantizers that freeze onto their grid.
func freeze(m *ir.Model, r *quant.Report) error {
	for _, ins := range r.Weights {
		if !ins.Masked {
			continue
		}
		v := m.Graph.Value(ins.Name)
		w, err := v.Init().Float32s()
		if err != nil {
			return err
		}
		w = append([]float32(nil), w...)
		free := make([]bool, len(w))
		for i := range free {
			free[i] = true
		}
		if _, err := quant.Freeze(ins.Site, ins.Scale, w, free, 1); err != nil {
			return err
		}
		t, err := ir.FromFloat32s(w, v.Init().Dims()...)
		if err != nil {
			return err
		}
		if err := m.Graph.SetInit(v, t); err != nil {
			return err
		}
	}
	return nil
}
