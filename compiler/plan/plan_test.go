package plan_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mqatc/compiler/frontend"
	"mqatc/compiler/plan"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/partition"
	"mqatc/passes/target"
)

// chain is a network of Conv layers, each with a bias and a Relu, of the given widths; two layers share the last weight when shared.
func chain(t testing.TB, channels []int64, shared bool) *ir.Model {
	t.Helper()
	m := ir.NewModel("chain", 17)
	y, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, channels[0], 8, 8)))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	b := ir.NewBuilder(m.Graph, "", op.InferNode)
	constant := func(name string, dims ...int64) *ir.Value {
		n, err := ir.NumElements(dims)
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64()) * 0.2
		}
		tensor, err := ir.FromFloat32s(v, dims...)
		if err != nil {
			t.Fatal(err)
		}
		w, err := m.Graph.AddInitializer(name, tensor)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for i := 1; i < len(channels); i++ {
		w := constant(fmt.Sprintf("l%d.weight", i), channels[i], channels[i-1], 3, 3)
		bias := constant(fmt.Sprintf("l%d.bias", i), channels[i])
		times := 1
		if shared && i == len(channels)-1 {
			times = 2
		}
		for range times {
			y = b.Op("Conv", []*ir.Value{y, w, bias}, ir.AInts("pads", 1, 1, 1, 1))
			y = b.Op("Relu", []*ir.Value{y})
		}
	}
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := m.Graph.SetOutputs(y); err != nil {
		t.Fatal(err)
	}
	return m
}

// input makes one module of each layer.
func input(t testing.TB, m *ir.Model, tgt string) plan.Input {
	t.Helper()
	f := &partition.File{}
	for _, v := range m.Graph.Initializers() {
		if s, ok := strings.CutSuffix(v.Name(), ".weight"); ok {
			role := "backbone"
			if s == "l1" {
				role = "head"
			}
			f.Modules = append(f.Modules, partition.FileModule{Name: s, Role: role, Initializers: []string{s + ".*"}})
		}
	}
	p, err := partition.Find(m, partition.Options{File: f})
	if err != nil {
		t.Fatal(err)
	}
	tg, err := target.Find(tgt)
	if err != nil {
		t.Fatal(err)
	}
	in := plan.Input{Model: m, Partition: p, PayloadBefore: frontend.Payload(m), FileBefore: frontend.Payload(m) + 900, Target: tg}
	in.FileAfter = plan.Files(in, false, nil)
	return in
}

func TestPlanIsTheBestOfAllAssignments(t *testing.T) {
	in := input(t, chain(t, []int64{4, 6, 8, 5}, false), "weights")
	for _, compress := range []float64{3, 4, 5, 6} {
		d, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: compress})
		if err != nil {
			t.Fatal(err)
		}
		best := math.Inf(1)
		for k := range 27 {
			bytes, cost := d.Table.Fixed, 0.0
			for i := range 3 {
				o := d.Table.Options[i][k/[]int{1, 3, 9}[i]%3]
				bytes += o.Bytes
				cost += o.Omega
			}
			if float64(in.PayloadBefore) >= compress*float64(bytes) {
				best = min(best, cost)
			}
		}
		if math.IsInf(best, 1) != d.Infeasible() {
			t.Fatalf("%vx: %s, brute force finds %v", compress, d.Status, best)
		}
		if d.Infeasible() {
			continue
		}
		if math.Abs(d.Objective-best) > 1e-12*best {
			t.Errorf("%vx: objective %v, brute force %v", compress, d.Objective, best)
		}
		if d.Compress.Achieved < compress {
			t.Errorf("%vx: achieved %v", compress, d.Compress.Achieved)
		}
	}
}

func TestBytesAreThoseOfEmission(t *testing.T) {
	for _, tgt := range []string{"weights", "onnxruntime", "tensorrt"} {
		for _, q := range []string{"lsq", "inq"} {
			for _, layers := range []bool{false, true} {
				t.Run(fmt.Sprint(tgt, "/", q, "/", layers), func(t *testing.T) {
					in := input(t, chain(t, []int64{4, 6, 40, 33, 33}, true), tgt)
					in.Quantizer = q
					var emitted int64
					in.FileAfter = plan.Files(in, layers, func(m *ir.Model) (err error) {
						emitted, err = target.Payload(m)
						return err
					})
					for _, compress := range []float64{2, 3, 3.4} {
						d, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: compress, Bits: []int{3, 8}, Layers: layers})
						if err != nil {
							t.Fatal(err)
						}
						if d.Infeasible() {
							t.Skipf("%s cannot store %vx", tgt, compress)
						}
						if d.Bytes.After != emitted {
							t.Errorf("%vx %v: planned %d bytes, emitted %d", compress, d.Bits, d.Bytes.After, emitted)
						}
					}
				})
			}
		}
	}
}

func TestBases(t *testing.T) {
	in := input(t, chain(t, []int64{16, 32, 32, 32}, false), "weights")
	for _, basis := range []string{plan.Achieved, plan.Nominal, plan.File} {
		d, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: 5, Basis: basis})
		if err != nil {
			t.Fatal(err)
		}
		if d.Infeasible() {
			t.Fatalf("%s: %s", basis, d.Reason)
		}
		got := map[string]float64{plan.Achieved: d.Compress.Achieved, plan.Nominal: d.Compress.Nominal, plan.File: d.Compress.File}[basis]
		if got < 5 {
			t.Errorf("%s: %v times by its own basis", basis, got)
		}
	}
	in.FileAfter = nil
	if _, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: 5, Basis: plan.File}); err == nil {
		t.Error("a plan by file size without knowing it")
	}
}

func TestAssign(t *testing.T) {
	in := input(t, chain(t, []int64{4, 6, 8, 5}, false), "onnxruntime")
	d, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: 1.5, Assign: map[string]int{"l2": 32, "backbone": 4, "head": 8}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"l1": 8, "l2": 32, "l3": 4}
	for k, b := range want {
		if d.Bits[k] != b {
			t.Errorf("%s has %d bits, want %d", k, d.Bits[k], b)
		}
	}
	if !slices.Equal(d.Flow, []string{"l1", "l3"}) {
		t.Errorf("flow %v, want the modules that are quantized by ascending size", d.Flow)
	}
	_, err = plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: 2, Assign: map[string]int{"neck": 4}})
	var unknown *plan.UnknownModuleError
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "l1 (head)") {
		t.Errorf("an unknown module gave %v", err)
	}
}

func TestInfeasibleSaysWhatCanBeReached(t *testing.T) {
	in := input(t, chain(t, []int64{4, 6, 8, 5}, false), "weights")
	for _, basis := range []string{plan.Achieved, plan.Nominal, plan.File} {
		d, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: 40, Basis: basis})
		if err != nil {
			t.Fatal(err)
		}
		if !d.Infeasible() || !strings.Contains(d.Reason, fmt.Sprintf("%d bytes", d.Smallest)) {
			t.Fatalf("%s: %s: %s", basis, d.Status, d.Reason)
		}
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), `"bits":{},"flow":[]`) {
			t.Errorf("%s", raw)
		}
		last := d.Frontier[len(d.Frontier)-1]
		if last.Bytes != d.Smallest {
			t.Errorf("the frontier ends at %d bytes, the smallest reachable are %d", last.Bytes, d.Smallest)
		}
		ok, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Budget: d.Smallest})
		if err != nil {
			t.Fatal(err)
		}
		if ok.Infeasible() || ok.Bytes.After != d.Smallest {
			t.Errorf("the smallest size %d is not reached: %s, %d bytes", d.Smallest, ok.Status, ok.Bytes.After)
		}
	}
}

func TestSensitivityMovesBits(t *testing.T) {
	in := input(t, chain(t, []int64{8, 8, 8, 8}, false), "weights")
	for _, hot := range []string{"l1", "l2", "l3"} {
		s := plan.Sensitivity{Source: "test", Lambda: map[string]float64{"l1.weight": 1, "l2.weight": 1, "l3.weight": 1}}
		s.Lambda[hot+".weight"] = 1e6
		d, err := plan.Make(in, s, plan.Request{Compress: 5})
		if err != nil {
			t.Fatal(err)
		}
		for k, b := range d.Bits {
			if b > d.Bits[hot] {
				t.Errorf("%s matters most and has %d bits, %s has %d", hot, d.Bits[hot], k, b)
			}
		}
	}
	_, err := plan.Make(in, plan.Sensitivity{Source: "test", Lambda: map[string]float64{"l1.weight": 1}}, plan.Request{Compress: 5})
	if err == nil || !strings.Contains(err.Error(), "l2.weight") && !strings.Contains(err.Error(), "l3.weight") {
		t.Errorf("a missing sensitivity gave %v", err)
	}
}

func TestTheModelsWeightsCountNotThePartitions(t *testing.T) {
	in := input(t, chain(t, []int64{8, 8, 8, 8}, false), "weights")
	before, err := plan.Measure(in, plan.Sensitivity{}, plan.Request{Compress: 5})
	if err != nil {
		t.Fatal(err)
	}
	if in.Model, err = in.Model.Clone(); err != nil {
		t.Fatal(err)
	}
	v := in.Model.Graph.Value("l2.weight")
	w, err := v.Init().Float32s()
	if err != nil {
		t.Fatal(err)
	}
	w = append([]float32(nil), w...)
	for i := range w {
		w[i] *= 2
	}
	doubled, err := ir.FromFloat32s(w, v.Init().Dims()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Model.Graph.SetInit(v, doubled); err != nil {
		t.Fatal(err)
	}
	after, err := plan.Measure(in, plan.Sensitivity{}, plan.Request{Compress: 5})
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range before.Units {
		a, b := before.Options[i][0].Omega, after.Options[i][0].Omega
		want := a
		if u.Name == "l2" {
			want = 4 * a
		}
		if math.Abs(b-want) > 1e-6*want {
			t.Errorf("%s: omega %v, want %v", u.Name, b, want)
		}
	}
}

func TestUniformIsTheWidestThatFits(t *testing.T) {
	in := input(t, chain(t, []int64{16, 32, 32, 32}, false), "weights")
	r := plan.Request{Compress: 4}
	tab, err := plan.Measure(in, plan.Sensitivity{}, r)
	if err != nil {
		t.Fatal(err)
	}
	d, err := tab.Uniform(r)
	if err != nil {
		t.Fatal(err)
	}
	for k, b := range d.Bits {
		if b != 4 {
			t.Errorf("%s has %d bits: 8 are too many for 4x and 2 are not needed", k, b)
		}
	}
}

func TestMoreBOPsThanAllowed(t *testing.T) {
	in := input(t, chain(t, []int64{8, 8, 8, 8}, false), "onnxruntime")
	free, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: 2})
	if err != nil {
		t.Fatal(err)
	}
	macs := int64(0)
	for _, m := range in.Partition.Modules {
		macs += m.MACs
	}
	bound := macs * 4 * 8
	d, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: 2, MaxBOPs: bound})
	if err != nil {
		t.Fatal(err)
	}
	sum := func(d *plan.Document) (n int64) {
		for _, m := range in.Partition.Modules {
			n += m.MACs * int64(d.Bits[m.Name]) * 8
		}
		return n
	}
	if sum(free) <= bound || sum(d) > bound {
		t.Errorf("%d bit operations without a bound, %d with %d allowed", sum(free), sum(d), bound)
	}
}

func TestSensitivityFileReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.json")
	f := &plan.SensitivityFile{Task: "image", Layers: []plan.SensitivityLayer{{Name: "a.w", Lambda: 2.5}, {Name: "b.w"}}}
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	s, _, err := plan.ReadSensitivity(path)
	if err != nil || s.Lambda["a.w"] != 2.5 || s.Source != path {
		t.Errorf("read back %v, %v", s, err)
	}
	for _, bad := range []string{"", "{}", `{"format":1,"layers":[{"name":"a","lambda":-1}]}`, `{"format":1,"layers":[{"name":"a"},{"name":"a"}]}`} {
		if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := plan.ReadSensitivity(path); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestFourHundredLayers(t *testing.T) {
	channels := make([]int64, 401)
	for i := range channels {
		channels[i] = int64(2 + i*7%5)
	}
	in := input(t, chain(t, channels, false), "weights")
	in.FileAfter = nil
	r := plan.Request{Compress: 2.5, Layers: true}
	tab, err := plan.Measure(in, plan.Sensitivity{}, r)
	if err != nil {
		t.Fatal(err)
	}
	best := time.Hour
	var d *plan.Document
	for range 3 {
		start := time.Now()
		if d, err = tab.Solve(r); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	if d.Infeasible() || len(d.Bits) != 400 {
		t.Fatalf("%s with %d layers", d.Status, len(d.Bits))
	}
	t.Logf("400 layers x 3 widths in %v", best)
}

func TestRealNetwork(t *testing.T) {
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(dir, "models", "yunet_n_320_320.onnx")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs the outside model yunet_n_320_320: %v", err)
	}
	f, err := frontend.Load(context.Background(), path, frontend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tg, err := target.Find("onnxruntime")
	if err != nil {
		t.Fatal(err)
	}
	in := plan.Input{Model: f.Model, Partition: f.Partition, PayloadBefore: f.PayloadBefore, FileBefore: f.Source.Bytes, Target: tg}
	var emitted int64
	in.FileAfter = plan.Files(in, false, func(m *ir.Model) (err error) {
		emitted, err = target.Payload(m)
		return err
	})
	d, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: 4})
	if err != nil {
		t.Fatal(err)
	}
	if d.Infeasible() || d.Bytes.After != emitted || d.Compress.Achieved < 4 {
		t.Errorf("%s %s: planned %d bytes, emitted %d, %v times", d.Status, d.Reason, d.Bytes.After, emitted, d.Compress.Achieved)
	}
	t.Logf("%v: %.3f achieved, %.3f nominal, %.3f in files", d.Bits, d.Compress.Achieved, d.Compress.Nominal, d.Compress.File)
}
