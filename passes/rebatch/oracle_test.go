package rebatch_test

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/pass"
	"mqatc/passes/rebatch"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func ortEnv(t testing.TB) pass.Env {
	t.Helper()
	orttest.TestLibrary(t)
	return pass.Env{Eval: ort.Evaluator{}}
}

func evaluate(t *testing.T, m *ir.Model, in map[string]*ir.Tensor) map[string]*ir.Tensor {
	t.Helper()
	b, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ort.Evaluator{}.Run(b, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sample makes the inputs of one image: floats from -1 to 1, integers 0 and 1.
func sample(t *testing.T, m *ir.Model, seed uint64, sizes map[string][]int64) map[string]*ir.Tensor {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 99))
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
			t.Fatal(err)
		}
		f, k := make([]float32, n), make([]int64, n)
		for i := range f {
			f[i], k[i] = 2*rng.Float32()-1, rng.Int64N(2)
		}
		if v.DType() == ir.Float32 {
			out[v.Name()], err = ir.FromFloat32s(f, dims...)
		} else {
			out[v.Name()], err = ir.PackInts(v.DType(), k, dims...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// sameAtBatch runs n images through original one by one and through free at once, and compares every output, outputs named in
// constant with that of any image.
func sameAtBatch(t *testing.T, original, free *ir.Model, rep rebatch.Report, n int, sizes map[string][]int64) {
	t.Helper()
	joint := map[string]*ir.Tensor{}
	var want []map[string]*ir.Tensor
	raw := map[string][]byte{}
	var first map[string]*ir.Tensor
	for i := range n {
		one := sample(t, original, uint64(i)+1, sizes)
		if first == nil {
			first = one
		}
		for name, x := range one {
			if !slices.Contains(rep.Inputs, name) {
				one[name], joint[name] = first[name], first[name]
				continue
			}
			raw[name] = append(raw[name], x.Raw()...)
			dims := slices.Clone(x.Dims())
			dims[0] = int64(n)
			if i == n-1 {
				var err error
				if joint[name], err = ir.NewTensor(x.DType(), dims, raw[name]); err != nil {
					t.Fatal(err)
				}
			}
		}
		want = append(want, evaluate(t, original, one))
	}
	got := evaluate(t, free, joint)
	if len(got) != len(want[0]) {
		t.Fatalf("%d outputs became %d", len(want[0]), len(got))
	}
	for name, g := range got {
		if slices.Contains(rep.Constant, name) {
			compare(t, name, want[0][name], g)
			continue
		}
		dims := slices.Clone(want[0][name].Dims())
		if len(dims) == 0 || dims[0] != 1 {
			t.Errorf("output %q has shape %v for one image", name, dims)
			continue
		}
		dims[0] = int64(n)
		if !slices.Equal(g.Dims(), dims) {
			t.Errorf("output %q has shape %v for %d images, want %v", name, g.Dims(), n, dims)
			continue
		}
		size := len(g.Raw()) / n
		for i := range n {
			part, err := ir.NewTensor(g.DType(), want[i][name].Dims(), g.Raw()[i*size:(i+1)*size])
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name, want[i][name], part)
		}
	}
}

func compare(t *testing.T, name string, want, got *ir.Tensor) {
	t.Helper()
	a, err := want.Floats()
	if err != nil {
		t.Fatal(err)
	}
	b, err := got.Floats()
	if err != nil || len(a) != len(b) {
		t.Fatalf("output %q: %v, %d and %d elements", name, err, len(a), len(b))
	}
	peak, worst := 0.0, 0.0
	for i := range a {
		peak, worst = max(peak, math.Abs(a[i])), max(worst, math.Abs(a[i]-b[i]))
	}
	if !(worst <= 1e-5*peak+5e-7) {
		t.Errorf("output %q: largest difference %.3g, largest magnitude %.3g", name, worst, peak)
	}
}

// run applies the pass and returns its report and notes.
func run(t *testing.T, e pass.Env, m *ir.Model, o rebatch.Options) (changed bool, rep rebatch.Report, notes []string) {
	t.Helper()
	c := pass.NewCtx(context.Background(), e, "rebatch")
	changed, err := rebatch.New(o, &rep).Run(c, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	return changed, rep, c.Notes()
}

func marshal(t *testing.T, m *ir.Model) []byte {
	t.Helper()
	b, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sharedModels lists the real networks beside the repository.
func sharedModels(t *testing.T) []string {
	t.Helper()
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	files, err := filepath.Glob(filepath.Join(dir, "models", "*.onnx"))
	if err != nil || len(files) == 0 {
		t.Skipf("no *.onnx in %s/models: set MQATC_SHARED to the folder that has them", dir)
	}
	return files
}
