package loss_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task/loss"
)

// network has the outputs of the given shapes; squash names the operator that makes them, "" for none.
func network(t *testing.T, squash string, attrs []ir.Attr, shapes ...ir.Shape) []*ir.Value {
	t.Helper()
	m := ir.NewModel("net", 17)
	b := ir.NewBuilder(m.Graph, "test", op.InferNode)
	var out []*ir.Value
	for i, s := range shapes {
		name := string(rune('a' + i))
		in := name
		if squash != "" {
			in += "_logits"
		}
		v, err := m.Graph.AddInput(in, ir.TensorType(ir.Float32, s))
		if err != nil {
			t.Fatal(err)
		}
		if squash != "" {
			v = b.Node(ir.NodeSpec{Op: squash, Inputs: []*ir.Value{v}, Outputs: []string{name}, Attrs: attrs}, 1)[0]
		}
		out = append(out, v)
	}
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// run gives the loss and its gradient by each output.
func run(t *testing.T, l *loss.Loss, feeds map[string]*ir.Tensor) (float64, map[string][]float32) {
	t.Helper()
	orttest.TestLibrary(t)
	m, err := l.Model.Clone()
	if err != nil {
		t.Fatal(err)
	}
	var wrt []*ir.Value
	for _, v := range m.Graph.Inputs() {
		v.Type.Shape = feeds[v.Name()].Shape()
		if !strings.Contains(v.Name(), ".") {
			wrt = append(wrt, v)
		}
	}
	op.ClearTypes(m.Graph)
	if err := op.InferModel(m, nil); err != nil {
		t.Fatal(err)
	}
	out := m.Graph.Outputs()[0]
	gs, err := grad.Gradients(m.Graph, []grad.Seed{{Value: out}}, wrt, grad.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.SetOutputs(append([]*ir.Value{out}, gs...)...); err != nil {
		t.Fatal(err)
	}
	raw, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	grads := map[string][]float32{}
	for i, g := range gs {
		if grads[wrt[i].Name()], err = r[g.Name()].Float32s(); err != nil {
			t.Fatal(err)
		}
	}
	v, err := r[loss.Output].Float32s()
	if err != nil || len(v) != 1 {
		t.Fatalf("loss %v, %v", v, err)
	}
	return float64(v[0]), grads
}

// compare checks value and gradients against a formula in float64 of all outputs' elements.
func compare(t *testing.T, l *loss.Loss, feeds map[string]*ir.Tensor, formula func(y map[string][]float64) float64) {
	t.Helper()
	got, grads := run(t, l, feeds)
	y := map[string][]float64{}
	for name := range grads {
		v, err := feeds[name].Floats()
		if err != nil {
			t.Fatal(err)
		}
		y[name] = v
	}
	if want := formula(y); math.Abs(got-want) > 1e-5*(1+math.Abs(want)) {
		t.Errorf("%s: %v, formula %v", l.Name, got, want)
	}
	const h = 1e-5
	for name, v := range y {
		for i := range v {
			at := v[i]
			v[i] = at + h
			up := formula(y)
			v[i] = at - h
			down := formula(y)
			v[i] = at
			if want := (up - down) / (2 * h); math.Abs(float64(grads[name][i])-want) > 1e-4*math.Abs(want)+1e-6 {
				t.Errorf("%s: gradient by %s[%d] is %v, central difference %v", l.Name, name, i, grads[name][i], want)
			}
		}
	}
}

func floats(t *testing.T, r *rand.Rand, lo, hi float64, dims ...int64) *ir.Tensor {
	t.Helper()
	n, err := ir.NumElements(dims)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(lo + (hi-lo)*r.Float64())
	}
	x, err := ir.FromFloat32s(v, dims...)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func values(t *testing.T, x *ir.Tensor) []float64 {
	t.Helper()
	if x.DType() == ir.Int64 {
		v, err := x.Int64s()
		if err != nil {
			t.Fatal(err)
		}
		var out []float64
		for _, k := range v {
			out = append(out, float64(k))
		}
		return out
	}
	v, err := x.Floats()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func named(t *testing.T, name string, outputs []*ir.Value) *loss.Loss {
	t.Helper()
	l, err := loss.Named(name, outputs)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func batch(dims ...int64) ir.Shape { return append(ir.Shape{ir.Sym("N")}, ir.StaticShape(dims...)...) }

func TestCrossEntropy(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, probabilities := range []bool{false, true} {
		squash := ""
		if probabilities {
			squash = "Softmax"
		}
		l := named(t, "cross-entropy", network(t, squash, []ir.Attr{ir.AInt("axis", 1)}, batch(3), batch(4, 2)))
		ta, _ := ir.FromInt64s([]int64{2, 0}, 2)
		tb, _ := ir.FromInt64s([]int64{1, -1, 3, 0}, 2, 2)
		feeds := map[string]*ir.Tensor{"a.target": ta, "b.target": tb, "a": floats(t, r, -2, 2, 2, 3), "b": floats(t, r, -2, 2, 2, 4, 2)}
		if probabilities {
			feeds["a"], feeds["b"] = floats(t, r, 0.1, 0.9, 2, 3), floats(t, r, 0.1, 0.9, 2, 4, 2)
		}
		compare(t, l, feeds, func(y map[string][]float64) float64 {
			one := func(y, target []float64, classes, inner int) float64 {
				sum, n := 0.0, 0.0
				for i, c := range target {
					if c < 0 {
						continue
					}
					at := func(k int) float64 { return y[(i/inner*classes+k)*inner+i%inner] }
					all := 0.0
					for k := range classes {
						all += math.Exp(at(k))
					}
					p := math.Exp(at(int(c))) / all
					if probabilities {
						p = at(int(c))
					}
					sum -= math.Log(p)
					n++
				}
				return sum / n
			}
			return (one(y["a"], values(t, ta), 3, 1) + one(y["b"], values(t, tb), 4, 2)) / 2
		})
		if b := l.Bounds["b.target"]; b.Min != -1 || b.Max != 3 {
			t.Errorf("classes %+v", b)
		}
	}
}

func TestSmoothL1(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	l := named(t, "smooth-l1", network(t, "", nil, batch(5), batch(2, 3)))
	feeds := map[string]*ir.Tensor{"a": floats(t, r, -3, 3, 2, 5), "a.target": floats(t, r, -1, 1, 2, 5),
		"b": floats(t, r, -3, 3, 2, 2, 3), "b.target": floats(t, r, -1, 1, 2, 2, 3)}
	compare(t, l, feeds, func(y map[string][]float64) float64 {
		sum := 0.0
		for _, name := range []string{"a", "b"} {
			part := 0.0
			for i, want := range values(t, feeds[name+loss.Target]) {
				if d := math.Abs(y[name][i] - want); d < 1 {
					part += d * d / 2
				} else {
					part += d - 0.5
				}
			}
			sum += part / float64(len(y[name])) / 2
		}
		return sum
	})
}

func TestFocal(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, squash := range []string{"", "Sigmoid"} {
		l := named(t, "focal", network(t, squash, nil, batch(3, 4)))
		y := floats(t, r, -4, 4, 2, 3, 4)
		if squash != "" {
			y = floats(t, r, 0.05, 0.95, 2, 3, 4)
		}
		for _, positives := range []int{0, 3} {
			target := make([]float32, 24)
			for i := range positives {
				target[7*i] = 1
			}
			want, _ := ir.FromFloat32s(target, 2, 3, 4)
			compare(t, l, map[string]*ir.Tensor{"a": y, "a.target": want}, func(y map[string][]float64) float64 {
				sum, n := 0.0, 0.0
				for i, v := range y["a"] {
					p := v
					if squash == "" {
						p = 1 / (1 + math.Exp(-v))
					}
					x := float64(target[i])
					sum -= 0.25*x*(1-p)*(1-p)*math.Log(p) + 0.75*(1-x)*p*p*math.Log(1-p)
					n += x
				}
				return sum / max(n, 1)
			})
		}
	}
}

func TestUnfitOutputs(t *testing.T) {
	for name, outputs := range map[string][]*ir.Value{
		"cross-entropy": network(t, "", nil, batch(1)),
		"focal":         nil,
		"made-up":       network(t, "", nil, batch(1)),
	} {
		if _, err := loss.Named(name, outputs); err == nil {
			t.Errorf("%s was made for %v", name, outputs)
		}
	}
	v, err := ir.NewGraph("net").AddInput("y", ir.TensorType(ir.Float32, ir.Shape{ir.Sym("N"), ir.D(1 << 60)}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loss.Named("cross-entropy", []*ir.Value{v}); err == nil {
		t.Error("cross-entropy numbers 2^60 classes")
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, opset int64, change func(m *ir.Model, b *ir.Builder, d *ir.Value) *ir.Value) string {
		m := ir.NewModel("l", opset)
		b := ir.NewBuilder(m.Graph, "test", nil)
		y, err := m.Graph.AddInput("y", ir.TensorType(ir.Float32, batch(4)))
		if err != nil {
			t.Fatal(err)
		}
		x, err := m.Graph.AddInput("t", ir.TensorType(ir.Float32, batch(4)))
		if err != nil {
			t.Fatal(err)
		}
		out := change(m, b, b.Op("Sub", []*ir.Value{y, x}))
		if err := b.Err(); err != nil {
			t.Fatal(err)
		}
		out.Type = ir.TensorType(ir.Float32, nil)
		if err := m.Graph.SetOutputs(out); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name+".onnx")
		if _, err := format.Save(m, path, format.SaveOptions{}); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mean := func(b *ir.Builder, d *ir.Value, out string, keep int64) *ir.Value {
		return b.Node(ir.NodeSpec{Op: "ReduceSumSquare", Inputs: []*ir.Value{d}, Outputs: []string{out}, Attrs: []ir.Attr{ir.AInt("keepdims", keep)}}, 1)[0]
	}
	good := write("good", 13, func(m *ir.Model, b *ir.Builder, d *ir.Value) *ir.Value { return mean(b, d, "loss", 0) })
	l, err := loss.Read(good)
	if err != nil {
		t.Fatal(err)
	}
	if l.Name != "good.onnx" || l.Model.Opset("") != 17 {
		t.Errorf("%s at opset %d", l.Name, l.Model.Opset(""))
	}
	for path, say := range map[string]string{
		write("named", 17, func(m *ir.Model, b *ir.Builder, d *ir.Value) *ir.Value { return mean(b, d, "cost", 0) }):  `no output "loss", but "cost"`,
		write("matrix", 17, func(m *ir.Model, b *ir.Builder, d *ir.Value) *ir.Value { return mean(b, d, "loss", 1) }): "must be float[] or float[1]",
		filepath.Join(dir, "missing.onnx"): "no such file",
		write("scalar", 17, func(m *ir.Model, b *ir.Builder, d *ir.Value) *ir.Value {
			m.Graph.Value("t").Type.Shape = ir.Shape{}
			return mean(b, d, "loss", 0)
		}): "the first of them the batch",
		write("text", 17, func(m *ir.Model, b *ir.Builder, d *ir.Value) *ir.Value {
			v, err := m.Graph.AddInput("words", ir.TensorType(ir.String, batch(1)))
			if err != nil {
				t.Fatal(err)
			}
			b.Op("Identity", []*ir.Value{v})
			return mean(b, d, "loss", 0)
		}): `input "words"`,
	} {
		_, err := loss.Read(path)
		var e *hint.Error
		if !errors.As(err, &e) || e.Hint() == "" || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v; want %q", path, err, say)
		}
	}
}
