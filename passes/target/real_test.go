package target

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/clean"
	"mqatc/passes/fold"
	"mqatc/passes/pass"
	"mqatc/passes/quant"
	"mqatc/runtime/data/images"
	"mqatc/runtime/ort"
	"mqatc/runtime/task"
	"mqatc/runtime/task/prep"
)

// sharedDir finds the folder of real networks and data, or skips.
func sharedDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		at, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; at != filepath.Dir(at); at = filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
				dir = filepath.Join(at, "..", "shared")
				break
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "models")); err != nil {
		t.Skipf("no real networks: %v (set MQATC_SHARED)", err)
	}
	return dir
}

// realModel loads a network, cleaned up and folded, and the images it eats.
func realModel(t testing.TB, file, taskName string, shapes map[string][]int64) (*ir.Model, func(set string, n int) []map[string]*ir.Tensor) {
	t.Helper()
	dir := sharedDir(t)
	path := filepath.Join(dir, "models", file)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no such network: %v", err)
	}
	m, err := format.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := format.Upgrade(m, 17); err != nil {
		t.Fatal(err)
	}
	if err := op.InferModel(m, shapes); err != nil {
		t.Fatal(err)
	}
	env := pass.Env{Eval: ort.Evaluator{}}
	for _, p := range []pass.Pass{clean.New(), fold.New(), clean.New()} {
		if _, err := p.Run(pass.NewCtx(context.Background(), env, p.Name), m); err != nil {
			t.Fatal(err)
		}
		if err := op.InferModel(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	tk, err := task.Lookup(taskName)
	if err != nil {
		t.Fatal(err)
	}
	in, err := prep.Fit(tk.Prep, m.Graph.Inputs())
	if err != nil {
		t.Fatal(err)
	}
	return m, func(set string, n int) []map[string]*ir.Tensor {
		f, err := images.Open(filepath.Join(dir, "data", "coco128", "images", set))
		if err != nil {
			t.Skipf("no images: %v", err)
		}
		var out []map[string]*ir.Tensor
		for i := range min(n, f.Len()) {
			img, err := f.Read(i)
			if err != nil {
				t.Fatal(err)
			}
			x, err := in.Image(img.W, img.H, img.RGB)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, map[string]*ir.Tensor{in.Name: x})
		}
		return out
	}
}

// cosines is the mean and the least of the cosines over outputs and images.
func cosines(t testing.TB, run ortRunner, want []map[string]*ir.Tensor, m *ir.Model, in []map[string]*ir.Tensor) (mean, least float64) {
	t.Helper()
	s, err := run.Open(m, All)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	least = 1
	for i, f := range in {
		out, err := s.Run(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range m.Graph.Outputs() {
			c := cosine(t, want[i][o.Name()], out[o.Name()])
			mean += c
			least = min(least, c)
			n++
		}
	}
	return mean / float64(n), least
}

func cosine(t testing.TB, a, b *ir.Tensor) float64 {
	t.Helper()
	x, err := a.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	var xy, xx, yy float64
	for i := range x {
		xy += float64(x[i]) * float64(y[i])
		xx += float64(x[i]) * float64(x[i])
		yy += float64(y[i]) * float64(y[i])
	}
	if xx == 0 || yy == 0 {
		return 1
	}
	return xy / math.Sqrt(xx*yy)
}

// Rounding to 8 bits must come near the float network, run every convolution it meant to in integers, and be one function at all
// optimization levels. The least cosines are a little under what was measured on more images.
func TestRealNetworksAtEightBits(t *testing.T) {
	run := newRunner(t)
	for _, r := range []struct {
		file, task, target string
		least              float64
		integer            int
	}{
		{"yunet_n_320_320.onnx", "yunet", "onnxruntime", 0.97, 47},
		{"yunet_n_320_320.onnx", "yunet", "weights", 0.99, 0},
		{"nanodet_m_416.onnx", "nanodet", "onnxruntime", 0.98, 70},
		{"nanodet_m_416.onnx", "nanodet", "weights", 0.998, 0},
		{"ultraface-version-RFB-320.onnx", "ultraface", "onnxruntime", 0.9995, 44},
	} {
		t.Run(r.task+"/"+r.target, func(t *testing.T) {
			m, data := realModel(t, r.file, r.task, nil)
			train, val := data("train2017", 6), data("val2017", 3)
			want, err := outputsOf(run, m, All, val)
			if err != nil {
				t.Fatal(err)
			}
			tg, err := Find(r.target)
			if err != nil {
				t.Fatal(err)
			}
			spec, on, plan := allWeights(m, 8, "ptq")
			c := compile(t, tg, m, spec, on, run, train, quant.MSE)
			loaded := reload(t, c.out.Model)
			v, err := tg.Verify(run, c.fake, c.out, loaded, val[:2])
			if err != nil {
				t.Error(err)
			}
			if v.Integer != r.integer || len(v.NotInteger) > 0 {
				t.Errorf("%d layers run in integers, want %d; not: %q", v.Integer, r.integer, v.NotInteger)
			}
			if err := CheckPlan(loaded, plan, 0, 0); err != nil {
				t.Error(err)
			}
			if _, err := tg.CheckAccumulators(loaded); err != nil {
				t.Error(err)
			}
			mean, least := cosines(t, run, want, loaded, val)
			if mean < r.least {
				t.Errorf("mean cosine %.5f (least %.5f) to the float network, want %.4f", mean, least, r.least)
			}
			before, err := Payload(m)
			if err != nil {
				t.Fatal(err)
			}
			after, err := Payload(loaded)
			if err != nil {
				t.Fatal(err)
			}
			if want := predicted(t, tg, m, c); want != after {
				t.Errorf("payload %d bytes, predicted %d", after, want)
			}
			t.Logf("cosine %.5f, least %.5f; payload %.3f times smaller", mean, least, float64(before)/float64(after))
		})
	}
}
