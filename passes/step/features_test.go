package step_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/memory"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/train"
)

func TestAverageFollowsItsFormula(t *testing.T) {
	orttest.TestLibrary(t)
	m := tiny(t)
	params := step.Trainable(m)
	params[0].Masked = true
	free, err := ir.FromBools(make([]bool, 4*2*9), 4, 2, 3, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, accumulate := range []bool{false, true} {
		more := map[string]*ir.Tensor{params[0].Name + step.Mask: free}
		want := map[string][]float64{}
		for _, p := range params {
			more[p.Name+step.Average] = m.Graph.Value(p.Name).Init()
			v, _ := m.Graph.Value(p.Name).Init().Floats()
			want[p.Name] = append([]float64{}, v...)
		}
		e := engine(t, m, step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params, Accumulate: accumulate, Optimizer: step.Optimizer{Name: "sgd", EMA: 0.3}}, more)
		for k := range 6 {
			if _, err := e.Step(0.05, batchOf(t, 10, k, k+1, k+2, k+3)); err != nil {
				t.Fatal(err)
			}
			d := math.Min(0.3, float64(k+2)/float64(k+11))
			for _, p := range params {
				for i, w := range e.Buffer(p.Name).Float32s() {
					want[p.Name][i] = d*want[p.Name][i] + (1-d)*float64(w)
				}
			}
		}
		for _, p := range params {
			for i, a := range e.Buffer(p.Name + step.Average).Float32s() {
				if math.Abs(float64(a)-want[p.Name][i]) > 1e-6 {
					t.Fatalf("%s[%d]: average %v, want %v", p.Name, i, a, want[p.Name][i])
				}
			}
		}
		first, _ := m.Graph.Value(params[0].Name).Init().Float32s()
		for i, a := range e.Buffer(params[0].Name + step.Average).Float32s() {
			if math.Float32bits(a) != math.Float32bits(first[i]) {
				t.Fatalf("the average of a frozen weight moved: %v, %v", first[i], a)
			}
		}
	}
}

// normalized is tiny with a BatchNormalization behind its first convolution.
func normalized(t testing.TB) *ir.Model {
	t.Helper()
	m := tiny(t)
	g := m.Graph
	b := ir.NewBuilder(g, "", op.InferNode)
	var c *ir.Node
	for n := g.First(); n != nil; n = n.Next() {
		if n.Op == "Sigmoid" {
			c = n
		}
	}
	x := c.Input(0)
	b.Before = c
	var in []*ir.Value
	for i, v := range []float32{1.5, 0.25, 0.1, 0.8} {
		d, err := ir.FromFloat32s([]float32{v, v + 0.1, v + 0.2, v + 0.3}, 4)
		if err != nil {
			t.Fatal(err)
		}
		w, err := g.AddInitializer([]string{"bn.weight", "bn.bias", "bn.mean", "bn.var"}[i], d)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, w)
	}
	y := b.Op("BatchNormalization", append([]*ir.Value{x}, in...), ir.AFloat("momentum", 0.7), ir.AFloat("epsilon", 1e-4))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := g.SetInput(c, 0, y); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBatchStatistics(t *testing.T) {
	orttest.TestLibrary(t)
	m := normalized(t)
	params := step.Trainable(m)
	stats := step.Statistics(m, params)
	if fmt.Sprint(stats) != "[bn.mean bn.var]" {
		t.Fatalf("statistics %v", stats)
	}
	more := map[string]*ir.Tensor{}
	for _, s := range stats {
		more[s] = m.Graph.Value(s).Init()
	}
	o := step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params, BatchStatistics: true, EmitGrads: true, Optimizer: step.Optimizer{Name: "sgd"}}
	e := engine(t, m, o, more)
	batch := batchOf(t, 10, 1, 2, 3, 4)
	checkGradients(t, e, params, batch, 1e-2, 5e-3)

	// The convolution's output, for the statistics in float64.
	conv := convolved(t, m, batch)
	e = engine(t, m, o, more)
	if _, err := e.Step(0, batch); err != nil {
		t.Fatal(err)
	}
	for c := range 4 {
		var sum, square, n float64
		for i, v := range conv {
			if i/36%4 == c {
				sum, square, n = sum+float64(v), square+float64(v)*float64(v), n+1
			}
		}
		mean := sum / n
		variance := square/n - mean*mean
		old := 0.1 * float64(c)
		if got, want := float64(e.Buffer("bn.mean").Float32s()[c]), 0.7*(0.1+old)+0.3*mean; math.Abs(got-want) > 1e-5 {
			t.Errorf("mean of channel %d: %v, want %v", c, got, want)
		}
		if got, want := float64(e.Buffer("bn.var").Float32s()[c]), 0.7*(0.8+old)+0.3*variance; math.Abs(got-want) > 1e-5 {
			t.Errorf("variance of channel %d: %v, want %v", c, got, want)
		}
	}
	frozen := engine(t, m, step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params[:2], BatchStatistics: true, Optimizer: step.Optimizer{Name: "sgd"}}, nil)
	if frozen.Buffer("bn.mean") != nil {
		t.Error("a normalization that is not trained has running statistics that move")
	}

	// Summed over two halves, the statistics go through both.
	o.Accumulate, o.EmitGrads, o.Batch = true, false, 2
	e = engine(t, m, o, more)
	if _, err := e.Step(0, batchOf(t, 10, 1, 2), batchOf(t, 10, 3, 4)); err != nil {
		t.Fatal(err)
	}
	for c := range 4 {
		want := 0.1 + 0.1*float64(c)
		for half := range 2 {
			mean := 0.0
			for i, v := range conv[half*2*144 : (half+1)*2*144] {
				if i/36%4 == c {
					mean += float64(v) / 72
				}
			}
			want = 0.7*want + 0.3*mean
		}
		if got := float64(e.Buffer("bn.mean").Float32s()[c]); math.Abs(got-want) > 1e-5 {
			t.Errorf("mean of channel %d after two halves: %v, want %v", c, got, want)
		}
	}
	if snapshot(t, e)["bn.mean"] == nil {
		t.Error("a snapshot lacks the running statistics")
	}
}

// convolved is the output of the first convolution, [4,4,6,6].
func convolved(t *testing.T, m *ir.Model, batch train.Feeds) []float32 {
	t.Helper()
	c, err := m.Clone()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Graph.SetOutputs(c.Graph.First().Output(0)); err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(bytesOf(t, c), ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(map[string]*ir.Tensor{"x": batch["x"]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out {
		f, err := v.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	return nil
}

func TestUnrolledStepsEqualSingleOnes(t *testing.T) {
	orttest.TestLibrary(t)
	m := normalized(t)
	params := step.Trainable(m)
	o := step.Options{Loss: meanSquare(t, 4), Batch: 4, Params: params, BatchStatistics: true,
		Optimizer: step.Optimizer{Name: "adam", EMA: 0.9, ClipNorm: 1, WeightDecay: 0.01}}
	state := map[string]*ir.Tensor{"bn.mean": m.Graph.Value("bn.mean").Init(), "bn.var": m.Graph.Value("bn.var").Init()}
	for _, p := range params {
		state[p.Name+step.Average] = m.Graph.Value(p.Name).Init()
	}
	const k = 3
	e := engine(t, m, o, state)
	feeds := map[string]*ir.Tensor{}
	for name, v := range snapshot(t, e) {
		feeds[name] = v
	}
	var losses []float64
	for i := range k {
		b := batchOf(t, 10, i, i+1, i+2, i+3)
		for name, v := range b {
			feeds[fmt.Sprintf("%s.%d", name, i)] = v
		}
		for name, v := range map[string]float32{step.LR: 0.05 / float32(i+1), step.StepNumber: float32(i + 1)} {
			f, err := ir.FromFloat32s([]float32{v}, 1)
			if err != nil {
				t.Fatal(err)
			}
			feeds[fmt.Sprintf("%s.%d", name, i)] = f
		}
		l, err := e.Step(float64(0.05/float32(i+1)), b)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, l)
	}
	single, err := step.Build(m, o)
	if err != nil {
		t.Fatal(err)
	}
	u, err := step.Unroll(single, k)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(bytesOf(t, u), ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range losses {
		f, _ := out[fmt.Sprintf("loss.%d", i)].Float32s()
		if math.Abs(float64(f[0])-want) > 1e-6*want {
			t.Errorf("loss of step %d: %v, want %v", i, f[0], want)
		}
	}
	for name, want := range snapshot(t, e) {
		got := out[name+step.New]
		if got == nil {
			t.Fatalf("no output %s", name+step.New)
		}
		a, _ := want.Float32s()
		b, _ := got.Float32s()
		for i := range a {
			if math.Abs(float64(a[i]-b[i])) > 1e-6*math.Max(1, math.Abs(float64(a[i]))) {
				t.Fatalf("%s[%d]: %v in one graph, %v step by step", name, i, b[i], a[i])
			}
		}
	}
	if a, b := len(single.Graph.Initializers()), len(u.Graph.Initializers()); a != b {
		t.Errorf("%d constants in one step, %d in %d steps", a, b, k)
	}
	if _, err := step.Unroll(single, 0); err == nil {
		t.Error("0 steps were accepted")
	}
	o.Accumulate = true
	sums, err := step.Build(m, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := step.Unroll(sums, 2); err == nil {
		t.Error("a graph that sums gradients was unrolled")
	}
}

func TestRecomputedStepsHaveTheSameBits(t *testing.T) {
	orttest.TestLibrary(t)
	m, data, loss := poseProblem(t, 64, 0.25, 8)
	params := step.Trainable(m)
	o := step.Options{Loss: loss, Batch: 4, Params: params, EmitGrads: true, Optimizer: step.Optimizer{Name: "sgd", Momentum: 0.9}}
	batch := firstImages(t, data, 4, 1)
	grads := func(segments int) (map[string][]byte, *ir.Model) {
		o.Recompute = segments
		s, err := step.Build(m, o)
		if err != nil {
			t.Fatal(err)
		}
		e := engine(t, m, o, nil)
		for range 2 {
			if _, err := e.Step(0.01, batch); err != nil {
				t.Fatal(err)
			}
		}
		out := map[string][]byte{}
		for _, p := range params {
			out[p.Name] = bytes.Clone(e.Output(p.Name + step.Grad).Bytes())
		}
		for name, v := range snapshot(t, e) {
			out[name] = bytes.Clone(v.Raw())
		}
		return out, s
	}
	want, whole := grads(0)
	for _, segments := range []int{memory.Auto, 2, 5, 12} {
		got, s := grads(segments)
		for name := range want {
			if !bytes.Equal(got[name], want[name]) {
				t.Errorf("%d segments: %s has other bits", segments, name)
			}
		}
		a, b := memory.Least(whole.Graph, step.New), memory.Least(s.Graph, step.New)
		// Fixed numbers of segments may be ill placed; Auto tries and takes the best.
		if s.Graph.NumNodes() <= whole.Graph.NumNodes() || segments == memory.Auto && b >= a {
			t.Errorf("%d segments: %d nodes and %d bytes, without %d nodes and %d bytes", segments, s.Graph.NumNodes(), b, whole.Graph.NumNodes(), a)
		}
	}
	if _, err := step.Build(m, step.Options{Loss: loss, Batch: 4, Params: params, Recompute: -2}); err == nil {
		t.Error("-2 segments were accepted")
	}
}
