package format_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// packed is a network with a float weight, an int4, an int2 and an int8 one, their scales, and shape constants.
func packed(t testing.TB) *ir.Model {
	t.Helper()
	m := ir.NewModel("packed", 25)
	m.IRVersion = 13
	g := m.Graph
	r := rand.New(rand.NewPCG(5, 5))
	x := must(g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, 16))))(t)
	init := func(name string, c *ir.Tensor) *ir.Value { return must(g.AddInitializer(name, c))(t) }
	add := func(op, out string, in []*ir.Value, attrs ...ir.Attr) *ir.Value {
		return must(g.Append(ir.NodeSpec{Op: op, Name: "node_" + out, Inputs: in, Outputs: []string{out}, Attrs: attrs}))(t).Output(0)
	}
	y := add("MatMul", "h0", []*ir.Value{x, init("float_w", random(t, r, 16, 16))})
	for _, d := range []ir.DType{ir.Int4, ir.Int2, ir.Int8} {
		v := make([]int64, 16*16)
		top := int64(1) << (d.Bits() - 1)
		for i := range v {
			v[i] = r.Int64N(2*top) - top
		}
		w := init(fmt.Sprintf("%v_w", d), must(ir.PackInts(d, v, 16, 16))(t))
		scale := init(fmt.Sprintf("%v_scale", d), random(t, r, 16))
		dq := add("DequantizeLinear", fmt.Sprintf("%v_dq", d), []*ir.Value{w, scale}, ir.AInt("axis", 1))
		y = add("MatMul", fmt.Sprintf("%v_h", d), []*ir.Value{y, dq})
	}
	y = add("Mul", "scaled", []*ir.Value{y, init("gain", ir.ScalarFloat32(0.01))})
	y = add("Reshape", "y", []*ir.Value{y, init("shape", ir.VectorInt64(1, 4, 2, 2))})
	if err := g.AddOutput(y); err != nil {
		t.Fatal(err)
	}
	y.Type = ir.TensorType(ir.Float32, ir.StaticShape(1, 4, 2, 2))
	return m
}

func TestExternalDataRunsInOnnxruntime(t *testing.T) {
	orttest.TestLibrary(t)
	m := packed(t)
	feeds := map[string]*ir.Tensor{"x": random(t, rand.New(rand.NewPCG(6, 6)), 1, 16)}
	want := run(t, m, feeds, nil)
	inline := marshal(t, m)
	dir := t.TempDir()
	path := filepath.Join(dir, "model.onnx")
	placed, err := format.Save(m, path, format.SaveOptions{ExternalFile: "weights.bin", External: func(*ir.Value) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	blob, err := os.ReadFile(filepath.Join(dir, "weights.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	end := int64(0)
	for _, p := range placed {
		names = append(names, p.Name)
		raw := m.Graph.Value(p.Name).Init().Raw()
		if p.Offset%64 != 0 || p.Offset < end || !bytes.Equal(blob[p.Offset:p.Offset+p.Bytes], raw) {
			t.Errorf("%+v does not hold the tensor", p)
		}
		end = p.Offset + p.Bytes
	}
	if end != int64(len(blob)) {
		t.Errorf("the file has %d bytes, the last tensor ends at %d", len(blob), end)
	}
	if got := strings.Join(names, " "); got != "float_w int4_w int4_scale int2_w int2_scale int8_w int8_scale" {
		t.Errorf("placed %s", got)
	}
	for _, level := range ort.OptLevels() {
		s, err := ort.NewSessionFile(path, ort.SessionOptions{OptLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Run(feeds, nil)
		if cerr := s.Close(); err != nil || cerr != nil {
			t.Fatal(err, cerr)
		}
		if level == ort.DisableAll && !bytes.Equal(got["y"].Raw(), want["y"].Raw()) {
			t.Error("external data changed the result")
		}
	}
	if !bytes.Equal(marshal(t, load(t, path)), inline) {
		t.Error("the model read back differs")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("files left: %v %v", left, err)
	}
}

func TestLargeModelsSpill(t *testing.T) {
	m := packed(t)
	path := filepath.Join(t.TempDir(), "m.onnx")
	placed, err := format.Save(m, path, format.SaveOptions{SpillAbove: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if len(placed) != 1 || placed[0].Name != "float_w" {
		t.Fatalf("placed %v", placed)
	}
	if _, err := os.Stat(path + ".data"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(marshal(t, load(t, path)), marshal(t, m)) {
		t.Fatal("the model read back differs")
	}
}

// What only nodes and subgraphs hold spills too, and runs.
func TestConstantsOfNodesAndSubgraphsSpill(t *testing.T) {
	orttest.TestLibrary(t)
	m := ir.NewModel("inner", 17)
	g := m.Graph
	r := rand.New(rand.NewPCG(8, 8))
	x := must(g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(32, 32))))(t)
	yes := must(g.AddInput("yes", ir.TensorType(ir.Bool, ir.StaticShape())))(t)
	shared := random(t, r, 32, 32)
	c := must(g.Append(ir.NodeSpec{Op: "Constant", Outputs: []string{"c"}, Attrs: []ir.Attr{ir.ATensor("value", shared)}}))(t).Output(0)
	h := must(g.Append(ir.NodeSpec{Op: "MatMul", Inputs: []*ir.Value{x, c}, Outputs: []string{"h"}}))(t).Output(0)
	branch := func(name string, weight *ir.Tensor) *ir.Graph {
		s := ir.NewSubgraph(name, g)
		w := must(s.AddInitializer(name+"_w", weight))(t)
		n := must(s.Append(ir.NodeSpec{Op: "MatMul", Inputs: []*ir.Value{h, w}, Outputs: []string{name + "_y"}}))(t)
		if err := s.AddOutput(n.Output(0)); err != nil {
			t.Fatal(err)
		}
		n.Output(0).Type = ir.TensorType(ir.Float32, nil)
		return s
	}
	y := must(g.Append(ir.NodeSpec{Op: "If", Inputs: []*ir.Value{yes}, Outputs: []string{"y"}, Attrs: []ir.Attr{
		ir.AGraph("then_branch", branch("then", random(t, r, 32, 32))), ir.AGraph("else_branch", branch("else", shared))}}))(t).Output(0)
	if err := g.AddOutput(y); err != nil {
		t.Fatal(err)
	}
	y.Type = ir.TensorType(ir.Float32, ir.StaticShape(32, 32))
	path := filepath.Join(t.TempDir(), "m.onnx")
	placed, err := format.Save(m, path, format.SaveOptions{SpillAbove: 3000})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range placed {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "c then_w" {
		t.Errorf("placed %s", got)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 3000 {
		t.Errorf("the model file: %v, %v", info, err)
	}
	if !bytes.Equal(marshal(t, load(t, path)), marshal(t, m)) {
		t.Error("the model read back differs")
	}
	s, err := ort.NewSessionFile(path, ort.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, v := range []bool{true, false} {
		feeds := map[string]*ir.Tensor{"x": random(t, rand.New(rand.NewPCG(9, 9)), 32, 32), "yes": must(ir.FromBools([]bool{v}))(t)}
		got, err := s.Run(feeds, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := run(t, m, feeds, nil); !bytes.Equal(got["y"].Raw(), want["y"].Raw()) {
			t.Errorf("yes=%v: external data changed the result", v)
		}
	}
	if placed, err := format.Save(m, path, format.SaveOptions{ExternalFile: "w.bin"}); err != nil || len(placed) != 0 {
		t.Errorf("what fits was placed: %v, %v", placed, err)
	}
}

func TestShapeConstantsStayInline(t *testing.T) {
	m := packed(t)
	for name, want := range map[string]bool{"shape": false, "gain": false, "float_w": true, "int4_scale": true, "int2_w": true} {
		if got := format.MayBeExternal(m.Graph.Value(name)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSaveRefusesAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	m := packed(t)
	for _, ext := range []string{"../w.bin", "a/b", "m.onnx", "..", "/w"} {
		if _, err := format.Save(m, filepath.Join(dir, "m.onnx"), format.SaveOptions{ExternalFile: ext}); err == nil {
			t.Errorf("external file %q was accepted", ext)
		}
	}
	if _, err := format.Save(m, filepath.Join(dir, "none", "m.onnx"), format.SaveOptions{}); err == nil {
		t.Error("saved into a folder that does not exist")
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := format.Save(m, filepath.Join(dir, "taken"), format.SaveOptions{}); err == nil {
		t.Error("saved over a folder")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("files left: %v %v", left, err)
	}
}

func TestExternalDataStaysInTheFolder(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "model")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{filepath.Join(top, "secret"), filepath.Join(dir, "ok"), filepath.Join(dir, "sub", "ok")} {
		if err := os.WriteFile(f, make([]byte, 100), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(top, "secret"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(top, filepath.Join(dir, "up")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		entries []string
		want    string
	}{
		{[]string{"location", "ok"}, ""},
		{[]string{"location", "sub/ok", "offset", "92", "length", "8"}, ""},
		{[]string{"location", "ok", "offset", "93"}, "has 100 bytes"},
		{[]string{"location", "ok", "offset", "9223372036854775807"}, "has 100 bytes"},
		{[]string{"location", "ok", "offset", "-1"}, "no byte count"},
		{[]string{"location", "ok", "offset", "x"}, "no byte count"},
		{[]string{"location", "ok", "length", "9"}, "needs 8"},
		{[]string{"location", filepath.Join(top, "secret")}, "outside"},
		{[]string{"location", "../secret"}, "outside"},
		{[]string{"location", "sub/../../secret"}, "outside"},
		{[]string{"location", "link"}, "inside the model's folder"},
		{[]string{"location", "up/secret"}, "inside the model's folder"},
		{[]string{"location", "none"}, "missing beside the model"},
		{[]string{"location", "sub"}, "not a regular file"},
		{nil, "names no file"},
	} {
		q := rich()
		q.Graph.Initializer = append(q.Graph.Initializer, &pb.TensorProto{Name: p("ext"), Dims: []int64{2}, DataType: p(int32(ir.Float32)),
			DataLocation: p(pb.TensorProto_EXTERNAL), ExternalData: kv(c.entries...)})
		data, err := q.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "m.onnx")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := format.Load(path)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%v: %v", c.entries, err)
		case c.want == "" && len(m.Graph.Value("ext").Init().Raw()) != 8:
			t.Errorf("%v: wrong bytes", c.entries)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `initializer "ext"`)):
			t.Errorf("%v: %v", c.entries, err)
		}
	}
}

// A file of 64 MB and more is mapped; its tensors are views of the mapping.
func TestMappedFile(t *testing.T) {
	m := ir.NewModel("large", 17)
	n := int64(17 << 20)
	v := make([]float32, n)
	v[0], v[n-1] = 3, 7
	w := must(m.Graph.AddInitializer("w", must(ir.FromFloat32s(v, n))(t)))(t)
	if err := m.Graph.AddOutput(w); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "large.onnx")
	if _, err := format.Save(m, path, format.SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	got := must(load(t, path).Graph.Value("w").Init().Float32s())(t)
	if int64(len(got)) != n || got[0] != 3 || got[n-1] != 7 {
		t.Fatalf("%d elements, %v, %v", len(got), got[0], got[n-1])
	}
	mapped := load(t, path)
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := format.Marshal(mapped); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Fatalf("a truncated mapping gave %v", err)
	}
}
