package importance

import (
	"math"
	"math/rand/v2"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/lower"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// A network of two convolutions, tanh between them, mean squared error behind: 3x3 over one channel to two, 1x1 to one.
const (
	side   = 5
	hidden = 2
)

type small struct{ w1, w2, x, t []float64 }

func newSmall() *small {
	r := rand.New(rand.NewPCG(1, 1))
	draw := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(float32(r.NormFloat64() * 0.7))
		}
		return v
	}
	return &small{draw(hidden * 9), draw(hidden), draw(side * side), draw((side - 2) * (side - 2))}
}

// loss is the network in float64, written out.
func (s *small) loss() float64 {
	sum, n := 0.0, side-2
	for y := 0; y < n; y++ {
		for x := 0; x < n; x++ {
			out := 0.0
			for c := 0; c < hidden; c++ {
				a := 0.0
				for i := 0; i < 9; i++ {
					a += s.w1[c*9+i] * s.x[(y+i/3)*side+x+i%3]
				}
				out += s.w2[c] * math.Tanh(a)
			}
			d := out - s.t[y*n+x]
			sum += d * d
		}
	}
	return sum / float64(n*n)
}

// diagonal is the Hessian's diagonal along w by second differences in float64.
func (s *small) diagonal(w []float64) []float64 {
	const h = 1e-4
	out := make([]float64, len(w))
	mid := s.loss()
	for i := range w {
		w[i] += h
		up := s.loss()
		w[i] -= 2 * h
		down := s.loss()
		w[i] += h
		out[i] = (up - 2*mid + down) / (h * h)
	}
	return out
}

func tensor(t *testing.T, v []float64, dims ...int64) *ir.Tensor {
	t.Helper()
	f := make([]float32, len(v))
	for i, x := range v {
		f[i] = float32(x)
	}
	out, err := ir.FromFloat32s(f, dims...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *small) model(t *testing.T) (*ir.Model, map[string]*ir.Tensor) {
	t.Helper()
	m := ir.NewModel("small", 17)
	g := m.Graph
	b := ir.NewBuilder(g, "", op.InferNode)
	x, err := g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, 1, side, side)))
	if err != nil {
		t.Fatal(err)
	}
	target, err := g.AddInput("t", ir.TensorType(ir.Float32, ir.StaticShape(1, 1, side-2, side-2)))
	if err != nil {
		t.Fatal(err)
	}
	w1, _ := g.AddInitializer("w1", tensor(t, s.w1, hidden, 1, 3, 3))
	w2, _ := g.AddInitializer("w2", tensor(t, s.w2, 1, hidden, 1, 1))
	y := b.Op("Conv", []*ir.Value{b.Op("Tanh", []*ir.Value{b.Op("Conv", []*ir.Value{x, w1})}), w2})
	d := b.Op("Sub", []*ir.Value{y, target})
	loss := b.Op("ReduceMean", []*ir.Value{b.Op("Mul", []*ir.Value{d, d})}, ir.AInt("keepdims", 0))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := g.Rename(loss, "loss"); err != nil {
		t.Fatal(err)
	}
	if err := g.AddOutput(loss); err != nil {
		t.Fatal(err)
	}
	return m, map[string]*ir.Tensor{"x": tensor(t, s.x, 1, 1, side, side), "t": tensor(t, s.t, 1, 1, side-2, side-2)}
}

func TestUnitVectorsGiveTheDiagonal(t *testing.T) {
	orttest.TestLibrary(t)
	s := newSmall()
	m, feeds := s.model(t)
	h, err := Graph(m, "loss", []string{"w1", "w2"}, lower.Machine{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := format.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	sess, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	zero1, zero2 := make([]float64, len(s.w1)), make([]float64, len(s.w2))
	check := func(name string, w, probe []float64) {
		trace, want := 0.0, 0.0
		for i, d := range s.diagonal(w) {
			probe[i] = 1
			feeds["w1.probe"], feeds["w2.probe"] = tensor(t, zero1, hidden, 1, 3, 3), tensor(t, zero2, 1, hidden, 1, 1)
			probe[i] = 0
			out, err := sess.Run(feeds, []string{name + ".curvature"})
			if err != nil {
				t.Fatal(err)
			}
			f, _ := out[name+".curvature"].Floats()
			if math.Abs(f[0]-d) > 1e-4*(1+math.Abs(d)) {
				t.Errorf("%s[%d]: %g, second difference %g", name, i, f[0], d)
			}
			trace += f[0]
			want += d
		}
		if math.Abs(trace-want) > 1e-4*math.Abs(want) {
			t.Errorf("%s: trace %g, want %g", name, trace, want)
		}
	}
	check("w1", s.w1, zero1)
	check("w2", s.w2, zero2)
}

func TestProbesLieAroundTheTrace(t *testing.T) {
	orttest.TestLibrary(t)
	s := newSmall()
	m, feeds := s.model(t)
	r, err := Trace(m, "loss", []string{"w1", "w2"}, []map[string]*ir.Tensor{feeds}, Options{MinProbes: 1000, MaxProbes: 1000, Seed: 3, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range [][]float64{s.w1, s.w2} {
		want := 0.0
		for _, d := range s.diagonal(w) {
			want += d
		}
		l := r.Layers[i]
		if math.Abs(l.Trace-want) > 4*l.StdErr || l.StdErr > 0.2*math.Abs(want) {
			t.Errorf("%s: trace %g with standard error %g, want %g", l.Name, l.Trace, l.StdErr, want)
		}
	}
	again, err := Trace(m, "loss", []string{"w1", "w2"}, []map[string]*ir.Tensor{feeds}, Options{MinProbes: 10, MaxProbes: 10, Seed: 3, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	other, err := Trace(m, "loss", []string{"w1", "w2"}, []map[string]*ir.Tensor{feeds}, Options{MinProbes: 10, MaxProbes: 10, Seed: 3, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if again.Layers[0].Trace != other.Layers[0].Trace {
		t.Error("the same seed gave another trace")
	}
}

func TestStopsWhenSure(t *testing.T) {
	orttest.TestLibrary(t)
	s := newSmall()
	m, feeds := s.model(t)
	r, err := Trace(m, "loss", []string{"w2"}, []map[string]*ir.Tensor{feeds}, Options{MaxProbes: 500, Tolerance: 0.2, Seed: 3, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r.Probes >= 500 || r.Probes < 8 {
		t.Errorf("%d probes", r.Probes)
	}
}

func TestOmega(t *testing.T) {
	got, err := Omega([]float64{2, 4}, []int64{10, 20}, []float64{5, 1})
	if err != nil || math.Abs(got-0.6) > 1e-15 {
		t.Fatalf("%g %v, want (2/10*5 + 4/20*1)/2 = 0.6", got, err)
	}
	if _, err := Omega([]float64{1}, nil, nil); err == nil {
		t.Fatal("lengths may not differ")
	}
}
