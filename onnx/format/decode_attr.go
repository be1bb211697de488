package format

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
)

// attrKind is the declared kind, or, in files of the first IR versions that declare none, that of the field that is set.
func attrKind(p *pb.AttributeProto) (ir.AttrKind, error) {
	if k := ir.AttrKind(p.GetType()); k != ir.AttrUndefined {
		if k < 0 || k > ir.AttrTypes {
			return 0, fmt.Errorf("attribute type %d is unknown", k)
		}
		return k, nil
	}
	switch {
	case p.GetRefAttrName() != "":
		return ir.AttrUndefined, nil
	case p.F != nil:
		return ir.AttrFloat, nil
	case p.I != nil:
		return ir.AttrInt, nil
	case p.S != nil:
		return ir.AttrString, nil
	case p.T != nil:
		return ir.AttrTensor, nil
	case p.G != nil:
		return ir.AttrGraph, nil
	case p.Tp != nil:
		return ir.AttrType, nil
	case p.SparseTensor != nil:
		return ir.AttrSparse, nil
	case len(p.Floats) > 0:
		return ir.AttrFloats, nil
	case len(p.Strings) > 0:
		return ir.AttrStrings, nil
	case len(p.Tensors) > 0:
		return ir.AttrTensors, nil
	case len(p.Graphs) > 0:
		return ir.AttrGraphs, nil
	case len(p.TypeProtos) > 0:
		return ir.AttrTypes, nil
	case len(p.SparseTensors) > 0:
		return ir.AttrSparses, nil
	}
	return ir.AttrInts, nil
}

// attr decodes an attribute of a node of g; its subgraphs see g's values.
func (d *decoder) attr(p *pb.AttributeProto, g *ir.Graph) (ir.Attr, error) {
	kind, err := attrKind(p)
	if err != nil {
		return ir.Attr{}, err
	}
	a := ir.Attr{Name: p.GetName(), Kind: kind, Ref: p.GetRefAttrName(), Doc: p.GetDocString(), Extra: p.XXX_unrecognized}
	if a.Name == "" {
		return a, fmt.Errorf("an attribute has no name")
	}
	if a.Ref != "" {
		return a, nil
	}
	absent := func() error { return fmt.Errorf("declared as %v, but the value is missing", p.GetType()) }
	switch kind {
	case ir.AttrFloat:
		a.F = p.GetF()
	case ir.AttrInt:
		a.I = p.GetI()
	case ir.AttrString:
		a.S = p.S
	case ir.AttrFloats:
		a.Floats = p.Floats
	case ir.AttrInts:
		a.Ints = p.Ints
	case ir.AttrStrings:
		a.Strings = p.Strings
	case ir.AttrTensor:
		if p.T == nil {
			return a, absent()
		}
		a.T, err = d.tensor(p.T)
	case ir.AttrTensors:
		a.Tensors, err = each(p.Tensors, d.tensor)
	case ir.AttrGraph:
		if p.G == nil {
			return a, absent()
		}
		a.G, err = d.graph(p.G, g)
	case ir.AttrGraphs:
		a.Graphs, err = each(p.Graphs, func(q *pb.GraphProto) (*ir.Graph, error) { return d.graph(q, g) })
	case ir.AttrSparse:
		if p.SparseTensor == nil {
			return a, absent()
		}
		a.Sparse, err = d.sparse(p.SparseTensor)
	case ir.AttrSparses:
		a.Sparses, err = each(p.SparseTensors, d.sparse)
	case ir.AttrType:
		if p.Tp == nil {
			return a, absent()
		}
		a.Type, err = typePtr(p.Tp)
	case ir.AttrTypes:
		a.Types, err = each(p.TypeProtos, typePtr)
	}
	return a, err
}

func typePtr(p *pb.TypeProto) (*ir.Type, error) {
	t, err := decodeType(p)
	return &t, err
}

func each[P, T any](ps []P, f func(P) (T, error)) ([]T, error) {
	out := make([]T, 0, len(ps))
	for i, p := range ps {
		t, err := f(p)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		out = append(out, t)
	}
	return out, nil
}
