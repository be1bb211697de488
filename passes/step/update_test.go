package step_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/step"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/train"
)

// reference is one update of one tensor in float64, written from the papers' formulas.
type reference struct {
	o     step.Optimizer
	m, v  []float64
	steps int
}

func (r *reference) step(w, g []float64, lr float64, decay bool) {
	if r.m == nil {
		r.m, r.v = make([]float64, len(w)), make([]float64, len(w))
	}
	r.steps++
	for i := range w {
		wd := 0.0
		if decay {
			wd = float64(r.o.WeightDecay)
		}
		gi := g[i]
		if r.o.Name != "adamw" {
			gi += wd * w[i]
		}
		mu := float64(r.o.Momentum)
		switch r.o.Name {
		case "sgd":
			r.m[i] = mu*r.m[i] + gi
			w[i] -= lr * r.m[i]
		case "nesterov":
			r.m[i] = mu*r.m[i] + gi
			w[i] -= lr * (gi + mu*r.m[i])
		default:
			r.m[i] = 0.9*r.m[i] + 0.1*gi
			r.v[i] = 0.999*r.v[i] + 0.001*gi*gi
			d := r.m[i] / (1 - math.Pow(0.9, float64(r.steps))) / (math.Sqrt(r.v[i]/(1-math.Pow(0.999, float64(r.steps)))) + 1e-8)
			if r.o.Name == "adamw" {
				d += wd * w[i]
			}
			w[i] -= lr * d
		}
	}
}

func TestOptimizersFollowTheirFormulas(t *testing.T) {
	orttest.TestLibrary(t)
	for _, o := range []step.Optimizer{
		{Name: "sgd"}, {Name: "sgd", Momentum: 0.8, WeightDecay: 0.01}, {Name: "nesterov", Momentum: 0.9, WeightDecay: 0.02, ClipNorm: 0.3},
		{Name: "adam", WeightDecay: 0.01}, {Name: "adamw", WeightDecay: 0.1},
	} {
		m := tiny(t)
		params := step.Trainable(m)
		e := engine(t, m, step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params, Optimizer: o, EmitGrads: true}, nil)
		refs := map[string]*reference{}
		want := map[string][]float64{}
		for _, p := range params {
			refs[p.Name] = &reference{o: o}
			want[p.Name], _ = m.Graph.Value(p.Name).Init().Floats()
			want[p.Name] = append([]float64{}, want[p.Name]...)
		}
		for k := range 5 {
			if _, err := e.Step(0.05, batchOf(t, 10, k, k+1, k+2, k+3)); err != nil {
				t.Fatal(err)
			}
			grads, norm := map[string][]float64{}, 0.0
			for _, p := range params {
				for _, x := range e.Output(p.Name + ".grad").Float32s() {
					grads[p.Name] = append(grads[p.Name], float64(x))
					norm += float64(x) * float64(x)
				}
			}
			f := 1.0
			if o.ClipNorm > 0 {
				f = math.Min(1, float64(o.ClipNorm)/math.Sqrt(norm))
			}
			for _, p := range params {
				for i := range grads[p.Name] {
					grads[p.Name][i] *= f
				}
				refs[p.Name].step(want[p.Name], grads[p.Name], 0.05, p.Decay)
			}
		}
		for _, p := range params {
			for i, x := range e.Buffer(p.Name).Float32s() {
				if math.Abs(float64(x)-want[p.Name][i]) > 2e-5 {
					t.Fatalf("%+v: %s[%d] = %v, want %v", o, p.Name, i, x, want[p.Name][i])
				}
			}
		}
	}
}

func TestMaskedWeightsKeepTheirBits(t *testing.T) {
	orttest.TestLibrary(t)
	m := tiny(t)
	params := step.Trainable(m)
	for i := range params {
		params[i].Masked = params[i].Name == "c2.weight"
		params[i].Decay = true
	}
	free := make([]bool, 5*4*9)
	for i := range free {
		free[i] = i%3 == 0
	}
	mask, err := ir.FromBools(free, 5, 4, 3, 3)
	if err != nil {
		t.Fatal(err)
	}
	e := engine(t, m, step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params,
		Optimizer: step.Optimizer{Name: "nesterov", Momentum: 0.9, WeightDecay: 0.01}}, map[string]*ir.Tensor{"c2.weight.mask": mask})
	momentum := e.Buffer("c2.weight.momentum").Float32s()
	for i := range momentum {
		momentum[i] = float32(i) * 1e-3
	}
	before, _ := m.Graph.Value("c2.weight").Init().Float32s()
	for k := range 7 {
		if _, err := e.Step(0.05, batchOf(t, 10, k%7, 1, 2, 3)); err != nil {
			t.Fatal(err)
		}
	}
	after, momentum := e.Buffer("c2.weight").Float32s(), e.Buffer("c2.weight.momentum").Float32s()
	for i := range free {
		same := math.Float32bits(after[i]) == math.Float32bits(before[i])
		if same == free[i] {
			t.Errorf("element %d: free %v, unchanged %v", i, free[i], same)
		}
		if !free[i] && momentum[i] != float32(i)*1e-3 {
			t.Errorf("momentum %d of a frozen weight moved to %v", i, momentum[i])
		}
	}
}

func TestBoundsAndScales(t *testing.T) {
	orttest.TestLibrary(t)
	m := tiny(t)
	params := step.Trainable(m)
	params[0].Min = 0.05
	params[1].GradScale, params[2].LRScale = 0.5, 0.25
	o := step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params, EmitGrads: true}
	e := engine(t, m, o, nil)
	if _, err := e.Step(0.1, batchOf(t, 10, 0, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	for k, p := range params {
		old, _ := m.Graph.Value(p.Name).Init().Float32s()
		g := e.Output(p.Name + ".grad").Float32s()
		for i, x := range e.Buffer(p.Name).Float32s() {
			f := float32(0.1)
			switch k {
			case 1:
				f *= 0.5
			case 2:
				f *= 0.25
			}
			want := old[i] - f*g[i]
			if k == 0 {
				want = max(want, 0.05)
			}
			if math.Abs(float64(x-want)) > 1e-6 {
				t.Fatalf("%s[%d] = %v, want %v", p.Name, i, x, want)
			}
		}
	}
}

func TestAccumulatedStepsEqualTheWholeBatch(t *testing.T) {
	orttest.TestLibrary(t)
	m := tiny(t)
	params := step.Trainable(m)
	o := step.Optimizer{Name: "nesterov", Momentum: 0.9, WeightDecay: 1e-3, ClipNorm: 0.2}
	whole := engine(t, m, step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params, Optimizer: o}, nil)
	parts := engine(t, m, step.Options{Loss: meanSquare(t, 1), Batch: 1, Params: params, Optimizer: o, Accumulate: true}, nil)
	for k := range 6 {
		a, err := whole.Step(0.05, batchOf(t, 20, k, k+1, k+2, k+3))
		if err != nil {
			t.Fatal(err)
		}
		b, err := parts.Step(0.05, batchOf(t, 20, k), batchOf(t, 20, k+1), batchOf(t, 20, k+2), batchOf(t, 20, k+3))
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(a-b) > 1e-5*math.Abs(a) {
			t.Errorf("step %d: loss %v of the batch, %v of its parts", k, a, b)
		}
	}
	for _, p := range params {
		a, b := whole.Buffer(p.Name).Float32s(), parts.Buffer(p.Name).Float32s()
		for i := range a {
			if math.Abs(float64(a[i]-b[i])) > 1e-5 {
				t.Fatalf("%s[%d]: %v and %v", p.Name, i, a[i], b[i])
			}
		}
	}
}

func runOf(e *train.Engine, path string, workers int) *train.Run {
	return &train.Run{Engine: e, Source: points(50), Steps: 60, Batch: 8, Seed: 5, Workers: workers,
		Rate: train.Cosine(0.1, 0.1, 0), Path: path, Key: "tiny"}
}

func TestTrainingFallsAndResumesByteForByte(t *testing.T) {
	orttest.TestLibrary(t)
	m := tiny(t)
	params := step.Trainable(m)
	o := step.Options{Loss: meanSquare(t, 8), Batch: 8, Params: params, Optimizer: step.Optimizer{Name: "nesterov", Momentum: 0.9, WeightDecay: 1e-4, ClipNorm: 5}}
	dir := t.TempDir()

	var losses []float64
	plain := runOf(engine(t, m, o, nil), filepath.Join(dir, "plain"), 1)
	plain.Report = 1
	plain.Progress = func(p train.Progress) { losses = append(losses, p.Loss) }
	if err := plain.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if first, last := mean(losses[:10]), mean(losses[len(losses)-10:]); !(last < 0.7*first) {
		t.Errorf("loss went from %v to %v", first, last)
	}

	cut := runOf(engine(t, m, o, nil), filepath.Join(dir, "cut"), 3)
	ctx, cancel := context.WithCancel(context.Background())
	cut.After = func(done int) error {
		if done == 23 {
			cancel()
		}
		return nil
	}
	if err := cut.Do(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted run returned %v", err)
	}
	rest := runOf(engine(t, m, o, nil), filepath.Join(dir, "cut"), 2)
	if ok, err := rest.Resume(); !ok || err != nil {
		t.Fatalf("resume: %v %v", ok, err)
	}
	if rest.Engine.Steps() != 23 {
		t.Fatalf("resumed at step %d", rest.Engine.Steps())
	}
	if err := rest.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	a, b := snapshot(t, plain.Engine), snapshot(t, rest.Engine)
	if len(a) != 2*len(params) {
		t.Errorf("%d tensors in the snapshot", len(a))
	}
	for name := range a {
		if !bytes.Equal(a[name].Raw(), b[name].Raw()) {
			t.Errorf("%s differs after resuming", name)
		}
	}

	foreign := runOf(engine(t, m, o, nil), filepath.Join(dir, "cut"), 1)
	foreign.Key = "other"
	if _, err := foreign.Resume(); err == nil {
		t.Error("a foreign checkpoint was accepted")
	}
}

func snapshot(t *testing.T, e *train.Engine) map[string]*ir.Tensor {
	t.Helper()
	s, err := e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mean(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s / float64(len(v))
}

func TestDivergenceIsAnError(t *testing.T) {
	orttest.TestLibrary(t)
	m := tiny(t)
	params := step.Trainable(m)
	e := engine(t, m, step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params}, nil)
	b := batchOf(t, 10, 0, 1, 2, 3)
	bad, err := ir.FromFloat32s(make([]float32, 12), 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	v, _ := bad.Float32s()
	v[3] = float32(math.NaN())
	b["t"] = bad
	before, _ := e.Get("c1.weight")
	if _, err := e.Step(0.1, b); !errors.Is(err, train.ErrDiverged) {
		t.Fatalf("got %v", err)
	}
	after, _ := e.Get("c1.weight")
	if !bytes.Equal(before.Raw(), after.Raw()) || e.Steps() != 0 {
		t.Error("the state moved")
	}
}

func TestBuildRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(m *ir.Model, o *step.Options)
	}{
		{"unknown parameter", func(_ *ir.Model, o *step.Options) { o.Params = []step.Param{{Name: "nope"}} }},
		{"twice", func(_ *ir.Model, o *step.Options) { o.Params = append(o.Params, o.Params[0]) }},
		{"no parameters", func(_ *ir.Model, o *step.Options) { o.Params = nil }},
		{"no batch", func(_ *ir.Model, o *step.Options) { o.Batch = 0 }},
		{"optimizer", func(_ *ir.Model, o *step.Options) { o.Optimizer.Name = "newton" }},
		{"foreign loss", func(m *ir.Model, _ *step.Options) { m.Graph.Rename(m.Graph.Value("y"), "z") }},
		{"independent", func(m *ir.Model, o *step.Options) {
			w, _ := ir.FromFloat32s([]float32{1}, 1)
			m.Graph.AddInitializer("alone", w)
			o.Params = append(o.Params, step.Param{Name: "alone"})
		}},
	} {
		m := tiny(t)
		o := step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: step.Trainable(m)}
		c.edit(m, &o)
		if _, err := step.Build(m, o); err == nil {
			t.Errorf("%s: accepted", c.name)
		} else {
			t.Log(fmt.Sprint(c.name, ": ", err))
		}
	}
}
