package format

import (
	"errors"
	"fmt"
	"math"

	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
)

// Marshal returns the canonical bytes of a model, all tensors inline: equal models give equal bytes. It fails on a model over
// 2 GB, the limit of protobuf; Save writes such models with external data.
func Marshal(m *ir.Model) ([]byte, error) {
	return new(encoder).marshal(m)
}

func (e *encoder) marshal(m *ir.Model) ([]byte, error) {
	return guarded("model", func() ([]byte, error) {
		p, err := e.model(m)
		if err != nil {
			return nil, err
		}
		if n := p.Size(); n > math.MaxInt32 {
			return nil, fail("model", "write it to a file, with external data", "%d bytes are too many for one protobuf message", n)
		}
		return p.Marshal()
	})
}

// Parts is Marshal with the initializers of the main graph of at least threshold bytes left out: files holds the content of each, not
// copied, by the name under which the model refers to it as external data.
func Parts(m *ir.Model, threshold int64) (model []byte, files map[string][]byte, err error) {
	e := &encoder{placed: map[*ir.Value]Placement{}}
	files = map[string][]byte{}
	for _, v := range m.Graph.Initializers() {
		if t := v.Init(); MayBeExternal(v) && int64(len(t.Raw())) >= threshold {
			at := Placement{Name: fmt.Sprint("part", len(files)), Bytes: int64(len(t.Raw()))}
			e.placed[v] = at
			files[at.Name] = t.Raw()
		}
	}
	model, err = e.marshal(m)
	return model, files, err
}

// Size is the number of bytes that m has as one ONNX file, all tensors inline.
func Size(m *ir.Model) (int64, error) {
	p, err := new(encoder).model(m)
	if err != nil {
		return 0, fail("model", "", "%w", err)
	}
	return int64(p.Size()), nil
}

// encoder turns ir into protobuf; placed and inner say where the initializers of the main graph and the tensors of nodes and other
// graphs lie that go into the external file, or each into one that is called as its placement where file is empty.
type encoder struct {
	placed map[*ir.Value]Placement
	inner  map[*ir.Tensor]Placement
	file   string
}

func (e *encoder) model(m *ir.Model) (*pb.ModelProto, error) {
	if m == nil || m.Graph == nil {
		return nil, errors.New("model has no graph")
	}
	p := &pb.ModelProto{
		IrVersion: num(m.IRVersion), ProducerName: str(m.Producer), ProducerVersion: str(m.ProducerVersion), Domain: str(m.Domain),
		DocString: str(m.Doc), OpsetImport: encodeOpsets(m.Opsets), MetadataProps: encodeMeta(m.Meta),
	}
	if m.Version != 0 {
		p.ModelVersion = num(m.Version)
	}
	for _, x := range m.Extra {
		err := pb.Check(x, pb.Limits{})
		if err == nil {
			err = p.Unmarshal(x)
		}
		if err != nil {
			return nil, fmt.Errorf("fields kept as they are: %w", err)
		}
	}
	var err error
	if p.Graph, err = e.graph(m.Graph); err != nil {
		return nil, err
	}
	for _, f := range m.Functions {
		q, err := e.function(f)
		if err != nil {
			return nil, fmt.Errorf("function %s.%s: %w", f.Domain, f.Name, err)
		}
		p.Functions = append(p.Functions, q)
	}
	return p, nil
}

func encodeOpsets(ids []ir.OpsetID) []*pb.OperatorSetIdProto {
	var out []*pb.OperatorSetIdProto
	for i := range ids {
		// The default domain is written as an empty string: some readers require the field.
		out = append(out, &pb.OperatorSetIdProto{Domain: &ids[i].Domain, Version: &ids[i].Version})
	}
	return out
}

func (e *encoder) graph(g *ir.Graph) (*pb.GraphProto, error) {
	p := &pb.GraphProto{Name: str(g.Name), DocString: str(g.Doc), MetadataProps: encodeMeta(g.Meta), XXX_unrecognized: g.Extra}
	annotate := func(v *ir.Value) {
		if v.Quant != nil {
			p.QuantizationAnnotation = append(p.QuantizationAnnotation,
				&pb.TensorAnnotation{TensorName: str(v.Name()), QuantParameterTensorNames: encodeMeta(v.Quant)})
		}
	}
	for _, v := range g.Inputs() {
		p.Input = append(p.Input, valueInfo(v))
		annotate(v)
	}
	for _, v := range g.Initializers() {
		if err := e.initializer(p, v); err != nil {
			return nil, fmt.Errorf("initializer %q: %w", v.Name(), err)
		}
		if v.IsInput() {
			continue
		}
		annotate(v)
		if !v.IsOutput() && (v.Doc != "" || len(v.Meta) > 0 || len(v.Extra) > 0) {
			p.ValueInfo = append(p.ValueInfo, valueInfo(v))
		}
	}
	for n := g.First(); n != nil; n = n.Next() {
		q, err := e.node(n)
		if err != nil {
			return nil, fmt.Errorf("node %v: %w", n, err)
		}
		p.Node = append(p.Node, q)
		for _, o := range n.Outputs() {
			if o.Name() == "" {
				continue
			}
			annotate(o)
			if vi := valueInfo(o); !o.IsOutput() && (vi.Type != nil || vi.DocString != nil || vi.MetadataProps != nil || vi.XXX_unrecognized != nil) {
				p.ValueInfo = append(p.ValueInfo, vi)
			}
		}
	}
	for _, v := range g.Outputs() {
		p.Output = append(p.Output, valueInfo(v))
	}
	return p, nil
}

func valueInfo(v *ir.Value) *pb.ValueInfoProto {
	return &pb.ValueInfoProto{Name: str(v.Name()), Type: encodeType(v.Type), DocString: str(v.Doc), MetadataProps: encodeMeta(v.Meta),
		XXX_unrecognized: v.Extra}
}

func (e *encoder) initializer(p *pb.GraphProto, v *ir.Value) error {
	if s := v.SparseInit(); s != nil {
		q, err := encodeSparse(s)
		if err != nil {
			return err
		}
		q.Values.Name = str(v.Name())
		p.SparseInitializer = append(p.SparseInitializer, q)
		return nil
	}
	encode := encodeTensor
	if v.Graph().Outer() != nil {
		encode = e.tensor
	}
	q, err := encode(v.Init())
	if err != nil {
		return err
	}
	q.Name = str(v.Name())
	if at, ok := e.placed[v]; ok {
		e.refer(q, at)
	}
	p.Initializer = append(p.Initializer, q)
	return nil
}

// tensor is encodeTensor for tensors of nodes and of graphs inside them, which may lie in the external file.
func (e *encoder) tensor(t *ir.Tensor) (*pb.TensorProto, error) {
	p, err := encodeTensor(t)
	if at, ok := e.inner[t]; ok && err == nil {
		e.refer(p, at)
	}
	return p, err
}

// refer puts a reference into the external file in the place of p's bytes.
func (e *encoder) refer(p *pb.TensorProto, at Placement) {
	p.RawData = nil
	loc := pb.TensorProto_EXTERNAL
	p.DataLocation = &loc
	file := e.file
	if file == "" {
		file = at.Name
	}
	p.ExternalData = encodeMeta(ir.Meta{{Key: "location", Value: file}, {Key: "offset", Value: fmt.Sprint(at.Offset)},
		{Key: "length", Value: fmt.Sprint(at.Bytes)}})
}

func encodeTensor(t *ir.Tensor) (*pb.TensorProto, error) {
	if t == nil {
		return nil, errors.New("no tensor")
	}
	p := &pb.TensorProto{Dims: t.Dims(), DataType: num(int32(t.DType())), Name: str(t.Name), DocString: str(t.Doc),
		MetadataProps: encodeMeta(t.Meta), XXX_unrecognized: t.Extra}
	if t.DType() == ir.String {
		p.StringData = t.Strings()
		return p, nil
	}
	raw := pb.Bytes(t.Raw())
	p.RawData = &raw
	return p, nil
}

func encodeSparse(s *ir.Sparse) (*pb.SparseTensorProto, error) {
	v, err := encodeTensor(s.Values)
	if err != nil {
		return nil, fmt.Errorf("sparse values: %w", err)
	}
	i, err := encodeTensor(s.Indices)
	if err != nil {
		return nil, fmt.Errorf("sparse indices: %w", err)
	}
	return &pb.SparseTensorProto{Values: v, Indices: i, Dims: s.Dims}, nil
}

func (e *encoder) node(n *ir.Node) (*pb.NodeProto, error) {
	p := &pb.NodeProto{Name: str(n.Name), OpType: str(n.Op), Domain: str(n.Domain), Overload: str(n.Overload), DocString: str(n.Doc),
		MetadataProps: encodeMeta(n.Meta), XXX_unrecognized: n.Extra}
	for _, v := range n.Inputs() {
		if v == nil {
			p.Input = append(p.Input, "")
			continue
		}
		p.Input = append(p.Input, v.Name())
	}
	for _, o := range n.Outputs() {
		p.Output = append(p.Output, o.Name())
	}
	for _, a := range n.Attrs() {
		q, err := e.attr(&a)
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", a.Name, err)
		}
		p.Attribute = append(p.Attribute, q)
	}
	return p, nil
}

func (e *encoder) attr(a *ir.Attr) (*pb.AttributeProto, error) {
	p := &pb.AttributeProto{Name: str(a.Name), RefAttrName: str(a.Ref), DocString: str(a.Doc), XXX_unrecognized: a.Extra}
	if a.Kind != ir.AttrUndefined {
		kind := pb.AttributeProto_AttributeType(a.Kind)
		p.Type = &kind
	}
	if a.Ref != "" {
		return p, nil
	}
	var err error
	switch a.Kind {
	case ir.AttrFloat:
		p.F = num(a.F)
	case ir.AttrInt:
		p.I = num(a.I)
	case ir.AttrString:
		p.S = append([]byte{}, a.S...)
	case ir.AttrFloats:
		p.Floats = a.Floats
	case ir.AttrInts:
		p.Ints = a.Ints
	case ir.AttrStrings:
		p.Strings = a.Strings
	case ir.AttrTensor:
		p.T, err = e.tensor(a.T)
	case ir.AttrTensors:
		p.Tensors, err = each(a.Tensors, e.tensor)
	case ir.AttrGraph:
		if a.G == nil {
			return nil, errors.New("no graph")
		}
		p.G, err = e.graph(a.G)
	case ir.AttrGraphs:
		p.Graphs, err = each(a.Graphs, e.graph)
	case ir.AttrSparse:
		if a.Sparse == nil {
			return nil, errors.New("no sparse tensor")
		}
		p.SparseTensor, err = encodeSparse(a.Sparse)
	case ir.AttrSparses:
		p.SparseTensors, err = each(a.Sparses, encodeSparse)
	case ir.AttrType:
		if a.Type == nil {
			return nil, errors.New("no type")
		}
		p.Tp = attrType(a.Type)
	case ir.AttrTypes:
		for _, t := range a.Types {
			p.TypeProtos = append(p.TypeProtos, attrType(t))
		}
	default:
		return nil, fmt.Errorf("kind %d has no value", a.Kind)
	}
	return p, err
}

func attrType(t *ir.Type) *pb.TypeProto {
	if p := encodeType(*t); p != nil {
		return p
	}
	return &pb.TypeProto{}
}

func (e *encoder) function(f *ir.Function) (*pb.FunctionProto, error) {
	p := &pb.FunctionProto{
		Name: str(f.Name), Domain: str(f.Domain), Overload: str(f.Overload), Attribute: f.Attrs, DocString: str(f.Doc),
		OpsetImport: encodeOpsets(f.Opsets), MetadataProps: encodeMeta(f.Meta), XXX_unrecognized: f.Extra,
	}
	if len(f.Graph.Initializers()) > 0 {
		return nil, errors.New("a function body cannot hold initializers")
	}
	for _, a := range f.AttrDefaults {
		q, err := e.attr(&a)
		if err != nil {
			return nil, fmt.Errorf("default of attribute %q: %w", a.Name, err)
		}
		p.AttributeProto = append(p.AttributeProto, q)
	}
	body, err := e.graph(f.Graph)
	if err != nil {
		return nil, err
	}
	p.Node = body.Node
	for _, in := range f.Graph.Inputs() {
		p.Input = append(p.Input, in.Name())
	}
	for _, out := range f.Graph.Outputs() {
		p.Output = append(p.Output, out.Name())
	}
	infos := append(append(body.Input, body.ValueInfo...), body.Output...)
	for _, vi := range infos {
		if vi.Type != nil || vi.DocString != nil || vi.MetadataProps != nil || vi.XXX_unrecognized != nil {
			p.ValueInfo = append(p.ValueInfo, vi)
		}
	}
	return p, nil
}
