package format

import (
	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
)

// stackTrace holds the exporting person's file paths and is never written.
const stackTrace = "pkg.torch.onnx.stack_trace"

func encodeMeta(m ir.Meta) []*pb.StringStringEntryProto {
	var out []*pb.StringStringEntryProto
	for i := range m {
		if m[i].Key != stackTrace {
			out = append(out, &pb.StringStringEntryProto{Key: &m[i].Key, Value: &m[i].Value})
		}
	}
	return out
}

// str is a field that is absent when empty.
func str(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func num[T int32 | int64 | float32](v T) *T { return &v }

func encodeType(t ir.Type) *pb.TypeProto {
	p := &pb.TypeProto{Denotation: str(t.Denote), XXX_unrecognized: t.Extra}
	inner := func() *pb.TypeProto {
		if t.Inner == nil {
			return nil
		}
		return encodeType(*t.Inner)
	}
	switch t.Kind {
	case ir.KindTensor:
		p.Value = &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{ElemType: num(int32(t.Elem)), Shape: encodeShape(t.Shape)}}
	case ir.KindSparse:
		p.Value = &pb.TypeProto_SparseTensorType{SparseTensorType: &pb.TypeProto_SparseTensor{ElemType: num(int32(t.Elem)), Shape: encodeShape(t.Shape)}}
	case ir.KindSequence:
		p.Value = &pb.TypeProto_SequenceType{SequenceType: &pb.TypeProto_Sequence{ElemType: inner()}}
	case ir.KindOptional:
		p.Value = &pb.TypeProto_OptionalType{OptionalType: &pb.TypeProto_Optional{ElemType: inner()}}
	case ir.KindMap:
		p.Value = &pb.TypeProto_MapType{MapType: &pb.TypeProto_Map{KeyType: num(int32(t.Key)), ValueType: inner()}}
	case ir.KindOpaque:
		p.Value = &pb.TypeProto_OpaqueType{OpaqueType: &pb.TypeProto_Opaque{Domain: str(t.Opaque[0]), Name: str(t.Opaque[1])}}
	}
	if p.Value == nil && p.Denotation == nil && len(t.Extra) == 0 {
		return nil
	}
	return p
}

func encodeShape(s ir.Shape) *pb.TensorShapeProto {
	if s == nil {
		return nil
	}
	p := &pb.TensorShapeProto{Dim: make([]*pb.TensorShapeProto_Dimension, len(s))}
	for i, d := range s {
		q := &pb.TensorShapeProto_Dimension{Denotation: str(d.Denote)}
		switch {
		case d.Known():
			q.Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: d.Size}
		case d.Symbol != "":
			q.Value = &pb.TensorShapeProto_Dimension_DimParam{DimParam: d.Symbol}
		}
		p.Dim[i] = q
	}
	return p
}
