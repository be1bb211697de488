package text

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"mqatc/onnx/ir"
)

// data reads the elements of a tensor of type t, or the reference to them; n may be nil.
func (p *parser) data(t ir.Type, n *tensorNotes) *ir.Tensor {
	p.skip()
	at := p.pos
	dims, ok := t.Shape.Static()
	if t.Kind != ir.KindTensor || !ok {
		p.fail(at, "a constant needs a tensor type of known sizes, not %s", typeString(t, true))
		return nil
	}
	size, err := ir.NumElements(dims)
	if !p.check(at, err) {
		return nil
	}
	var out *ir.Tensor
	if p.peek() == '[' {
		out = p.referenced(t.Elem, dims)
	} else if p.accept('{') {
		out = p.literals(t.Elem, dims, size, n)
	} else {
		p.fail(p.pos, "expected { or [ before the data of a tensor, found %s", p.found())
	}
	if p.err != nil || out == nil || n == nil {
		return out
	}
	c := *out
	c.Name, c.Doc, c.Meta, c.External, c.Extra = n.name, n.doc, n.meta, n.external, n.extra
	return &c
}

// referenced reads ["location": ..., "offset": ..., "length": ...].
func (p *parser) referenced(d ir.DType, dims []int64) *ir.Tensor {
	at := p.pos
	refs := p.pairs()
	if p.err != nil {
		return nil
	}
	location, _ := refs.Get("location")
	if p.open == nil {
		p.fail(at, "the data lies in %q, but this text was read without its folder", location)
		return nil
	}
	file, err := p.open(location)
	if !p.check(at, err) {
		return nil
	}
	n, _ := ir.NumElements(dims)
	length, err := ir.PackedSize(d, n)
	if !p.check(at, err) {
		return nil
	}
	offset := int64(0)
	if s, ok := refs.Get("offset"); ok {
		if offset, err = strconv.ParseInt(s, 10, 64); !p.check(at, err) {
			return nil
		}
	}
	if s, ok := refs.Get("length"); ok {
		l, err := strconv.ParseInt(s, 10, 64)
		if !p.check(at, err) {
			return nil
		}
		if l != length {
			p.fail(at, "a %s%v takes %d bytes, the reference says %d", d, dims, length, l)
			return nil
		}
	}
	if offset < 0 || offset > int64(len(file)) || length > int64(len(file))-offset {
		p.fail(at, "bytes %d to %d lie outside %q, which has %d", offset, offset+length, location, len(file))
		return nil
	}
	t, err := ir.NewTensor(d, dims, file[offset:offset+length:offset+length])
	p.check(at, err)
	return t
}

// literals reads the elements after "{".
func (p *parser) literals(d ir.DType, dims []int64, size int64, n *tensorNotes) *ir.Tensor {
	at := p.pos
	var raw []byte
	var ints []int64
	var strs [][]byte
	count := int64(0)
	per := int64(1)
	if d == ir.Complex64 || d == ir.Complex128 {
		per = 2
	}
	le := binary.LittleEndian
	first := true
	for !p.accept('}') {
		if !first {
			p.expect(',')
		}
		if p.err != nil {
			return nil
		}
		first = false
		p.skip()
		pos := p.pos
		switch d {
		case ir.String:
			strs = append(strs, []byte(p.str()))
		case ir.Float32, ir.Complex64:
			lit, _ := p.literal()
			v, err := strconv.ParseFloat(lit, 32)
			p.check(pos, err)
			raw = le.AppendUint32(raw, math.Float32bits(canonNaN(float32(v))))
		case ir.Float64, ir.Complex128:
			lit, _ := p.literal()
			v, err := strconv.ParseFloat(lit, 64)
			p.check(pos, err)
			bits := math.Float64bits(v)
			if math.IsNaN(v) {
				bits = nan64
			}
			raw = le.AppendUint64(raw, bits)
		case ir.Uint64:
			lit, _ := p.literal()
			v, err := strconv.ParseUint(lit, 10, 64)
			p.check(pos, err)
			raw = le.AppendUint64(raw, v)
		default:
			ints = append(ints, p.int64())
		}
		count++
	}
	if p.err != nil {
		return nil
	}
	if n != nil && n.hasRaw {
		t, err := ir.NewTensor(d, dims, n.raw)
		p.check(at, err)
		return t
	}
	if count%per != 0 || count/per != size {
		p.fail(at, "a %s%v has %d elements, %d are given", d, dims, size, count/per)
		return nil
	}
	var t *ir.Tensor
	var err error
	switch c := carrier(d); {
	case d == ir.String:
		t, err = ir.NewStrings(dims, strs)
	case d.Bits() >= 32 && (d.IsFloat() || d == ir.Complex64 || d == ir.Complex128) || d == ir.Uint64:
		if raw == nil {
			raw = []byte{}
		}
		t, err = ir.NewTensor(d, dims, raw)
	case coded(d):
		t, err = packCodes(d, ints, dims)
	default:
		if t, err = ir.PackInts(c, ints, dims...); err == nil && c != d {
			t, err = ir.NewTensor(d, dims, t.Raw())
		}
	}
	p.check(at, err)
	return t
}

func packCodes(d ir.DType, v []int64, dims []int64) (*ir.Tensor, error) {
	codes := make([]uint8, len(v))
	for i, x := range v {
		if x < 0 || x >= 1<<d.Bits() {
			return nil, fmt.Errorf("element %d = %d does not fit %v", i, x, d)
		}
		codes[i] = uint8(x)
	}
	return ir.PackCodes(d, codes, dims...)
}
