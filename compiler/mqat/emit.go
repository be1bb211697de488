package mqat

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

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

// verifyImages is how many training images the emitted model is compared with the trained one on: fewer, but one, where they took more
// than verifyWork multiply-accumulates together.
const (
	verifyImages = 4
	verifyWork   = 1e11
)

// emit writes v into folder out, reloads it and checks it. Nothing is left under the final names unless all of it could be written.
func (b *Bench) emit(v *variant, out string, spec task.Task, sourceBytes int64) (*Emission, error) {
	fake, e, err := b.lower(v)
	if err != nil {
		return nil, err
	}
	if err := spec.Keep(e.Model); err != nil {
		return nil, err
	}
	path := filepath.Join(out, ModelFile)
	placed, err := format.Save(e.Model, path, format.SaveOptions{ExternalFile: WeightsFile, Align: 64, External: e.External})
	if err != nil {
		return nil, err
	}
	em := &Emission{}
	if em.Model, err = format.Load(path); err != nil {
		return nil, fmt.Errorf("reading the emitted model back: %w", err)
	}
	if err := b.pack(em.Model, filepath.Join(out, WeightsFile), e, placed); err != nil {
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
	if _, err := b.tgt.CheckAccumulators(em.Model); err != nil {
		return nil, err
	}
	feeds, err := b.prob.Calibration(b.affordable(verifyImages, 1, verifyWork))
	if err != nil {
		return nil, err
	}
	var inputs []map[string]*ir.Tensor
	for _, f := range feeds {
		inputs = append(inputs, f)
	}
	b.watch.Line("run the emitted model at every optimization level")
	if em.Verify, err = b.tgt.Verify(levels{b.cfg.Threads}, fake, e, em.Model, inputs); err != nil {
		return em, err
	}
	return em, nil
}

// lower runs the passes quant and emit over the network with v's values: the fake-quantized model and the emitted one.
func (b *Bench) lower(v *variant) (fake *ir.Model, e *target.Emitted, err error) {
	if v, err = b.settled(v); err != nil {
		return nil, nil, err
	}
	m, spec, err := b.prepare(v)
	if err != nil {
		return nil, nil, err
	}
	kept := slices.DeleteFunc(slices.Clone(m.Graph.Outputs()), func(v *ir.Value) bool { return slices.Contains(b.net.Raw, v.Name()) })
	if err := m.Graph.SetOutputs(kept...); err != nil {
		return nil, nil, err
	}
	var r *quant.Report
	insert, _ := passes.Find("quant")
	emit, _ := passes.Find("emit")
	list := []pass.Pass{
		{Info: insert, Run: func(_ *pass.Ctx, m *ir.Model) (bool, error) {
			r, err = quant.Insert(m, spec)
			return true, err
		}},
		{Info: emit, Run: func(_ *pass.Ctx, m *ir.Model) (bool, error) {
			codes, err := quant.Collect(m, r)
			if err != nil {
				return false, err
			}
			if fake, err = m.Clone(); err != nil {
				return false, err
			}
			if e, err = b.tgt.Emit(m, r, codes, spec.Activations, target.EmitOptions{}); err != nil {
				return false, err
			}
			// The pipeline infers all types of what it is handed; the model that is written has none.
			c, err := e.Model.Clone()
			if err != nil {
				return false, err
			}
			*m = *c
			return true, nil
		}},
	}
	if b.passes != nil {
		err = b.passes.Run(b.ctx, m, list...)
	} else {
		_, err = (&passes.Pipeline{Passes: list}).Run(b.ctx, m)
	}
	if err != nil {
		return nil, nil, err
	}
	return fake, e, nil
}

// pack describes the weights file by weights.json and weights.h.
func (b *Bench) pack(m *ir.Model, blob string, e *target.Emitted, placed []format.Placement) error {
	bits := map[string]int{}
	for _, w := range e.Weights {
		bits[w.Name] = w.Bits
	}
	inFile := map[string]bool{}
	for _, p := range placed {
		inFile[p.Name] = true
	}
	stored, err := target.StoredTensors(m)
	if err != nil {
		return err
	}
	var ts []pack.Tensor
	for _, s := range stored {
		if !inFile[s.Name] {
			continue
		}
		p, ok := pack.PackingOf(s.Type)
		if !ok {
			return fmt.Errorf("tensor %q of type %v has no packing", s.Name, s.Type)
		}
		t := pack.Tensor{Name: s.Name, Module: b.home[s.Name], Shape: s.Dims, Bits: bits[s.Name], Packing: p, Axis: s.Axis, Scales: s.Scales, Codebook: s.Codebook}
		if t.Bits == 0 {
			t.Bits = s.Type.Bits()
		}
		ts = append(ts, t)
	}
	_, err = pack.Write(blob, ts, placed)
	return err
}

// levels runs models for target.Verify.
type levels struct{ threads int }

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

func (r levels) Open(m *ir.Model, l target.Level) (target.Session, error) {
	return ort.Load(m, ort.SessionOptions{OptLevel: level(l), Threads: max(r.threads, 0)})
}

func (r levels) Optimized(m *ir.Model, l target.Level) (*ir.Model, error) {
	raw, err := format.Marshal(m)
	if err != nil {
		return nil, err
	}
	if raw, err = ort.Optimize(raw, ort.SessionOptions{OptLevel: level(l), Threads: max(r.threads, 0)}); err != nil {
		return nil, err
	}
	return format.Parse(raw, "")
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
