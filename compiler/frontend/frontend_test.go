package frontend_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mqatc/compiler/frontend"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/onnx/text"
	"mqatc/passes/fold"
	"mqatc/passes/weights"
)

// network is Conv -> BatchNormalization -> Relu -> Conv, the second weight in a Constant node, with a dead Identity.
func network(t *testing.T) *ir.Model {
	t.Helper()
	m := ir.NewModel("net", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, 3, 8, 8)))
	if err != nil {
		t.Fatal(err)
	}
	b := ir.NewBuilder(m.Graph, "", op.InferNode)
	constant := func(name string, dims ...int64) *ir.Value {
		n, err := ir.NumElements(dims)
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(i%7)*0.1 + 0.05
		}
		tensor, err := ir.FromFloat32s(v, dims...)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "node.") {
			return b.Node(ir.NodeSpec{Op: "Constant", Outputs: []string{name}, Attrs: []ir.Attr{ir.ATensor("value", tensor)}}, 1)[0]
		}
		w, err := m.Graph.AddInitializer(name, tensor)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	y := b.Op("Conv", []*ir.Value{x, constant("stem.weight", 4, 3, 3, 3)}, ir.AInts("pads", 1, 1, 1, 1))
	y = b.Op("BatchNormalization", []*ir.Value{y, constant("bn.scale", 4), constant("bn.shift", 4), constant("bn.mean", 4), constant("bn.var", 4)})
	y = b.Op("Relu", []*ir.Value{y})
	b.Op("Identity", []*ir.Value{y})
	y = b.Op("Conv", []*ir.Value{y, constant("node.weight", 2, 4, 1, 1)})
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := m.Graph.SetOutputs(y); err != nil {
		t.Fatal(err)
	}
	return m
}

func save(t *testing.T, m *ir.Model, o format.SaveOptions) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net.onnx")
	if _, err := format.Save(m, path, o); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadKeepsWhatTheFileSaid(t *testing.T) {
	path := save(t, network(t), format.SaveOptions{})
	f, err := frontend.Load(context.Background(), path, frontend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(4 * (108 + 4 + 4 + 8)); f.PayloadBefore != want {
		t.Errorf("payload before is %d bytes, want %d: weights and normalization parameters, no running statistics", f.PayloadBefore, want)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if f.Source.Bytes != info.Size() {
		t.Errorf("source has %d bytes, the file %d", f.Source.Bytes, info.Size())
	}
	asRead := map[string]bool{}
	for _, m := range f.AsRead.Modules {
		for _, v := range m.Initializers {
			asRead[v.Name()] = true
		}
	}
	for _, want := range []string{"stem.weight", "bn.scale", "bn.shift", "node.weight"} {
		if !asRead[want] {
			t.Errorf("as read, no module holds %q: %v", want, asRead)
		}
	}
	var got []string
	for _, m := range f.Partition.Modules {
		for _, v := range m.Initializers {
			got = append(got, v.Name())
		}
	}
	slices.Sort(got)
	if want := "node.weight stem.bias stem.weight"; strings.Join(got, " ") != want {
		t.Errorf("after folding the modules hold %v, want %s", got, want)
	}
	if len(f.Partition.Outside) > 0 {
		t.Errorf("%d tensors fell out of the modules", len(f.Partition.Outside))
	}
	for n := f.Model.Graph.First(); n != nil; n = n.Next() {
		if n.Is("BatchNormalization") || n.Is("Constant") || n.Is("Identity") {
			t.Errorf("%v is left", n)
		}
	}
}

func TestExternalDataCountsAndIsHashed(t *testing.T) {
	m := network(t)
	plain := save(t, m, format.SaveOptions{})
	path := save(t, m, format.SaveOptions{ExternalFile: "net.data", Threshold: 1})
	data := filepath.Join(filepath.Dir(path), "net.data")
	s, err := frontend.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, f := range []string{path, data} {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if s.Bytes != total {
		t.Errorf("%d bytes, the two files have %d", s.Bytes, total)
	}
	digest := func(s *frontend.Source) string {
		sum, err := s.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	digest(s)
	late, err := frontend.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(data)
	if err != nil {
		t.Fatal(err)
	}
	raw[0] ^= 1
	time.Sleep(20 * time.Millisecond)
	if err := os.WriteFile(data, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if sum, err := late.Digest(); err == nil {
		t.Errorf("a file that changed after it was read has digest %s", sum)
	}
	other, err := frontend.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if digest(other) == digest(s) {
		t.Error("the digest does not see the external data")
	}
	p, err := frontend.Read(plain)
	if err != nil {
		t.Fatal(err)
	}
	if digest(p) == digest(s) {
		t.Error("two different files have one digest")
	}
}

func TestDumpsAreRepeatableAndLoadAgain(t *testing.T) {
	path := save(t, network(t), format.SaveOptions{})
	var dirs []string
	for range 2 {
		dir := t.TempDir()
		dirs = append(dirs, dir)
		f, err := frontend.Load(context.Background(), path, frontend.Options{Dump: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 4 {
		t.Fatalf("the dump holds %d files, want input, clean, fold and weights", len(files))
	}
	for _, e := range files {
		a, err := os.ReadFile(filepath.Join(dirs[0], e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dirs[1], e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%s differs from run to run", e.Name())
		}
		if strings.HasSuffix(e.Name(), frontend.DumpExt) {
			if _, err := frontend.Load(context.Background(), filepath.Join(dirs[0], e.Name()), frontend.Options{}); err != nil {
				t.Errorf("%s: %v", e.Name(), err)
			}
		}
	}
}

func TestStopAfter(t *testing.T) {
	path := save(t, network(t), format.SaveOptions{})
	f, err := frontend.Load(context.Background(), path, frontend.Options{StopAfter: "clean"})
	if err != nil {
		t.Fatal(err)
	}
	if !f.Stopped || len(f.Log) != 1 || f.Log[0].Pass != "clean" {
		t.Errorf("stopped %v after %v", f.Stopped, f.Log)
	}
	if err := f.Run(context.Background(), f.Model, fold.New()); !errors.Is(err, frontend.ErrStopped) || len(f.Log) != 1 {
		t.Errorf("a stopped run went on: %v, %v", err, f.Log)
	}
	_, err = frontend.Load(context.Background(), path, frontend.Options{StopAfter: "nothing", Later: []string{"quant"}})
	var unknown *frontend.UnknownPassError
	if !errors.As(err, &unknown) || !slices.Equal(unknown.Known, []string{"clean", "fold", "quant"}) {
		t.Errorf("an unknown pass gave %v", err)
	}
}

func TestModulesSurviveFoldingOnRealNetworks(t *testing.T) {
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	for _, name := range []string{"nanodet_m_416", "yunet_n_320_320", "objectron_cup", "ultraface-version-RFB-320", "ch_PP-OCRv4_det_infer",
		"blazepose_landmark_lite"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "models", name+".onnx")
			if _, err := os.Stat(path); err != nil {
				t.Skipf("needs the outside model %s: %v", name, err)
			}
			f, err := frontend.Load(context.Background(), path, frontend.Options{})
			if err != nil {
				t.Fatal(err)
			}
			module := map[string]string{}
			for _, m := range f.AsRead.Modules {
				for _, v := range m.Initializers {
					module[v.Name()] = m.Name
				}
			}
			for _, m := range f.Partition.Modules {
				for _, v := range m.Initializers {
					if was := module[v.Name()]; was != "" && was != m.Name {
						t.Errorf("%s moved from module %s to %s", v.Name(), was, m.Name)
					}
				}
				t.Logf("%-12s %-9s %8d parameters in %d layers, %d MACs", m.Name, m.Role, m.Params, m.Layers, m.MACs)
			}
			if len(f.Partition.Modules) != len(f.AsRead.Modules) {
				t.Errorf("%d modules, %d as read", len(f.Partition.Modules), len(f.AsRead.Modules))
			}
			for _, w := range f.Partition.Outside {
				if w.Kind == weights.Weight {
					t.Errorf("weight %s of %v is in no module", w.Value.Name(), w.Nodes[0])
				}
			}
			t.Logf("payload %d of %d bytes, %d tensors outside, notes %q", f.PayloadBefore, f.Source.Bytes, len(f.Partition.Outside), f.Notes())
		})
	}
}

// A function of an older opset than the model's is brought up in the copy that is prepared; the model as read keeps it.
func TestFunctionsAreBroughtUp(t *testing.T) {
	m, err := text.Parse("t", []byte(`<ir_version: 10, opset_import: ["": 17, "f": 1]>
g (float[4,1,6] x, float[3,6,1,1] w) => (y) { s = f.Squeezed (x) u = Constant <value_ints: ints = [0, 1]> () v = Unsqueeze (s, u)
t = Transpose <perm: ints = [0, 3, 1, 2]> (v) y = Conv (t, w) }
<domain: "f", opset_import: ["": 11]> Squeezed (x) => (y) { y = Squeeze <axes: ints = [1]> (x) }`), nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Clone()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := frontend.Infer(c, nil); err != nil {
		t.Fatal(err)
	}
	if got := c.Graph.Outputs()[0].Type.String(); got != "float[1,3,1,4]" {
		t.Errorf("inferred %s", got)
	}
	after, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("bringing up a clone changed the model")
	}
}

// Who enlarges the input of a network by hand leaves the shapes behind it as they were.
func TestOutdatedShapesOfARealNetwork(t *testing.T) {
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(dir, "models", "ch_PP-OCRv4_det_infer.onnx")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs an outside model (MQATC_SHARED names the folder that holds models/): %v", err)
	}
	m, err := format.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	in := m.Graph.Inputs()[0]
	if notes, err := frontend.Infer(m, map[string][]int64{in.Name(): {1, 3, 320, 320}}); err != nil || len(notes) > 0 {
		t.Fatal(notes, err)
	}
	in.Type.Shape = ir.StaticShape(1, 3, 640, 480)
	f, err := frontend.Load(context.Background(), save(t, m, format.SaveOptions{}), frontend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Model.Graph.Outputs()[0].Shape().String(); got != "[1,1,640,480]" {
		t.Errorf("the output is %s", got)
	}
	if notes := f.Notes(); len(notes) == 0 || !strings.Contains(notes[0], "outdated") {
		t.Errorf("nobody is told: %q", notes)
	}
}
