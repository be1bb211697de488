package step_test

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/clean"
	"mqatc/passes/fold"
	"mqatc/passes/lower"
	"mqatc/passes/pass"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/train"
)

// sharedModels lists real networks; without them the test is skipped.
func sharedModels(t testing.TB) []string {
	t.Helper()
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "models", "*.onnx"))
	if len(paths) == 0 {
		t.Skipf("no real networks: there is no %s; set MQATC_SHARED", filepath.Join(dir, "models"))
	}
	return paths
}

// prepared is a network cleaned up, its normalizations folded.
func prepared(t testing.TB, path string) *ir.Model {
	t.Helper()
	m, err := format.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := format.Upgrade(m, 17); err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int64{}
	if v := m.Graph.Value("x"); v != nil && v.IsInput() {
		shapes["x"] = []int64{1, 3, 160, 160}
	}
	if err := op.InferModel(m, shapes); err != nil {
		t.Fatal(err)
	}
	for _, p := range []pass.Pass{clean.New(), fold.New()} {
		if _, err := p.Run(pass.NewCtx(context.Background(), pass.Env{Eval: ort.Evaluator{}}, p.Name), m); err != nil {
			t.Fatal(err)
		}
		if err := op.InferModel(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestRealNetworksLearnFromThemselves rounds the weights of real networks to 5 bits and trains them to agree with the exact ones.
func TestRealNetworksLearnFromThemselves(t *testing.T) {
	paths := sharedModels(t)
	orttest.TestLibrary(t)
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { learnsFromItself(t, prepared(t, path), 1, 3) })
	}
}

func learnsFromItself(t *testing.T, m *ir.Model, batch, steps int) {
	loss, err := distill.Loss(m.Graph.Outputs())
	if err != nil {
		t.Fatal(err)
	}
	params := step.Trainable(m)
	s, err := step.Build(m, step.Options{Loss: loss, Batch: int64(batch), Params: params, Optimizer: step.Optimizer{Name: "adam"}})
	if err != nil {
		t.Fatal(err)
	}
	feeds := taught(t, m, batch)
	state := weightsOf(m, params)
	for _, p := range params {
		if p.Decay {
			state[p.Name] = rounded(t, state[p.Name], 15)
		}
	}
	raw := bytesOf(t, s)
	e, err := train.New(train.Config{Step: raw, State: state, Threads: 1, Session: ort.SessionOptions{NoSpin: true, Profile: os.Getenv("MQATC_PROFILE")}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var losses []float64
	start := time.Now()
	for range steps {
		l, err := e.Step(2e-4, feeds)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, l)
	}
	t.Logf("%d trained tensors, %d nodes, %d kB, %.0f ms a step of %d, loss %.5f -> %.5f", len(params), s.Graph.NumNodes(), len(raw)>>10,
		float64(time.Since(start).Milliseconds())/float64(steps), batch, losses[0], losses[steps-1])
	if os.Getenv("MQATC_PROFILE") != "" {
		path, err := e.EndProfile()
		t.Log(path, err)
	}
	if !(losses[steps-1] < losses[0]) {
		t.Errorf("the loss went from %v to %v", losses[0], losses[steps-1])
	}
}

// taught are random images with what m makes of them.
func taught(t *testing.T, m *ir.Model, batch int) train.Feeds {
	t.Helper()
	feeds := train.Feeds{}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, v := range m.Graph.Inputs() {
		dims := []int64{int64(batch)}
		for i, d := range v.Shape()[1:] {
			if !d.Known() {
				t.Fatalf("input %q has shape %v at %d", v.Name(), v.Shape(), i+1)
			}
			dims = append(dims, d.Size)
		}
		n, err := ir.NumElements(dims)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.Float64())
		}
		if feeds[v.Name()], err = ir.FromFloat32s(x, dims...); err != nil {
			t.Fatal(err)
		}
	}
	teacher, err := ort.NewSession(bytesOf(t, m), ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer teacher.Close()
	want, err := teacher.Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range want {
		feeds[name+distill.Teacher] = v
	}
	return feeds
}

// TestRealNetworksLowered compares loss and gradients of real networks, their weights off by a little, with those of the lowered step.
func TestRealNetworksLowered(t *testing.T) {
	paths := sharedModels(t)
	orttest.TestLibrary(t)
	block, err := ort.BlockedChannels()
	if err != nil {
		t.Fatal(err)
	}
	if block == 0 {
		t.Skip("onnxruntime has no blocked convolutions for this processor")
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m := prepared(t, path)
			loss, err := distill.Loss(m.Graph.Outputs())
			if err != nil {
				t.Fatal(err)
			}
			params := step.Trainable(m)
			feeds := taught(t, m, 1)
			state := weightsOf(m, params)
			for _, p := range params {
				if p.Decay {
					state[p.Name] = rounded(t, state[p.Name], 15)
				}
			}
			var found [2]map[string][]float32
			for k, lowering := range []func(*ir.Model) error{nil, lower.New(lower.Machine{Block: block})} {
				s, err := step.Build(m, step.Options{Loss: loss, Batch: 1, Params: params, EmitGrads: true, Optimizer: step.Optimizer{Name: "sgd"}, Lower: lowering})
				if err != nil {
					t.Fatal(err)
				}
				e, err := train.New(train.Config{Step: bytesOf(t, s), State: state, Threads: 2})
				if err != nil {
					t.Fatal(err)
				}
				defer e.Close()
				if _, err := e.Step(0, feeds); err != nil {
					t.Fatal(err)
				}
				found[k] = map[string][]float32{}
				for _, p := range params {
					found[k][p.Name] = append([]float32(nil), e.Output(p.Name+step.Grad).Float32s()...)
				}
			}
			length := func(a, b []float32) float64 {
				sum := 0.0
				for i, x := range a {
					d := float64(x)
					if b != nil {
						d -= float64(b[i])
					}
					sum += d * d
				}
				return math.Sqrt(sum)
			}
			worst, name := 0.0, ""
			for n, g := range found[0] {
				if off := length(g, found[1][n]) / length(g, nil); off > worst {
					worst, name = off, n
				}
			}
			t.Logf("worst gradient %q: off by %.2g of its norm", name, worst)
			if !(worst < 1e-2) {
				t.Errorf("gradient of %q off by %g of its norm", name, worst)
			}
		})
	}
}

// rounded puts a tensor on a grid of 2*levels+1 values.
func rounded(t *testing.T, w *ir.Tensor, levels float64) *ir.Tensor {
	v, err := w.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	most := 0.0
	for _, x := range v {
		most = math.Max(most, math.Abs(float64(x)))
	}
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(math.Round(float64(x)/most*levels) * most / levels)
	}
	r, err := ir.FromFloat32s(out, w.Dims()...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
