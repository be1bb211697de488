package lower_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/lower"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/train"
)

// layer is a convolution of a test network.
type layer struct {
	k, kh, kw, group int64
	stride, dilation [2]int64
	pads             [4]int64
	act              string
}

type builder struct {
	*ir.Builder
	t *testing.T
	r *rand.Rand
	m *ir.Model
	// costs of the lowered step; may be nil.
	costs lower.Costs
	more  []string // parameters beside those that step.Trainable finds
}

func newBuilder(t *testing.T, seed uint64, dims ...int64) (*builder, *ir.Value) {
	t.Helper()
	m := ir.NewModel("net", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(dims...)))
	if err != nil {
		t.Fatal(err)
	}
	return &builder{ir.NewBuilder(m.Graph, "", op.InferNode), t, rand.New(rand.NewPCG(seed, 7)), m, nil, nil}, x
}

func (b *builder) init(name string, size float64, dims ...int64) *ir.Value {
	n, err := ir.NumElements(dims)
	if err != nil {
		b.t.Fatal(err)
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(b.r.NormFloat64() * size)
	}
	t, err := ir.FromFloat32s(v, dims...)
	if err != nil {
		b.t.Fatal(err)
	}
	w, err := b.m.Graph.AddInitializer(name, t)
	if err != nil {
		b.t.Fatal(err)
	}
	return w
}

func (b *builder) conv(name string, x *ir.Value, l layer) *ir.Value {
	d, _ := x.StaticDims()
	per := d[1] / l.group
	w := b.init(name+".weight", 1/math.Sqrt(float64(per*l.kh*l.kw)), l.k, per, l.kh, l.kw)
	y := b.Op("Conv", []*ir.Value{x, w, b.init(name+".bias", 0.1, l.k)}, ir.AInts("kernel_shape", l.kh, l.kw), ir.AInt("group", l.group),
		ir.AInts("strides", l.stride[:]...), ir.AInts("dilations", l.dilation[:]...), ir.AInts("pads", l.pads[:]...))
	switch l.act {
	case "":
		return y
	case "Clip":
		return b.Op("Clip", []*ir.Value{y, b.Float(0), b.Float(6)})
	}
	return b.Op(l.act, []*ir.Value{y})
}

// compare builds the step of the network twice, as standard operators and lowered, and compares loss and gradients.
func (b *builder) compare(y *ir.Value) (lowered *ir.Model) {
	b.t.Helper()
	if err := b.Err(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.m.Graph.AddOutput(y); err != nil {
		b.t.Fatal(err)
	}
	l := ir.NewModel("loss", 17)
	v, err := l.Graph.AddInput(y.Name(), y.Type.Clone())
	if err != nil {
		b.t.Fatal(err)
	}
	lb := ir.NewBuilder(l.Graph, "", op.InferNode)
	loss := lb.Op("ReduceMean", []*ir.Value{lb.Op("Mul", []*ir.Value{v, lb.Op("Sin", []*ir.Value{v})})}, ir.AInt("keepdims", 0))
	if err := lb.Err(); err != nil {
		b.t.Fatal(err)
	}
	if err := l.Graph.SetOutputs(loss); err != nil {
		b.t.Fatal(err)
	}
	block, err := ort.BlockedChannels()
	if err != nil {
		b.t.Fatal(err)
	}
	if block == 0 {
		b.t.Skip("onnxruntime has no blocked convolutions for this processor")
	}
	var found [2]map[string][]float32
	d, _ := b.m.Graph.Inputs()[0].StaticDims()
	n, _ := ir.NumElements(d)
	image := make([]float32, n)
	for i := range image {
		image[i] = float32(b.r.NormFloat64())
	}
	for k, lowering := range []func(*ir.Model) error{nil, lower.New(lower.Machine{Block: block, Costs: b.costs})} {
		params := step.Trainable(b.m)
		for _, name := range b.more {
			if !slices.ContainsFunc(params, func(p step.Param) bool { return p.Name == name }) {
				params = append(params, step.Param{Name: name})
			}
		}
		s, err := step.Build(b.m, step.Options{Loss: l, Params: params, EmitGrads: true, Optimizer: step.Optimizer{Name: "sgd"}, Lower: lowering})
		if err != nil {
			b.t.Fatal(err)
		}
		raw, err := format.Marshal(s)
		if err != nil {
			b.t.Fatal(err)
		}
		state := map[string]*ir.Tensor{}
		for _, p := range params {
			state[p.Name] = b.m.Graph.Value(p.Name).Init()
		}
		e, err := train.New(train.Config{Step: raw, State: state, Threads: 2})
		if err != nil {
			b.t.Fatal(err)
		}
		defer e.Close()
		feed, err := ir.FromFloat32s(image, d...)
		if err != nil {
			b.t.Fatal(err)
		}
		if _, err := e.Step(0, train.Feeds{"x": feed}); err != nil {
			b.t.Fatal(err)
		}
		found[k] = map[string][]float32{"loss": append([]float32(nil), e.Output("loss").Float32s()...)}
		for _, p := range params {
			found[k][p.Name] = append([]float32(nil), e.Output(p.Name+step.Grad).Float32s()...)
		}
		lowered = s
	}
	largest := 0.0
	for _, g := range found[0] {
		largest = max(largest, norm(g, nil))
	}
	for name, g := range found[0] {
		if off := norm(g, found[1][name]); !(off <= 1e-4*norm(g, nil)+1e-6*largest) {
			b.t.Errorf("%s: off by %g where the norm is %g", name, off, norm(g, nil))
		}
	}
	return lowered
}

func norm(a, b []float32) float64 {
	sum := 0.0
	for i, x := range a {
		d := float64(x)
		if b != nil {
			d -= float64(b[i])
		}
		sum += d * d
	}
	return math.Sqrt(sum)
}

func count(m *ir.Model, domain, op string) int {
	n := 0
	for _, x := range m.Graph.Nodes() {
		if x.Domain == domain && x.Op == op {
			n++
		}
	}
	return n
}

var one, two = [2]int64{1, 1}, [2]int64{2, 2}

var convolutions = []struct {
	name    string
	c, h, w int64
	l       layer
	lowered int // blocked convolutions in the step; the first layer's own are two
}{
	{"3x3", 16, 9, 7, layer{24, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, "Relu"}, 2},
	{"pointwise", 32, 5, 6, layer{16, 1, 1, 1, one, one, [4]int64{}, "LeakyRelu"}, 2},
	{"pointwise with strides", 16, 7, 8, layer{32, 1, 1, 1, two, one, [4]int64{}, ""}, 2},
	{"channels that fill no block", 20, 6, 6, layer{13, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, "Relu"}, 2},
	{"one output channel", 16, 6, 6, layer{1, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, ""}, 2},
	{"strides", 16, 8, 8, layer{24, 3, 3, 1, two, one, [4]int64{1, 1, 1, 1}, "Relu"}, 2},
	{"strides, odd sizes", 16, 9, 7, layer{24, 3, 3, 1, two, one, [4]int64{1, 1, 1, 1}, "Relu"}, 2},
	{"strides of one dimension", 16, 9, 8, layer{16, 3, 5, 1, [2]int64{2, 1}, one, [4]int64{1, 2, 1, 2}, "Relu"}, 2},
	{"strides of three", 16, 10, 11, layer{16, 5, 4, 1, [2]int64{3, 3}, one, [4]int64{2, 1, 2, 1}, "Relu"}, 2},
	{"strides, pads to one side", 16, 8, 8, layer{16, 3, 3, 1, two, one, [4]int64{0, 0, 1, 1}, "Relu"}, 2},
	{"7x7 with strides", 16, 12, 12, layer{16, 7, 7, 1, two, one, [4]int64{3, 3, 3, 3}, "Relu"}, 2},
	{"no pads", 16, 8, 9, layer{16, 3, 2, 1, one, one, [4]int64{}, "Sigmoid"}, 2},
	{"dilations", 16, 9, 9, layer{16, 3, 3, 1, one, two, [4]int64{2, 2, 2, 2}, "Relu"}, 2},
	{"depthwise", 16, 8, 7, layer{16, 3, 3, 16, one, one, [4]int64{1, 1, 1, 1}, "Clip"}, 3},
	{"depthwise 5x5 with strides", 16, 9, 8, layer{16, 5, 5, 16, two, one, [4]int64{2, 2, 2, 2}, "Clip"}, 3},
	{"depthwise, even kernel and strides", 16, 8, 8, layer{16, 4, 4, 16, two, one, [4]int64{1, 1, 1, 1}, ""}, 3},
	{"depthwise with dilations", 16, 9, 9, layer{16, 3, 3, 16, one, two, [4]int64{2, 2, 2, 2}, ""}, 3},
	{"depthwise of channels that fill no block", 12, 6, 6, layer{12, 3, 3, 12, one, one, [4]int64{1, 1, 1, 1}, ""}, 0},
	{"groups", 32, 6, 6, layer{32, 3, 3, 2, one, one, [4]int64{1, 1, 1, 1}, "Relu"}, 1},
	{"small groups", 16, 6, 6, layer{16, 3, 3, 4, one, one, [4]int64{1, 1, 1, 1}, "Relu"}, 0},
}

// Convolutions of every kind: which of their three forms are lowered is part of the test.
func TestConvolutions(t *testing.T) {
	orttest.TestLibrary(t)
	for _, c := range convolutions {
		t.Run(c.name, func(t *testing.T) {
			b, x := newBuilder(t, 1, 2, 3, c.h, c.w)
			x = b.conv("first", x, layer{c.c, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, "Tanh"})
			m := b.compare(b.conv("second", x, c.l))
			if n := count(m, lower.Domain, "Conv") - 1; n != c.lowered {
				t.Errorf("%d blocked convolutions beside the first, want %d", n, c.lowered)
			}
			for _, n := range m.Graph.Nodes() {
				if n.Domain == "mqatc" {
					t.Errorf("%v is left", n)
				}
			}
		})
	}
}

// Single numbers have the rank of values that end in axes of size 1.
func TestNumbersAreSpelledOut(t *testing.T) {
	orttest.TestLibrary(t)
	b, x := newBuilder(t, 5, 2, 3, 8, 8)
	x = b.conv("a", x, layer{16, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, "Tanh"})
	w := b.init("w", 0.2, 24, 16, 1, 1)
	w = b.Op("Mul", []*ir.Value{b.Op("Add", []*ir.Value{w, b.Float(0.25)}), b.init("scale", 1, 1)})
	m := b.compare(b.Op("Conv", []*ir.Value{x, w}))
	met := 0
	for _, n := range m.Graph.Nodes() {
		if n.Op != "Add" && n.Op != "Sub" && n.Op != "Mul" {
			continue
		}
		p, okP := n.Input(0).StaticDims()
		q, okQ := n.Input(1).StaticDims()
		if out, ok := n.Output(0).StaticDims(); !ok || !okP || !okQ || fmt.Sprint(out) != "[24 16 1 1]" {
			continue
		}
		met++
		if len(p) != len(q) {
			t.Errorf("%v combines sizes %v and %v", n, p, q)
		}
	}
	if met < 2 {
		t.Errorf("%d nodes work on the weights", met)
	}
}

// fake adds fake quantization of x with a step size that is trained.
func (b *builder) fake(name string, x *ir.Value, lo, hi float32, step float64, dims ...int64) *ir.Value {
	s := b.init(name, 0, dims...)
	n, _ := ir.NumElements(dims)
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(step * (1 + 0.1*b.r.Float64()))
	}
	t, err := ir.FromFloat32s(v, dims...)
	if err == nil {
		err = b.m.Graph.SetInit(s, t)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.more = append(b.more, name)
	c := b.Op("Clip", []*ir.Value{b.Op("Div", []*ir.Value{x, s}), b.Float(lo), b.Float(hi)})
	return b.Op("Mul", []*ir.Value{b.Op("Round", []*ir.Value{c}), s})
}

// Fake quantization keeps its gradients, by x and by step sizes, whichever values the backward pass reads: of activations of either sign,
// with values beyond the bounds, and of weights by channel.
func TestFakeQuantization(t *testing.T) {
	orttest.TestLibrary(t)
	for _, act := range []string{"Relu", "Tanh", "Clip"} {
		for _, bounds := range [][2]float32{{-128, 127}, {0, 255}, {-8, 7}} {
			t.Run(fmt.Sprint(act, bounds), func(t *testing.T) {
				b, x := newBuilder(t, 9, 2, 3, 8, 8)
				x = b.conv("first", x, layer{16, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, act})
				x = b.fake("steps", x, bounds[0], bounds[1], 0.7/float64(bounds[1]), 1)
				w := b.fake("scales", b.init("w", 0.2, 24, 16, 1, 1), -8, 7, 0.05, 24, 1, 1, 1)
				m := b.compare(b.Op("Conv", []*ir.Value{x, w}))
				if n, want := count(m, "", "QuantizeLinear"), map[bool]int{true: 1}[bounds[0] != -8]; n != want {
					t.Errorf("%d QuantizeLinear, want %d", n, want)
				}
				for _, n := range m.Graph.Nodes() {
					if d, ok := n.Output(0).StaticDims(); n.Op == "QuantizeLinear" && ok && fmt.Sprint(d) != "[2 16 8 8]" {
						t.Errorf("%v has sizes %v", n, d)
					}
					if n.Op == "ReorderInput" && n.Input(0).Producer() != nil && n.Input(0).Producer().Op == "DequantizeLinear" {
						t.Errorf("%v: the layout is not kept through quantization", n)
					}
				}
			})
		}
	}
}

// A layout is kept from one convolution to the next: through activations, sums, single numbers, numbers by channel and joins.
func TestLayoutIsKept(t *testing.T) {
	orttest.TestLibrary(t)
	b, x := newBuilder(t, 2, 2, 3, 8, 8)
	same := layer{16, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, "LeakyRelu"}
	x = b.conv("stem", x, same)
	y := b.conv("a", x, same)
	x = b.Op("Add", []*ir.Value{x, y})
	x = b.Op("Mul", []*ir.Value{x, b.init("channels", 1, 16, 1, 1)})
	x = b.Op("Div", []*ir.Value{x, b.Float(3)})
	x = b.Op("Concat", []*ir.Value{x, y}, ir.AInt("axis", 1))
	m := b.compare(b.conv("c", x, same))
	// Weights are reordered twice on the way forward and twice on the way back; values of the network never are, but for the loss.
	for _, n := range m.Graph.Nodes() {
		if n.Op == "ReorderInput" && n.Domain == lower.Domain && n.Input(0).Producer() != nil {
			if d, _ := n.Input(0).StaticDims(); len(d) == 4 && d[0] == 2 && d[2] == 8 && n.Input(0).Producer().Domain == lower.Domain {
				t.Errorf("%v reorders what was blocked: %v", n, n.Input(0).Name())
			}
		}
	}
}

// Networks put together at random agree with their standard form.
func TestRandomNetworks(t *testing.T) {
	orttest.TestLibrary(t)
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b, x := newBuilder(t, 100+seed, 1+int64(seed%3), []int64{3, 16, 5}[seed%3], 8+int64(seed%5), 11)
			var kept []*ir.Value
			for k := range 5 {
				d, _ := x.StaticDims()
				l := layer{[]int64{8, 16, 24, 32, 12}[b.r.IntN(5)], 1 + int64(b.r.IntN(4)), 1 + int64(b.r.IntN(4)), 1, one, one, [4]int64{}, "Relu"}
				l.act = []string{"Relu", "LeakyRelu", "Sigmoid", "Clip", ""}[b.r.IntN(5)]
				if b.r.IntN(4) == 0 {
					l.group, l.k = d[1], d[1]
				}
				if b.r.IntN(3) == 0 && d[2] > 3 && d[3] > 3 {
					l.stride = [2]int64{1 + int64(b.r.IntN(2)), 1 + int64(b.r.IntN(2))}
				}
				l.pads = [4]int64{l.kh / 2, l.kw / 2, (l.kh - 1) / 2, (l.kw - 1) / 2}
				x = b.conv(fmt.Sprintf("conv%d", k), x, l)
				for _, v := range kept {
					a, _ := v.StaticDims()
					if d, _ := x.StaticDims(); fmt.Sprint(a) == fmt.Sprint(d) {
						x = b.Op([]string{"Add", "Mul"}[b.r.IntN(2)], []*ir.Value{x, v})
						break
					}
				}
				kept = append(kept, x)
				if d, _ := x.StaticDims(); b.r.IntN(4) == 0 && d[2] > 3 {
					x = b.Op("MaxPool", []*ir.Value{x}, ir.AInts("kernel_shape", 2, 2), ir.AInts("strides", 2, 2), ir.AInts("pads", 0, 0, 1, 1))
				}
			}
			b.compare(x)
		})
	}
}
