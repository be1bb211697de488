package quant

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func normal(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64() * 0.1)
	}
	return out
}

func TestNearestIsNearest(t *testing.T) {
	for _, make := range []func(int) (Grid, error){Symmetric, TwosComplement, Powers} {
		for bits := 1; bits <= 8; bits++ {
			g, err := make(bits)
			if err != nil {
				continue
			}
			rapid.Check(t, func(t *rapid.T) {
				x := rapid.Float32Range(-300, 300).Draw(t, "x")
				got := math.Abs(float64(x) - float64(g.Level(g.Nearest(x))))
				best := math.Inf(1)
				for _, l := range all(g) {
					best = min(best, math.Abs(float64(x)-l))
				}
				if got > best+1e-6*best {
					t.Fatalf("%d bits: %g is %g from its level, %g from the nearest", bits, x, got, best)
				}
			})
		}
	}
}

func all(g Grid) []float64 {
	var out []float64
	for _, l := range g.Levels {
		out = append(out, float64(l))
	}
	for c := g.Lo; c <= g.Hi && g.Levels == nil; c++ {
		if !g.Binary || c != 0 {
			out = append(out, float64(c))
		}
	}
	return out
}

// The search must come near the best of 20,000 scales, or within a ten-thousandth of the weights' energy: few weights at many bits
// have thousands of local minima.
func TestScalesAgainstBruteForce(t *testing.T) {
	for bits := 1; bits <= 8; bits++ {
		for _, n := range []int{9, 27, 300, 2304} {
			g, _ := TwosComplement(bits)
			w := normal(uint64(bits*10000+n), n)
			got := squaredError(w, leastSquares(w, g), g)
			top := 0.0
			for _, x := range w {
				top = max(top, math.Abs(float64(x)))
			}
			best := math.Inf(1)
			for k := 1; k <= 20000; k++ {
				best = min(best, squaredError(w, float32(top/float64(max(g.Hi, 1))*1.05*float64(k)/20000), g))
			}
			energy := squaredError(w, 1, Grid{})
			if got > best*1.03 && got > energy*1e-4 {
				t.Errorf("%d bits, %d weights: squared error %.6g, brute force %.6g", bits, n, got, best)
			}
		}
	}
}

func TestScalesOfZerosAndOutliers(t *testing.T) {
	g, _ := TwosComplement(4)
	w := make([]float32, 4*9)
	copy(w[9:], normal(3, 9))
	w[9+4] = 1e20
	s, err := Scales(w, []int64{4, 1, 3, 3}, 0, g)
	if err != nil {
		t.Fatal(err)
	}
	for c, x := range s {
		if !(x > 0) || math.IsInf(float64(x), 0) {
			t.Errorf("scale %g of channel %d", x, c)
		}
	}
	if s, err := Scales(make([]float32, 8), []int64{2, 4}, -1, g); err != nil || s[0] != 1 {
		t.Errorf("scale of zeros is %g", s[0])
	}
}

func TestInqFreezes(t *testing.T) {
	for _, name := range []string{"inq", "inq-pow2"} {
		q, _ := Find(name)
		rapid.Check(t, func(t *rapid.T) {
			bits := rapid.IntRange(2, 8).Draw(t, "bits")
			g, err := q.Grid(bits)
			if err != nil {
				t.Fatal(err)
			}
			c, n := rapid.IntRange(1, 5).Draw(t, "channels"), rapid.IntRange(1, 40).Draw(t, "n")
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
			s := Site{Name: "w", Dims: []int64{int64(c), int64(n)}, Axis: rapid.IntRange(-1, 1).Draw(t, "axis"), Bits: bits, Quantizer: name}
			w := make([]float32, c*n)
			for i := range w {
				w[i] = float32(math.Round(r.NormFloat64()*8) / 8)
			}
			scale, err := q.Start(s, w, g)
			if err != nil {
				t.Fatal(err)
			}
			free := make([]bool, len(w))
			for i := range free {
				free[i] = true
			}
			before := 0
			for _, e := range q.Schedule.Stretch(rapid.IntRange(1, 40).Draw(t, "steps")) {
				old := append([]float32(nil), w...)
				was := append([]bool(nil), free...)
				k, err := Freeze(s, scale, w, free, e.Fraction)
				if err != nil {
					t.Fatal(err)
				}
				if want := int(math.Round(e.Fraction * float64(len(w)))); k != max(want, before) {
					t.Fatalf("%d frozen at %g of %d", k, e.Fraction, len(w))
				}
				before = k
				least, most := math.Inf(1), 0.0
				for i := range w {
					m := math.Abs(float64(old[i]))
					switch {
					case !was[i]:
						if math.Float32bits(w[i]) != math.Float32bits(old[i]) || free[i] {
							t.Fatalf("frozen weight %d moved from %g to %g", i, old[i], w[i])
						}
					case free[i]:
						most = max(most, m)
						if w[i] != old[i] {
							t.Fatalf("free weight %d moved", i)
						}
						w[i] += float32(r.NormFloat64() * 0.05) // training
					default:
						least = min(least, m)
					}
				}
				if most > least {
					t.Fatalf("a weight of size %g stayed free while %g was frozen", most, least)
				}
			}
			codes, err := newCodes(s, w, scale, g)
			if err != nil {
				t.Fatal(err)
			}
			for i, x := range codes.Values() {
				if x != w[i] {
					t.Fatalf("weight %d = %g is not on its codebook (%g)", i, w[i], x)
				}
			}
		})
	}
}

func TestTable10EndsWithEverythingFrozen(t *testing.T) {
	for steps := 1; steps < 400; steps++ {
		ev := table10.Stretch(steps)
		last := ev[len(ev)-1]
		if last.Fraction != 1 || last.Step >= steps {
			t.Fatalf("%d steps: last event %+v", steps, last)
		}
		if !sort.SliceIsSorted(ev, func(a, b int) bool { return ev[a].Step < ev[b].Step }) {
			t.Fatalf("%d steps: %v", steps, ev)
		}
	}
}

// weightModel is one convolution with weight W.
func weightModel(t *testing.T, w []float32, dims ...int64) *ir.Model {
	t.Helper()
	m := ir.NewModel("w", 17)
	g := m.Graph
	x, err := g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, dims[1], 5, 5)))
	if err != nil {
		t.Fatal(err)
	}
	wt, err := ir.FromFloat32s(append([]float32(nil), w...), dims...)
	if err != nil {
		t.Fatal(err)
	}
	wv, err := g.AddInitializer("W", wt)
	if err != nil {
		t.Fatal(err)
	}
	b := ir.NewBuilder(g, "test", op.InferNode)
	y := b.Node(ir.NodeSpec{Op: "Conv", Inputs: []*ir.Value{x, wv}, Outputs: []string{"y"}}, 1)[0]
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := g.AddOutput(y); err != nil {
		t.Fatal(err)
	}
	return m
}

// What onnxruntime computes from the fake-quantization graph must be bit-equal to the codes' values.
func TestCodesEqualTheGraph(t *testing.T) {
	orttest.TestLibrary(t)
	w := normal(7, 6*4*3*3)
	w[0], w[1], w[2] = 0, 5, -5
	for _, name := range []string{"lsq", "ptq"} {
		for bits := 1; bits <= 8; bits++ {
			for _, perTensor := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s%d/%v", name, bits, perTensor), func(t *testing.T) {
					m := weightModel(t, w, 6, 4, 3, 3)
					rep, err := Insert(m, Spec{Weights: map[string]WeightSpec{"W": {Bits: bits, Quantizer: name, PerTensor: perTensor}}})
					if err != nil {
						t.Fatal(err)
					}
					codes, err := Collect(m, rep)
					if err != nil {
						t.Fatal(err)
					}
					if err := m.Verify(); err != nil {
						t.Fatal(err)
					}
					got := runOne(t, m, rep.Weights[0].Output)
					for i, x := range codes[0].Values() {
						if math.Float32bits(got[i]) != math.Float32bits(x) && (x != 0 || got[i] != 0) {
							t.Fatalf("element %d: graph %g, codes %g", i, got[i], x)
						}
					}
					if err := Bake(m, rep, codes); err != nil {
						t.Fatal(err)
					}
					conv := m.Graph.Last()
					if baked, err := conv.Input(1).Init().Float32s(); err != nil || !slices.Equal(baked, codes[0].Values()) || m.Graph.First() != conv {
						t.Errorf("%v: after Bake the layer does not read the codes' values from a constant, or %v is left", err, m.Graph.First())
					}
					if n := len(rep.Weights[0].States); (name == "lsq") != (n == 1) {
						t.Errorf("%d states", n)
					}
				})
			}
		}
	}
}

// runOne computes one value of m, fed with zeros.
func runOne(t *testing.T, m *ir.Model, value string) []float32 {
	t.Helper()
	c, err := m.Clone()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Graph.SetOutputs(c.Graph.Value(value), c.Graph.Outputs()[0]); err != nil {
		t.Fatal(err)
	}
	data := marshal(t, c)
	s, err := ort.NewSession(data, ort.SessionOptions{OptLevel: ort.DisableAll, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	feeds := map[string]*ir.Tensor{}
	for _, in := range s.Inputs() {
		dims, _ := in.Type.Shape.Static()
		n, _ := ir.NumElements(dims)
		feeds[in.Name], _ = ir.FromFloat32s(make([]float32, n), dims...)
	}
	out, err := s.Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := out[value].Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestObservationDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.Float32Range(-1e3, 1e3), 1, 60).Draw(t, "x")
		cut := rapid.IntRange(0, len(x)).Draw(t, "cut")
		var a, b, c Observation
		for _, part := range [][]float32{x[:cut], x[cut:]} {
			if err := a.Add(part); err != nil {
				t.Fatal(err)
			}
			var d Observation
			if err := d.Add(part); err != nil {
				t.Fatal(err)
			}
			c.merge(&d)
		}
		for i := len(x) - 1; i >= 0; i-- {
			if err := b.Add(x[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if fmt.Sprint(a) != fmt.Sprint(b) || fmt.Sprint(a) != fmt.Sprint(c) {
			t.Fatal("histograms differ")
		}
	})
}

func TestRangeIsNearTheBest(t *testing.T) {
	for _, relu := range []bool{true, false} {
		var o Observation
		x := normal(11, 20000)
		for i := range x {
			if relu {
				x[i] = max(x[i], 0)
			}
		}
		x[5] = 3 // an outlier
		if err := o.Add(x); err != nil {
			t.Fatal(err)
		}
		mse := func(r Range) float64 {
			s, z, err := r.Params(ir.Uint8, false)
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for _, v := range x {
				q := min(max(math.RoundToEven(float64(v/s))+float64(z), 0), 255)
				d := float64(v) - (q-float64(z))*float64(s)
				sum += d * d
			}
			return sum
		}
		r, err := o.Range(MSE, ir.Uint8, false, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if relu && r.Min != 0 {
			t.Errorf("range %v of positive values", r)
		}
		best := math.Inf(1)
		lo := float32(0)
		for k := 1; k <= 100; k++ {
			for j := 0; j <= 100; j++ {
				if relu && j > 0 {
					break
				}
				lo = o.Min * float32(j) / 100
				best = min(best, mse(Range{lo, o.Max * float32(k) / 100}))
			}
		}
		if got := mse(r); got > best*1.1 {
			t.Errorf("relu %v: squared error %g of range %v, best of a fine search %g", relu, got, r, best)
		}
	}
}

func BenchmarkScales(b *testing.B) {
	for _, bits := range []int{2, 4, 8} {
		g, _ := TwosComplement(bits)
		w := normal(1, 512*512*9)
		b.Run(fmt.Sprint(bits), func(b *testing.B) {
			b.SetBytes(int64(len(w)))
			for b.Loop() {
				if _, err := Scales(w, []int64{512, 512, 3, 3}, 0, g); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
