package format_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/onnx/pb"
	"mqatc/onnx/text"
)

// checkParse parses hostile bytes; what is accepted must survive a round trip, as text too, and inference before and after an upgrade.
func checkParse(t testing.TB, data []byte) {
	t.Helper()
	m, first := checkBytes(t, data)
	if m == nil {
		return
	}
	src, err := text.Format(m)
	if err != nil {
		t.Fatalf("no text: %v", err)
	}
	read, err := text.Parse("m", []byte(src), nil)
	if err != nil {
		t.Fatalf("the text cannot be read: %v\n%s", err, src)
	}
	if !bytes.Equal(first, marshal(t, read)) {
		t.Fatalf("the text reads back otherwise:\n%s", src)
	}
	_ = op.InferModel(m, nil)
	if err := m.Verify(); err != nil {
		t.Fatalf("inference broke the model: %v", err)
	}
	if format.Upgrade(read, 21) != nil {
		return
	}
	_, _ = op.InferAnew(read, nil)
	if err := read.Verify(); err != nil {
		t.Fatalf("the upgrade, or inference after it, broke the model: %v", err)
	}
}

// checkBytes is checkParse up to the round trip of bytes, which it returns with the model, or nil.
func checkBytes(t testing.TB, data []byte) (*ir.Model, []byte) {
	t.Helper()
	m, err := format.Parse(data, "")
	if err != nil {
		if strings.ContainsAny(err.Error(), "\n\r") || strings.Contains(err.Error(), "internal error") {
			t.Fatalf("bad error %q", err)
		}
		return nil, nil
	}
	if err := m.Verify(); err != nil {
		t.Fatalf("an inconsistent model was accepted: %v", err)
	}
	first := marshal(t, m)
	again, err := format.Parse(first, "")
	if err != nil {
		t.Fatalf("what was written cannot be read: %v", err)
	}
	if !bytes.Equal(first, marshal(t, again)) {
		t.Fatal("a second round trip changed the bytes")
	}
	return m, first
}

func TestTruncatedAnywhere(t *testing.T) {
	data := richBytes(t)
	for i := range data {
		checkParse(t, data[:i])
	}
}

func TestBitFlips(t *testing.T) {
	data := richBytes(t)
	for i := range data {
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1 << bit
			if bit == i%8 {
				checkParse(t, flipped)
			} else {
				checkBytes(t, flipped)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		flipped := bytes.Clone(data)
		for range 1 + r.IntN(8) {
			flipped[r.IntN(len(data))] = byte(r.Uint32())
		}
		checkParse(t, flipped)
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	edit := func(f func(*pb.ModelProto)) []byte {
		q := rich()
		f(q)
		data, err := q.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	tensor := func(q *pb.TensorProto) []byte {
		return edit(func(m *pb.ModelProto) {
			q.Name = p("bad")
			m.Graph.Initializer = append(m.Graph.Initializer, q)
		})
	}
	node := func(n *pb.NodeProto) []byte {
		return edit(func(m *pb.ModelProto) { m.Graph.Node = append(m.Graph.Node, n) })
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":         {nil, "empty"},
		"text":          {[]byte("#!/bin/sh\necho this is no network\n"), "text file"},
		"png":           {append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 100)...), "PNG"},
		"checkpoint":    {append([]byte("PK\x03\x04"), make([]byte, 100)...), "PyTorch"},
		"lfs":           {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), "Git LFS"},
		"zeros":         {make([]byte, 100), "not an ONNX model"},
		"no graph":      {edit(func(m *pb.ModelProto) { m.Graph = nil }), "no graph"},
		"no outputs":    {edit(func(m *pb.ModelProto) { m.Graph.Output = nil }), "no outputs"},
		"depth bomb":    {depthBomb(t, 100000), "nested deeper"},
		"huge dims":     {tensor(&pb.TensorProto{DataType: p(int32(1)), Dims: []int64{1 << 40, 1 << 40}}), "overflow"},
		"large dims":    {tensor(&pb.TensorProto{DataType: p(int32(1)), Dims: []int64{1 << 40}}), "needs 4398046511104 bytes"},
		"negative dims": {tensor(&pb.TensorProto{DataType: p(int32(1)), Dims: []int64{-1}}), "negative dimension"},
		"raw size":      {tensor(raw("", ir.Float32, []byte{1, 2, 3}, 1)), `initializer "bad": float[1]: needs 4 bytes of raw_data, has 3`},
		"typed count":   {tensor(&pb.TensorProto{DataType: p(int32(1)), Dims: []int64{3}, FloatData: []float32{1}}), "needs 3 entries of float_data, has 1"},
		"wrong field":   {tensor(&pb.TensorProto{DataType: p(int32(1)), Dims: []int64{1}, Int32Data: []int32{1}}), "float_data"},
		"range":         {tensor(&pb.TensorProto{DataType: p(int32(3)), Dims: []int64{1}, Int32Data: []int32{300}}), "out of range"},
		"unknown type":  {tensor(&pb.TensorProto{DataType: p(int32(99)), Dims: []int64{1}}), "element type 99"},
		"external":      {tensor(&pb.TensorProto{DataType: p(int32(1)), Dims: []int64{1}, DataLocation: p(pb.TensorProto_EXTERNAL), ExternalData: kv("location", "x")}), "not read from a folder"},
		"dangling":      {node(&pb.NodeProto{Input: []string{"ghost"}, Output: []string{"q"}, OpType: p("Relu"), Name: p("R")}), `node Relu "R": input 0, "ghost"`},
		"dangling out":  {edit(func(m *pb.ModelProto) { m.Graph.Output[0].Name = p("ghost") }), `graph output 0, "ghost"`},
		"duplicate":     {node(&pb.NodeProto{Input: []string{"x"}, Output: []string{"a"}, OpType: p("Relu"), Name: p("R")}), `both make a value called "a"`},
		"over input":    {node(&pb.NodeProto{Input: []string{"x"}, Output: []string{"w"}, OpType: p("Relu"), Name: p("R")}), `also a graph input or initializer`},
		"two inputs":    {edit(func(m *pb.ModelProto) { m.Graph.Input = append(m.Graph.Input, m.Graph.Input[0]) }), `two values are called "x"`},
		"two weights":   {edit(func(m *pb.ModelProto) { m.Graph.Initializer = append(m.Graph.Initializer, m.Graph.Initializer[0]) }), `two values are called "w"`},
		"no operator":   {node(&pb.NodeProto{Input: []string{"x"}, Output: []string{"q"}, Name: p("R")}), "no operator"},
		"self loop":     {node(&pb.NodeProto{Input: []string{"q"}, Output: []string{"q"}, OpType: p("Relu"), Name: p("R")}), `cycle: Relu "R" -> Relu "R"`},
		"cycle": {edit(func(m *pb.ModelProto) {
			m.Graph.Node = append(m.Graph.Node, &pb.NodeProto{Input: []string{"v"}, Output: []string{"u"}, OpType: p("Relu"), Name: p("one")},
				&pb.NodeProto{Input: []string{"u", "a"}, Output: []string{"v"}, OpType: p("Add"), Name: p("two")},
				&pb.NodeProto{Input: []string{"v"}, Output: []string{"t"}, OpType: p("Neg"), Name: p("three")})
		}), `Add "two" -> Relu "one" -> Add "two"`},
		"attribute twice": {node(&pb.NodeProto{Input: []string{"x"}, Output: []string{"q"}, OpType: p("Relu"), Attribute: []*pb.AttributeProto{
			{Name: p("k"), I: p(int64(1))}, {Name: p("k"), I: p(int64(2))}}}), "given twice"},
		"opset twice": {edit(func(m *pb.ModelProto) {
			m.OpsetImport = append(m.OpsetImport, &pb.OperatorSetIdProto{Domain: p("ai.onnx"), Version: p(int64(7))})
		}), "versions 21 and 7"},
		"sparse": {edit(func(m *pb.ModelProto) { m.Graph.SparseInitializer[0].Dims = []int64{-3} }), "sparse initializer 0"},
		"cond": {node(&pb.NodeProto{Input: []string{"cond"}, Output: []string{"q"}, OpType: p("If"), Attribute: []*pb.AttributeProto{
			{Name: p("then_branch"), Type: p(pb.AttributeProto_GRAPH)}}}), "the value is missing"},
	} {
		path := filepath.Join(t.TempDir(), "m.onnx")
		if err := os.WriteFile(path, c.data, 0o644); err != nil {
			t.Fatal(err)
		}
		load := format.Load
		if name == "external" {
			load = func(string) (*ir.Model, error) { return format.Parse(c.data, "") }
		}
		_, err := load(path)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		e, ok := err.(*format.Error)
		if !ok || e.Hint() == "" || (name != "external" && e.Where != path) || strings.Contains(e.Error(), "\n") || len(e.Error()) > 1000 {
			t.Errorf("%s: place or hint is missing: %#v", name, err)
		}
	}
	if _, err := format.Load(filepath.Join(t.TempDir(), "none.onnx")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing file: %v", err)
	}
	if _, err := format.Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("folder: %v", err)
	}
}

// depthBomb is a model of graphs nested in attributes of nodes, levels times, built from the inside out in linear time.
func depthBomb(t testing.TB, levels int) []byte {
	t.Helper()
	var parts [][]byte
	size := 0
	key := func(field byte) {
		b := []byte{field<<3 | 2}
		for n := size; ; n >>= 7 {
			if n < 128 {
				b = append(b, byte(n))
				break
			}
			b = append(b, byte(n)|128)
		}
		parts = append(parts, b)
		size += len(b)
	}
	for range levels {
		key(6)
		key(5)
		key(1)
	}
	key(7)
	out := make([]byte, 0, size)
	for i := len(parts) - 1; i >= 0; i-- {
		out = append(out, parts[i]...)
	}
	return out
}

func FuzzLoad(f *testing.F) {
	f.Add(richBytes(f))
	f.Add(depthBomb(f, 40))
	f.Add(marshal(f, oneNode(f, 9, "Upsample", []int64{1, 1, 2, 2}, 1, nil, true, ir.AFloats("scales", 1, 1, 2, 2))))
	f.Add([]byte("not a model"))
	f.Fuzz(func(t *testing.T, data []byte) { checkParse(t, data) })
}
