package target

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/quant"
	"mqatc/passes/weights"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// ortRunner runs models on onnxruntime.
type ortRunner struct {
	dir     string
	threads int
}

func newRunner(t testing.TB) ortRunner {
	orttest.TestLibrary(t)
	return ortRunner{t.TempDir(), 1}
}

func (r ortRunner) level(l Level) ort.OptLevel {
	return map[Level]ort.OptLevel{DisableAll: ort.DisableAll, Basic: ort.Basic, Extended: ort.Extended, All: ort.All}[l]
}

func (r ortRunner) Open(m *ir.Model, level Level) (Session, error) {
	data, err := format.Marshal(m)
	if err != nil {
		return nil, err
	}
	return ort.NewSession(data, ort.SessionOptions{OptLevel: r.level(level), Threads: r.threads})
}

func (r ortRunner) Optimized(m *ir.Model, level Level) (*ir.Model, error) {
	data, err := format.Marshal(m)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(r.dir, "optimized.onnx")
	s, err := ort.NewSession(data, ort.SessionOptions{OptLevel: r.level(level), Threads: 1, OptimizedModelPath: path})
	if err != nil {
		return nil, err
	}
	s.Close()
	return format.Load(path)
}

// net builds small models.
type net struct {
	t *testing.T
	m *ir.Model
	b *ir.Builder
	r *rand.Rand
}

func newNet(t *testing.T, seed uint64, opset int64) *net {
	m := ir.NewModel("net", opset)
	return &net{t, m, ir.NewBuilder(m.Graph, "test", op.InferNode), rand.New(rand.NewPCG(seed, 3))}
}

func (n *net) input(dims ...int64) *ir.Value {
	v, err := n.m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(dims...)))
	n.check(err)
	return v
}

func (n *net) check(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *net) random(name string, spread float64, dims ...int64) *ir.Value {
	size, err := ir.NumElements(dims)
	n.check(err)
	w := make([]float32, size)
	for i := range w {
		w[i] = float32(n.r.NormFloat64() * spread)
	}
	t, err := ir.FromFloat32s(w, dims...)
	n.check(err)
	v, err := n.m.Graph.AddInitializer(name, t)
	n.check(err)
	return v
}

func (n *net) op(op string, in []*ir.Value, attrs ...ir.Attr) *ir.Value {
	return n.b.Op(op, in, attrs...)
}

func (n *net) conv(x *ir.Value, name string, out, in, k int64, attrs ...ir.Attr) *ir.Value {
	w := n.random(name+".weight", 0.3, out, in, k, k)
	b := n.random(name+".bias", 0.2, out)
	return n.op("Conv", []*ir.Value{x, w, b}, append(attrs, ir.AInts("pads", k/2, k/2, k/2, k/2))...)
}

func (n *net) output(v *ir.Value, name string) {
	n.t.Helper()
	n.check(n.b.Err())
	n.check(n.m.Graph.Rename(v, name))
	n.check(n.m.Graph.AddOutput(v))
}

// allWeights plans every weight of m for bits.
func allWeights(m *ir.Model, bits int, quantizer string) (map[string]quant.WeightSpec, map[string]bool, map[string]int) {
	spec, on, plan := map[string]quant.WeightSpec{}, map[string]bool{}, map[string]int{}
	for _, p := range weights.Find(m.Graph) {
		if p.Kind == weights.Weight {
			spec[p.Value.Name()] = quant.WeightSpec{Bits: bits, Quantizer: quantizer}
			on[p.Value.Name()] = true
			plan[p.Value.Name()] = bits
		}
	}
	return spec, on, plan
}

// feeds are random inputs for m.
func feeds(t testing.TB, m *ir.Model, count int, seed uint64) []map[string]*ir.Tensor {
	r := rand.New(rand.NewPCG(seed, 9))
	var out []map[string]*ir.Tensor
	for k := 0; k < count; k++ {
		f := map[string]*ir.Tensor{}
		for _, in := range m.Graph.Inputs() {
			dims, ok := in.StaticDims()
			if !ok {
				t.Fatalf("input %q has no fixed size", in.Name())
			}
			n, _ := ir.NumElements(dims)
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			f[in.Name()], _ = ir.FromFloat32s(x, dims...)
		}
		out = append(out, f)
	}
	return out
}

// calibrate observes m on feeds and chooses ranges.
func calibrate(t testing.TB, run ortRunner, m *ir.Model, pl *quant.Placement, in []map[string]*ir.Tensor, method quant.Method) map[string]quant.Range {
	t.Helper()
	om, names, err := quant.Observers(m, pl)
	if err != nil {
		t.Fatal(err)
	}
	obs := quant.Observations{}
	s, err := run.Open(om, Basic)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, f := range in {
		out, err := s.Run(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range f {
			out[k] = v
		}
		for _, name := range names {
			if err := obs.Add(name, out[name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	ranges, err := quant.Ranges(obs, pl, method)
	if err != nil {
		t.Fatal(err)
	}
	return ranges
}

// compiled is one model quantized after training, with everything on the way.
type compiled struct {
	fake   *ir.Model
	report *quant.Report
	codes  []*quant.Codes
	pl     *quant.Placement
	out    *Emitted
}

func compile(t testing.TB, tg Target, m *ir.Model, spec map[string]quant.WeightSpec, on map[string]bool, run ortRunner, in []map[string]*ir.Tensor, method quant.Method) *compiled {
	t.Helper()
	c := &compiled{}
	for name, ws := range spec {
		spec[name] = tg.WeightSpec(ws.Bits, ws.Quantizer, ws.PerTensor)
	}
	var err error
	if c.pl, err = tg.Place(m, on); err != nil {
		t.Fatal(err)
	}
	var ranges map[string]quant.Range
	if len(c.pl.Points) > 0 {
		ranges = calibrate(t, run, m, c.pl, in, method)
	}
	if c.fake, err = m.Clone(); err != nil {
		t.Fatal(err)
	}
	if c.report, err = quant.Insert(c.fake, quant.Spec{Weights: spec, Activations: c.pl, Ranges: ranges, Narrow: tg.Narrow}); err != nil {
		t.Fatal(err)
	}
	freeze(t, c)
	if c.codes, err = quant.Collect(c.fake, c.report); err != nil {
		t.Fatal(err)
	}
	if c.out, err = tg.Emit(c.fake, c.report, c.codes, c.pl, EmitOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// freeze puts masked weights onto their grids.
func freeze(t testing.TB, c *compiled) {
	t.Helper()
	for _, ins := range c.report.Weights {
		if !ins.Masked {
			continue
		}
		v := c.fake.Graph.Value(ins.Name)
		old, err := v.Init().Float32s()
		if err != nil {
			t.Fatal(err)
		}
		w := append([]float32(nil), old...)
		free := make([]bool, len(w))
		for i := range free {
			free[i] = true
		}
		if _, err := quant.Freeze(ins.Site, ins.Scale, w, free, 1); err != nil {
			t.Fatal(err)
		}
		nt, err := ir.FromFloat32s(w, ins.Dims...)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.fake.Graph.SetInit(v, nt); err != nil {
			t.Fatal(err)
		}
	}
}
