package quant

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
	"mqatc/runtime/ort/orttest"
)

// pairSums are the largest sums of like sign of neighbours in a channels-last row.
func pairSums(q []int16, dims []int64) int {
	channels, positions := int(dims[1]), int(dims[2]*dims[3])
	row := channels * positions
	at := func(r, k int) int {
		if k >= row {
			return 0
		}
		return int(q[r*row+k%channels*positions+k/channels])
	}
	worst := 0
	for r := range int(dims[0]) {
		for k := 0; k < row; k += 2 {
			if a, b := at(r, k), at(r, k+1); a*b > 0 {
				worst = max(worst, max(a+b, -a-b))
			}
		}
	}
	return worst
}

func TestPairsStayBelowTheirLimit(t *testing.T) {
	for _, name := range []string{"lsq", "inq", "ptq"} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				dims := []int64{rapid.Int64Range(1, 4).Draw(t, "m"), rapid.Int64Range(1, 5).Draw(t, "c"), rapid.Int64Range(1, 3).Draw(t, "h"), rapid.Int64Range(1, 3).Draw(t, "w")}
				n := int(dims[0] * dims[1] * dims[2] * dims[3])
				w := rapid.SliceOfN(rapid.Float32Range(-1, 1), n, n).Draw(t, "weights")
				s := Site{Name: "w", Dims: dims, Axis: rapid.IntRange(-1, 0).Draw(t, "axis"), Bits: 8, Quantizer: name, PairLimit: PairLimit}
				q, err := Find(name)
				if err != nil {
					t.Fatal(err)
				}
				g, err := q.Grid(8)
				if err != nil {
					t.Fatal(err)
				}
				scale, err := s.Start(w)
				if err != nil {
					t.Fatal(err)
				}
				before := append([]float32(nil), w...)
				if q.Masked {
					free := make([]bool, n)
					for i := range free {
						free[i] = true
					}
					for _, f := range []float64{0.3, 0.6, 1} {
						if _, err := Freeze(s, scale, w, free, f); err != nil {
							t.Fatal(err)
						}
					}
				}
				c, err := newCodes(s, w, scale, g)
				if err != nil {
					t.Fatal(err)
				}
				if moved := c.limit(s); moved && q.Masked {
					t.Error("frozen pairs exceed the limit")
				}
				if top := pairSums(c.Q, dims); top > PairLimit {
					t.Errorf("a pair adds up to %d", top)
				}
				wide := make([]int64, n)
				for i, x := range c.Q {
					wide[i] = int64(x)
				}
				if err := CheckPairs(wide, dims, 1); err != nil {
					t.Error(err)
				}
				// Nothing may lose more than a 7-bit grid over the whole range would, a step at each end aside, or than the least scale there is.
				l := layoutOf(dims, s.Axis)
				top := make([]float64, l.channels)
				for i, x := range before {
					top[l.channel(i)] = max(top[l.channel(i)], math.Abs(float64(x)))
				}
				mine, seven := 0.0, 0.0
				for i, x := range c.Values() {
					d := float64(x - before[i])
					mine += d * d
					step := max(top[l.channel(i)]/63, leastScale)
					seven += step * step
				}
				if mine > seven {
					t.Errorf("squared error %g, above %g of a whole 7-bit step everywhere", mine, seven)
				}
			})
		})
	}
}

func TestWeightsWithoutElementsHaveNoPairs(t *testing.T) {
	for _, dims := range [][]int64{{2, 0, 3, 3}, {0, 2, 3, 3}} {
		s := Site{Name: "w", Dims: dims, Bits: 8, Quantizer: "lsq", PairLimit: PairLimit}
		if _, err := s.Start(nil); err != nil {
			t.Error(err)
		}
		if (&Codes{Grid: Grid{Lo: -128, Hi: 127}}).limit(s) || CheckPairs(nil, dims, 1) != nil {
			t.Errorf("%v has pairs", dims)
		}
	}
}

func TestPairsThatExceedTheLimitAreNamed(t *testing.T) {
	dims := []int64{2, 2, 1, 1}
	if err := CheckPairs([]int64{64, 64, 0, 0}, dims, 1); err != nil {
		t.Error(err)
	}
	if err := CheckPairs([]int64{0, 0, -64, -65}, dims, 1); err == nil {
		t.Error("a pair of -129 passes")
	}
	if err := CheckPairs([]int64{127, -127, -127, 127}, dims, 1); err != nil {
		t.Error(err)
	}
}

// TestGradientOfLimitedPairs: below the limit codes pass their gradients on; above it their difference does, and their sum, which
// stays at the limit, does not, as beyond the range of Clip.
func TestGradientOfLimitedPairs(t *testing.T) {
	orttest.TestLibrary(t)
	up := []float32{3, 0.5}
	for _, c := range []struct {
		w, want []float32
		step    float32
	}{
		{[]float32{10, 20}, up, 0},
		{[]float32{100, 100}, []float32{1.25, -1.25}, 64*3 + 64*0.5},
		{[]float32{-120, -30}, []float32{1.25, -1.25}, (-109+45)*3 + (-19-45)*0.5},
		{[]float32{-120, 30}, up, 0},
	} {
		m := weightModel(t, c.w, 1, 2, 1, 1)
		rep, err := Insert(m, Spec{Weights: map[string]WeightSpec{"W": {Bits: 8, Quantizer: "lsq", Scale: []float32{1}, Pairs: true}}})
		if err != nil {
			t.Fatal(err)
		}
		b := ir.NewBuilder(m.Graph, "test", op.InferNode)
		loss := b.Op("ReduceSum", []*ir.Value{b.Op("Mul", []*ir.Value{m.Graph.Value(rep.Weights[0].Output), b.Floats(up, 1, 2, 1, 1)})}, ir.AInt("keepdims", 0))
		g, err := grad.Gradients(m.Graph, []grad.Seed{{Value: loss}}, []*ir.Value{m.Graph.Value("W"), m.Graph.Value("W" + StepSuffix)}, grad.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := runOne(t, m, g[0].Name()); !slices.Equal(got, c.want) {
			t.Errorf("%v: gradient %v, want %v", c.w, got, c.want)
		}
		if got := runOne(t, m, g[1].Name())[0]; got != c.step {
			t.Errorf("%v: gradient of the step %g, want %g", c.w, got, c.step)
		}
	}
}
