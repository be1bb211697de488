package problem

import (
	"math"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/task/loss"
)

// chain is x -> inside -> deeper -> y, each of another size.
func chain(t *testing.T) *ir.Model {
	t.Helper()
	m := ir.NewModel("chain", 17)
	b := ir.NewBuilder(m.Graph, "test", op.InferNode)
	v, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.Shape{ir.Sym("N"), ir.D(3)}))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"inside", "deeper", "y"} {
		w := make([]float32, (3+i)*(4+i))
		for k := range w {
			w[k] = float32(math.Sin(float64(k + i)))
		}
		v = b.Node(ir.NodeSpec{Op: "MatMul", Inputs: []*ir.Value{v, b.Floats(w, int64(3+i), int64(4+i))}, Outputs: []string{name}}, 1)[0]
	}
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.AddOutput(v); err != nil {
		t.Fatal(err)
	}
	return m
}

func numbers(t *testing.T, width int64, from float64) *ir.Tensor {
	t.Helper()
	v := make([]float32, 2*width)
	for i := range v {
		v[i] = float32(math.Cos(from + 1.7*float64(i)))
	}
	x, err := ir.FromFloat32s(v, 2, width)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func lossValue(t *testing.T, l *ir.Model, feeds map[string]*ir.Tensor) float64 {
	t.Helper()
	orttest.TestLibrary(t)
	run, done, err := Runner(l, ort.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	own := map[string]*ir.Tensor{}
	for _, v := range l.Graph.Inputs() {
		own[v.Name()] = feeds[v.Name()]
	}
	out, err := run(own)
	if err != nil {
		t.Fatal(err)
	}
	f, err := out[loss.Output].Floats()
	if err != nil || len(f) != 1 {
		t.Fatalf("loss %v, %v", f, err)
	}
	return f[0]
}

func same(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-5*math.Abs(want)) {
		t.Errorf("%s is %g, not %g", what, got, want)
	}
}

// TestSeveralLosses: what --loss own=2,distill=0.1,smooth-l1=3 names is that sum.
func TestSeveralLosses(t *testing.T) {
	m := chain(t)
	own := map[string]func() (*ir.Model, error){"own": func() (*ir.Model, error) {
		l := ir.NewModel("own", 17)
		b := ir.NewBuilder(l.Graph, "test", op.InferNode)
		y, err := l.Graph.AddInput("y", ir.TensorType(ir.Float32, ir.Shape{ir.Sym("N"), ir.D(6)}))
		if err != nil {
			return nil, err
		}
		out := b.Node(ir.NodeSpec{Op: "ReduceMean", Inputs: []*ir.Value{b.Op("Exp", []*ir.Value{y})}, Outputs: []string{loss.Output}, Attrs: []ir.Attr{ir.AInt("keepdims", 0)}}, 1)[0]
		return l, l.Graph.SetOutputs(out)
	}}
	feeds := map[string]*ir.Tensor{"y": numbers(t, 6, 0), "y" + distill.Teacher: numbers(t, 6, 0.5), "y" + loss.Target: numbers(t, 6, 2)}
	value := func(name string) float64 {
		l, err := named(m, name, own)
		if err != nil {
			t.Fatal(err)
		}
		return lossValue(t, l.Model, feeds)
	}
	want := 2*value("own") + 0.1*value(task.LossDistill) + 3*value("smooth-l1")
	same(t, "the sum", value("own=2,distill=0.1,smooth-l1=3"), want)
	if _, err := named(m, "own=1,nothing=2", own); err == nil {
		t.Error("a loss of no known name is taken")
	}
}

// TestDistilledValues: with --distill inside,deeper those two count in the loss as the output does, each by a third.
func TestDistilledValues(t *testing.T) {
	m := chain(t)
	seen, err := exposed(m, []string{"inside", "deeper"})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.Graph.Outputs()); n != 1 {
		t.Errorf("the network itself has %d outputs now", n)
	}
	feeds := map[string]*ir.Tensor{}
	for i, name := range []string{"inside", "deeper", "y"} {
		feeds[name], feeds[name+distill.Teacher] = numbers(t, int64(4+i), float64(i)), numbers(t, int64(4+i), 0.3+1.2*float64(i))
	}
	all, want := 0.0, 0.0
	for _, v := range seen.Graph.Outputs() {
		l, err := distill.Loss([]*ir.Value{v})
		if err != nil {
			t.Fatal(err)
		}
		want += lossValue(t, l, feeds) / 3
	}
	l, err := named(seen, task.LossDistill, nil)
	if err != nil {
		t.Fatal(err)
	}
	all = lossValue(t, l.Model, feeds)
	same(t, "the loss", all, want)
	weighted, err := named(seen, "distill=0.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "a tenth of the loss", lossValue(t, weighted.Model, feeds), all/10)
	for _, name := range []string{"nothing", "x", "y"} {
		if _, err := exposed(m, []string{name}); err == nil {
			t.Errorf("%q is compared", name)
		}
	}
}
