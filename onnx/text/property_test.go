package text_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/owulveryck/onnx-go/backend/testbackend"
	_ "github.com/owulveryck/onnx-go/backend/testbackend/onnx"
	"pgregory.net/rapid"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/text"
)

func TestConformanceModelsReadBackEqual(t *testing.T) {
	n := 0
	for _, make := range testbackend.GetAllRegisteredTests() {
		c := make()
		m, err := format.Parse(c.ModelB, "")
		if err != nil {
			t.Errorf("%s: %v", c.Title, err)
			continue
		}
		s, err := text.Format(m)
		if err != nil {
			t.Errorf("%s: %v", c.Title, err)
			continue
		}
		back, err := text.Parse(c.Title, []byte(s), nil)
		if err != nil {
			t.Errorf("%v\n%s", err, s)
			continue
		}
		if !bytes.Equal(marshal(t, m), marshal(t, back)) {
			t.Errorf("%s differs after a round trip:\n%s", c.Title, s)
		}
		n++
	}
	if n < 300 {
		t.Errorf("only %d models", n)
	}
}

// word is any string, as hostile as protobuf allows.
func word(r *rapid.T, what string) string {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"x", "float", "onnx::Conv_12", "a/b.0", "a b", "", "1", "inf", "nan", "seq", "\"", "\\", "\n", "#@doc", "#", "\xff\xfe", "é", "]", "unknown"}),
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 6), func(b []byte) string { return string(b) }),
	).Draw(r, what)
}

func meta(r *rapid.T) ir.Meta {
	var m ir.Meta
	for range rapid.IntRange(0, 2).Draw(r, "entries") {
		m.Set(word(r, "key"), word(r, "value"))
	}
	return m
}

func randomTensor(r *rapid.T) *ir.Tensor {
	d := ir.DType(rapid.IntRange(1, 28).Draw(r, "dtype"))
	dims := rapid.SliceOfN(rapid.Int64Range(0, 3), 0, 3).Draw(r, "dims")
	n, err := ir.NumElements(dims)
	if err != nil {
		r.Fatal(err)
	}
	var t *ir.Tensor
	if d == ir.String {
		s := make([][]byte, n)
		for i := range s {
			s[i] = []byte(word(r, "element"))
		}
		t, err = ir.NewStrings(dims, s)
	} else {
		var size int64
		if size, err = ir.PackedSize(d, n); err != nil {
			r.Fatal(err)
		}
		raw := rapid.SliceOfN(rapid.Byte(), int(size), int(size)).Draw(r, "raw")
		t, err = ir.NewTensor(d, dims, raw)
	}
	if err != nil {
		r.Fatal(err)
	}
	t.Doc = word(r, "doc")
	return t
}

func randomType(r *rapid.T, depth int) ir.Type {
	kind := rapid.SampledFrom([]ir.TypeKind{ir.KindTensor, ir.KindTensor, ir.KindSparse, ir.KindSequence, ir.KindOptional, ir.KindMap, ir.KindOpaque}).Draw(r, "kind")
	t := ir.Type{Kind: kind}
	if rapid.IntRange(0, 4).Draw(r, "denoted") == 0 {
		t.Denote = word(r, "denotation")
	}
	switch kind {
	case ir.KindTensor, ir.KindSparse:
		t.Elem = ir.DType(rapid.IntRange(0, 32).Draw(r, "elem"))
		if rapid.Bool().Draw(r, "ranked") {
			t.Shape = ir.Shape{}
			for range rapid.IntRange(0, 3).Draw(r, "rank") {
				d := ir.D(rapid.Int64Range(0, 5).Draw(r, "size"))
				if rapid.Bool().Draw(r, "symbolic") {
					d = ir.Sym(word(r, "symbol"))
				}
				if rapid.IntRange(0, 4).Draw(r, "dim denoted") == 0 {
					d.Denote = word(r, "dim denotation")
				}
				t.Shape = append(t.Shape, d)
			}
		}
	case ir.KindOpaque:
		t.Opaque = [2]string{word(r, "domain"), word(r, "name")}
	default:
		if kind == ir.KindMap {
			t.Key = ir.Int64
		}
		in := ir.TensorType(ir.Float32, nil)
		if depth < 3 {
			in = randomType(r, depth+1)
		}
		t.Inner = &in
	}
	return t
}

func randomAttr(r *rapid.T, i int) ir.Attr {
	a := ir.Attr{Name: fmt.Sprint(word(r, "attr"), i), Kind: ir.AttrKind(rapid.IntRange(1, 14).Draw(r, "attr kind")), Doc: word(r, "attr doc")}
	float := func() float32 { return math.Float32frombits(rapid.Uint32().Draw(r, "bits")) }
	switch a.Kind {
	case ir.AttrFloat:
		a.F = float()
	case ir.AttrInt:
		a.I = rapid.Int64().Draw(r, "int")
	case ir.AttrString:
		a.S = []byte(word(r, "string"))
	case ir.AttrTensor:
		a.T = randomTensor(r)
	case ir.AttrFloats:
		for range rapid.IntRange(0, 3).Draw(r, "n") {
			a.Floats = append(a.Floats, float())
		}
	case ir.AttrInts:
		a.Ints = rapid.SliceOfN(rapid.Int64(), 0, 3).Draw(r, "ints")
	case ir.AttrStrings:
		for range rapid.IntRange(0, 3).Draw(r, "n") {
			a.Strings = append(a.Strings, []byte(word(r, "string")))
		}
	case ir.AttrTensors:
		for range rapid.IntRange(0, 3).Draw(r, "n") {
			a.Tensors = append(a.Tensors, randomTensor(r))
		}
	case ir.AttrType:
		t := randomType(r, 0)
		a.Type = &t
	case ir.AttrTypes:
		for range rapid.IntRange(0, 3).Draw(r, "n") {
			t := randomType(r, 0)
			a.Types = append(a.Types, &t)
		}
	default:
		a = ir.AInt(a.Name, 1)
	}
	return a
}

func TestAnyModelReadsBackEqual(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := ir.NewModel(word(r, "graph"), 17)
		m.Doc, m.Producer, m.Meta = word(r, "doc"), word(r, "producer"), meta(r)
		g := m.Graph
		g.Doc, g.Meta = word(r, "graph doc"), meta(r)
		ok := func(v *ir.Value, err error) *ir.Value {
			if err != nil {
				r.Fatal(err)
			}
			return v
		}
		x := ok(g.AddInput(g.FreshName(word(r, "input")), randomType(r, 0)))
		x.Doc, x.Meta, x.Quant = word(r, "value doc"), meta(r), meta(r)
		w := ok(g.AddInitializer(g.FreshName(word(r, "init")), randomTensor(r)))
		w.Meta = meta(r)
		spec := ir.NodeSpec{Op: "Op" + word(r, "op"), Domain: word(r, "op domain"), Name: word(r, "node"), Inputs: []*ir.Value{x, nil, w}, Pass: word(r, "pass"), Meta: meta(r)}
		spec.Outputs = []string{g.FreshName(word(r, "output")), "", g.FreshName(word(r, "output 2"))}
		for i := range rapid.IntRange(0, 4).Draw(r, "attrs") {
			spec.Attrs = append(spec.Attrs, randomAttr(r, i))
		}
		n, err := g.Append(spec)
		if err != nil {
			r.Fatal(err)
		}
		n.Doc, n.Overload = word(r, "node doc"), word(r, "overload")
		for _, i := range []int{0, 2} {
			o := n.Output(i)
			o.Type, o.Meta = randomType(r, 0), meta(r)
		}
		if err := g.AddOutput(n.Output(0)); err != nil {
			r.Fatal(err)
		}
		s, err := text.Format(m)
		if err != nil {
			r.Fatal(err)
		}
		back, err := text.Parse("m", []byte(s), nil)
		if err != nil {
			r.Fatalf("%v\n%s", err, s)
		}
		a, err := format.Marshal(m)
		if err != nil {
			r.Fatal(err)
		}
		b, err := format.Marshal(back)
		if err != nil || !bytes.Equal(a, b) {
			r.Fatalf("differs after a round trip (%v):\n%s", err, s)
		}
	})
}
