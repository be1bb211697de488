package grad

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func sharedFolder(t *testing.T) string {
	t.Helper()
	if d := os.Getenv("MQATC_SHARED"); d != "" {
		return d
	}
	for d, _ := os.Getwd(); d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return filepath.Join(d, "..", "shared")
		}
	}
	return ""
}

// realNet is a published network with a squared error as its loss and its weights as inputs.
type realNet struct {
	t      *testing.T
	m      *ir.Model
	b      *ir.Builder
	loss   *ir.Value
	params []*ir.Value
	start  []*ir.Tensor // the parameters' values
	feeds  map[string]*ir.Tensor
	grads  []*ir.Value
}

// TestRealNetworks differentiates six published networks by all their weights and biases. The gradient, computed by onnxruntime in
// single precision, is compared with central differences of the loss in double precision along a random direction; of the Hessian
// product it is tested that it is symmetric.
func TestRealNetworks(t *testing.T) {
	dir := filepath.Join(sharedFolder(t), "models")
	files, _ := filepath.Glob(filepath.Join(dir, "*.onnx"))
	if len(files) == 0 {
		t.Skipf("no networks in %s: set MQATC_SHARED", dir)
	}
	orttest.TestLibrary(t)
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			m, err := format.Load(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := format.Upgrade(m, 17); err != nil {
				t.Fatal(err)
			}
			n := &realNet{t: t, m: m, b: ir.NewBuilder(m.Graph, "test", op.InferNode), feeds: map[string]*ir.Tensor{}}
			n.b.Site = "real" // onnxruntime wants names of nodes that the file does not have
			n.prepare(160)
			n.checkGradient()
			n.checkHessian()
		})
	}
}

// prepare fixes open sizes to size, makes the loss and the feeds.
func (n *realNet) prepare(size int64) {
	g := n.m.Graph
	constantsToInitializers(n.t, g)
	shapes := map[string][]int64{}
	for _, v := range g.Inputs() {
		if v.IsInitializer() {
			continue
		}
		d, ok := v.StaticDims()
		if !ok {
			d = []int64{1, 3, size, size}
		}
		shapes[v.Name()] = d
		a := newArr(d...)
		each(d, func(at []int64, k int64) {
			x, y, ch := float64(at[3]), float64(at[2]), float64(at[1])
			a.v[k] = 0.5 + 0.3*math.Sin(0.07*x+ch)*math.Cos(0.05*y) + 0.2*math.Sin(0.4*(x-y))
		})
		n.feeds[v.Name()] = tensorOf(n.t, ir.Float32, a)
	}
	if err := op.InferModel(n.m, shapes); err != nil {
		n.t.Fatal(err)
	}
	n.weightsToInputs()
	for _, y := range g.Outputs() {
		if p := y.Producer(); p.Is("Sigmoid") {
			y = p.Input(0) // saturated on input that is no photograph
		}
		n.loss = n.plus(n.loss, n.b.Op("ReduceMean", []*ir.Value{n.b.Op("Mul", []*ir.Value{y, y})}, ir.AInt("keepdims", 0)))
	}
}

func (n *realNet) plus(sum, v *ir.Value) *ir.Value {
	if sum == nil {
		return v
	}
	return n.b.Op("Add", []*ir.Value{sum, v})
}

// weightsToInputs makes graph inputs of the float constants that a convolution, matrix product or normalization reads.
func (n *realNet) weightsToInputs() {
	for _, v := range append([]*ir.Value{}, n.m.Graph.Initializers()...) {
		trained := false
		for _, u := range v.Uses() {
			switch u.Node.Op {
			case "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization":
				trained = trained || (u.Index > 0 && u.Index < 3)
			}
		}
		if !trained || v.DType() != ir.Float32 || v.Init() == nil {
			continue
		}
		n.start, n.params = append(n.start, v.Init()), append(n.params, v)
		n.feeds[v.Name()] = v.Init()
		if err := n.m.Graph.InputFromInitializer(v); err != nil {
			n.t.Fatal(err)
		}
	}
}

// session loads the graph with the given outputs.
func (n *realNet) session(outs ...*ir.Value) *ort.Session {
	n.t.Helper()
	if err := n.b.Err(); err != nil {
		n.t.Fatal(err)
	}
	var made []*ir.Value
	for _, o := range outs {
		if o != nil {
			made = append(made, o)
		}
	}
	if err := n.m.Graph.SetOutputs(made...); err != nil {
		n.t.Fatal(err)
	}
	raw, err := format.Marshal(n.m)
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := ort.NewSession(raw, ort.SessionOptions{Threads: 2, NoSpin: true})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { s.Close() })
	return s
}

// direction is a random vector for each parameter, in proportion to the parameter's size.
func (n *realNet) direction(seed uint64) [][]float64 {
	r := rand.New(rand.NewPCG(3, seed))
	var out [][]float64
	for _, p := range n.start {
		w, err := p.Floats()
		if err != nil {
			n.t.Fatal(err)
		}
		size := norm(w) / math.Sqrt(float64(len(w)))
		v := make([]float64, len(w))
		for k := range v {
			v[k] = size * r.NormFloat64()
		}
		out = append(out, v)
	}
	return out
}

// product is the inner product of the outputs grads with a direction; an absent gradient is zero.
func (n *realNet) product(out map[string]*ir.Tensor, grads []*ir.Value, v [][]float64) float64 {
	n.t.Helper()
	s := 0.0
	for i, g := range grads {
		if g == nil {
			continue
		}
		f, err := out[g.Name()].Floats()
		if err != nil || len(f) != len(v[i]) {
			n.t.Fatalf("gradient of %s: %d elements for %d, error %v", n.params[i].Name(), len(f), len(v[i]), err)
		}
		for k := range f {
			s += f[k] * v[i][k]
		}
	}
	return s
}

func (n *realNet) checkGradient() {
	g := n.m.Graph
	forward := g.NumNodes()
	var err error
	if n.grads, err = Gradients(g, []Seed{{Value: n.loss}}, n.params, Options{}); err != nil {
		n.t.Fatal(err)
	}
	nodes := g.NumNodes() - forward
	v := n.direction(1)
	sess := n.session(append([]*ir.Value{n.loss}, n.grads...)...)
	start := time.Now()
	out, err := sess.Run(n.feeds, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	took := time.Since(start)
	got := n.product(out, n.grads, v)
	at := func(h float64) float64 {
		feeds := map[string]*arr{}
		for k, f := range n.feeds {
			x, _ := f.Floats()
			feeds[k] = &arr{f.Dims(), append([]float64{}, x...)}
		}
		for i, p := range n.params {
			for k := range v[i] {
				feeds[p.Name()].v[k] += h * v[i][k]
			}
		}
		e := &evaluator{}
		if err := e.runUntil(g, n.loss.Producer(), feeds); err != nil {
			n.t.Fatal(err)
		}
		return e.get(n.loss).v[0]
	}
	const h = 1e-7
	up, mid, down := at(h), at(0), at(-h)
	want, jump := (up-down)/(2*h), math.Abs(up-2*mid+down)/h
	n.t.Logf("%d parameters, %d forward and %d gradient nodes, first step %v, slope %.5g, differences %.5g (left and right differ by %.2g)", len(n.params), forward, nodes,
		took.Round(time.Millisecond), got, want, jump)
	// Some activations lie exactly on a kink, where the slopes to the left and to the right differ.
	if !(math.Abs(got-want) <= 0.01*math.Abs(want)+jump) {
		n.t.Errorf("the slope along a random direction is %g, by differences %g", got, want)
	}
}

func (n *realNet) checkHessian() {
	var sum *ir.Value
	a, b := n.direction(1), n.direction(2)
	var vs []*ir.Value
	for i, p := range n.params {
		if n.grads[i] == nil {
			vs = append(vs, nil)
			continue
		}
		v, err := n.m.Graph.AddInput("direction_"+p.Name(), p.Type)
		if err != nil {
			n.t.Fatal(err)
		}
		vs = append(vs, v)
		sum = n.plus(sum, n.b.Op("ReduceSum", []*ir.Value{n.b.Op("Mul", []*ir.Value{n.grads[i], v})}, ir.AInt("keepdims", 0)))
	}
	before := n.m.Graph.NumNodes()
	hv, err := Gradients(n.m.Graph, []Seed{{Value: sum}}, n.params, Options{})
	if err != nil {
		n.t.Fatal(err)
	}
	nodes := n.m.Graph.NumNodes() - before
	sess := n.session(hv...)
	times := func(d [][]float64) map[string]*ir.Tensor {
		for i, v := range vs {
			if v != nil {
				n.feeds[v.Name()] = tensorOf(n.t, ir.Float32, &arr{n.start[i].Dims(), d[i]})
			}
		}
		out, err := sess.Run(n.feeds, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		return out
	}
	start := time.Now()
	ha := times(a)
	took := time.Since(start)
	hb := times(b)
	ab, ba, aa, bb := n.product(ha, hv, b), n.product(hb, hv, a), n.product(ha, hv, a), n.product(hb, hv, b)
	n.t.Logf("%d nodes for a Hessian product, first %v: b'Ha %.5g, a'Hb %.5g, a'Ha %.5g, b'Hb %.5g", nodes, took.Round(time.Millisecond), ab, ba, aa, bb)
	if !(math.Abs(ab-ba) <= 1e-3*math.Max(math.Abs(aa), math.Abs(bb))) || aa == 0 {
		n.t.Errorf("b'Ha = %g, a'Hb = %g", ab, ba)
	}
}

func constantsToInitializers(t *testing.T, g *ir.Graph) {
	for _, n := range g.Nodes() {
		tensor := constTensor(n.Output(0))
		if n.Op != "Constant" || tensor == nil {
			continue
		}
		v, err := g.AddInitializer(g.FreshName(n.Output(0).Name()+"_value"), tensor)
		if err == nil {
			err = g.ReplaceAllUses(n.Output(0), v)
		}
		if err == nil {
			err = g.Remove(n)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
