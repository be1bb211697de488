package mqat

import (
	"fmt"
	"os"
	"path/filepath"

	"mqatc/compiler/problem"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes"
	"mqatc/passes/pass"
	"mqatc/passes/quant"
	"mqatc/passes/target"
	"mqatc/runtime/ort"
	"mqatc/runtime/pack"
	"mqatc/runtime/task"
	"mqatc/runtime/task/score"
)

// Names of the files that a run leaves in its output folder.
const (
	ModelFile   = "model.onnx"
	WeightsFile = "weights.bin"
)

// Emission is an emitted model and what was checked of it.
type Emission struct {
	Model   *ir.Model // reloaded from its file
	Payload int64     // bytes of all that stands for trained tensors
	Disk    int64     // bytes of model.onnx and weights.bin
	Verify  *target.Verification
	Score   *score.Score // on the evaluation data; nil where it was not asked for
}

// verifyImages is how many training images the emitted model is compared with the trained one on.
const verifyImages = 4

// emit writes v into folder out, reloads it and checks it. Nothing is left under the final names unless all of it could be written.
func (b *Bench) emit(v *variant, out string, spec task.Task, sourceBytes int64) (*Emission, error) {
	fake, e, codes, err := b.lower(v)
	if err != nil {
		return nil, err
	}
	if err := spec.Keep(e.Model); err != nil {
		return nil, err
	}
	external := map[string]bool{}
	for _, w := range e.Weights {
		external[w.Name] = true
	}
	path := filepath.Join(out, ModelFile)
	placed, err := format.Save(e.Model, path, format.SaveOptions{ExternalFile: WeightsFile, Align: 64,
		External: func(v *ir.Value) bool { return external[v.Name()] }})
	if err != nil {
		return nil, err
	}
	em := &Emission{}
	if em.Model, err = format.Load(path); err != nil {
		return nil, fmt.Errorf("reading the emitted model back: %w", err)
	}
	if err := b.pack(em.Model, filepath.Join(out, WeightsFile), e, codes, placed); err != nil {
		return nil, err
	}
	for _, f := range []string{ModelFile, WeightsFile} {
		info, err := os.Stat(filepath.Join(out, f))
		if err != nil {
			return nil, err
		}
		em.Disk += info.Size()
	}
	if em.Payload, err = target.Payload(em.Model); err != nil {
		return nil, err
	}
	if err := target.CheckPlan(em.Model, v.bits, sourceBytes, em.Disk); err != nil {
		return nil, err
	}
	if _, err := target.CheckAccumulators(em.Model); err != nil {
		return nil, err
	}
	feeds, err := b.prob.Calibration(verifyImages)
	if err != nil {
		return nil, err
	}
	var inputs []map[string]*ir.Tensor
	for _, f := range feeds {
		inputs = append(inputs, f)
	}
	b.watch.Line("run the emitted model at every optimization level")
	if em.Verify, err = b.tgt.Verify(levels{}, fake, e, em.Model, inputs); err != nil {
		return em, err
	}
	return em, nil
}

// lower runs the passes quant and emit over the network with v's values: the fake-quantized model, the emitted one and its codes.
func (b *Bench) lower(v *variant) (fake *ir.Model, e *target.Emitted, codes []*quant.Codes, err error) {
	if v, err = b.settled(v); err != nil {
		return nil, nil, nil, err
	}
	m, spec, err := b.prepare(v)
	if err != nil {
		return nil, nil, nil, err
	}
	var r *quant.Report
	insert, _ := passes.Find("quant")
	emit, _ := passes.Find("emit")
	list := []pass.Pass{
		{Info: insert, Run: func(_ *pass.Ctx, m *ir.Model) (bool, error) {
			r, err = b.insert(m, v, spec)
			return true, err
		}},
		{Info: emit, Run: func(_ *pass.Ctx, m *ir.Model) (bool, error) {
			if codes, err = quant.Collect(m, r); err != nil {
				return false, err
			}
			if fake, err = m.Clone(); err != nil {
				return false, err
			}
			if e, err = b.tgt.Emit(m, r, codes, spec.Activations, target.EmitOptions{}); err != nil {
				return false, err
			}
			*m = *e.Model
			return true, nil
		}},
	}
	if b.passes != nil {
		err = b.passes.Run(b.ctx, m, list...)
	} else {
		_, err = (&passes.Pipeline{Passes: list}).Run(b.ctx, m)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	return fake, e, codes, nil
}

// pack describes the weights file by weights.json and weights.h.
func (b *Bench) pack(m *ir.Model, blob string, e *target.Emitted, codes []*quant.Codes, placed []format.Placement) error {
	var ts []pack.Tensor
	for i, w := range e.Weights {
		v := m.Graph.Value(w.Name)
		if v == nil || v.Init() == nil {
			return fmt.Errorf("the emitted model lacks the weight %q", w.Name)
		}
		p, ok := pack.PackingOf(v.Init().DType())
		if !ok {
			return fmt.Errorf("weight %q of type %v has no packing", w.Name, v.Init().DType())
		}
		t := pack.Tensor{Name: w.Name, Module: b.home[w.Name], Shape: v.Init().Dims(), Bits: w.Bits, Packing: p, Axis: w.Axis}
		if _, scale, uniform := codes[i].Integers(); uniform {
			t.Scales = scale
		} else {
			t.Scales, t.Codebook = codes[i].Scale, codes[i].Grid.Levels
		}
		ts = append(ts, t)
	}
	_, err := pack.Write(blob, ts, placed)
	return err
}

// levels runs models for target.Verify.
type levels struct{}

func level(l target.Level) ort.OptLevel {
	switch l {
	case target.DisableAll:
		return ort.DisableAll
	case target.Basic:
		return ort.Basic
	case target.Extended:
		return ort.Extended
	}
	return ort.All
}

func (levels) Open(m *ir.Model, l target.Level) (target.Session, error) {
	raw, err := format.Marshal(m)
	if err != nil {
		return nil, err
	}
	return ort.NewSession(raw, ort.SessionOptions{OptLevel: level(l)})
}

func (levels) Optimized(m *ir.Model, l target.Level) (*ir.Model, error) {
	raw, err := format.Marshal(m)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mqatc-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "optimized.onnx")
	s, err := ort.NewSession(raw, ort.SessionOptions{OptLevel: level(l), OptimizedModelPath: path})
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return format.Load(path)
}

// scoreEmitted measures the emitted model as users will run it.
func (b *Bench) scoreEmitted(m *ir.Model) (*score.Score, error) {
	run, done, err := problem.Runner(m, ort.SessionOptions{})
	if err != nil {
		return nil, err
	}
	defer done()
	return b.prob.Score(b.ctx, problem.Eval, run, func(n, total int) { b.watch.Update("measure the emitted model", n, total, "") })
}
