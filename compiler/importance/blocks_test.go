package importance

import (
	"math"
	"math/rand/v2"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
	"mqatc/passes/lower"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// wide is a network with what the forms of convolutions differ in: strides, few channels, a shortcut, a weight that two convolutions
// share, a linear layer. The loss is the mean square of the output.
func wide(t *testing.T) (*ir.Model, []string, map[string]*ir.Tensor) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 5))
	random := func(scale float64, dims ...int64) *ir.Tensor {
		n, _ := ir.NumElements(dims)
		v := make([]float64, n)
		for i := range v {
			v[i] = r.NormFloat64() * scale
		}
		return tensor(t, v, dims...)
	}
	m := ir.NewModel("wide", 17)
	g := m.Graph
	b := ir.NewBuilder(g, "", op.InferNode)
	x, err := g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(2, 3, 12, 12)))
	if err != nil {
		t.Fatal(err)
	}
	var layers []string
	weight := func(name string, dims ...int64) *ir.Value {
		fan := 1.0
		for _, d := range dims[1:] {
			fan *= float64(d)
		}
		w, err := g.AddInitializer(name, random(math.Sqrt(2/fan), dims...))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, name)
		return w
	}
	pads := ir.AInts("pads", 1, 1, 1, 1)
	conv := func(x, w *ir.Value, at ...ir.Attr) *ir.Value { return b.Op("Conv", []*ir.Value{x, w}, at...) }
	relu := func(x *ir.Value) *ir.Value { return b.Op("Relu", []*ir.Value{x}) }
	h := relu(conv(x, weight("first", 16, 3, 3, 3), pads))
	shared := weight("shared", 16, 16, 3, 3)
	h = b.Op("Tanh", []*ir.Value{conv(h, shared, pads)})
	h = b.Op("Add", []*ir.Value{h, relu(conv(h, shared, pads))})
	h = b.Op("MaxPool", []*ir.Value{h}, ir.AInts("kernel_shape", 3, 3), ir.AInts("strides", 1, 1), pads)
	h = relu(b.Op("Add", []*ir.Value{conv(h, weight("down", 32, 16, 3, 3), pads, ir.AInts("strides", 2, 2)),
		conv(h, weight("side", 32, 16, 1, 1), ir.AInts("strides", 2, 2))}))
	h = b.Op("Flatten", []*ir.Value{b.Op("GlobalAveragePool", []*ir.Value{h})})
	y := b.Op("Gemm", []*ir.Value{h, weight("linear", 5, 32)}, ir.AInt("transB", 1))
	loss := b.Op("ReduceMean", []*ir.Value{b.Op("Mul", []*ir.Value{y, y})}, ir.AInt("keepdims", 0))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := g.Rename(loss, "loss"); err != nil {
		t.Fatal(err)
	}
	if err := g.AddOutput(loss); err != nil {
		t.Fatal(err)
	}
	return m, layers, map[string]*ir.Tensor{"x": random(1, 2, 3, 12, 12)}
}

func run(t *testing.T, m *ir.Model, feeds map[string]*ir.Tensor, outputs ...string) []float64 {
	t.Helper()
	raw, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.Run(feeds, outputs)
	if err != nil {
		t.Fatal(err)
	}
	var out []float64
	for _, o := range outputs {
		f, err := got[o].Floats()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f...)
	}
	return out
}

// TestBlocksAreExact compares v . (Hv) for a v that is zero in all layers but one, where no block between layers takes part, with a
// graph that leaves nothing out: in standard forms, and in blocked ones and parts.
func TestBlocksAreExact(t *testing.T) {
	orttest.TestLibrary(t)
	m, layers, feeds := wide(t)
	block, err := ort.BlockedChannels()
	if err != nil {
		t.Fatal(err)
	}
	standard, err := Graph(m, "loss", layers, lower.Machine{})
	if err != nil {
		t.Fatal(err)
	}
	whole := straight(t, m, layers)
	p, err := newProducts(m, "loss", layers, lower.Machine{Block: block}, 1, Options{MaxProbes: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for k, name := range layers {
		probe := map[string]*ir.Tensor{}
		rng := rand.New(rand.NewPCG(1, uint64(k)))
		for _, l := range layers {
			w := m.Graph.Value(l).Init()
			v, err := ir.NewTensor(ir.Float32, w.Dims(), make([]byte, 4*w.Len()))
			if err != nil {
				t.Fatal(err)
			}
			if l == name {
				rademacher(rng, v.Raw())
			}
			probe[l+probeSuffix] = v
		}
		got, err := p.run(0, 0, feeds, probe)
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]*ir.Tensor{"x": feeds["x"]}
		for n, v := range probe {
			all[n] = v
		}
		plain := run(t, standard, all, name+curveSuffix)[0]
		want := run(t, whole, all, whole.Graph.Outputs()[k].Name())[0]
		if math.Abs(got[k]-want) > 1e-4*math.Abs(want) || math.Abs(plain-want) > 1e-4*math.Abs(want) || want == 0 {
			t.Errorf("%s: %g in parts, %g in one graph of standard operators, want %g", name, got[k], plain, want)
		}
	}
}

// straight appends to m what gives v . (Hv), v standing in inputs as in Graph, by differentiating twice with nothing left out.
func straight(t *testing.T, m *ir.Model, layers []string) *ir.Model {
	t.Helper()
	c, err := m.Clone()
	if err != nil {
		t.Fatal(err)
	}
	g := c.Graph
	var wrt, curves []*ir.Value
	for _, l := range layers {
		wrt = append(wrt, g.Value(l))
	}
	first, err := grad.Gradients(g, []grad.Seed{{Value: g.Value("loss")}}, wrt, grad.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var seeds []grad.Seed
	for i, w := range wrt {
		v, err := g.AddInput(layers[i]+probeSuffix, w.Type.Clone())
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, grad.Seed{Value: first[i], Cotangent: v})
	}
	hv, err := grad.Gradients(g, seeds, wrt, grad.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := ir.NewBuilder(g, "test", op.InferNode)
	for i := range wrt {
		curves = append(curves, total(b, seeds[i].Cotangent, hv[i]))
	}
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := g.SetOutputs(curves...); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSharedWeightsLieAroundTheTrace: the two uses of a weight belong to one block, whose trace the mean has to find.
func TestSharedWeightsLieAroundTheTrace(t *testing.T) {
	orttest.TestLibrary(t)
	m, layers, feeds := wide(t)
	var traces [2]*Result
	for i, of := range [][]string{layers, {"shared"}} {
		r, err := Trace(m, "loss", of, []map[string]*ir.Tensor{feeds}, Options{MinProbes: 400, MaxProbes: 400, Seed: uint64(i), Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		traces[i] = r
	}
	a, b := traces[0].Layers[1], traces[1].Layers[0]
	if a.Name != "shared" || math.Abs(a.Trace-b.Trace) > 4*math.Hypot(a.StdErr, b.StdErr) || b.StdErr > 0.2*math.Abs(b.Trace) {
		t.Errorf("%s: trace %g with standard error %g among others, %g with %g alone", a.Name, a.Trace, a.StdErr, b.Trace, b.StdErr)
	}
}

func TestNoGradientByWeights(t *testing.T) {
	m, layers, _ := wide(t)
	c, err := curvatures(m, "loss", layers)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for n := c.Graph.First(); n != nil; n = n.Next() {
		count[n.Op]++
	}
	if count[grad.ConvWeightGrad] != 0 || count[grad.ConvInputGrad] == 0 {
		t.Errorf("operators %v", count)
	}
}

func TestWhatABatchDecidesIsKept(t *testing.T) {
	orttest.TestLibrary(t)
	m, layers, feeds := wide(t)
	o := Options{MinProbes: 6, MaxProbes: 6, Seed: 2, Threads: 1}
	more := map[string]*ir.Tensor{"x": tensor(t, make([]float64, 2*3*12*12), 2, 3, 12, 12)}
	batches := []map[string]*ir.Tensor{feeds, more}
	r, err := Trace(m, "loss", layers, batches, o)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range r.Layers {
		for k, v := range l.Samples {
			if k%2 == 1 && l.Name == "linear" && v != 0 {
				t.Errorf("probe %d of %s used another batch than its own: %g", k, l.Name, v)
			}
			if k%2 == 0 && v == 0 {
				t.Errorf("probe %d of layer %d is zero", k, i)
			}
		}
	}
}
