package pack

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/x448/float16"

	"mqatc/onnx/ir"
)

// Packing names how the elements of a tensor are stored; FORMAT.md lists the names.
type Packing string

// Packings without a name in ONNX.
const (
	Binary  Packing = "binary"  // 1 bit: 0 is -1, 1 is +1
	Ternary Packing = "ternary" // 5 elements of {-1, 0, +1} in a byte
)

type kind int

// The kinds are the values of enum mqatc_packing in c/mqatc_tensor.h.
const (
	kindInt kind = iota
	kindUint
	kindBinary
	kindTernary
	kindFloat
	kindBfloat
)

func (k kind) c() string {
	return [...]string{"MQATC_INT", "MQATC_UINT", "MQATC_BINARY", "MQATC_TERNARY", "MQATC_FLOAT", "MQATC_BFLOAT"}[k]
}

func (k kind) float() bool { return k >= kindFloat }

// layout is a row of the table of packings.
type layout struct {
	name  Packing
	kind  kind
	width int // bits of an element; of a byte of five for ternary
	dtype ir.DType
}

var layouts = []layout{
	{"int2", kindInt, 2, ir.Int2}, {"int3", kindInt, 3, 0}, {"int4", kindInt, 4, ir.Int4}, {"int5", kindInt, 5, 0},
	{"int6", kindInt, 6, 0}, {"int7", kindInt, 7, 0}, {"int8", kindInt, 8, ir.Int8}, {"int16", kindInt, 16, ir.Int16},
	{"int32", kindInt, 32, ir.Int32},
	{"uint1", kindUint, 1, 0}, {"uint2", kindUint, 2, ir.Uint2}, {"uint3", kindUint, 3, 0}, {"uint4", kindUint, 4, ir.Uint4},
	{"uint5", kindUint, 5, 0}, {"uint6", kindUint, 6, 0}, {"uint7", kindUint, 7, 0}, {"uint8", kindUint, 8, ir.Uint8},
	{"uint16", kindUint, 16, ir.Uint16},
	{Binary, kindBinary, 1, 0}, {Ternary, kindTernary, 8, 0},
	{"float16", kindFloat, 16, ir.Float16}, {"float32", kindFloat, 32, ir.Float32}, {"float64", kindFloat, 64, ir.Float64},
	{"bfloat16", kindBfloat, 16, ir.BFloat16},
}

// PackingOf is the packing of an ONNX element type in raw_data; false for types that hold no weights.
func PackingOf(d ir.DType) (Packing, bool) {
	for _, l := range layouts {
		if l.dtype == d && d != ir.Undefined {
			return l.name, true
		}
	}
	return "", false
}

func (p Packing) layout() (layout, error) {
	for _, l := range layouts {
		if l.name == p {
			return l, nil
		}
	}
	return layout{}, fmt.Errorf("packing %q is unknown", p)
}

// size is the number of bytes of n elements.
func (l layout) size(n int64) (int64, error) {
	if n > math.MaxInt64/64-8 {
		return 0, fmt.Errorf("%d elements are too many", n)
	}
	if l.kind == kindTernary {
		return (n + 4) / 5, nil
	}
	return (n*int64(l.width) + 7) / 8, nil
}

// align is the multiple at which tensors of l start.
func (l layout) align() int64 { return max(1, int64(l.width)/8) }

// codes unpacks n elements of an integer packing.
func (l layout) codes(raw []byte, n int) ([]int32, error) {
	out := make([]int32, n)
	if l.kind == kindTernary {
		for i := range out {
			b := raw[i/5]
			if b >= 243 {
				return nil, fmt.Errorf("byte %d is %d, no five ternary digits", i/5, b)
			}
			out[i] = int32(b/powersOf3[i%5]%3) - 1
		}
		return out, nil
	}
	var acc uint64
	have, at := 0, 0
	for i := range out {
		for have < l.width {
			acc |= uint64(raw[at]) << have
			at, have = at+1, have+8
		}
		v := acc & (1<<l.width - 1)
		acc, have = acc>>l.width, have-l.width
		switch l.kind {
		case kindInt:
			out[i] = int32(int64(v<<(64-l.width)) >> (64 - l.width))
		case kindBinary:
			out[i] = 2*int32(v) - 1
		default:
			out[i] = int32(v)
		}
	}
	return out, nil
}

var powersOf3 = [5]byte{1, 3, 9, 27, 81}

// pack is the inverse of codes; unused bits and digits are 0.
func (l layout) pack(codes []int32) ([]byte, error) {
	n, err := l.size(int64(len(codes)))
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 0, n)
	if l.kind == kindTernary {
		raw = raw[:n]
		for i, q := range codes {
			if !l.holds(q) {
				return nil, fmt.Errorf("code %d of element %d does not fit %s", q, i, l.name)
			}
			raw[i/5] += byte(q+1) * powersOf3[i%5]
		}
		return raw, nil
	}
	var acc uint64
	have := 0
	for i, q := range codes {
		if !l.holds(q) {
			return nil, fmt.Errorf("code %d of element %d does not fit %s", q, i, l.name)
		}
		v := uint64(q) & (1<<l.width - 1)
		if l.kind == kindBinary {
			v = uint64(q+1) / 2
		}
		acc |= v << have
		for have += l.width; have >= 8; have -= 8 {
			raw = append(raw, byte(acc))
			acc >>= 8
		}
	}
	if have > 0 {
		raw = append(raw, byte(acc))
	}
	return raw, nil
}

// holds reports whether a code can be stored.
func (l layout) holds(q int32) bool {
	switch l.kind {
	case kindBinary:
		return q == -1 || q == 1
	case kindTernary:
		return q >= -1 && q <= 1
	case kindUint:
		return q >= 0 && int64(q) < 1<<l.width
	}
	return int64(q) >= -1<<(l.width-1) && int64(q) < 1<<(l.width-1)
}

// floats unpacks n elements of a floating-point packing to float32.
func (l layout) floats(raw []byte, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		b := raw[i*l.width/8:]
		switch {
		case l.kind == kindBfloat:
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
		case l.width == 16:
			out[i] = float16.Frombits(binary.LittleEndian.Uint16(b)).Float32()
		case l.width == 32:
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b))
		default:
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
	}
	return out
}
