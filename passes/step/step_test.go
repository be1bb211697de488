package step_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/step"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/train"
)

// tiny is a smooth network [N,2,6,6] -> [N,3]: two convolutions, a pooled linear layer.
func tiny(t testing.TB) *ir.Model {
	t.Helper()
	m := ir.NewModel("tiny", 17)
	b := ir.NewBuilder(m.Graph, "", op.InferNode)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.Shape{ir.Sym("N"), ir.D(2), ir.D(6), ir.D(6)}))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	weight := func(name string, dims ...int64) *ir.Value {
		n, _ := ir.NumElements(dims)
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64() * 0.4)
		}
		w, err := ir.FromFloat32s(v, dims...)
		if err != nil {
			t.Fatal(err)
		}
		val, err := m.Graph.AddInitializer(name, w)
		if err != nil {
			t.Fatal(err)
		}
		return val
	}
	h := b.Op("Conv", []*ir.Value{x, weight("c1.weight", 4, 2, 3, 3), weight("c1.bias", 4)}, ir.AInts("kernel_shape", 3, 3), ir.AInts("pads", 1, 1, 1, 1))
	h = b.Op("Sigmoid", []*ir.Value{h})
	h = b.Op("Conv", []*ir.Value{h, weight("c2.weight", 5, 4, 3, 3), weight("c2.bias", 5)}, ir.AInts("kernel_shape", 3, 3), ir.AInts("strides", 2, 2))
	h = b.Op("Tanh", []*ir.Value{h})
	h = b.Op("Flatten", []*ir.Value{h}, ir.AInt("axis", 1))
	out := b.Node(ir.NodeSpec{Op: "Gemm", Inputs: []*ir.Value{h, weight("fc.weight", 3, 20), weight("fc.bias", 3)}, Outputs: []string{"y"}, Attrs: []ir.Attr{ir.AInt("transB", 1)}}, 1)[0]
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := m.Graph.SetOutputs(out); err != nil {
		t.Fatal(err)
	}
	return m
}

// meanSquare is the mean of (y-t)^2 over the 3 outputs, summed over the batch and divided by n.
func meanSquare(t testing.TB, n float32) *ir.Model {
	t.Helper()
	m := ir.NewModel("mse", 17)
	b := ir.NewBuilder(m.Graph, "", op.InferNode)
	var in []*ir.Value
	for _, name := range []string{"y", "t"} {
		v, err := m.Graph.AddInput(name, ir.TensorType(ir.Float32, ir.Shape{ir.Sym("N"), ir.D(3)}))
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, v)
	}
	d := b.Op("Sub", in)
	s := b.Op("ReduceSum", []*ir.Value{b.Op("Mul", []*ir.Value{d, d})}, ir.AInt("keepdims", 0))
	out := b.Node(ir.NodeSpec{Op: "Mul", Inputs: []*ir.Value{s, b.Float(1 / (3 * n))}, Outputs: []string{"loss"}}, 1)[0]
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := m.Graph.SetOutputs(out); err != nil {
		t.Fatal(err)
	}
	return m
}

// points is a regression problem that tiny can learn.
type points int

func (p points) Len() int { return int(p) }

func (p points) Sample(i int, rng *rand.Rand) (train.Feeds, error) {
	r := rand.New(rand.NewPCG(9, uint64(i)))
	x := make([]float32, 72)
	for k := range x {
		x[k] = float32(r.NormFloat64())
	}
	y := []float32{x[0] + x[7], x[20] - x[40], float32(math.Sin(float64(x[30])))}
	if rng != nil {
		x[71] += float32(rng.NormFloat64() * 0.01)
	}
	xt, err := ir.FromFloat32s(x, 1, 2, 6, 6)
	if err != nil {
		return nil, err
	}
	yt, err := ir.FromFloat32s(y, 1, 3)
	return train.Feeds{"x": xt, "t": yt}, err
}

func batchOf(t testing.TB, p points, idx ...int) train.Feeds {
	t.Helper()
	var s []train.Feeds
	for _, i := range idx {
		f, err := p.Sample(i, nil)
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, f)
	}
	f, err := train.Collate(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func engine(t testing.TB, m *ir.Model, o step.Options, more map[string]*ir.Tensor) *train.Engine {
	t.Helper()
	s, err := step.Build(m, o)
	if err != nil {
		t.Fatal(err)
	}
	cfg := train.Config{Step: bytesOf(t, s), State: weightsOf(m, o.Params), Threads: 1}
	for k, v := range more {
		cfg.State[k] = v
	}
	if o.Accumulate {
		a, err := step.Apply(m, o)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Apply = bytesOf(t, a)
	}
	e, err := train.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// checkGradients compares emitted gradients with central differences of the loss, along the gradient of each tensor and along a
// random direction of it.
func checkGradients(t *testing.T, e *train.Engine, params []step.Param, batch train.Feeds, h, tol float64) {
	t.Helper()
	run := func() float64 {
		l, err := e.Step(0, batch)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	run()
	grads := map[string][]float32{}
	norm := 0.0
	for _, p := range params {
		grads[p.Name] = append([]float32{}, e.Output(p.Name+".grad").Float32s()...)
		norm = math.Max(norm, length(grads[p.Name]))
	}
	rng := rand.New(rand.NewPCG(4, 4))
	for _, p := range params {
		g := grads[p.Name]
		along := make([]float64, len(g))
		random := make([]float64, len(g))
		for i := range g {
			along[i] = float64(g[i]) / math.Max(length(g), 1e-30)
			random[i] = rng.NormFloat64() / math.Sqrt(float64(len(g)))
		}
		for _, dir := range [][]float64{along, random} {
			w, err := e.Get(p.Name)
			if err != nil {
				t.Fatal(err)
			}
			old, _ := w.Float32s()
			at := func(s float64) float64 {
				v := e.Buffer(p.Name).Float32s()
				for i := range v {
					v[i] = float32(float64(old[i]) + s*dir[i])
				}
				return run()
			}
			got := (at(h) - at(-h)) / (2 * h)
			at(0)
			want := 0.0
			for i := range g {
				want += float64(g[i]) * dir[i]
			}
			if math.Abs(got-want) > tol*math.Max(math.Abs(want), 0.02*norm) {
				t.Errorf("%s: difference quotient %.6g, gradient %.6g", p.Name, got, want)
			}
		}
	}
}

func length(v []float32) float64 {
	s := 0.0
	for _, x := range v {
		s += float64(x) * float64(x)
	}
	return math.Sqrt(s)
}

func TestGradientsOfSmoothNetwork(t *testing.T) {
	orttest.TestLibrary(t)
	m := tiny(t)
	params := step.Trainable(m)
	if len(params) != 6 {
		t.Fatalf("%d trained tensors, want 6", len(params))
	}
	e := engine(t, m, step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params, EmitGrads: true}, nil)
	checkGradients(t, e, params, batchOf(t, 10, 0, 1, 2, 3), 3e-3, 3e-3)
}

func TestGradientsOfPoseNetwork(t *testing.T) {
	orttest.TestLibrary(t)
	m, data, loss := poseProblem(t, 64, 0.25, 4)
	params := step.Trainable(m)
	e := engine(t, m, step.Options{Loss: loss, Batch: 4, Params: params, EmitGrads: true}, nil)
	checkGradients(t, e, params, firstImages(t, data, 4, 100), 2e-3, 2e-2)
}
