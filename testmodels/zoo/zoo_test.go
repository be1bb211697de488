package zoo_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task"
	"mqatc/testmodels/zoo"
)

// parameters are those of the authors' code, by prefix of the tensors' names, normalizations counted by scale and shift.
var parameters = map[string]map[string]int64{
	"cubesat":      {"backbone": 666056, "fpn": 134528, "head": 157524},
	"wdr":          {"backbone": 40584928, "fpn": 5179392, "head": 4763926},
	"caspacenet":   {"backbone": 40584928, "fpn": 5179392, "fpn_sub": 5179392 - 2949632, "head": 4763926},
	"zebrapose":    {"resnet": 21284672, "aspp": 7828305},
	"gdrnet":       {"backbone": 21284672, "rot_head_net": 4739909, "pnp_net": 9029513},
	"pyrapose":     {"backbone": 23508032, "pfpn": 5048832, "box3d": 8923280, "cls": 2630005, "mask": 2390285},
	"fasterrcnn":   {"backbone": 23508032, "fpn": 3344384, "rpn": 593935, "roi_heads": 14306705},
	"efficientdet": {"backbone_net": 3595388, "bifpn": 196281, "regressor": 19044, "classifier": 69354},
}

// totals are the sums as SEEDS.md and the authors give them.
var totals = map[string]string{
	"cubesat": "958108", "wdr": "50528246", "caspacenet": "52758006", "zebrapose": "29112977", "gdrnet": "35054094",
	"pyrapose": "42.5M", "fasterrcnn": "41.75M", "efficientdet": "3.88M",
}

func build(t *testing.T, name string, o zoo.Options) *ir.Model {
	t.Helper()
	a, ok := zoo.Find(name)
	if !ok {
		t.Fatalf("no architecture %q", name)
	}
	m, err := a.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	return m
}

func trained(tensor string) bool {
	return strings.Contains(tensor, ".") && !strings.HasSuffix(tensor, ".running_mean") && !strings.HasSuffix(tensor, ".running_var")
}

func TestParameters(t *testing.T) {
	for _, a := range zoo.Table {
		t.Run(a.Name, func(t *testing.T) {
			got, sum := map[string]int64{}, int64(0)
			for _, v := range build(t, a.Name, zoo.Options{Seed: 1}).Graph.Initializers() {
				if !trained(v.Name()) {
					continue
				}
				prefix, _, _ := strings.Cut(v.Name(), ".")
				got[prefix] += v.Init().Len()
				sum += v.Init().Len()
				if a.Owner(v.Name()) == "" {
					t.Errorf("%s is in no module", v.Name())
				}
			}
			want := parameters[a.Name]
			for prefix, n := range want {
				if got[prefix] != n {
					t.Errorf("%s has %d parameters, want %d", prefix, got[prefix], n)
				}
			}
			if len(got) != len(want) {
				t.Errorf("parts %v, want %v", got, want)
			}
			text := fmt.Sprint(sum)
			for _, digits := range []int{1, 2} {
				if s := fmt.Sprintf("%.*fM", digits, float64(sum)/1e6); s == totals[a.Name] {
					text = s
				}
			}
			if text != totals[a.Name] {
				t.Errorf("%d parameters in all, want %s", sum, totals[a.Name])
			}
		})
	}
}

// outputs are the shapes at batch 1 for inputs of the network's own size, which the authors' code gives too.
var outputs = map[string]string{
	"wdr": "cls_8[1 1 64 64] reg_8[1 16 64 64] cls_16[1 1 32 32] reg_16[1 16 32 32] cls_32[1 1 16 16] reg_32[1 16 16 16] " +
		"cls_64[1 1 8 8] reg_64[1 16 8 8] cls_128[1 1 4 4] reg_128[1 16 4 4]",
	"zebrapose":    "mask[1 1 128 128] code[1 16 128 128]",
	"gdrnet":       "mask[1 1 64 64] coor_x[1 1 64 64] coor_y[1 1 64 64] coor_z[1 1 64 64] region[1 65 64 64] rot[1 3 3] trans[1 3]",
	"pyrapose":     "box3d[1 56700 16] cls[1 56700 13] mask[1 4800 13]",
	"fasterrcnn":   "proposals[1000 4] scores[1000 81] deltas[1000 320]",
	"efficientdet": "regression[1 49104 4] classification[1 49104 90]",
}

// atBatch fixes the batch and infers all shapes anew.
func atBatch(t *testing.T, m *ir.Model, batch int64) {
	t.Helper()
	shapes := map[string][]int64{}
	for _, v := range m.Graph.Inputs() {
		var dims []int64
		for i, d := range v.Shape() {
			if i == 0 && !d.Known() {
				d.Size = batch
			}
			dims = append(dims, d.Size)
		}
		shapes[v.Name()] = dims
	}
	op.ClearTypes(m.Graph)
	if err := op.InferModel(m, shapes); err != nil {
		t.Fatal(err)
	}
}

func TestOutputShapes(t *testing.T) {
	outputs["caspacenet"] = outputs["wdr"]
	for _, a := range zoo.Table {
		want := outputs[a.Name]
		if want == "" {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			m := build(t, a.Name, zoo.Options{Factor: 1. / 16})
			atBatch(t, m, 1)
			var got []string
			for _, v := range m.Graph.Outputs() {
				dims, ok := v.StaticDims()
				if !ok {
					t.Errorf("%s is %v", v.Name(), v.Type)
				}
				got = append(got, v.Name()+fmt.Sprint(dims))
			}
			if s := strings.Join(got, " "); s != want {
				t.Errorf("got  %s\nwant %s", s, want)
			}
		})
	}
}

// open reports whether the size of a value depends on how many boxes are left after suppression.
func open(v *ir.Value) bool {
	for i := 0; v != nil && v.Producer() != nil && i < 4; i++ {
		if v.Producer().Is("NonMaxSuppression") {
			return true
		}
		v = v.Producer().Input(0)
	}
	return false
}

func TestShapesAreKnown(t *testing.T) {
	for _, a := range zoo.Table {
		t.Run(a.Name, func(t *testing.T) {
			m := build(t, a.Name, zoo.Options{Factor: 0.25, Height: 64, Width: 64})
			atBatch(t, m, 1)
			unknown := 0
			for _, n := range m.Graph.Nodes() {
				for _, v := range n.Outputs() {
					if _, ok := v.StaticDims(); ok {
						continue
					}
					unknown++
					if !open(v) {
						t.Errorf("%v: %v", n, v.Type)
					}
				}
			}
			if limit := map[string]int{"fasterrcnn": 4}[a.Name]; unknown > limit {
				t.Errorf("%d values have no size, at most %d may depend on data", unknown, limit)
			}
		})
	}
}

func feeds(t *testing.T, m *ir.Model, batch int64) map[string]*ir.Tensor {
	t.Helper()
	out := map[string]*ir.Tensor{}
	for _, v := range m.Graph.Inputs() {
		dims := make([]int64, len(v.Shape()))
		for i, d := range v.Shape() {
			dims[i] = d.Size
			if !d.Known() {
				dims[i] = batch
			}
		}
		n, err := ir.NumElements(dims)
		if err != nil {
			t.Fatal(err)
		}
		scale := 1.0
		if tasked, _, _ := strings.Cut(m.Graph.Name, "_"); tasked == "pyrapose" || tasked == "fasterrcnn" {
			scale = 60
		}
		data := make([]float32, n)
		for i := range data {
			data[i] = float32(scale * math.Sin(float64(i)*0.37+float64(i%7)))
		}
		if out[v.Name()], err = ir.FromFloat32s(data, dims...); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestNetworksRun(t *testing.T) {
	orttest.TestLibrary(t)
	for _, a := range zoo.Table {
		t.Run(a.Name, func(t *testing.T) {
			m := build(t, a.Name, zoo.Options{Seed: 3, Factor: 0.25, Height: 64, Width: 64})
			raw, err := format.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			s, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			out, err := s.Run(feeds(t, m, 2), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(out) != len(m.Graph.Outputs()) {
				t.Errorf("%d outputs of %d", len(out), len(m.Graph.Outputs()))
			}
			for _, v := range m.Graph.Outputs() {
				alike := a.Name == "caspacenet" && (strings.HasSuffix(v.Name(), "_64") || strings.HasSuffix(v.Name(), "_128"))
				finite(t, v.Name(), out[v.Name()], alike)
			}
		})
	}
}

// finite asks for numbers that a trainer can start from: small, and not all alike. Those of CA-SpaceNet's two coarsest levels are: both
// pyramids compute them from the same map with the same weights, so that their difference is zero in the authors' code too.
func finite(t *testing.T, name string, x *ir.Tensor, alike bool) {
	t.Helper()
	f, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range f {
		low, high = min(low, float64(v)), max(high, float64(v))
	}
	if !(low > -50 && high <= 64) || (low == high) != alike {
		t.Errorf("%s%v lies in %v..%v", name, x.Dims(), low, high)
	}
	t.Logf("%s%v %.3g..%.3g", name, x.Dims(), low, high)
}

func TestSeedDecidesTheWeights(t *testing.T) {
	for _, a := range zoo.Table {
		var files [3][]byte
		for i, seed := range []uint64{1, 1, 2} {
			var err error
			if files[i], err = format.Marshal(build(t, a.Name, zoo.Options{Seed: seed, Factor: 1. / 16, Height: 64, Width: 64})); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(files[0], files[1]) {
			t.Errorf("%s: one seed gives two networks", a.Name)
		}
		if bytes.Equal(files[0], files[2]) {
			t.Errorf("%s: two seeds give one network", a.Name)
		}
	}
}

func TestAnySize(t *testing.T) {
	for _, a := range zoo.Table {
		if a.Name == "cubesat" {
			continue
		}
		for _, size := range [][2]int{{32, 32}, {96, 160}, {100, 75}} {
			o := zoo.Options{Factor: 1. / 16, Height: size[0], Width: size[1]}
			_, err := a.Build(o)
			if whole := size[0]%8 == 0 && size[1]%8 == 0; (err == nil) != (whole || a.Multiple <= 1) {
				t.Errorf("%s at %v: %v", a.Name, size, err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, a := range zoo.Table {
		for _, o := range []zoo.Options{{Height: 16, Width: 16}, {Height: 1 << 20, Width: 64}, {Factor: -1}, {Factor: 1e9}, {Factor: math.NaN()}} {
			if _, err := a.Build(o); err == nil {
				t.Errorf("%s: %+v accepted", a.Name, o)
			}
		}
	}
}

func TestTasksExist(t *testing.T) {
	for _, a := range zoo.Table {
		if _, err := task.Lookup(a.Task); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
}
