package passes_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/pass"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// env evaluates with onnxruntime.
func env(t testing.TB) pass.Env {
	t.Helper()
	orttest.TestLibrary(t)
	return pass.Env{Eval: ort.Evaluator{}}
}

// modelFiles lists the real networks beside the repository.
func modelFiles(t *testing.T) []string {
	t.Helper()
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "models", "*.onnx"))
	if len(files) == 0 {
		t.Skipf("no *.onnx in %s/models: set MQATC_SHARED to the folder that has them", dir)
	}
	return files
}

// feeds makes random values for all inputs; sizes gives those that the model leaves open, 1 for the others.
func feeds(m *ir.Model, seed uint64, sizes map[string][]int64) (map[string]*ir.Tensor, error) {
	rng := rand.New(rand.NewPCG(seed, 7))
	out := map[string]*ir.Tensor{}
	for _, v := range m.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		dims := slices.Clone(sizes[v.Name()])
		if dims == nil {
			for _, d := range v.Shape() {
				dims = append(dims, max(d.Size, 1))
			}
		}
		n, err := ir.NumElements(dims)
		if err != nil {
			return nil, err
		}
		f := make([]float32, n)
		i := make([]int64, n)
		for k := range f {
			f[k] = float32(rng.NormFloat64())
			if len(dims) == 4 && rng.IntN(8) > 0 && k > 0 {
				f[k] = f[k-1]
			}
			i[k] = rng.Int64N(2)
		}
		var x *ir.Tensor
		if v.DType() == ir.Bool {
			bits := make([]bool, n)
			for k := range bits {
				bits[k] = i[k] == 1
			}
			x, err = ir.FromBools(bits, dims...)
		} else if v.DType() == ir.Float32 {
			x, err = ir.FromFloat32s(f, dims...)
		} else {
			x, err = ir.PackInts(v.DType(), i, dims...)
		}
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", v.Name(), err)
		}
		out[v.Name()] = x
	}
	return out, nil
}

func evaluate(t *testing.T, e pass.Env, m *ir.Model, in map[string]*ir.Tensor) map[string]*ir.Tensor {
	t.Helper()
	b, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Eval.Run(b, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameOutputs compares by the largest difference relative to the largest magnitude of each output.
func sameOutputs(t *testing.T, want, got map[string]*ir.Tensor, tolerance float64) {
	t.Helper()
	if len(want) != len(got) || len(want) == 0 {
		t.Errorf("%d outputs became %d", len(want), len(got))
	}
	for name, w := range want {
		g := got[name]
		if g == nil || g.DType() != w.DType() || !slices.Equal(g.Dims(), w.Dims()) {
			t.Errorf("output %q is %v, was %v", name, g, w.Type())
			continue
		}
		a, err := w.Floats()
		if err != nil {
			t.Fatal(err)
		}
		b, err := g.Floats()
		if err != nil {
			t.Fatal(err)
		}
		peak, worst := 0.0, 0.0
		for i := range a {
			peak = max(peak, math.Abs(a[i]))
			if a[i] != b[i] {
				worst = max(worst, math.Abs(a[i]-b[i]))
			}
		}
		if !(worst <= tolerance*peak) {
			t.Errorf("output %q: largest difference %.3g, largest magnitude %.3g", name, worst, peak)
		}
	}
}
