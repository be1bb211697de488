package step_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/lower"
	"mqatc/passes/parts"
	"mqatc/passes/pass"
	"mqatc/passes/rebatch"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/train"
)

// divided builds networks of a free batch and losses for them.
type divided struct {
	*ir.Builder
	t *testing.T
	r *rand.Rand
	m *ir.Model
}

func newDivided(t *testing.T, name string, inputs map[string][]int64) (*divided, map[string]*ir.Value) {
	t.Helper()
	m := ir.NewModel(name, 17)
	in := map[string]*ir.Value{}
	for name, d := range inputs {
		shape := ir.Shape{ir.Sym("N")}
		for _, n := range d {
			shape = append(shape, ir.D(n))
		}
		v, err := m.Graph.AddInput(name, ir.TensorType(ir.Float32, shape))
		if err != nil {
			t.Fatal(err)
		}
		in[name] = v
	}
	return &divided{ir.NewBuilder(m.Graph, "", op.InferNode), t, rand.New(rand.NewPCG(4, 2)), m}, in
}

func (d *divided) weight(name string, size float64, dims ...int64) *ir.Value {
	n, _ := ir.NumElements(dims)
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(d.r.NormFloat64() * size)
	}
	w, err := ir.FromFloat32s(x, dims...)
	if err != nil {
		d.t.Fatal(err)
	}
	v, err := d.m.Graph.AddInitializer(name, w)
	if err != nil {
		d.t.Fatal(err)
	}
	return v
}

// quantized is fake quantization with a trained step size.
func (d *divided) quantized(name string, x *ir.Value, s, lo, hi float32, dims ...int64) *ir.Value {
	v := d.weight(name, 0, dims...)
	x0 := make([]float32, v.Init().Len())
	for i := range x0 {
		x0[i] = s
	}
	t, err := ir.FromFloat32s(x0, dims...)
	if err == nil {
		err = d.m.Graph.SetInit(v, t)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	c := d.Op("Clip", []*ir.Value{d.Op("Div", []*ir.Value{x, v}), d.Float(lo), d.Float(hi)})
	return d.Op("Mul", []*ir.Value{d.Op("Round", []*ir.Value{c}), v})
}

func (d *divided) output(name string, v *ir.Value) {
	d.t.Helper()
	if err := d.Err(); err != nil {
		d.t.Fatal(err)
	}
	if err := d.m.Graph.Rename(v, name); err != nil {
		d.t.Fatal(err)
	}
	if err := d.m.Graph.SetOutputs(v); err != nil {
		d.t.Fatal(err)
	}
}

// mixture is a network [N,3,10,10] -> [N,6] with shortcuts, poolings, several activations and quantizers of images, activations and weights.
func mixture(t *testing.T) *divided {
	d, in := newDivided(t, "mixture", map[string][]int64{"x": {3, 10, 10}})
	conv := func(name string, x *ir.Value, k, c, kernel, stride, group int64) *ir.Value {
		w := d.quantized(name+".scale", d.weight(name+".weight", 0.3, k, c/group, kernel, kernel), 0.1, -8, 7, k, 1, 1, 1)
		return d.Op("Conv", []*ir.Value{x, w, d.weight(name+".bias", 0.1, k)}, ir.AInts("kernel_shape", kernel, kernel), ir.AInts("strides", stride, stride),
			ir.AInts("pads", kernel/2, kernel/2, kernel/2, kernel/2), ir.AInt("group", group))
	}
	x := d.quantized("image.step", in["x"], 0.02, -128, 127, 1)
	x = d.Op("Relu", []*ir.Value{conv("a", x, 16, 3, 3, 1, 1)})
	x = d.Op("MaxPool", []*ir.Value{x}, ir.AInts("kernel_shape", 3, 3), ir.AInts("strides", 2, 2), ir.AInts("pads", 1, 1, 1, 1))
	y := d.quantized("a.step", x, 0.02, -128, 127, 1)
	y = d.Op("Clip", []*ir.Value{conv("b", y, 16, 16, 3, 1, 16), d.Float(0), d.Float(6)})
	y = d.Op("LeakyRelu", []*ir.Value{conv("c", d.quantized("b.step", y, 0.01, -128, 127, 1), 16, 16, 1, 1, 1)}, ir.AFloat("alpha", 0.1))
	x = d.Op("Add", []*ir.Value{x, y})
	x = d.Op("Relu", []*ir.Value{conv("d", d.quantized("c.step", x, 0.02, -128, 127, 1), 8, 16, 3, 2, 1)})
	x = d.Op("Flatten", []*ir.Value{d.Op("GlobalAveragePool", []*ir.Value{x})})
	d.output("y", d.Op("Softmax", []*ir.Value{d.Op("Gemm", []*ir.Value{x, d.weight("fc.weight", 0.4, 8, 6), d.weight("fc.bias", 0.1, 6)})}, ir.AInt("axis", 1)))
	return d
}

// loss is made of the difference of y and the target t, and of y.
func loss(t *testing.T, of func(d *divided, diff, y *ir.Value) *ir.Value) *ir.Model {
	d, in := newDivided(t, "loss", map[string][]int64{"y": {6}, "t": {6}})
	d.output("loss", of(d, d.Op("Sub", []*ir.Value{in["y"], in["t"]}), in["y"]))
	return d.m
}

func (d *divided) square(v *ir.Value) *ir.Value { return d.Op("Mul", []*ir.Value{v, v}) }

func (d *divided) reduce(name string, v *ir.Value) *ir.Value {
	if name == "ReduceSum" {
		return d.Op(name, []*ir.Value{v, d.Int64s(0, 1)}, ir.AInt("keepdims", 0))
	}
	return d.Op(name, []*ir.Value{v}, ir.AInt("keepdims", 0))
}

func lowered(t *testing.T) func(*ir.Model) error {
	block, err := ort.BlockedChannels()
	if err != nil {
		t.Fatal(err)
	}
	return lower.New(lower.Machine{Block: block})
}

func divide(t *testing.T, m *ir.Model, o step.Options, n int) (*parts.Stages, error) {
	s, err := step.Divide(m, o, n, lower.Simplify)
	if err != nil {
		return nil, err
	}
	l := lowered(t)
	return s, step.Complete(s, l, l)
}

func staged(t *testing.T, s *parts.Stages) *train.Parts {
	p := &train.Parts{Images: train.Stage{Model: bytesOf(t, s.Images)}, Count: s.Count, Threads: 1, Divided: s.Divided, Name: parts.Name}
	for _, m := range []*ir.Model{s.Batch, s.Weights} {
		if m != nil {
			p.Shared = append(p.Shared, train.Stage{Model: bytesOf(t, m)})
		}
	}
	return p
}

// A step whose images are divided leaves what the whole one leaves, but for rounding.
func TestDividedStepsEqualWholeOnes(t *testing.T) {
	orttest.TestLibrary(t)
	losses := map[string]func(d *divided, diff, y *ir.Value) *ir.Value{
		"mean": func(d *divided, diff, _ *ir.Value) *ir.Value { return d.reduce("ReduceMean", d.square(diff)) },
		"sum":  func(d *divided, diff, _ *ir.Value) *ir.Value { return d.reduce("ReduceSum", d.square(diff)) },
		"both": func(d *divided, diff, y *ir.Value) *ir.Value {
			mean := d.Op("Mul", []*ir.Value{d.reduce("ReduceMean", d.Op("Abs", []*ir.Value{diff})), d.Float(3)})
			return d.Op("Sub", []*ir.Value{mean, d.reduce("ReduceSum", d.Op("Mul", []*ir.Value{y, d.Float(0.01)}))})
		},
		"by a count of labels": func(d *divided, diff, _ *ir.Value) *ir.Value {
			labels := d.m.Graph.Value("t")
			count := d.Op("Max", []*ir.Value{d.reduce("ReduceMax", labels), d.Op("Abs", []*ir.Value{d.reduce("ReduceMean", labels)})})
			return d.Op("Div", []*ir.Value{d.reduce("ReduceSum", d.square(diff)), d.Op("Add", []*ir.Value{count, d.Float(1)})})
		},
		"by image": func(d *divided, diff, _ *ir.Value) *ir.Value {
			each := d.Op("Sqrt", []*ir.Value{d.Op("Add", []*ir.Value{d.Op("ReduceSum", []*ir.Value{d.square(diff), d.Int64s(1)}, ir.AInt("keepdims", 1)), d.Float(1e-3)})})
			return d.reduce("ReduceMean", each)
		},
	}
	for name, of := range losses {
		for _, n := range []int{2, 4} {
			for _, opt := range []step.Optimizer{{Name: "sgd", Momentum: 0.9, ClipNorm: 0.5}, {Name: "adam", WeightDecay: 0.01, EMA: 0.9}} {
				t.Run(fmt.Sprint(name, n, opt.Name), func(t *testing.T) {
					d := mixture(t)
					o := step.Options{Loss: loss(t, of), Batch: 8, Params: step.Trainable(d.m), Optimizer: opt, Lower: lowered(t), EmitGrads: true}
					for _, s := range []string{"image.step", "a.step", "b.step", "c.step", "a.scale", "b.scale", "c.scale", "d.scale"} {
						o.Params = append(o.Params, step.Param{Name: s, Min: 1e-4, GradScale: 0.1})
					}
					seen := map[string]bool{}
					var params []step.Param
					for _, p := range o.Params {
						if !seen[p.Name] {
							params = append(params, p)
						}
						seen[p.Name] = true
					}
					o.Params = params
					state := map[string]*ir.Tensor{}
					for _, p := range o.Params {
						state[p.Name] = d.m.Graph.Value(p.Name).Init()
						if opt.EMA > 0 {
							state[p.Name+step.Average] = state[p.Name]
						}
					}
					whole, err := step.Build(d.m, o)
					if err != nil {
						t.Fatal(err)
					}
					s, err := divide(t, d.m, o, n)
					if err != nil {
						t.Fatal(err)
					}
					p := staged(t, s)
					one, err := train.New(train.Config{Step: bytesOf(t, whole), State: state, Threads: 1})
					if err != nil {
						t.Fatal(err)
					}
					defer one.Close()
					many, err := train.New(train.Config{Step: bytesOf(t, s.Update), Parts: p, State: state, Threads: 1})
					if err != nil {
						t.Fatal(err)
					}
					defer many.Close()
					for k := range 3 {
						feeds := train.Feeds{"x": d.tensor(8, 3, 10, 10), "t": d.tensor(8, 6)}
						a, err := one.Step(0.01, feeds)
						if err != nil {
							t.Fatal(err)
						}
						b, err := many.Step(0.01, feeds)
						if err != nil {
							t.Fatal(err)
						}
						if k > 0 { // codes on the edge to the next one, and adam's steps of gradients near zero, go either way
							if math.Abs(a-b) > 0.1*math.Abs(a) {
								t.Errorf("step %d: loss %v whole, %v divided", k, a, b)
							}
							continue
						}
						if math.Abs(a-b) > 2e-5*(1+math.Abs(a)) {
							t.Fatalf("loss %v whole, %v divided", a, b)
						}
						for _, p := range o.Params {
							near(t, p.Name+".grad", one.Output(p.Name+".grad").Float32s(), many.Output(p.Name+".grad").Float32s(), 2e-4)
						}
						for _, name := range one.States() {
							near(t, name, one.Buffer(name).Float32s(), many.Buffer(name).Float32s(), 1e-3)
						}
					}
				})
			}
		}
	}
}

func (d *divided) tensor(dims ...int64) *ir.Tensor {
	n, _ := ir.NumElements(dims)
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(d.r.NormFloat64())
	}
	t, err := ir.FromFloat32s(x, dims...)
	if err != nil {
		d.t.Fatal(err)
	}
	return t
}

// near compares by the norm of the difference.
func near(t *testing.T, name string, a, b []float32, tol float64) {
	t.Helper()
	diff := make([]float32, len(a))
	for i := range a {
		diff[i] = a[i] - b[i]
	}
	if len(a) != len(b) || length(diff) > tol*length(a)+1e-6 {
		t.Errorf("%s differs by %.3g of its norm %.3g", name, length(diff)/length(a), length(a))
	}
}

// Steps that mix images otherwise are told of with the node that does.
func TestWhatIsNotDivided(t *testing.T) {
	orttest.TestLibrary(t)
	mean := func(d *divided, diff, _ *ir.Value) *ir.Value { return d.reduce("ReduceMean", d.square(diff)) }
	plain := func(change func(d *divided, y *ir.Value) *ir.Value) func(t *testing.T) *ir.Model {
		return func(t *testing.T) *ir.Model {
			d, in := newDivided(t, "plain", map[string][]int64{"x": {3, 10, 10}})
			y := d.Op("MatMul", []*ir.Value{d.Op("Flatten", []*ir.Value{in["x"]}), d.weight("w", 0.1, 300, 6)})
			d.output("y", change(d, y))
			return d.m
		}
	}
	same := plain(func(d *divided, y *ir.Value) *ir.Value { return d.Op("Relu", []*ir.Value{y}) })
	for name, c := range map[string]struct {
		model func(t *testing.T) *ir.Model
		loss  func(d *divided, diff, y *ir.Value) *ir.Value
		want  string
	}{
		"by a count": {same, func(d *divided, diff, y *ir.Value) *ir.Value {
			return d.Op("Div", []*ir.Value{d.reduce("ReduceSum", d.square(diff)), d.reduce("ReduceSum", d.Op("Abs", []*ir.Value{y}))})
		}, "goes back into each"},
		"root of a mean": {same, func(d *divided, diff, _ *ir.Value) *ir.Value {
			return d.Op("Sqrt", []*ir.Value{d.reduce("ReduceMean", d.square(diff))})
		}, "goes back into each"},
		"greatest": {same, func(d *divided, diff, _ *ir.Value) *ir.Value {
			return d.reduce("ReduceMax", d.square(diff))
		}, "all images"},
		"softmax of images": {plain(func(d *divided, y *ir.Value) *ir.Value {
			return d.Op("Softmax", []*ir.Value{y}, ir.AInt("axis", 0))
		}), mean, "Softmax along the images"},
		"each with each": {same, func(d *divided, diff, _ *ir.Value) *ir.Value {
			return d.reduce("ReduceMean", d.square(d.Op("MatMul", []*ir.Value{diff, d.Op("Transpose", []*ir.Value{diff}, ir.AInts("perm", 1, 0))})))
		}, "sizes"},
		"turned round": {plain(func(d *divided, y *ir.Value) *ir.Value {
			last := d.Op("Slice", []*ir.Value{y, d.Int64s(-1), d.Int64s(math.MinInt64), d.Int64s(0), d.Int64s(-1)})
			return d.Op("Mul", []*ir.Value{y, last})
		}), mean, "Slice along the images"},
		"of running sums": {plain(func(d *divided, y *ir.Value) *ir.Value {
			return d.Op("CumSum", []*ir.Value{y, d.Const(ir.ScalarInt64(0))})
		}), mean, "CumSum along the images"},
	} {
		t.Run(name, func(t *testing.T) {
			m := c.model(t)
			o := step.Options{Loss: loss(t, c.loss), Batch: 8, Params: step.Trainable(m), Optimizer: step.Optimizer{Name: "sgd"}}
			if _, err := step.Build(m, o); err != nil {
				t.Fatal(err)
			}
			if _, err := divide(t, m, o, 2); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	m := same(t)
	o := step.Options{Loss: loss(t, mean), Batch: 8, Params: step.Trainable(m), Optimizer: step.Optimizer{Name: "sgd"}}
	for _, n := range []int{1, 3, 16} {
		if _, err := divide(t, m, o, n); err == nil {
			t.Errorf("8 images in %d parts", n)
		}
	}
}

// TestRealNetworksDivided compares the gradients of real networks of two halves of a batch with those of the whole.
func TestRealNetworksDivided(t *testing.T) {
	paths := sharedModels(t)
	orttest.TestLibrary(t)
	done := 0
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m := prepared(t, path)
			m, _, err := rebatch.Check(context.Background(), m, pass.Env{Eval: ort.Evaluator{}}, rebatch.Options{})
			if err != nil {
				t.Skipf("its batch is fixed: %v", err)
			}
			target, err := distill.Loss(m.Graph.Outputs())
			if err != nil {
				t.Fatal(err)
			}
			const batch = 4
			o := step.Options{Loss: target, Batch: batch, Params: step.Trainable(m), EmitGrads: true, Optimizer: step.Optimizer{Name: "sgd"}, Lower: lowered(t)}
			s, err := divide(t, m, o, 2)
			if err != nil {
				t.Skipf("not divided: %v", err)
			}
			whole, err := step.Build(m, o)
			if err != nil {
				t.Fatal(err)
			}
			feeds := taught(t, m, batch)
			state := weightsOf(m, o.Params)
			for _, p := range o.Params {
				if p.Decay {
					state[p.Name] = rounded(t, state[p.Name], 15)
				}
			}
			p := staged(t, s)
			var found [2]*train.Engine
			for k, cfg := range []train.Config{{Step: bytesOf(t, whole)}, {Step: bytesOf(t, s.Update), Parts: p}} {
				cfg.State, cfg.Threads = state, 2
				if found[k], err = train.New(cfg); err != nil {
					t.Fatal(err)
				}
				defer found[k].Close()
				if _, err := found[k].Step(0, feeds); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range o.Params {
				near(t, p.Name+step.Grad, found[0].Output(p.Name+step.Grad).Float32s(), found[1].Output(p.Name+step.Grad).Float32s(), 1e-2)
			}
			done++
		})
	}
	if done == 0 {
		t.Error("no real network was divided")
	}
}
