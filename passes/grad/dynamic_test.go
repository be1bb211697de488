package grad

import (
	"testing"

	"mqatc/onnx/ir"
)

// TestDynamicSizes differentiates a graph whose batch and image size are symbols, and one of the same sizes fixed; onnxruntime
// must give the same gradients for both.
func TestDynamicSizes(t *testing.T) {
	build := func(fixed bool) (*net, []string) {
		n := newNet(t)
		x := n.input("x", 2, 2, 7, 6)
		w, b, m := n.input("w", 3, 2, 3, 3), n.input("b", 3, 1, 1), n.input("m", 3, 4)
		if !fixed {
			x.Type.Shape = ir.Shape{ir.Sym("N"), ir.D(2), ir.Sym("H"), ir.Sym("W")}
		}
		h := n.op("Conv", []*ir.Value{x, w}, ir.AInts("pads", 1, 1, 1, 1), ir.AInts("strides", 2, 2))
		h = n.op("Sigmoid", []*ir.Value{n.op("Add", []*ir.Value{h, b})})
		p := n.op("Flatten", []*ir.Value{n.op("GlobalAveragePool", []*ir.Value{h})})
		y := n.op("Softmax", []*ir.Value{n.op("MatMul", []*ir.Value{p, m})})
		c := n.op("Concat", []*ir.Value{y, n.op("Exp", []*ir.Value{y})}, ir.AInt("axis", 0))
		z := n.op("ReduceMean", []*ir.Value{n.op("Mul", []*ir.Value{c, c})}, ir.AInt("keepdims", 0))
		l := n.op("Add", []*ir.Value{z, n.op("ReduceSum", []*ir.Value{n.op("Mul", []*ir.Value{h, h})}, ir.AInt("keepdims", 0))})
		g := n.grad(l, []*ir.Value{x, w, b, m}, Options{})
		if err := n.m.Graph.SetOutputs(g...); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range g {
			names = append(names, v.Name())
		}
		return n, names
	}
	run := func(fixed bool) [][]float64 {
		n, names := build(fixed)
		feeds := map[string]*ir.Tensor{}
		for name, a := range n.feeds {
			feeds[name] = tensorOf(t, ir.Float32, a)
		}
		got, err := n.session().Run(feeds, nil)
		if err != nil {
			t.Fatal(err)
		}
		var out [][]float64
		for _, name := range names {
			f, err := got[name].Floats()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, f)
		}
		return out
	}
	want, got := run(true), run(false)
	for i := range want {
		if len(want[i]) != len(got[i]) {
			t.Fatalf("gradient %d has %d elements, %d when sizes are fixed", i, len(got[i]), len(want[i]))
		}
		closeTo(t, "dynamic against fixed", got[i], want[i], 1e-5, 0)
	}
}

// TestLateBroadcast sums down to sizes that are known only when the graph runs.
func TestLateBroadcast(t *testing.T) {
	for _, size := range []int64{1, 4} {
		n := newNet(t)
		a, b := n.input("a", 3, 4), n.input("b", size)
		a.Type.Shape = ir.Shape{ir.D(3), ir.Sym("A")}
		b.Type.Shape = ir.Shape{ir.Sym("B")}
		y := n.op("Mul", []*ir.Value{a, b})
		l := n.op("ReduceSum", []*ir.Value{n.op("Mul", []*ir.Value{y, y})}, ir.AInt("keepdims", 0))
		g := n.grad(l, []*ir.Value{b}, Options{})
		if err := n.m.Graph.SetOutputs(g...); err != nil {
			t.Fatal(err)
		}
		feeds := map[string]*ir.Tensor{"a": tensorOf(t, ir.Float32, n.feeds["a"]), "b": tensorOf(t, ir.Float32, n.feeds["b"])}
		got, err := n.session().Run(feeds, nil)
		if err != nil {
			t.Fatal(err)
		}
		f, _ := got[g[0].Name()].Floats()
		want := make([]float64, size)
		for i, x := range n.feeds["a"].v {
			k := int64(i) % 4 % size
			want[k] += 2 * x * x * n.feeds["b"].v[k]
		}
		closeTo(t, "gradient", f, want, 1e-5, 0)
	}
}
