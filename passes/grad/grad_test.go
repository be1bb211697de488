package grad

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// net is a small graph under construction.
type net struct {
	t     *testing.T
	m     *ir.Model
	b     *ir.Builder
	feeds map[string]*arr
	r     *rand.Rand
}

func newNet(t *testing.T) *net {
	m := ir.NewModel("net", 17)
	return &net{t, m, ir.NewBuilder(m.Graph, "test", op.InferNode), map[string]*arr{}, rand.New(rand.NewPCG(1, 2))}
}

func (n *net) input(name string, dims ...int64) *ir.Value {
	n.t.Helper()
	v, err := n.m.Graph.AddInput(name, ir.TensorType(ir.Float32, ir.StaticShape(dims...)))
	if err != nil {
		n.t.Fatal(err)
	}
	n.feeds[name] = randArr(n.r, dims)
	return v
}

func (n *net) op(op string, in []*ir.Value, a ...ir.Attr) *ir.Value { return n.b.Op(op, in, a...) }

func (n *net) grad(out *ir.Value, wrt []*ir.Value, o Options) []*ir.Value {
	n.t.Helper()
	if err := n.b.Err(); err != nil {
		n.t.Fatal(err)
	}
	g, err := Gradients(n.m.Graph, []Seed{{Value: out}}, wrt, o)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.m.Graph.Verify(); err != nil {
		n.t.Fatal(err)
	}
	return g
}

func (n *net) eval() *evaluator {
	n.t.Helper()
	e := &evaluator{}
	if err := e.run(n.m.Graph, n.feeds); err != nil {
		n.t.Fatal(err)
	}
	return e
}

func (n *net) session() *ort.Session {
	n.t.Helper()
	orttest.TestLibrary(n.t)
	raw, err := format.Marshal(n.m)
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { s.Close() })
	return s
}

// convNet is two convolutions with a smooth nonlinearity and a squared error; it returns the loss and the parameters.
func convNet(n *net) (loss *ir.Value, params []*ir.Value) {
	x, t := n.input("x", 2, 2, 4, 4), n.input("t", 2, 2, 2, 2)
	w1, b1 := n.input("w1", 3, 2, 3, 3), n.input("b1", 3)
	w2, b2 := n.input("w2", 2, 3, 3, 3), n.input("b2", 2)
	pads := ir.AInts("pads", 1, 1, 1, 1)
	h := n.op("Sigmoid", []*ir.Value{n.op("Conv", []*ir.Value{x, w1, b1}, pads)})
	y := n.op("Conv", []*ir.Value{h, w2, b2}, pads, ir.AInts("strides", 2, 2))
	d := n.op("Sub", []*ir.Value{y, t})
	loss = n.op("ReduceMean", []*ir.Value{n.op("Mul", []*ir.Value{d, d})}, ir.AInt("keepdims", 0))
	return loss, []*ir.Value{w1, b1, w2, b2}
}

// TestHessian compares Hessian-vector products, run by onnxruntime, with the Hessian built column by column from central
// differences of the gradient in double precision, and their sum over unit vectors with its trace.
func TestHessian(t *testing.T) {
	n := newNet(t)
	loss, params := convNet(n)
	grads := n.grad(loss, params, Options{})
	nodes := n.m.Graph.NumNodes()
	gradNet := &evaluator{}
	gradient := func() (out []float64) {
		if err := gradNet.run(n.m.Graph, n.feeds); err != nil {
			t.Fatal(err)
		}
		for _, g := range grads {
			out = append(out, gradNet.get(g).v...)
		}
		return out
	}
	hess := differences(n, params, gradient)
	if n.m.Graph.NumNodes() != nodes {
		t.Fatal("the graph changed")
	}

	var sum *ir.Value
	for i, g := range grads {
		d, _ := params[i].StaticDims()
		v := n.input("v_"+params[i].Name(), d...)
		p := n.op("ReduceSum", []*ir.Value{n.op("Mul", []*ir.Value{g, v})}, ir.AInt("keepdims", 0))
		if sum == nil {
			sum = p
		} else {
			sum = n.op("Add", []*ir.Value{sum, p})
		}
	}
	hvs := n.grad(sum, params, Options{})
	if err := n.m.Graph.SetOutputs(hvs...); err != nil {
		t.Fatal(err)
	}
	sess := n.session()
	hv := func(v []float64) (out []float64) {
		feeds := map[string]*ir.Tensor{}
		for name, a := range n.feeds {
			feeds[name] = tensorOf(t, ir.Float32, a)
		}
		for _, p := range params {
			a := &arr{n.feeds[p.Name()].shape, v[:len(n.feeds[p.Name()].v)]}
			v = v[len(a.v):]
			feeds["v_"+p.Name()] = tensorOf(t, ir.Float32, a)
		}
		got, err := sess.Run(feeds, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hvs {
			f, _ := got[h.Name()].Floats()
			out = append(out, f...)
		}
		return out
	}
	trace, want := 0.0, 0.0
	for i := range hess {
		unit := make([]float64, len(hess))
		unit[i] = 1
		col := hv(unit)
		closeTo(t, "column of the Hessian", col, hess[i], 1e-4, 1e-6)
		trace += col[i]
		want += hess[i][i]
	}
	if math.Abs(trace-want) > 1e-4*math.Abs(want) {
		t.Errorf("trace %g, explicitly %g", trace, want)
	}
	v := randArr(n.r, []int64{int64(len(hess))}).v
	prod := make([]float64, len(hess))
	for i := range hess {
		for j := range hess {
			prod[i] += hess[j][i] * v[j]
		}
	}
	closeTo(t, "product with a random vector", hv(v), prod, 1e-4, 1e-6)
}

// differences are the central differences of f by each element of params.
func differences(n *net, params []*ir.Value, f func() []float64) [][]float64 {
	var out [][]float64
	for _, p := range params {
		a := n.feeds[p.Name()]
		for k := range a.v {
			old := a.v[k]
			a.v[k] = old + 1e-4
			up := f()
			a.v[k] = old - 1e-4
			down := f()
			a.v[k] = old
			for i := range up {
				up[i] = (up[i] - down[i]) / 2e-4
			}
			out = append(out, up)
		}
	}
	return out
}

// TestLSQ checks Div, Clip, Round, Mul against the step-size gradient of Esser et al. 2020, equation 3, and the straight-through
// gradient of equation 5.
func TestLSQ(t *testing.T) {
	n := newNet(t)
	w, s, u := n.input("w", 40), n.input("s", 1), n.input("u", 40)
	n.feeds["s"].v[0] = 0.3
	qn, qp := 4.0, 3.0
	clip := n.op("Clip", []*ir.Value{n.op("Div", []*ir.Value{w, s}), n.b.Float(float32(-qn)), n.b.Float(float32(qp))})
	q := n.op("Mul", []*ir.Value{n.op("Round", []*ir.Value{clip}), s})
	loss := n.op("ReduceSum", []*ir.Value{n.op("Mul", []*ir.Value{q, u})}, ir.AInt("keepdims", 0))
	g := n.grad(loss, []*ir.Value{w, s}, Options{})
	e := n.eval()
	var dw []float64
	ds := 0.0
	for i, x := range n.feeds["w"].v {
		v, up := x/0.3, n.feeds["u"].v[i]
		switch {
		case v <= -qn:
			dw, ds = append(dw, 0), ds-qn*up
		case v >= qp:
			dw, ds = append(dw, 0), ds+qp*up
		default:
			dw, ds = append(dw, up), ds+(math.RoundToEven(v)-v)*up
		}
	}
	closeTo(t, "weights", e.get(g[0]).v, dw, 1e-6, 0)
	closeTo(t, "step size", e.get(g[1]).v, []float64{ds}, 1e-6, 0)
}

// TestIntegerCarriers lets operators that move elements stand between QuantizeLinear and DequantizeLinear: the cotangent passes
// through them as a float value.
func TestIntegerCarriers(t *testing.T) {
	n := newNet(t)
	x, u := n.input("x", 2, 3), n.input("u", 4, 2)
	s := n.b.Float(0.05)
	q := n.op("QuantizeLinear", []*ir.Value{x, s, n.b.Const(int8Zero(t))})
	q = n.op("Transpose", []*ir.Value{q}, ir.AInts("perm", 1, 0))
	q = n.op("Concat", []*ir.Value{q, n.op("Slice", []*ir.Value{q, n.b.Int64s(0), n.b.Int64s(1)})}, ir.AInt("axis", 0))
	q = n.op("Reshape", []*ir.Value{q, n.b.Int64s(4, 2)})
	y := n.op("DequantizeLinear", []*ir.Value{q, s, n.b.Const(int8Zero(t))})
	loss := n.op("ReduceSum", []*ir.Value{n.op("Mul", []*ir.Value{y, u})}, ir.AInt("keepdims", 0))
	g := n.grad(loss, []*ir.Value{x}, Options{})
	if err := n.m.Graph.SetOutputs(g...); err != nil {
		t.Fatal(err)
	}
	feeds := map[string]*ir.Tensor{"x": tensorOf(t, ir.Float32, n.feeds["x"]), "u": tensorOf(t, ir.Float32, n.feeds["u"])}
	got, err := n.session().Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	up := n.feeds["u"].v
	want := []float64{up[0] + up[6], up[2], up[4], up[1] + up[7], up[3], up[5]}
	for i, v := range n.feeds["x"].v {
		if v/0.05 <= -128.5 || v/0.05 >= 127.5 {
			t.Fatalf("x[%d] = %g saturates", i, v)
		}
	}
	f, _ := got[g[0].Name()].Floats()
	closeTo(t, "gradient", f, want, 1e-5, 0)
}

func int8Zero(t *testing.T) *ir.Tensor {
	z, err := ir.FromInt8s([]int8{0})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func countOps(g *ir.Graph, after int) map[string]int {
	c := map[string]int{}
	for i, n := range g.Nodes() {
		if i >= after {
			c[n.Op]++
		}
	}
	return c
}

func TestFrozenPartsCostNothing(t *testing.T) {
	n := newNet(t)
	loss, params := convNet(n)
	before := n.m.Graph.NumNodes()
	g := n.grad(loss, params[3:], Options{})
	if d, _ := g[0].StaticDims(); !equal(d, []int64{2}) {
		t.Errorf("gradient of the bias has shape %v", d)
	}
	c := countOps(n.m.Graph, before)
	for _, o := range []string{"Conv", "ConvTranspose", "MatMul", "Sigmoid", "Gather"} {
		if c[o] != 0 {
			t.Errorf("%d %s nodes for the last bias alone", c[o], o)
		}
	}
	n = newNet(t)
	loss, params = convNet(n)
	before = n.m.Graph.NumNodes()
	n.grad(loss, params[2:3], Options{})
	if c := countOps(n.m.Graph, before); c["ConvTranspose"]+c["Conv"] != 0 || c["MatMul"] != 1 {
		t.Errorf("nodes for the second layer's weights alone: %v", c)
	}
}

func TestStop(t *testing.T) {
	n := newNet(t)
	x := n.input("x", 3)
	y := n.op("Exp", []*ir.Value{x})
	z := n.op("Mul", []*ir.Value{y, x})
	loss := n.op("ReduceSum", []*ir.Value{z}, ir.AInt("keepdims", 0))
	g := n.grad(loss, []*ir.Value{x, y}, Options{Stop: func(v *ir.Value) bool { return v == y }})
	e := n.eval()
	closeTo(t, "x with y held constant", e.get(g[0]).v, e.get(y).v, 1e-12, 0)
	closeTo(t, "y itself", e.get(g[1]).v, e.get(x).v, 1e-12, 0)
	g = n.grad(loss, []*ir.Value{x}, Options{})
	e = n.eval()
	want := make([]float64, 3)
	for i, v := range e.get(x).v {
		want[i] = math.Exp(v) * (1 + v)
	}
	closeTo(t, "x", e.get(g[0]).v, want, 1e-12, 0)
}

func TestErrors(t *testing.T) {
	n := newNet(t)
	x, free := n.input("x", 3), n.input("free", 3)
	node, err := n.m.Graph.Append(ir.NodeSpec{Op: "Frobnicate", Name: "knob", Inputs: []*ir.Value{x}, Outputs: []string{"f"}})
	if err != nil {
		t.Fatal(err)
	}
	node.Output(0).Type = x.Type
	sum := n.op("ReduceSum", []*ir.Value{node.Output(0)}, ir.AInt("keepdims", 0))
	fail := func(seed Seed, wrt *ir.Value, parts ...string) {
		t.Helper()
		_, err := Gradients(n.m.Graph, []Seed{seed}, []*ir.Value{wrt}, Options{Pass: "p1"})
		for _, p := range parts {
			if err == nil || !strings.Contains(err.Error(), p) {
				t.Errorf("error %v lacks %q", err, p)
			}
		}
	}
	fail(Seed{Value: sum}, x, "p1", "no gradient rule", "Frobnicate", "knob")
	fail(Seed{Value: n.op("Relu", []*ir.Value{x})}, x, "needs a cotangent")
	fail(Seed{Value: n.op("Relu", []*ir.Value{x}), Cotangent: sum}, x, "cotangent", "shape")
	fail(Seed{Value: sum}, nil, "not in graph")
	fail(Seed{}, x, "not in graph")
	i, _ := n.m.Graph.AddInput("i", ir.TensorType(ir.Int64, ir.StaticShape(1)))
	fail(Seed{Value: sum}, i, "cannot differentiate by", "int64")
	fail(Seed{Value: n.op("ReduceSum", []*ir.Value{n.op("Slice", []*ir.Value{x, i, i})})}, x, "Slice", "must be constants")
	sc := n.input("scale")
	q := n.op("DequantizeLinear", []*ir.Value{n.op("QuantizeLinear", []*ir.Value{x, sc}), sc})
	fail(Seed{Value: n.op("ReduceSum", []*ir.Value{q})}, sc, "scale", "constants")
	g, err := Gradients(n.m.Graph, []Seed{{Value: sum}}, []*ir.Value{free}, Options{})
	if err != nil || len(g) != 1 || g[0] != nil {
		t.Errorf("a value no path leads from: %v, %v", g, err)
	}
}

// TestLoops: a value read inside a Loop is not silently a constant.
func TestLoops(t *testing.T) {
	n := newNet(t)
	x := n.input("x", 3)
	s := ir.NewSubgraph("body", n.m.Graph)
	s.AddInput("i", ir.TensorType(ir.Int64, ir.StaticShape()))
	c, _ := s.AddInput("c", ir.TensorType(ir.Bool, ir.StaticShape()))
	m, err := s.Append(ir.NodeSpec{Op: "Relu", Inputs: []*ir.Value{x}, Outputs: []string{"s_y"}})
	if err != nil {
		t.Fatal(err)
	}
	m.Output(0).Type = x.Type
	same, _ := s.Append(ir.NodeSpec{Op: "Identity", Inputs: []*ir.Value{c}, Outputs: []string{"c_out"}})
	s.AddOutput(same.Output(0))
	s.AddOutput(m.Output(0))
	count, _ := n.m.Graph.AddInput("count", ir.TensorType(ir.Int64, ir.StaticShape()))
	m, err = n.m.Graph.Append(ir.NodeSpec{Op: "Loop", Name: "round", Inputs: []*ir.Value{count, nil}, Outputs: []string{"y"},
		Attrs: []ir.Attr{ir.AGraph("body", s)}})
	if err != nil {
		t.Fatal(err)
	}
	m.Output(0).Type = x.Type
	_, err = Gradients(n.m.Graph, []Seed{{m.Output(0), x}}, []*ir.Value{x}, Options{})
	if err == nil || !strings.Contains(err.Error(), "Loop round") {
		t.Errorf("error %v", err)
	}
}

// TestIntegerArithmetic: an operator on quantized integers is not silently a constant.
func TestIntegerArithmetic(t *testing.T) {
	n := newNet(t)
	x, s := n.input("x", 2, 3), n.b.Float(0.05)
	zero := n.b.Const(int8Zero(t))
	q := n.op("QuantizeLinear", []*ir.Value{x, s, zero})
	m, err := n.m.Graph.Append(ir.NodeSpec{Op: "QLinearSomething", Name: "kernel", Inputs: []*ir.Value{q}, Outputs: []string{"z"}})
	if err != nil {
		t.Fatal(err)
	}
	m.Output(0).Type = q.Type
	y := n.op("DequantizeLinear", []*ir.Value{m.Output(0), s, zero})
	if err := n.b.Err(); err != nil {
		t.Fatal(err)
	}
	_, err = Gradients(n.m.Graph, []Seed{{y, x}}, []*ir.Value{x}, Options{})
	if err == nil || !strings.Contains(err.Error(), "QLinearSomething") || !strings.Contains(err.Error(), "kernel") {
		t.Errorf("error %v", err)
	}
}

func TestSameGraphTwice(t *testing.T) {
	var first []byte
	for i := range 3 {
		n := newNet(t)
		loss, params := convNet(n)
		if err := n.m.Graph.SetOutputs(n.grad(loss, params, Options{})...); err != nil {
			t.Fatal(err)
		}
		raw, err := format.Marshal(n.m)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && !bytes.Equal(raw, first) {
			t.Fatal("the same network gave two different gradient graphs")
		}
		first = raw
	}
}

// What a pooling scatters passes the mask of the activation before it while it is small: the backward pass reads the activation's values
// only to find what the windows took.
func TestMasksBeforePoolings(t *testing.T) {
	for _, act := range []string{"Relu", "LeakyRelu", "Sigmoid", "Tanh"} {
		n := newNet(t)
		x := n.input("x", 1, 2, 6, 6)
		y := n.op(act, []*ir.Value{x})
		p := n.op("MaxPool", []*ir.Value{y}, ir.AInts("kernel_shape", 3, 3), ir.AInts("strides", 2, 2))
		n.grad(n.op("ReduceSum", []*ir.Value{n.op("Mul", []*ir.Value{p, p})}, ir.AInt("keepdims", 0)), []*ir.Value{x}, Options{})
		for _, u := range y.Uses() {
			if !u.Node.Is("MaxPool") {
				t.Errorf("%s: %v reads what it made", act, u.Node)
			}
		}
	}
}
