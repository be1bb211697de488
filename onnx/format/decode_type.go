package format

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
)

func meta(ps []*pb.StringStringEntryProto) ir.Meta {
	if len(ps) == 0 {
		return nil
	}
	out := make(ir.Meta, len(ps))
	for i, p := range ps {
		out[i] = ir.KV{Key: p.GetKey(), Value: p.GetValue()}
	}
	return out
}

func elemType(n int32) (ir.DType, error) {
	d := ir.DType(n)
	if d != ir.Undefined && !d.Valid() {
		return 0, fmt.Errorf("element type %d is unknown", n)
	}
	return d, nil
}

func decodeType(p *pb.TypeProto) (ir.Type, error) {
	var t ir.Type
	if p == nil {
		return t, nil
	}
	t.Denote, t.Extra = p.GetDenotation(), p.XXX_unrecognized
	var err error
	inner := func(q *pb.TypeProto) error {
		in, err := decodeType(q)
		if err == nil {
			t.Inner = &in
		}
		return err
	}
	switch v := p.Value.(type) {
	case *pb.TypeProto_TensorType:
		t.Kind, t.Shape = ir.KindTensor, decodeShape(v.TensorType.Shape)
		t.Elem, err = elemType(v.TensorType.GetElemType())
	case *pb.TypeProto_SparseTensorType:
		t.Kind, t.Shape = ir.KindSparse, decodeShape(v.SparseTensorType.Shape)
		t.Elem, err = elemType(v.SparseTensorType.GetElemType())
	case *pb.TypeProto_SequenceType:
		t.Kind = ir.KindSequence
		err = inner(v.SequenceType.ElemType)
	case *pb.TypeProto_OptionalType:
		t.Kind = ir.KindOptional
		err = inner(v.OptionalType.ElemType)
	case *pb.TypeProto_MapType:
		t.Kind = ir.KindMap
		if t.Key, err = elemType(v.MapType.GetKeyType()); err == nil {
			err = inner(v.MapType.ValueType)
		}
	case *pb.TypeProto_OpaqueType:
		t.Kind, t.Opaque = ir.KindOpaque, [2]string{v.OpaqueType.GetDomain(), v.OpaqueType.GetName()}
	}
	return t, err
}

func decodeShape(p *pb.TensorShapeProto) ir.Shape {
	if p == nil {
		return nil
	}
	s := make(ir.Shape, len(p.Dim))
	for i, d := range p.Dim {
		s[i] = ir.UnknownDim()
		switch v := d.Value.(type) {
		case *pb.TensorShapeProto_Dimension_DimValue:
			if v.DimValue >= 0 {
				s[i] = ir.D(v.DimValue)
			}
		case *pb.TensorShapeProto_Dimension_DimParam:
			s[i].Symbol = v.DimParam
		}
		s[i].Denote = d.GetDenotation()
	}
	return s
}
