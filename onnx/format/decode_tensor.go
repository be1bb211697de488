package format

import (
	"encoding/binary"
	"fmt"
	"math"

	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
)

// tensor turns a TensorProto into packed little-endian bytes, checking sizes before allocating.
func (d *decoder) tensor(p *pb.TensorProto) (*ir.Tensor, error) {
	dt := ir.DType(p.GetDataType())
	if !dt.Valid() {
		return nil, fmt.Errorf("element type %d is unknown", p.GetDataType())
	}
	if p.Segment != nil {
		return nil, fmt.Errorf("tensor segments are not supported")
	}
	n, err := ir.NumElements(p.Dims)
	if err != nil {
		return nil, err
	}
	var t *ir.Tensor
	if dt == ir.String {
		if p.GetDataLocation() == pb.TensorProto_EXTERNAL || len(p.GetRaw()) > 0 {
			return nil, fmt.Errorf("strings%v cannot be raw or external data", p.Dims)
		}
		t, err = ir.NewStrings(p.Dims, p.StringData)
	} else {
		var raw []byte
		if raw, err = d.raw(p, dt, n); err != nil {
			return nil, fmt.Errorf("%v%v: %w", dt, p.Dims, err)
		}
		t, err = ir.NewTensor(dt, p.Dims, raw)
	}
	if err != nil {
		return nil, err
	}
	t.Name, t.Doc, t.Extra = p.GetName(), p.GetDocString(), p.XXX_unrecognized
	t.Meta, t.External = meta(p.MetadataProps), meta(p.ExternalData)
	return t, nil
}

func (d *decoder) raw(p *pb.TensorProto, dt ir.DType, n int64) ([]byte, error) {
	want, err := ir.PackedSize(dt, n)
	if err != nil {
		return nil, err
	}
	typed := len(p.FloatData) + len(p.Int32Data) + len(p.Int64Data) + len(p.DoubleData) + len(p.Uint64Data) + len(p.StringData)
	switch {
	case p.GetDataLocation() == pb.TensorProto_EXTERNAL:
		if typed > 0 || len(p.GetRaw()) > 0 {
			return nil, fmt.Errorf("both external and inline data")
		}
		return d.files.bytes(p.ExternalData, want)
	case len(p.GetRaw()) > 0 || typed == 0:
		raw := p.GetRaw()
		if typed > 0 {
			return nil, fmt.Errorf("both raw_data and typed data")
		}
		if int64(len(raw)) != want {
			return nil, fmt.Errorf("needs %d bytes of raw_data, has %d", want, len(raw))
		}
		if raw == nil {
			raw = []byte{}
		}
		return raw, nil
	}
	return typedBytes(p, dt, n, want)
}

// typedBytes converts the typed data fields. One int32_data entry holds one element, or one packed byte of a type of 2 or 4 bits.
func typedBytes(p *pb.TensorProto, dt ir.DType, n, want int64) ([]byte, error) {
	field, have, need := "int32_data", len(p.Int32Data), n
	switch dt {
	case ir.Float32, ir.Complex64:
		field, have, need = "float_data", len(p.FloatData), want/4
	case ir.Float64, ir.Complex128:
		field, have, need = "double_data", len(p.DoubleData), want/8
	case ir.Int64:
		field, have = "int64_data", len(p.Int64Data)
	case ir.Uint64, ir.Uint32:
		field, have = "uint64_data", len(p.Uint64Data)
	case ir.Int4, ir.Uint4, ir.Int2, ir.Uint2, ir.Float4E2M1:
		need = want
	}
	if int64(have) != need {
		return nil, fmt.Errorf("needs %d entries of %s, has %d", need, field, have)
	}
	if dt.Bits() == 6 {
		return sixBits(dt, p.Int32Data)
	}
	out := make([]byte, 0, want)
	switch field {
	case "float_data":
		for _, v := range p.FloatData {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
		}
	case "double_data":
		for _, v := range p.DoubleData {
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v))
		}
	case "int64_data":
		for _, v := range p.Int64Data {
			out = binary.LittleEndian.AppendUint64(out, uint64(v))
		}
	case "uint64_data":
		for i, v := range p.Uint64Data {
			switch {
			case dt == ir.Uint64:
				out = binary.LittleEndian.AppendUint64(out, v)
			case v <= math.MaxUint32:
				out = binary.LittleEndian.AppendUint32(out, uint32(v))
			default:
				return nil, fmt.Errorf("entry %d of uint64_data, %d, is out of range", i, v)
			}
		}
	default:
		lo, hi := int32Range(dt)
		for i, v := range p.Int32Data {
			if int64(v) < lo || int64(v) > hi {
				return nil, fmt.Errorf("entry %d of int32_data, %d, is out of range", i, v)
			}
			switch {
			case dt == ir.Int32:
				out = binary.LittleEndian.AppendUint32(out, uint32(v))
			case dt.Bits() == 16:
				out = binary.LittleEndian.AppendUint16(out, uint16(v))
			default:
				out = append(out, byte(v))
			}
		}
	}
	return out, nil
}

// sixBits packs elements that stand one in an entry.
func sixBits(dt ir.DType, v []int32) ([]byte, error) {
	codes := make([]uint8, len(v))
	for i, x := range v {
		if x < 0 || x > 63 {
			return nil, fmt.Errorf("entry %d of int32_data, %d, is out of range", i, x)
		}
		codes[i] = uint8(x)
	}
	t, err := ir.PackCodes(dt, codes, int64(len(codes)))
	if err != nil {
		return nil, err
	}
	return t.Raw(), nil
}

// int32Range is what an entry of int32_data may be for an element type.
func int32Range(dt ir.DType) (lo, hi int64) {
	switch dt {
	case ir.Int32:
		return math.MinInt32, math.MaxInt32
	case ir.Int16:
		return math.MinInt16, math.MaxInt16
	case ir.Int8:
		return math.MinInt8, math.MaxInt8
	case ir.Bool:
		return 0, 1
	case ir.Int4, ir.Int2:
		return math.MinInt8, math.MaxUint8
	}
	if dt.Bits() == 16 {
		return 0, math.MaxUint16
	}
	return 0, math.MaxUint8
}

func (d *decoder) sparse(p *pb.SparseTensorProto) (*ir.Sparse, error) {
	if p.Values == nil || p.Indices == nil {
		return nil, fmt.Errorf("sparse tensor without values or indices")
	}
	if _, err := ir.NumElements(p.Dims); err != nil {
		return nil, err
	}
	v, err := d.tensor(p.Values)
	if err != nil {
		return nil, fmt.Errorf("sparse values: %w", err)
	}
	i, err := d.tensor(p.Indices)
	if err != nil {
		return nil, fmt.Errorf("sparse indices: %w", err)
	}
	nnz := v.Dims()
	idx := i.Dims()
	if len(nnz) != 1 || i.DType() != ir.Int64 || len(idx) < 1 || len(idx) > 2 || idx[0] != nnz[0] ||
		(len(idx) == 2 && idx[1] != int64(len(p.Dims))) {
		return nil, fmt.Errorf("sparse tensor %v: values %v and indices %v%v do not fit together", p.Dims, nnz, i.DType(), idx)
	}
	return &ir.Sparse{Values: v, Indices: i, Dims: append([]int64{}, p.Dims...)}, nil
}
