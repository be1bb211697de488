package passes_test

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes"
	"mqatc/passes/clean"
	"mqatc/passes/equalize"
	"mqatc/passes/fold"
	"mqatc/passes/pass"
	"mqatc/passes/quant"
)

// sketch builds small networks with random weights.
type sketch struct {
	t *testing.T
	m *ir.Model
	b *ir.Builder
	r *rand.Rand
}

func newSketch(t *testing.T) *sketch {
	m := ir.NewModel("sketch", 17)
	return &sketch{t, m, ir.NewBuilder(m.Graph, "test", op.InferNode), rand.New(rand.NewPCG(5, 6))}
}

func (s *sketch) weight(dims ...int64) *ir.Value {
	n, err := ir.NumElements(dims)
	if err != nil {
		s.t.Fatal(err)
	}
	f := make([]float32, n)
	for i := range f {
		f[i] = float32(s.r.NormFloat64() * 0.3)
	}
	return s.b.Const(must(ir.FromFloat32s(f, dims...))(s.t))
}

func must(t *ir.Tensor, err error) func(*testing.T) *ir.Tensor {
	return func(tt *testing.T) *ir.Tensor {
		tt.Helper()
		if err != nil {
			tt.Fatal(err)
		}
		return t
	}
}

func (s *sketch) layer(kind string, x *ir.Value, w *ir.Value, outputs int64, attrs ...ir.Attr) *ir.Value {
	return s.b.Op(kind, []*ir.Value{x, w, s.weight(outputs)}, attrs...)
}

func (s *sketch) input(dims ...int64) *ir.Value {
	x, err := s.m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(dims...)))
	if err != nil {
		s.t.Fatal(err)
	}
	return x
}

func (s *sketch) output(v *ir.Value) {
	s.t.Helper()
	if err := s.b.Err(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.m.Graph.AddOutput(v); err != nil {
		s.t.Fatal(err)
	}
}

// zoo of what may stand between layers, with layers of every kind.
func everything(t *testing.T) *ir.Model {
	s := newSketch(t)
	pads := ir.AInts("pads", 1, 1, 1, 1)
	a := s.b.Op("Relu", []*ir.Value{s.layer("Conv", s.input(2, 4, 8, 8), s.weight(12, 4, 3, 3), 12, pads)})
	d := s.b.Op("LeakyRelu", []*ir.Value{s.layer("Conv", a, s.weight(12, 1, 3, 3), 12, pads, ir.AInt("group", 12))})
	d = s.b.Op("Clip", []*ir.Value{s.layer("Conv", d, s.weight(12, 12, 1, 1), 12), s.b.Float(0), s.b.Float(0.5)})
	d = s.layer("Conv", d, s.weight(12, 1, 3, 3), 12, pads, ir.AInt("group", 12))
	g := s.b.Op("Clip", []*ir.Value{s.layer("Conv", d, s.weight(6, 4, 1, 1), 6, ir.AInt("group", 3)), s.b.Float(0), s.b.Float(0.7)})
	shared := s.weight(6, 6, 3, 3)
	h := s.layer("Conv", g, shared, 6, pads)
	h = s.b.Op("Add", []*ir.Value{s.layer("Conv", h, shared, 6, pads), g})
	p := s.b.Op("MaxPool", []*ir.Value{h}, ir.AInts("kernel_shape", 2, 2), ir.AInts("strides", 2, 2))
	c := s.b.Op("Concat", []*ir.Value{p, s.b.Op("AveragePool", []*ir.Value{h}, ir.AInts("kernel_shape", 2, 2), ir.AInts("strides", 2, 2))}, ir.AInt("axis", 1))
	u := s.layer("ConvTranspose", c, s.weight(12, 4, 2, 2), 8, ir.AInts("strides", 2, 2), ir.AInt("group", 2))
	q := s.layer("Conv", s.b.Op("Mul", []*ir.Value{u, s.b.Op("Sigmoid", []*ir.Value{u})}), s.weight(5, 8, 1, 1), 5)
	f := s.b.Op("Flatten", []*ir.Value{s.b.Op("GlobalAveragePool", []*ir.Value{q})})
	k := s.b.Op("Relu", []*ir.Value{s.layer("Gemm", f, s.weight(7, 5), 7, ir.AInt("transB", 1))})
	s.output(s.layer("Gemm", k, s.weight(7, 3), 3))
	s.output(s.layer("Conv", h, s.weight(2, 6, 1, 1), 2))
	return s.m
}

// randomFactors scales every region, by channel where it can be; powers of two round nothing.
func randomFactors(m *ir.Model, powers bool) equalize.Factors {
	r := rand.New(rand.NewPCG(1, 2))
	out := equalize.Factors{}
	for _, g := range equalize.Regions(m.Graph) {
		f := make([]float32, g.Channels)
		for i := range f {
			x := r.Float64()*6 - 3
			if powers {
				x = math.Round(x)
			}
			f[i] = float32(math.Exp2(x))
		}
		out[g.Name()] = f
	}
	return out
}

func TestEqualizationKeepsTheFunction(t *testing.T) {
	e := env(t)
	m := everything(t)
	in, err := feeds(m, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := evaluate(t, e, m, in)
	f := randomFactors(m, false)
	perChannel, whole := 0, 0
	for _, s := range f {
		if len(s) > 1 {
			perChannel++
		} else {
			whole++
		}
	}
	// By channel: what the first four layers make, and the Gemm. As a whole: what the layers with one weight read and make, for a Clip is
	// among it, and what goes through Flatten.
	if perChannel != 5 || whole != 2 {
		t.Errorf("%d regions scaled by channel and %d as a whole, want 5 and 2", perChannel, whole)
	}
	if changed, err := equalize.New(f).Run(pass.NewCtx(context.Background(), e, "equalize"), m); err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	sameOutputs(t, want, evaluate(t, e, m, in), 1e-5)
	// Once more, over the nodes that the first time made.
	if _, err := equalize.New(randomFactors(m, false)).Run(pass.NewCtx(context.Background(), e, "equalize"), m); err != nil {
		t.Fatal(err)
	}
	sameOutputs(t, want, evaluate(t, e, m, in), 1e-5)
}

// A weight that several layers share stays as it is where one of them cannot take part: its bias is read by something else.
func TestEqualizationLeavesSharedWeightsOfOthers(t *testing.T) {
	e := env(t)
	s := newSketch(t)
	x := s.input(2, 4, 6, 6)
	shared, bias := s.weight(5, 5, 1, 1), s.weight(5)
	a := s.layer("Conv", s.layer("Conv", x, s.weight(5, 4, 1, 1), 5), shared, 5)
	b := s.b.Op("Conv", []*ir.Value{s.layer("Conv", x, s.weight(5, 4, 1, 1), 5), shared, bias})
	c := s.b.Op("Add", []*ir.Value{s.b.Op("ReduceMean", []*ir.Value{b}, ir.AInts("axes", 2, 3), ir.AInt("keepdims", 0)), bias})
	s.output(s.layer("Conv", a, s.weight(2, 5, 1, 1), 2))
	s.output(s.layer("Conv", b, s.weight(2, 5, 1, 1), 2))
	s.output(c)
	in, err := feeds(s.m, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := evaluate(t, e, s.m, in)
	if _, err := equalize.New(randomFactors(s.m, false)).Run(pass.NewCtx(context.Background(), e, "equalize"), s.m); err != nil {
		t.Fatal(err)
	}
	sameOutputs(t, want, evaluate(t, e, s.m, in), 1e-5)
}

func TestEqualizationKeepsTheResultsOfRealModels(t *testing.T) {
	e := env(t)
	for _, path := range modelFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m, in, want := realModel(t, e, path)
			p := passes.Pipeline{Passes: []pass.Pass{clean.New(), fold.New()}, Env: e}
			if _, err := p.Run(context.Background(), m); err != nil {
				t.Fatal(err)
			}
			f := randomFactors(m, true)
			t.Logf("%d regions", len(f))
			p = passes.Pipeline{Passes: []pass.Pass{equalize.New(f)}, Env: e}
			if _, err := p.Run(context.Background(), m); err != nil {
				t.Fatal(err)
			}
			sameOutputs(t, want, evaluate(t, e, m, in), 1e-5)
		})
	}
}

// A depthwise layer takes a factor whole: every channel then fills the range.
func TestDepthwiseLayersTakeTheWholeDifference(t *testing.T) {
	s := newSketch(t)
	a := s.b.Op("Relu", []*ir.Value{s.layer("Conv", s.input(1, 4, 8, 8), s.weight(3, 4, 1, 1), 3)})
	d := s.layer("Conv", a, s.weight(3, 1, 1, 1), 3, ir.AInt("group", 3))
	s.output(d)
	stats := equalize.Stats{}
	if err := stats.Add(a.Name(), must(ir.FromFloat32s([]float32{8, 1, 4, 0, 1, 2, 0, 0, 0}, 1, 3, 3))(t)); err != nil {
		t.Fatal(err)
	}
	for _, only := range []bool{true, false} {
		f, err := equalize.ByChannel(equalize.Regions(s.m.Graph), []equalize.Point{{Value: a.Name()}}, stats, 8, only)
		if err != nil || len(f) != 1 {
			t.Fatalf("%v, %v", f, err)
		}
		for _, k := range f {
			// Ranges 8, 2 and nothing: the second is raised by 4, the last, as far as any, by 16.
			if r := k[1] / k[0]; math.Abs(float64(r)-4) > 1e-5 {
				t.Errorf("the second channel is raised by %g, want 4", r)
			}
			if r := k[2] / k[0]; math.Abs(float64(r)-16) > 1e-4 {
				t.Errorf("the empty channel is raised by %g, want 16", r)
			}
		}
	}
}

// The factor of a region with a Clip may put the Clip's bound on the last step of a grid of powers of two.
func TestFactorsSuitPowersOfTwo(t *testing.T) {
	s := newSketch(t)
	a := s.b.Op("Clip", []*ir.Value{s.layer("Conv", s.input(1, 4, 8, 8), s.weight(3, 4, 1, 1), 3), s.b.Float(0), s.b.Float(6)})
	s.output(s.layer("Conv", a, s.weight(3, 3, 1, 1), 3))
	o := &quant.Observation{}
	var x []float32
	for i := range 1000 {
		x = append(x, float32(i%61)/10)
	}
	if err := o.Add(x); err != nil {
		t.Fatal(err)
	}
	groups := []*quant.Group{{Values: []string{a.Name()}, Seen: o, Limit: 6}}
	f, err := equalize.ByRegion(equalize.Regions(s.m.Graph), groups, ir.Uint8)
	if err != nil || len(f) == 0 {
		t.Fatalf("%v, %v", f, err)
	}
	if _, err := equalize.New(f).Run(pass.NewCtx(context.Background(), pass.Env{}, "equalize"), s.m); err != nil {
		t.Fatal(err)
	}
	for n := s.m.Graph.First(); n != nil; n = n.Next() {
		if !n.Is("Clip") {
			continue
		}
		hi, err := n.Input(2).Init().Float32s()
		if err != nil {
			t.Fatal(err)
		}
		if frac, _ := math.Frexp(float64(hi[0]) / 255); frac != 0.5 {
			t.Errorf("the bound is %g, which is not 255 times a power of two", hi[0])
		}
	}
}

func TestFactorsThatFitNoRegionAreRefused(t *testing.T) {
	m := everything(t)
	name := equalize.Regions(m.Graph)[0].Name()
	for _, f := range []equalize.Factors{{"nothing": {2}}, {name: {1, 2}}, {name: {0}}, {name: {float32(math.Inf(1))}}} {
		if _, err := equalize.New(f).Run(pass.NewCtx(context.Background(), pass.Env{}, "equalize"), m); err == nil {
			t.Errorf("%v passed", f)
		}
	}
}
