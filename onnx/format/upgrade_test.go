package format_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// random fills a float tensor with values in [-2, 2).
func random(t testing.TB, r *rand.Rand, dims ...int64) *ir.Tensor {
	t.Helper()
	n, err := ir.NumElements(dims)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = r.Float32()*4 - 2
	}
	out, err := ir.FromFloat32s(v, dims...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// run evaluates m and fails on outputs that differ from want, if given.
func run(t testing.TB, m *ir.Model, feeds map[string]*ir.Tensor, want map[string]*ir.Tensor) map[string]*ir.Tensor {
	t.Helper()
	got, err := ort.Evaluator{}.Run(marshal(t, m), feeds)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 {
		t.Fatal("no outputs")
	}
	for name, w := range want {
		g := got[name]
		if g == nil || fmt.Sprint(g.Dims()) != fmt.Sprint(w.Dims()) || g.DType() != w.DType() || !bytes.Equal(g.Raw(), w.Raw()) {
			t.Fatalf("output %s changed: was %v%v, is %v", name, w.DType(), w.Dims(), g)
		}
	}
	return got
}

// oneNode is a model of one node of an old opset: its first input is the graph's, constants follow.
func oneNode(t testing.TB, opset int64, op string, dims []int64, outputs int, consts []*ir.Tensor, typed bool, attrs ...ir.Attr) *ir.Model {
	t.Helper()
	m := ir.NewModel("old", opset)
	g := m.Graph
	x := must(g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(dims...))))(t)
	if !typed {
		// An operator of another kind in between leaves the value without a declared type.
		x = must(g.Append(ir.NodeSpec{Op: "Neg", Inputs: []*ir.Value{x}, Outputs: []string{"neg"}}))(t).Output(0)
	}
	in := []*ir.Value{x}
	for i, c := range consts {
		in = append(in, must(g.AddInitializer(fmt.Sprintf("c%d", i), c))(t))
	}
	var names []string
	for i := range outputs {
		names = append(names, fmt.Sprintf("y%d", i))
	}
	n := must(g.Append(ir.NodeSpec{Op: op, Name: "old_" + op, Inputs: in, Outputs: names, Attrs: attrs}))(t)
	for _, o := range n.Outputs() {
		o.Type = ir.Type{Kind: ir.KindTensor, Elem: ir.Float32}
		if op == "TopK" && o.OutputIndex() == 1 {
			o.Type.Elem = ir.Int64
		}
		if err := g.AddOutput(o); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func floats(t testing.TB, v ...float32) *ir.Tensor {
	return must(ir.FromFloat32s(v, int64(len(v))))(t)
}

func TestUpgradeKeepsResults(t *testing.T) {
	orttest.TestLibrary(t)
	image := []int64{2, 3, 4, 6}
	type kase struct {
		name    string
		opset   int64
		op      string
		dims    []int64
		outputs int
		consts  []*ir.Tensor
		attrs   []ir.Attr
		gone    string // operator that must not be left
	}
	cases := []kase{
		{"clip", 9, "Clip", image, 1, nil, []ir.Attr{ir.AFloat("min", 0), ir.AFloat("max", 1)}, ""},
		{"clip above", 7, "Clip", image, 1, nil, []ir.Attr{ir.AFloat("max", 0.5)}, ""},
		{"pad", 9, "Pad", image, 1, nil, []ir.Attr{ir.AInts("pads", 0, 0, 1, 2, 0, 0, 0, 1), ir.AFloat("value", 0.25)}, ""},
		{"pad reflect", 7, "Pad", image, 1, nil, []ir.Attr{ir.AInts("pads", 0, 0, 1, 1, 0, 0, 1, 1), ir.AString("mode", "reflect")}, ""},
		{"slice", 9, "Slice", image, 1, nil, []ir.Attr{ir.AInts("starts", 1, 0), ir.AInts("ends", 3, -1), ir.AInts("axes", 1, 3)}, ""},
		{"slice all axes", 7, "Slice", []int64{4, 5}, 1, nil, []ir.Attr{ir.AInts("starts", 1, 1), ir.AInts("ends", 9, 4)}, ""},
		{"split", 11, "Split", image, 2, nil, []ir.Attr{ir.AInt("axis", 3), ir.AInts("split", 2, 4)}, ""},
		{"split equal", 9, "Split", image, 3, nil, []ir.Attr{ir.AInt("axis", 1)}, ""},
		{"squeeze", 11, "Squeeze", []int64{1, 3, 1, 2}, 1, nil, []ir.Attr{ir.AInts("axes", 0, 2)}, ""},
		{"squeeze all", 9, "Squeeze", []int64{1, 3, 1, 2}, 1, nil, nil, ""},
		{"unsqueeze", 11, "Unsqueeze", []int64{3, 2}, 1, nil, []ir.Attr{ir.AInts("axes", 0, -1)}, ""},
		{"reduce sum", 11, "ReduceSum", image, 1, nil, []ir.Attr{ir.AInts("axes", 1, 2), ir.AInt("keepdims", 0)}, ""},
		{"reduce sum all", 9, "ReduceSum", image, 1, nil, nil, ""},
		{"reduce mean", 11, "ReduceMean", image, 1, nil, []ir.Attr{ir.AInts("axes", 2, 3)}, ""},
		{"reduce max", 9, "ReduceMax", image, 1, nil, []ir.Attr{ir.AInts("axes", 3)}, ""},
		{"reduce l2", 13, "ReduceL2", image, 1, nil, []ir.Attr{ir.AInts("axes", 1), ir.AInt("keepdims", 1)}, ""},
		{"softmax rows", 11, "Softmax", image, 1, nil, nil, ""},
		{"softmax axis 2", 9, "Softmax", image, 1, nil, []ir.Attr{ir.AInt("axis", 2)}, ""},
		{"softmax last", 11, "Softmax", image, 1, nil, []ir.Attr{ir.AInt("axis", 3)}, ""},
		{"softmax negative", 11, "Softmax", image, 1, nil, []ir.Attr{ir.AInt("axis", -1)}, ""},
		{"softmax one dimension", 11, "Softmax", []int64{2, 5, 1, 1}, 1, nil, nil, ""},
		{"logsoftmax rows", 12, "LogSoftmax", image, 1, nil, nil, ""},
		{"hardmax rows", 11, "Hardmax", image, 1, nil, nil, ""},
		{"dropout", 9, "Dropout", image, 1, nil, []ir.Attr{ir.AFloat("ratio", 0.3)}, ""},
		{"dropout 11", 11, "Dropout", image, 1, nil, nil, ""},
		{"topk", 9, "TopK", []int64{3, 7}, 2, nil, []ir.Attr{ir.AInt("k", 3), ir.AInt("axis", 1)}, ""},
		{"topk 10", 10, "TopK", []int64{3, 7}, 2, []*ir.Tensor{ir.VectorInt64(2)}, nil, ""},
		{"upsample nearest", 7, "Upsample", image, 1, nil, []ir.Attr{ir.AFloats("scales", 1, 1, 2, 3), ir.AString("mode", "nearest")}, "Upsample"},
		{"upsample uneven", 9, "Upsample", image, 1, []*ir.Tensor{floats(t, 1, 1, 1.5, 1.7)}, nil, "Upsample"},
		{"upsample linear", 9, "Upsample", image, 1, []*ir.Tensor{floats(t, 1, 1, 2, 2)}, []ir.Attr{ir.AString("mode", "linear")}, "Upsample"},
		{"resize 10", 10, "Resize", image, 1, []*ir.Tensor{floats(t, 1, 1, 1.5, 2.5)}, nil, ""},
		{"resize 10 down", 10, "Resize", image, 1, []*ir.Tensor{floats(t, 1, 1, 0.6, 0.7)}, nil, ""},
		{"resize 10 linear", 10, "Resize", image, 1, []*ir.Tensor{floats(t, 1, 1, 0.5, 2)}, []ir.Attr{ir.AString("mode", "linear")}, ""},
		{"resize 11 tf", 11, "Resize", image, 1, []*ir.Tensor{floats(t), floats(t, 1, 1, 1.7, 0.6)},
			[]ir.Attr{ir.AString("coordinate_transformation_mode", "tf_half_pixel_for_nn"), ir.AString("nearest_mode", "floor")}, ""},
		{"resize 11 tf nearest", 11, "Resize", image, 1, []*ir.Tensor{floats(t), floats(t, 1, 1, 0.6, 1.7)},
			[]ir.Attr{ir.AString("coordinate_transformation_mode", "tf_half_pixel_for_nn")}, ""},
		{"resize 11 linear", 11, "Resize", image, 1, []*ir.Tensor{floats(t), floats(t, 1, 1, 2, 2)}, []ir.Attr{ir.AString("mode", "linear")}, ""},
		{"batchnorm", 7, "BatchNormalization", image, 1, []*ir.Tensor{floats(t, 1, 2, 3), floats(t, 0, 1, 2), floats(t, .1, .2, .3), floats(t, 1, 2, 3)},
			[]ir.Attr{ir.AFloat("epsilon", 1e-3)}, ""},
		{"batchnorm 9", 9, "BatchNormalization", image, 1, []*ir.Tensor{floats(t, 1, 2, 3), floats(t, 0, 1, 2), floats(t, .1, .2, .3), floats(t, 1, 2, 3)}, nil, ""},
		{"scatter", 9, "Scatter", []int64{3, 2}, 1, []*ir.Tensor{must(ir.FromInt64s([]int64{2, 0}, 1, 2))(t), must(ir.FromFloat32s([]float32{9, 8}, 1, 2))(t)}, nil, "Scatter"},
		{"roialign", 10, "RoiAlign", []int64{1, 1, 8, 8}, 1, []*ir.Tensor{must(ir.FromFloat32s([]float32{1, 1, 5, 6}, 1, 4))(t), ir.VectorInt64(0)},
			[]ir.Attr{ir.AInt("output_height", 2), ir.AInt("output_width", 2)}, ""},
		{"gridsample", 16, "GridSample", []int64{1, 1, 4, 4}, 1, []*ir.Tensor{random(t, rand.New(rand.NewPCG(3, 3)), 1, 2, 2, 2)}, []ir.Attr{ir.AString("mode", "bilinear")}, ""},
		{"groupnorm", 18, "GroupNormalization", []int64{2, 4, 3}, 1, []*ir.Tensor{floats(t, 1, 2), floats(t, 3, 4)}, []ir.Attr{ir.AInt("num_groups", 2)}, ""},
		{"maxpool", 7, "MaxPool", image, 1, nil, []ir.Attr{ir.AInts("kernel_shape", 2, 2), ir.AInts("strides", 2, 2)}, ""},
		{"dft", 17, "DFT", []int64{1, 8, 4, 1}, 1, nil, []ir.Attr{ir.AInt("axis", 2)}, ""},
	}
	for i, c := range cases {
		for _, typed := range []bool{true, false} {
			if !typed && c.op == "GroupNormalization" {
				continue
			}
			t.Run(fmt.Sprintf("%s typed=%v", c.name, typed), func(t *testing.T) {
				m := oneNode(t, c.opset, c.op, c.dims, c.outputs, c.consts, typed, c.attrs...)
				feeds := map[string]*ir.Tensor{"x": random(t, rand.New(rand.NewPCG(uint64(i), 7)), c.dims...)}
				want := run(t, m, feeds, nil)
				for _, to := range []int{17, 21} {
					if c.opset >= int64(to) {
						continue
					}
					up := must(m.Clone())(t)
					if err := format.Upgrade(up, to); err != nil {
						t.Fatal(err)
					}
					if err := up.Verify(); err != nil {
						t.Fatal(err)
					}
					if up.Opset("") != int64(to) {
						t.Fatalf("opset is %d, not %d", up.Opset(""), to)
					}
					for _, n := range up.Graph.Nodes() {
						if n.Op == c.gone {
							t.Fatalf("%v is left", n)
						}
					}
					run(t, up, feeds, want)
				}
			})
		}
	}
}

func TestUpgradeRefusesByName(t *testing.T) {
	scale := []*ir.Tensor{floats(t, 1, 2, 3), floats(t, 0, 1, 2), floats(t, .1, .2, .3), floats(t, 1, 2, 3)}
	for name, m := range map[string]*ir.Model{
		"spatial=0":     oneNode(t, 7, "BatchNormalization", []int64{1, 3, 2, 2}, 1, scale, true, ir.AInt("spatial", 0)),
		"training mode": oneNode(t, 9, "BatchNormalization", []int64{1, 3, 2, 2}, 3, scale, true),
		"experimental":  oneNode(t, 7, "ImageScaler", []int64{1, 3, 2, 2}, 1, nil, true),
		"shrinks":       oneNode(t, 10, "Resize", []int64{1, 3, 2, 2}, 1, []*ir.Tensor{floats(t, 1, 1, .5, 2)}, true),
		"older than 7":  oneNode(t, 6, "Relu", []int64{1}, 1, nil, true),
	} {
		err := format.Upgrade(m, 17)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if op := m.Graph.First().Op; name != "older than 7" && !strings.Contains(err.Error(), "old_"+op) {
			t.Errorf("%s: the error names no node: %v", name, err)
		}
	}
}

func TestUpgradeLeavesNewModelsAlone(t *testing.T) {
	m := oneNode(t, 20, "Relu", []int64{1}, 1, nil, true)
	before := marshal(t, m)
	if err := format.Upgrade(m, 17); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, marshal(t, m)) {
		t.Fatal("a model of opset 20 was changed")
	}
}

// inputsFor makes one random tensor per graph input that has no default; unknown sizes become batch 1 and 96 pixels.
func inputsFor(t testing.TB, m *ir.Model) map[string]*ir.Tensor {
	t.Helper()
	r := rand.New(rand.NewPCG(11, 13))
	feeds := map[string]*ir.Tensor{}
	for _, v := range m.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		var dims []int64
		for i, d := range v.Shape() {
			switch {
			case d.Known():
				dims = append(dims, d.Size)
			case i == 0:
				dims = append(dims, 1)
			default:
				dims = append(dims, 96)
			}
		}
		feeds[v.Name()] = random(t, r, dims...)
	}
	return feeds
}

func TestSharedModelsKeepTheirResults(t *testing.T) {
	for _, name := range sharedModels {
		t.Run(name, func(t *testing.T) {
			path := sharedModel(t, name)
			orttest.TestLibrary(t)
			m := load(t, path)
			feeds := inputsFor(t, m)
			s, err := ort.NewSessionFile(path, ort.SessionOptions{OptLevel: ort.DisableAll, Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			want, err := s.Run(feeds, nil)
			if cerr := s.Close(); err != nil || cerr != nil {
				t.Fatal(err, cerr)
			}
			run(t, m, feeds, want)
			if err := format.Upgrade(m, 17); err != nil {
				t.Fatal(err)
			}
			if err := m.Verify(); err != nil {
				t.Fatal(err)
			}
			run(t, m, feeds, want)
		})
	}
}

func TestLowestIR(t *testing.T) {
	for _, c := range [][2]int64{{17, 8}, {20, 9}, {22, 10}, {23, 11}, {24, 12}, {25, 13}, {27, 13}, {28, 14}} {
		if got := format.LowestIR(c[0]); got != c[1] {
			t.Errorf("opset %d goes with IR version %d, want %d", c[0], got, c[1])
		}
	}
}
