package target

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// cosines is the mean and the least of the cosines over outputs and images, and the time of a run.
func cosines(t testing.TB, run ortRunner, want []map[string]*ir.Tensor, m *ir.Model, in []map[string]*ir.Tensor) (mean, least float64, each time.Duration) {
	t.Helper()
	s, err := run.Open(m, All)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	least = 1
	for i, f := range in {
		at := time.Now()
		out, err := s.Run(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		each += time.Since(at)
		for _, o := range m.Graph.Outputs() {
			c := cosine(t, want[i][o.Name()], out[o.Name()])
			mean += c
			least = min(least, c)
			n++
		}
	}
	return mean / float64(n), least, each / time.Duration(len(in))
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
	return xy / math.Sqrt(xx*yy)
}

func TestExperiment(t *testing.T) {
	file := os.Getenv("NET")
	if file == "" {
		t.Skip()
	}
	run := newRunner(t)
	tasks := map[string]string{"yunet_n_320_320": "yunet", "nanodet_m_416": "nanodet", "objectron_cup": "objectron_cup", "blazepose_landmark_lite": "blazepose", "ch_PP-OCRv4_det_infer": "ppocr", "ultraface-version-RFB-320": "ultraface"}
	m, data := realModel(t, file+".onnx", tasks[file], map[string]map[string][]int64{"ch_PP-OCRv4_det_infer": {"x": {1, 3, 480, 480}}}[file])
	train, val := data("train2017", 32), data("val2017", 20)
	want, err := outputsOf(run, m, All, val)
	if err != nil {
		t.Fatal(err)
	}
	_, _, dt := cosines(t, run, want, m, val)
	before, _ := Payload(m)
	fmt.Printf("%s float %v payload %d\n", file, dt, before)
	bits := 8
	fmt.Sscan(os.Getenv("BITS"), &bits)
	for _, name := range strings.Fields(os.Getenv("TG")) {
		base, opt, _ := strings.Cut(name, ":")
		tg, err := Find(base)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(opt, "i") {
			tg.Outputs = false
		}
		if strings.Contains(opt, "f") {
			tg.Fold = []string{"Conv", "ConvTranspose", "Gemm", "MatMul"}
		}
		if strings.Contains(opt, "x") {
			tg.Exact = false
		}
		for _, meth := range []quant.Method{quant.MSE, quant.MinMax, quant.Percentile} {
			spec, on, _ := allWeights(m, bits, "ptq")
			at := time.Now()
			c := compile(t, tg, m, spec, on, run, train, meth)
			el := time.Since(at)
			data, _ := format.Marshal(c.out.Model)
			loaded := reload(t, c.out.Model)
			mean, least, dt := cosines(t, run, want, loaded, val)
			after, _ := Payload(loaded)
			v, err := tg.Verify(run, c.fake, c.out, loaded, val[:2])
			vs := ""
			if err != nil {
				for _, a := range v.Agreements {
					if a.Cosine < 0.9995 || a.Steps > 1 {
						vs += fmt.Sprintf(" %s/%s %.5f %.2f", a.Output, a.Level, a.Cosine, a.Steps)
					}
				}
			}
			fmt.Printf("%s %s points %d: cos %.5f min %.5f  time %v file %d payload %.3f compile %v verify %v integer %d not %d\n", name, meth, len(c.pl.Points), mean, least, dt, len(data), float64(before)/float64(after), el, vs, v.Integer, len(v.NotInteger))
			if tg.Activation == ir.Undefined {
				break
			}
		}
	}
}
