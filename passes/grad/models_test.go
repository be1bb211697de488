package grad

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func sharedFolder(t *testing.T) string {
	t.Helper()
	if d := os.Getenv("MQATC_SHARED"); d != "" {
		return d
	}
	for d, _ := os.Getwd(); d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return filepath.Join(d, "..", "shared")
		}
	}
	return ""
}

// TestRealNetworks differentiates a squared error of six published networks by all their weights and biases, and compares the
// slope along a random direction, in onnxruntime in single precision, with central differences of the loss in double precision.
func TestRealNetworks(t *testing.T) {
	dir := filepath.Join(sharedFolder(t), "models")
	files, _ := filepath.Glob(filepath.Join(dir, "*.onnx"))
	if len(files) == 0 {
		t.Skipf("no networks in %s: set MQATC_SHARED", dir)
	}
	orttest.TestLibrary(t)
	sizes := map[string]int64{"ch_PP-OCRv4_det_infer.onnx": 160}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			m, err := format.Load(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := format.Upgrade(m, 17); err != nil {
				t.Fatal(err)
			}
			checkNetwork(t, m, sizes[filepath.Base(f)])
		})
	}
}

func checkNetwork(t *testing.T, m *ir.Model, size int64) {
	g := m.Graph
	shapes := map[string][]int64{}
	constantsToInitializers(t, g)
	for _, v := range g.Inputs() {
		if v.IsInitializer() {
			continue
		}
		d, ok := v.StaticDims()
		if !ok {
			d = []int64{1, 3, size, size}
		}
		shapes[v.Name()] = d
	}
	if err := op.InferModel(m, shapes); err != nil {
		t.Fatal(err)
	}
	params := weightsOf(t, g)
	b := ir.NewBuilder(g, "test", op.InferNode)
	var loss *ir.Value
	for _, y := range g.Outputs() {
		if n := y.Producer(); n.Is("Sigmoid") {
			y = n.Input(0) // saturated on input that is no photograph
		}
		mean := b.Op("ReduceMean", []*ir.Value{b.Op("Mul", []*ir.Value{y, y})}, ir.AInt("keepdims", 0))
		if loss == nil {
			loss = mean
			continue
		}
		loss = b.Op("Add", []*ir.Value{loss, mean})
	}
	forward := g.NumNodes()
	grads, err := Gradients(g, []Seed{{Value: loss}}, params, Options{})
	if err != nil {
		t.Fatal(err)
	}
	outs := []*ir.Value{loss}
	for _, v := range grads {
		if v != nil {
			outs = append(outs, v)
		}
	}
	if err := g.SetOutputs(outs...); err != nil {
		t.Fatal(err)
	}
	raw, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if p := os.Getenv("SAVEGRAD"); p != "" {
		os.WriteFile(p, raw, 0o644)
	}
	sess, err := ort.NewSession(raw, ort.SessionOptions{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	feeds := map[string]*ir.Tensor{}
	for name, d := range shapes {
		a := newArr(d...)
		each(d, func(at []int64, k int64) {
			x, y, ch := float64(at[3]), float64(at[2]), float64(at[1])
			a.v[k] = 0.5 + 0.3*math.Sin(0.07*x+ch)*math.Cos(0.05*y) + 0.2*math.Sin(0.4*(x-y))
		})
		feeds[name] = tensorOf(t, ir.Float32, a)
	}
	for _, p := range params {
		feeds[p.Name()] = initial[p]
	}
	base, err := sess.Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = sess.Run(feeds, nil)
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := base[loss.Name()].Floats()
	r := rand.New(rand.NewPCG(3, 4))
	worst, report, reached := 0.0, "", 0
	for range 1 {
		direction := map[string][]float64{}
		want := 0.0
		reached = 0
		for i, p := range params {
			if grads[i] == nil {
				continue
			}
			reached++
			f, err := base[grads[i].Name()].Floats()
			if err != nil {
				t.Fatal(err)
			}
			w, _ := initial[p].Floats()
			size := norm(w) / math.Sqrt(float64(len(w)))
			v := make([]float64, len(w))
			for k := range v {
				v[k] = size * r.NormFloat64()
				want += v[k] * f[k]
			}
			direction[p.Name()] = v
		}
		at := func(h float64) float64 {
			moved := map[string]*arr{}
			for k, v := range feeds {
				w, _ := v.Floats()
				a := &arr{v.Dims(), append([]float64{}, w...)}
				for i, x := range direction[k] {
					a.v[i] += h * x
				}
				moved[k] = a
			}
			e := &evaluator{}
			if err := e.runUntil(g, loss.Producer(), moved); err != nil {
				t.Fatal(err)
			}
			return e.get(loss).v[0]
		}
		const h = 1e-7
		fd := (at(h) - at(-h)) / (2 * h)
		report += fmt.Sprintf(" %.5f", fd/want)
		worst = math.Max(worst, math.Abs(fd/want-1))
	}
	t.Logf("%d parameters (%d reached), %d forward and %d gradient nodes, %v a step, loss %.4g, difference/gradient:%s", len(params), reached,
		forward, g.NumNodes()-forward, took.Round(time.Millisecond), l[0], report)
	if !(worst <= 0.01) {
		t.Errorf("the slope along a random direction is off by %.3g of itself", worst)
	}
}

var initial = map[*ir.Value]*ir.Tensor{}

func constantsToInitializers(t *testing.T, g *ir.Graph) {
	for _, n := range g.Nodes() {
		tensor := constTensor(n.Output(0))
		if n.Op != "Constant" || tensor == nil {
			continue
		}
		v, err := g.AddInitializer(g.FreshName(n.Output(0).Name()+"_value"), tensor)
		if err == nil {
			err = g.ReplaceAllUses(n.Output(0), v)
		}
		if err == nil {
			err = g.Remove(n)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// weightsOf turns the constants of float that a convolution, matrix product or normalization reads into graph inputs.
func weightsOf(t *testing.T, g *ir.Graph) []*ir.Value {
	var out []*ir.Value
	for _, v := range append([]*ir.Value{}, g.Initializers()...) {
		if v.DType() != ir.Float32 || v.Init() == nil {
			continue
		}
		for _, u := range v.Uses() {
			switch u.Node.Op {
			case "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization":
				if u.Index == 0 || u.Index > 2 || initial[v] != nil {
					continue
				}
				initial[v] = v.Init()
				if err := g.InputFromInitializer(v); err != nil {
					t.Fatal(err)
				}
				out = append(out, v)
			}
		}
	}
	return out
}
