package ort_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"mqatc/onnx/ir"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func buffer(t testing.TB, d ir.DType, dims ...int64) *ort.Buffer {
	t.Helper()
	b, err := ort.NewBuffer(d, dims...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func bind(t testing.TB, s *ort.Session, in, out map[string]*ort.Buffer) *ort.Binding {
	t.Helper()
	b, err := s.Bind(in, out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// descent is one step of w.new = w - lr (w - goal) and the scalar loss sum((w - goal)^2), n elements.
func descent(t testing.TB, n int64) []byte {
	g := newGraph(t, 17)
	sh := ir.StaticShape(n)
	w, goal, lr := g.in("w", ir.Float32, sh), g.in("goal", ir.Float32, sh), g.in("lr", ir.Float32, ir.StaticShape())
	d := g.op("Sub", "d", []*ir.Value{w, goal})
	loss := g.op("ReduceSumSquare", "loss", []*ir.Value{d}, ir.AInt("keepdims", 0))
	g.out(loss, ir.Float32, ir.StaticShape())
	g.out(g.op("Sub", "w.new", []*ir.Value{w, g.op("Mul", "step", []*ir.Value{d, lr})}), ir.Float32, sh)
	return g.bytes()
}

func TestDoubleBuffering(t *testing.T) {
	const n = 300
	s := open(t, descent(t, n), ort.SessionOptions{Threads: 1})
	w := [2]*ort.Buffer{buffer(t, ir.Float32, n), buffer(t, ir.Float32, n)}
	goal, lr, loss := buffer(t, ir.Float32, n), buffer(t, ir.Float32), buffer(t, ir.Float32)
	var steps [2]*ort.Binding
	for i := range steps {
		steps[i] = bind(t, s, map[string]*ort.Buffer{"w": w[i], "goal": goal, "lr": lr}, map[string]*ort.Buffer{"w.new": w[1-i], "loss": loss})
	}
	want := make([]float32, n)
	for i := range want {
		goal.Float32s()[i] = float32(i) / 8
	}
	rate := float32(0.5)
	for step := range 2000 {
		if step == 1000 {
			rate = 0.25
		}
		lr.Float32s()[0] = rate
		var wantLoss float32
		for i := range want {
			d := want[i] - goal.Float32s()[i]
			wantLoss += d * d
			want[i] -= rate * d
		}
		if err := steps[step%2].Run(); err != nil {
			t.Fatal(err)
		}
		if got := loss.Float32s()[0]; got-wantLoss > 1e-5*wantLoss || wantLoss-got > 1e-5*wantLoss {
			t.Fatalf("step %d: loss %g, want %g", step, got, wantLoss)
		}
		if got := w[1-step%2].Float32s()[n-1]; got != want[n-1] {
			t.Fatalf("step %d: w %g, want %g", step, got, want[n-1])
		}
	}
	if a := testing.AllocsPerRun(100, func() {
		if err := steps[0].Run(); err != nil {
			t.Error(err)
		}
	}); a != 0 {
		t.Errorf("%v allocations per run", a)
	}
}

func TestBindErrors(t *testing.T) {
	s := open(t, descent(t, 4), ort.SessionOptions{})
	w, goal, lr, next, wide, loss := buffer(t, ir.Float32, 4), buffer(t, ir.Float32, 4), buffer(t, ir.Float32), buffer(t, ir.Float32, 4), buffer(t, ir.Float32, 5), buffer(t, ir.Float32)
	whole := map[string]*ort.Buffer{"w": w, "goal": goal, "lr": lr}
	for name, c := range map[string]struct {
		in, out map[string]*ort.Buffer
		want    string
	}{
		"missing input":  {map[string]*ort.Buffer{"w": w, "goal": goal}, map[string]*ort.Buffer{"w.new": next}, `input "lr" has no buffer`},
		"unknown input":  {map[string]*ort.Buffer{"w": w, "goal": goal, "lr": lr, "x": lr}, nil, `no input "x"`},
		"unknown output": {whole, map[string]*ort.Buffer{"x": next}, `no output "x"`},
		"sizes":          {whole, map[string]*ort.Buffer{"w.new": wide}, `output "w.new": buffer is float[5], the model has float[4]`},
		"rank":           {map[string]*ort.Buffer{"w": w, "goal": goal, "lr": w}, nil, `input "lr": buffer is float[4]`},
		"in and out":     {whole, map[string]*ort.Buffer{"w.new": w}, "cannot use it twice"},
		"out twice":      {whole, map[string]*ort.Buffer{"w.new": next, "loss": nil}, `output "loss" has no buffer`},
		"type":           {map[string]*ort.Buffer{"w": buffer(t, ir.Int32, 4), "goal": goal, "lr": lr}, nil, `input "w": buffer is int32[4]`},
	} {
		if _, err := s.Bind(c.in, c.out); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := s.Bind(whole, map[string]*ort.Buffer{"w.new": next, "loss": loss})
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err == nil || next.Float32s() == nil {
		t.Errorf("a bound buffer was closed: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Run(); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("run after Close: %v", err)
	}
	if err := next.Close(); err != nil || next.Float32s() != nil || next.Bytes() != nil {
		t.Errorf("closed buffer: %v", err)
	}
	if _, err := s.Bind(whole, map[string]*ort.Buffer{"w.new": next}); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("bind of a closed buffer: %v", err)
	}
}

func TestBuffer(t *testing.T) {
	orttest.TestLibrary(t)
	for _, d := range []ir.DType{ir.Float32, ir.Float64, ir.Int64, ir.Int32, ir.Int8, ir.Uint8, ir.Bool, ir.Float16, ir.Int4} {
		b := buffer(t, d, 2, 3)
		n := map[ir.DType]int{ir.Float32: len(b.Float32s()), ir.Float64: len(b.Float64s()), ir.Int64: len(b.Int64s()), ir.Int32: len(b.Int32s()),
			ir.Int8: len(b.Int8s()), ir.Uint8: len(b.Uint8s()), ir.Bool: len(b.Bools())}
		for vt, k := range n {
			if want := map[bool]int{true: 6}[vt == d]; k != want {
				t.Errorf("%v buffer shows %d elements as %v", d, k, vt)
			}
		}
		raw := make([]byte, len(b.Bytes()))
		for i := range raw {
			raw[i] = byte(i)
		}
		x, err := ir.NewTensor(d, []int64{2, 3}, raw)
		if err := b.Set(tensor(t, x, err)); err != nil {
			t.Error(err)
		}
		y, err := b.Tensor()
		if err != nil || string(y.Raw()) != string(raw) || fmt.Sprint(y.Dims()) != "[2 3]" {
			t.Errorf("%v: %v %v", d, y, err)
		}
		if err := b.Set(ir.ScalarFloat32(1)); err == nil {
			t.Error("set from another shape")
		}
	}
	for _, dims := range [][]int64{{-1}, {1 << 62}, {1 << 40, 1 << 20}} {
		if _, err := ort.NewBuffer(ir.Float32, dims...); err == nil {
			t.Errorf("buffer of %v", dims)
		}
	}
}

// BenchmarkBindingRun shows what a run costs besides arithmetic: one node on 8 elements, with 0 or 200 further bound inputs.
func BenchmarkBindingRun(b *testing.B) {
	for _, extra := range []int{0, 200} {
		b.Run(fmt.Sprintf("%d_weights", extra), func(b *testing.B) {
			g := newGraph(b, 17)
			sh := ir.StaticShape(8)
			sum := []*ir.Value{g.in("x", ir.Float32, sh)}
			for i := range extra {
				sum = append(sum, g.in(fmt.Sprint("w", i), ir.Float32, sh))
			}
			y := g.op("Sum", "y", sum)
			g.out(y, ir.Float32, sh)
			s := open(b, g.bytes(), ort.SessionOptions{Threads: 1})
			in := map[string]*ort.Buffer{}
			feeds := map[string]*ir.Tensor{}
			for _, v := range s.Inputs() {
				in[v.Name] = buffer(b, ir.Float32, 8)
				x, err := in[v.Name].Tensor()
				feeds[v.Name] = tensor(b, x, err)
			}
			run := bind(b, s, in, map[string]*ort.Buffer{"y": buffer(b, ir.Float32, 8)})
			b.Run("binding", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := run.Run(); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("map", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Run(feeds, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkEvaluator is one throw-away session: what constant folding pays per call.
func BenchmarkEvaluator(b *testing.B) {
	orttest.TestLibrary(b)
	model := sumAndProduct(b)
	a, err := ir.FromFloat32s([]float32{1, 2}, 1, 2)
	feeds := map[string]*ir.Tensor{"a": tensor(b, a, err), "b": ir.ScalarFloat32(1)}
	for b.Loop() {
		if _, err := (ort.Evaluator{}).Run(model, feeds); err != nil {
			b.Fatal(err)
		}
	}
}

func TestStatesInPlace(t *testing.T) {
	const n = 300
	raw, err := ort.Optimize(descent(t, n), ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, raw, ort.SessionOptions{Threads: 1, OptLevel: ort.DisableAll})
	block := buffer(t, ir.Uint8, 8192)
	w, err := block.View(4096, ir.Float32, n)
	if err != nil {
		t.Fatal(err)
	}
	if err := block.Close(); err == nil {
		t.Error("a buffer with a view was closed")
	}
	goal, lr, loss := buffer(t, ir.Float32, n), buffer(t, ir.Float32), buffer(t, ir.Float32)
	for i := range goal.Float32s() {
		goal.Float32s()[i] = float32(i)
	}
	lr.Float32s()[0] = 0.5
	in, out := map[string]*ort.Buffer{"w": w, "goal": goal, "lr": lr}, map[string]*ort.Buffer{"w.new": w, "loss": loss}
	if _, err := s.Bind(in, out); err == nil {
		t.Error("one buffer for input and output was bound unasked")
	}
	b, err := s.Bind(in, out, "w.new")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := b.Run(); err != nil {
			t.Fatal(err)
		}
	}
	for i, x := range w.Float32s() {
		if want := float32(i) * 0.875; x != want {
			t.Fatalf("element %d is %v, want %v", i, x, want)
		}
	}
	if err := errors.Join(b.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ at, n int64 }{{-64, 1}, {4, 1}, {8192, 1}, {4096, 1025}} {
		if _, err := block.View(c.at, ir.Float32, c.n); err == nil {
			t.Errorf("a view of %d elements at %d", c.n, c.at)
		}
	}
}

// TestLargeBuffers: memory that the system gives begins with zeros, at an address that vectors want, whatever stood there before.
func TestLargeBuffers(t *testing.T) {
	orttest.TestLibrary(t)
	for range 3 {
		for _, n := range []int64{1<<20 - 1, 1 << 20, 3<<20 + 5} {
			b, err := ort.NewBuffer(ir.Uint8, n)
			if err != nil {
				t.Fatal(err)
			}
			x := b.Bytes()
			if int64(len(x)) != n || uintptr(unsafe.Pointer(&x[0]))%64 != 0 {
				t.Errorf("%d bytes at %p, want %d", len(x), &x[0], n)
			}
			for i := range x {
				if x[i] != 0 {
					t.Fatalf("%d bytes: byte %d is %d", n, i, x[i])
				}
				x[i] = 1
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
