package format_test

import (
	"bytes"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
)

func p[T any](v T) *T { return &v }

func kv(pairs ...string) []*pb.StringStringEntryProto {
	var out []*pb.StringStringEntryProto
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, &pb.StringStringEntryProto{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return out
}

func raw(name string, d ir.DType, data []byte, dims ...int64) *pb.TensorProto {
	t := &pb.TensorProto{Dims: dims, DataType: p(int32(d)), RawData: (*pb.Bytes)(&data)}
	if name != "" {
		t.Name = &name
	}
	return t
}

// unknown is a field that no version of ONNX has.
func unknown(s string) []byte { return append([]byte{0x82, 0xfa, 0x01, byte(len(s))}, s...) }

func tensorType(d ir.DType, dims ...*pb.TensorShapeProto_Dimension) *pb.TypeProto {
	return &pb.TypeProto{Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{ElemType: p(int32(d)), Shape: &pb.TensorShapeProto{Dim: dims}}}}
}

func size(n int64) *pb.TensorShapeProto_Dimension {
	return &pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: n}}
}

func symbol(s string) *pb.TensorShapeProto_Dimension {
	return &pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimParam{DimParam: s}, Denotation: p("DATA_BATCH")}
}

func attr(name string, kind pb.AttributeProto_AttributeType, set func(*pb.AttributeProto)) *pb.AttributeProto {
	a := &pb.AttributeProto{Name: &name, Type: &kind}
	set(a)
	return a
}

// rich is a model in canonical form that uses every part of the format.
func rich() *pb.ModelProto {
	x := tensorType(ir.Float32, symbol("N"), size(2), &pb.TensorShapeProto_Dimension{}, size(0))
	seq := &pb.TypeProto{Value: &pb.TypeProto_SequenceType{SequenceType: &pb.TypeProto_Sequence{ElemType: tensorType(ir.Int64)}}, Denotation: p("TEXT")}
	mapped := &pb.TypeProto{Value: &pb.TypeProto_MapType{MapType: &pb.TypeProto_Map{KeyType: p(int32(ir.String)), ValueType: tensorType(ir.Float16)}}}
	opt := &pb.TypeProto{Value: &pb.TypeProto_OptionalType{OptionalType: &pb.TypeProto_Optional{ElemType: tensorType(ir.Bool)}}, XXX_unrecognized: unknown("type")}
	sparseType := &pb.TypeProto{Value: &pb.TypeProto_SparseTensorType{SparseTensorType: &pb.TypeProto_SparseTensor{ElemType: p(int32(ir.Float32)),
		Shape: &pb.TensorShapeProto{Dim: []*pb.TensorShapeProto_Dimension{size(3)}}}}}
	opaque := &pb.TypeProto{Value: &pb.TypeProto_OpaqueType{OpaqueType: &pb.TypeProto_Opaque{Domain: p("d"), Name: p("n")}}}
	branch := func(name string) *pb.GraphProto {
		return &pb.GraphProto{Name: &name, Node: []*pb.NodeProto{{Input: []string{"w", "x"}, Output: []string{name + "_y"}, OpType: p("Add")}},
			Output: []*pb.ValueInfoProto{{Name: p(name + "_y"), Type: x}}}
	}
	dense := func() *pb.SparseTensorProto {
		return &pb.SparseTensorProto{Values: raw("", ir.Float32, []byte{0, 0, 128, 63}, 1), Indices: raw("", ir.Int64, []byte{2, 0, 0, 0, 0, 0, 0, 0}, 1), Dims: []int64{3}}
	}
	named := dense()
	named.Values.Name = p("sp")
	full := raw("t", ir.Int4, []byte{0x21, 0x03}, 3)
	full.DocString, full.MetadataProps, full.XXX_unrecognized = p("doc"), kv("a", "b"), unknown("tensor")
	w := raw("w", ir.Float32, []byte{0, 0, 128, 63, 0, 0, 0, 64}, 2)
	w.XXX_unrecognized = unknown("w")
	return &pb.ModelProto{
		IrVersion: p(int64(13)), ProducerName: p("p"), ProducerVersion: p("1"), Domain: p("org"), ModelVersion: p(int64(3)), DocString: p("doc\n\x01"),
		OpsetImport:   []*pb.OperatorSetIdProto{{Domain: p(""), Version: p(int64(21))}, {Domain: p("local"), Version: p(int64(1))}},
		MetadataProps: kv("mqatc.task", "t", "empty", ""),
		TrainingInfo:  []*pb.TrainingInfoProto{{Algorithm: &pb.GraphProto{Name: p("train")}, UpdateBinding: kv("w", "w2")}},
		Configuration: []*pb.DeviceConfigurationProto{{Name: p("c"), NumDevices: p(int32(2)), Device: []string{"a", "b"}}},
		Functions: []*pb.FunctionProto{{
			Name: p("f"), Domain: p("local"), Overload: p("o"), Input: []string{"a"}, Output: []string{"b"}, Attribute: []string{"alpha"},
			AttributeProto: []*pb.AttributeProto{attr("beta", pb.AttributeProto_FLOAT, func(a *pb.AttributeProto) { a.F = p(float32(2)) })},
			Node: []*pb.NodeProto{{Input: []string{"a"}, Output: []string{"b"}, OpType: p("LeakyRelu"),
				Attribute: []*pb.AttributeProto{attr("alpha", pb.AttributeProto_FLOAT, func(a *pb.AttributeProto) { a.RefAttrName = p("alpha") })}}},
			OpsetImport: []*pb.OperatorSetIdProto{{Domain: p(""), Version: p(int64(21))}}, DocString: p("fn"),
			ValueInfo: []*pb.ValueInfoProto{{Name: p("b"), Type: tensorType(ir.Float32)}}, MetadataProps: kv("k", "v"), XXX_unrecognized: unknown("fn"),
		}},
		XXX_unrecognized: unknown("model"),
		Graph: &pb.GraphProto{
			Name: p("g"), DocString: p("graph doc"), MetadataProps: kv("pkg.torch.export.graph", "{}"), XXX_unrecognized: unknown("graph"),
			Input: []*pb.ValueInfoProto{{Name: p("x"), Type: x, DocString: p("in"), MetadataProps: kv("k", "v"), XXX_unrecognized: unknown("vi")},
				{Name: p("s"), Type: seq}, {Name: p("m"), Type: mapped}, {Name: p("o"), Type: opt}, {Name: p("st"), Type: sparseType},
				{Name: p("op"), Type: opaque}, {Name: p("cond"), Type: tensorType(ir.Bool)}, {Name: p("w"), Type: tensorType(ir.Float32, size(2))}},
			Initializer: []*pb.TensorProto{w, {Dims: []int64{2}, DataType: p(int32(ir.String)), StringData: [][]byte{[]byte("hi"), {0xff}}, Name: p("str")},
				raw("scale", ir.Float32, []byte{0, 0, 0, 64}), raw("empty", ir.Int64, []byte{}, 0)},
			SparseInitializer: []*pb.SparseTensorProto{named},
			Node: []*pb.NodeProto{
				{Input: []string{"x", "", "w"}, Output: []string{"a", "", "b"}, Name: p("n1"), OpType: p("Custom"), Domain: p("local"), Overload: p("o"), DocString: p("d"),
					MetadataProps:        kv("namespace", "['', 'head']"),
					DeviceConfigurations: []*pb.NodeDeviceConfigurationProto{{ConfigurationId: p("c"), PipelineStage: p(int32(1))}}, XXX_unrecognized: unknown("node"),
					Attribute: []*pb.AttributeProto{
						attr("f", pb.AttributeProto_FLOAT, func(a *pb.AttributeProto) {
							a.F, a.DocString, a.XXX_unrecognized = p(float32(0)), p("d"), unknown("attr")
						}),
						attr("i", pb.AttributeProto_INT, func(a *pb.AttributeProto) { a.I = p(int64(-1)) }),
						attr("s", pb.AttributeProto_STRING, func(a *pb.AttributeProto) { a.S = []byte{0, 0xff} }),
						attr("s0", pb.AttributeProto_STRING, func(a *pb.AttributeProto) { a.S = []byte{} }),
						attr("t", pb.AttributeProto_TENSOR, func(a *pb.AttributeProto) { a.T = full }),
						attr("fs", pb.AttributeProto_FLOATS, func(a *pb.AttributeProto) { a.Floats = []float32{1, 2} }),
						attr("is", pb.AttributeProto_INTS, func(a *pb.AttributeProto) { a.Ints = []int64{3, -4} }),
						attr("none", pb.AttributeProto_INTS, func(a *pb.AttributeProto) {}),
						attr("ss", pb.AttributeProto_STRINGS, func(a *pb.AttributeProto) { a.Strings = [][]byte{[]byte("a"), []byte("")} }),
						attr("ts", pb.AttributeProto_TENSORS, func(a *pb.AttributeProto) { a.Tensors = []*pb.TensorProto{full, raw("", ir.BFloat16, []byte{1, 2})} }),
						attr("sp", pb.AttributeProto_SPARSE_TENSOR, func(a *pb.AttributeProto) { a.SparseTensor = dense() }),
						attr("sps", pb.AttributeProto_SPARSE_TENSORS, func(a *pb.AttributeProto) { a.SparseTensors = []*pb.SparseTensorProto{dense()} }),
						attr("tp", pb.AttributeProto_TYPE_PROTO, func(a *pb.AttributeProto) { a.Tp = seq }),
						attr("tps", pb.AttributeProto_TYPE_PROTOS, func(a *pb.AttributeProto) { a.TypeProtos = []*pb.TypeProto{x, opt} }),
						attr("gs", pb.AttributeProto_GRAPHS, func(a *pb.AttributeProto) { a.Graphs = []*pb.GraphProto{branch("p"), branch("q")} }),
					}},
				{Input: []string{"cond"}, Output: []string{"y"}, OpType: p("If"), Attribute: []*pb.AttributeProto{
					attr("then_branch", pb.AttributeProto_GRAPH, func(a *pb.AttributeProto) { a.G = branch("then") }),
					attr("else_branch", pb.AttributeProto_GRAPH, func(a *pb.AttributeProto) { a.G = branch("else") })}},
			},
			ValueInfo: []*pb.ValueInfoProto{{Name: p("scale"), Type: tensorType(ir.Float32), MetadataProps: kv("kind", "PARAMETER")}, {Name: p("a"), Type: x}},
			Output:    []*pb.ValueInfoProto{{Name: p("y"), Type: x, DocString: p("out")}, {Name: p("b"), Type: seq}},
			QuantizationAnnotation: []*pb.TensorAnnotation{{TensorName: p("x"), QuantParameterTensorNames: kv("SCALE_TENSOR", "scale")},
				{TensorName: p("a"), QuantParameterTensorNames: kv("SCALE_TENSOR", "scale")}},
		},
	}
}

func richBytes(t testing.TB) []byte {
	t.Helper()
	data, err := rich().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEverythingSurvives(t *testing.T) {
	data := richBytes(t)
	m, err := format.Parse(data, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	back := marshal(t, m)
	if bytes.Equal(back, data) {
		return
	}
	got := new(pb.ModelProto)
	if err := got.Unmarshal(back); err != nil {
		t.Fatal(err)
	}
	want := rich()
	t.Fatalf("%d bytes became %d:\n%s\n\n%s", len(data), len(back), got.String(), want.String())
}

func TestStackTracesAreDropped(t *testing.T) {
	q := rich()
	secret := kv("pkg.torch.onnx.stack_trace", "/home/someone/net.py")
	q.MetadataProps = append(q.MetadataProps, secret...)
	q.Graph.Node[0].MetadataProps = append(q.Graph.Node[0].MetadataProps, secret...)
	q.Graph.Input[0].MetadataProps = append(q.Graph.Input[0].MetadataProps, secret...)
	data, err := q.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m, err := format.Parse(data, "")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(marshal(t, m), richBytes(t)) {
		t.Fatal("more or less than the stack traces went away")
	}
}

func TestTypedDataBecomesRaw(t *testing.T) {
	for _, c := range []struct {
		name string
		t    pb.TensorProto
		want []byte
	}{
		{"float", pb.TensorProto{DataType: p(int32(ir.Float32)), Dims: []int64{2}, FloatData: []float32{1, -2}}, []byte{0, 0, 128, 63, 0, 0, 0, 192}},
		{"complex64", pb.TensorProto{DataType: p(int32(ir.Complex64)), Dims: []int64{1}, FloatData: []float32{1, -2}}, []byte{0, 0, 128, 63, 0, 0, 0, 192}},
		{"double", pb.TensorProto{DataType: p(int32(ir.Float64)), DoubleData: []float64{1}}, []byte{0, 0, 0, 0, 0, 0, 240, 63}},
		{"int64", pb.TensorProto{DataType: p(int32(ir.Int64)), Dims: []int64{1}, Int64Data: []int64{-2}}, []byte{254, 255, 255, 255, 255, 255, 255, 255}},
		{"uint64", pb.TensorProto{DataType: p(int32(ir.Uint64)), Dims: []int64{1}, Uint64Data: []uint64{258}}, []byte{2, 1, 0, 0, 0, 0, 0, 0}},
		{"uint32", pb.TensorProto{DataType: p(int32(ir.Uint32)), Dims: []int64{1}, Uint64Data: []uint64{258}}, []byte{2, 1, 0, 0}},
		{"int32", pb.TensorProto{DataType: p(int32(ir.Int32)), Dims: []int64{1}, Int32Data: []int32{-1}}, []byte{255, 255, 255, 255}},
		{"int16", pb.TensorProto{DataType: p(int32(ir.Int16)), Dims: []int64{1}, Int32Data: []int32{-2}}, []byte{254, 255}},
		{"float16", pb.TensorProto{DataType: p(int32(ir.Float16)), Dims: []int64{1}, Int32Data: []int32{0x3c00}}, []byte{0, 0x3c}},
		{"bfloat16", pb.TensorProto{DataType: p(int32(ir.BFloat16)), Dims: []int64{1}, Int32Data: []int32{0x3f80}}, []byte{0x80, 0x3f}},
		{"int8", pb.TensorProto{DataType: p(int32(ir.Int8)), Dims: []int64{2}, Int32Data: []int32{-1, 5}}, []byte{255, 5}},
		{"bool", pb.TensorProto{DataType: p(int32(ir.Bool)), Dims: []int64{2}, Int32Data: []int32{1, 0}}, []byte{1, 0}},
		{"float8", pb.TensorProto{DataType: p(int32(ir.Float8E5M2)), Dims: []int64{1}, Int32Data: []int32{200}}, []byte{200}},
		{"int4", pb.TensorProto{DataType: p(int32(ir.Int4)), Dims: []int64{3}, Int32Data: []int32{0x21, 0x03}}, []byte{0x21, 0x03}},
		{"uint2", pb.TensorProto{DataType: p(int32(ir.Uint2)), Dims: []int64{5}, Int32Data: []int32{0xe4, 1}}, []byte{0xe4, 1}},
		{"float6", pb.TensorProto{DataType: p(int32(ir.Float6E3M2)), Dims: []int64{5}, Int32Data: []int32{1, 0x3f, 0x15, 0x2a, 7}}, []byte{0xc1, 0x5f, 0xa9, 7}},
		{"raw float6", *raw("", ir.Float6E2M3, []byte{0xc1, 0x5f, 0xa9, 7}, 5), []byte{0xc1, 0x5f, 0xa9, 7}},
	} {
		q := rich()
		c.t.Name = p("typed")
		q.Graph.Initializer = append(q.Graph.Initializer, &c.t)
		data, err := q.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		m, err := format.Parse(data, "")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := m.Graph.Value("typed").Init().Raw(); !bytes.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestUnsortedNodesAreSorted(t *testing.T) {
	q := rich()
	q.Graph.Node = append([]*pb.NodeProto{
		{Input: []string{"late"}, Output: []string{"early"}, OpType: p("Relu")},
		{Input: []string{"cond"}, Output: []string{"z"}, OpType: p("If"), Attribute: []*pb.AttributeProto{
			attr("then_branch", pb.AttributeProto_GRAPH, func(a *pb.AttributeProto) {
				a.G = &pb.GraphProto{Name: p("inner"), Output: []*pb.ValueInfoProto{{Name: p("early")}}}
			})}},
	}, q.Graph.Node...)
	q.Graph.Node = append(q.Graph.Node, &pb.NodeProto{Input: []string{"a"}, Output: []string{"late"}, OpType: p("Neg")})
	data, err := q.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m, err := format.Parse(data, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	var ops []string
	for _, n := range m.Graph.Nodes() {
		ops = append(ops, n.Op)
	}
	if got := strings.Join(ops, " "); got != "Custom If Neg Relu If" {
		t.Fatalf("order %s", got)
	}
	inner := m.Graph.Last().Subgraphs()[0]
	if inner.NumNodes() != 1 || inner.First().Op != "Identity" {
		t.Fatal("an outer value that is a subgraph's output got no Identity")
	}
}

func TestWrongSixBitData(t *testing.T) {
	float6 := p(int32(ir.Float6E2M3))
	for _, c := range []struct {
		t    pb.TensorProto
		want string
	}{
		{pb.TensorProto{DataType: float6, Dims: []int64{1}, Int32Data: []int32{64}}, "entry 0 of int32_data, 64, is out of range"},
		{pb.TensorProto{DataType: float6, Dims: []int64{1}, Int32Data: []int32{-1}}, "entry 0 of int32_data, -1, is out of range"},
		{pb.TensorProto{DataType: float6, Dims: []int64{4}, Int32Data: []int32{1, 2, 3}}, "needs 4 entries of int32_data, has 3"},
		{*raw("", ir.Float6E2M3, []byte{1, 2, 3}, 5), "needs 4 bytes of raw_data, has 3"},
	} {
		q := rich()
		c.t.Name = p("six")
		q.Graph.Initializer = append(q.Graph.Initializer, &c.t)
		data, err := q.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := format.Parse(data, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want an error with %q", err, c.want)
		}
	}
}
