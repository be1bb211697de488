package grad

import (
	"fmt"
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

// TestFreeBatch differentiates operators on a batch whose size is a symbol, and on one of the same size fixed; onnxruntime must give the
// same gradients for both.
func TestFreeBatch(t *testing.T) {
	d := func(v ...int64) []int64 { return v }
	hidden, both := ir.AInt("hidden_size", 3), ir.AString("direction", "bidirectional")
	for _, c := range []struct {
		op    string
		nout  int
		in    [][]int64
		free  []int // the axis of the batch in each input, -1 without
		sizes []int64
		attrs []ir.Attr
	}{
		{op: "RNN", nout: 2, in: [][]int64{d(4, 2, 5), d(1, 3, 5), d(1, 3, 3)}, free: []int{1, -1, -1}, attrs: []ir.Attr{hidden}},
		{op: "GRU", nout: 2, in: [][]int64{d(4, 2, 5), d(2, 9, 5), d(2, 9, 3), d(2, 18)}, free: []int{1, -1, -1, -1}, attrs: []ir.Attr{hidden, both}},
		{op: "LSTM", nout: 3, in: [][]int64{d(4, 2, 5), d(2, 12, 5), d(2, 12, 3), d(2, 24), nil, d(2, 2, 3), d(2, 2, 3)},
			free: []int{1, -1, -1, -1, -1, 1, 1}, attrs: []ir.Attr{hidden, both}},
		{op: "DeformConv", nout: 1, in: [][]int64{d(2, 4, 5, 5), d(6, 2, 2, 2), d(2, 16, 4, 4), d(6), d(2, 8, 4, 4)}, free: []int{0, -1, 0, -1, 0},
			attrs: []ir.Attr{ir.AInt("group", 2), ir.AInt("offset_group", 2)}},
		{op: "Col2Im", nout: 1, in: [][]int64{d(2, 8, 6)}, free: []int{0}, sizes: d(3, 4, 2, 2)},
		{op: "CenterCropPad", nout: 1, in: [][]int64{d(2, 6, 3)}, free: []int{0}, sizes: d(3, 6), attrs: []ir.Attr{ir.AInts("axes", 1, 2)}},
		{op: "RotaryEmbedding", nout: 1, in: [][]int64{d(2, 3, 8), d(2, 3, 2), d(2, 3, 2)}, free: []int{0, 0, 0}, attrs: []ir.Attr{ir.AInt("num_heads", 2)}},
	} {
		t.Run(c.op, func(t *testing.T) {
			run := func(fixed bool) [][]float64 {
				n := newNet(t)
				n.m.IRVersion = 11
				n.m.SetOpset("", 23)
				var in, wrt []*ir.Value
				for i, dims := range c.in {
					if dims == nil {
						in = append(in, nil)
						continue
					}
					v := n.input(fmt.Sprint("x", i), dims...)
					if a := c.free[i]; a >= 0 && !fixed {
						v.Type.Shape = v.Type.Shape.Clone()
						v.Type.Shape[a] = ir.Sym("N")
					}
					in, wrt = append(in, v), append(wrt, v)
				}
				for len(c.sizes) > 0 && len(in) < 1+len(c.sizes)/2 {
					k := 2 * (len(in) - 1)
					in = append(in, n.b.Int64s(c.sizes[k:k+2]...))
				}
				var loss *ir.Value
				for _, y := range n.b.Node(ir.NodeSpec{Op: c.op, Inputs: in, Attrs: c.attrs}, c.nout) {
					s := n.op("ReduceSum", []*ir.Value{n.op("Sin", []*ir.Value{y})}, ir.AInt("keepdims", 0))
					if loss == nil {
						loss = s
					} else {
						loss = n.op("Add", []*ir.Value{loss, s})
					}
				}
				g := n.grad(loss, wrt, Options{})
				if err := n.m.Graph.SetOutputs(g...); err != nil {
					t.Fatal(err)
				}
				feeds := map[string]*ir.Tensor{}
				for name, a := range n.feeds {
					feeds[name] = tensorOf(t, ir.Float32, a)
				}
				got, err := n.session().Run(feeds, nil)
				if err != nil {
					t.Fatal(err)
				}
				var out [][]float64
				for _, v := range g {
					f, err := got[v.Name()].Floats()
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
					t.Fatalf("gradient %d has %d elements, %d when the batch is fixed", i, len(got[i]), len(want[i]))
				}
				closeTo(t, "free batch against fixed", got[i], want[i], 1e-5, 0)
			}
		})
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
