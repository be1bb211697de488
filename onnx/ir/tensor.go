package ir

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"github.com/x448/float16"
)

// Tensor is an immutable dense tensor. Elements are little-endian, row-major; sub-byte elements are packed low bits first
// (ONNX TensorProto.raw_data). A Tensor may alias a mapped file, so its bytes must not be written to.
type Tensor struct {
	dtype   DType
	dims    []int64
	raw     []byte
	strings [][]byte

	Name  string // TensorProto.name where it is not the name of the value that holds it
	Doc   string
	Meta  Meta
	Extra []byte // unknown protobuf fields
	// External tells where the bytes came from or shall go: TensorProto.external_data as read.
	External Meta
}

// PackedSize is the number of bytes that n elements of d take: those below a byte stand one after another in a stream of bits,
// so that four of 6 bits fill three bytes.
func PackedSize(d DType, n int64) (int64, error) {
	b := int64(d.Bits())
	if b == 0 {
		return 0, fmt.Errorf("element type %v has no fixed size", d)
	}
	if n < 0 || n > (math.MaxInt64-7)/b {
		return 0, fmt.Errorf("%d elements of %v overflow", n, d)
	}
	return (n*b + 7) / 8, nil
}

// NewTensor wraps raw, which must hold exactly the elements of dims; it is kept, not copied.
func NewTensor(d DType, dims []int64, raw []byte) (*Tensor, error) {
	if !d.Valid() || d == String {
		return nil, fmt.Errorf("tensor of element type %v cannot be made from raw bytes", d)
	}
	n, err := NumElements(dims)
	if err != nil {
		return nil, err
	}
	want, err := PackedSize(d, n)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != want {
		return nil, fmt.Errorf("tensor %v%v needs %d bytes, has %d", d, dims, want, len(raw))
	}
	return &Tensor{dtype: d, dims: append([]int64{}, dims...), raw: raw}, nil
}

// NewStrings makes a tensor of strings.
func NewStrings(dims []int64, s [][]byte) (*Tensor, error) {
	n, err := NumElements(dims)
	if err != nil {
		return nil, err
	}
	if n != int64(len(s)) {
		return nil, fmt.Errorf("string tensor %v needs %d elements, has %d", dims, n, len(s))
	}
	return &Tensor{dtype: String, dims: append([]int64{}, dims...), strings: s}, nil
}

type number interface {
	~float32 | ~float64 | ~int8 | ~uint8 | ~int16 | ~uint16 | ~int32 | ~uint32 | ~int64 | ~uint64
}

func bytesOf[T number](v []T) []byte {
	if len(v) == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

func of[T number](d DType, v []T, dims []int64) (*Tensor, error) {
	return NewTensor(d, dims, bytesOf(v))
}

// FromFloat32s wraps v as a tensor of shape dims without copying.
func FromFloat32s(v []float32, dims ...int64) (*Tensor, error) { return of(Float32, v, dims) }

// FromFloat64s wraps v as a tensor of shape dims without copying.
func FromFloat64s(v []float64, dims ...int64) (*Tensor, error) { return of(Float64, v, dims) }

// FromInt64s wraps v as a tensor of shape dims without copying.
func FromInt64s(v []int64, dims ...int64) (*Tensor, error) { return of(Int64, v, dims) }

// FromInt32s wraps v as a tensor of shape dims without copying.
func FromInt32s(v []int32, dims ...int64) (*Tensor, error) { return of(Int32, v, dims) }

// FromInt8s wraps v as a tensor of shape dims without copying.
func FromInt8s(v []int8, dims ...int64) (*Tensor, error) { return of(Int8, v, dims) }

// FromUint8s wraps v as a tensor of shape dims without copying.
func FromUint8s(v []uint8, dims ...int64) (*Tensor, error) { return of(Uint8, v, dims) }

// FromBools makes a bool tensor of shape dims.
func FromBools(v []bool, dims ...int64) (*Tensor, error) {
	raw := make([]byte, len(v))
	for i, b := range v {
		if b {
			raw[i] = 1
		}
	}
	return NewTensor(Bool, dims, raw)
}

// ScalarFloat32 is a rank-0 float tensor.
func ScalarFloat32(v float32) *Tensor {
	return &Tensor{dtype: Float32, dims: []int64{}, raw: bytesOf([]float32{v})}
}

// ScalarInt64 is a rank-0 int64 tensor.
func ScalarInt64(v int64) *Tensor {
	return &Tensor{dtype: Int64, dims: []int64{}, raw: bytesOf([]int64{v})}
}

// VectorInt64 is a rank-1 int64 tensor.
func VectorInt64(v ...int64) *Tensor {
	return &Tensor{dtype: Int64, dims: []int64{int64(len(v))}, raw: bytesOf(v)}
}

// DType is the element type.
func (t *Tensor) DType() DType { return t.dtype }

// Dims are the sizes; the caller must not change them.
func (t *Tensor) Dims() []int64 { return t.dims }

// Shape is the static shape.
func (t *Tensor) Shape() Shape { return StaticShape(t.dims...) }

// Type is the tensor's type.
func (t *Tensor) Type() Type { return TensorType(t.dtype, t.Shape()) }

// Len is the number of elements.
func (t *Tensor) Len() int64 {
	n, err := NumElements(t.dims)
	if err != nil {
		return 0
	}
	return n
}

// Raw are the packed bytes (nil for strings); the caller must not change them.
func (t *Tensor) Raw() []byte { return t.raw }

// Strings are the elements of a string tensor.
func (t *Tensor) Strings() [][]byte { return t.strings }

// Reshaped is a view of the same elements under other dims.
func (t *Tensor) Reshaped(dims ...int64) (*Tensor, error) {
	n, err := NumElements(dims)
	if err != nil {
		return nil, err
	}
	if n != t.Len() {
		return nil, fmt.Errorf("cannot view %v%v as %v", t.dtype, t.dims, dims)
	}
	c := *t
	c.dims = append([]int64{}, dims...)
	return &c, nil
}

func view[T number](t *Tensor, d DType) ([]T, error) {
	if t.dtype != d {
		return nil, fmt.Errorf("tensor is %v, not %v", t.dtype, d)
	}
	var z T
	size := int(unsafe.Sizeof(z))
	n := len(t.raw) / size
	if n == 0 {
		return []T{}, nil
	}
	p := unsafe.Pointer(&t.raw[0])
	if uintptr(p)%uintptr(size) == 0 {
		return unsafe.Slice((*T)(p), n), nil
	}
	out := make([]T, n)
	copy(bytesOf(out), t.raw)
	return out, nil
}

// Float32s views the elements of a float tensor, copying only if they are misaligned. Do not write to the result.
func (t *Tensor) Float32s() ([]float32, error) { return view[float32](t, Float32) }

// Float64s views the elements of a double tensor. Do not write to the result.
func (t *Tensor) Float64s() ([]float64, error) { return view[float64](t, Float64) }

// Int64s views the elements of an int64 tensor. Do not write to the result.
func (t *Tensor) Int64s() ([]int64, error) { return view[int64](t, Int64) }

// Int32s views the elements of an int32 tensor. Do not write to the result.
func (t *Tensor) Int32s() ([]int32, error) { return view[int32](t, Int32) }

// Int8s views the elements of an int8 tensor. Do not write to the result.
func (t *Tensor) Int8s() ([]int8, error) { return view[int8](t, Int8) }

// Uint8s views the elements of a uint8 tensor. Do not write to the result.
func (t *Tensor) Uint8s() ([]uint8, error) { return view[uint8](t, Uint8) }

// Ints converts the elements of any integer or bool tensor, sub-byte ones included, to int64.
func (t *Tensor) Ints() ([]int64, error) {
	n := t.Len()
	if t.dtype == Int64 {
		return t.Int64s()
	}
	out := make([]int64, n)
	bits := t.dtype.Bits()
	for i := range out {
		switch t.dtype {
		case Int8:
			out[i] = int64(int8(t.raw[i]))
		case Uint8, Bool:
			out[i] = int64(t.raw[i])
		case Int16:
			out[i] = int64(int16(binary.LittleEndian.Uint16(t.raw[2*i:])))
		case Uint16:
			out[i] = int64(binary.LittleEndian.Uint16(t.raw[2*i:]))
		case Int32:
			out[i] = int64(int32(binary.LittleEndian.Uint32(t.raw[4*i:])))
		case Uint32:
			out[i] = int64(binary.LittleEndian.Uint32(t.raw[4*i:]))
		case Uint64:
			out[i] = int64(binary.LittleEndian.Uint64(t.raw[8*i:]))
		case Uint4, Int4, Uint2, Int2:
			per := 8 / bits
			v := int64(t.raw[i/per]>>(uint(i%per)*uint(bits))) & (1<<bits - 1)
			if (t.dtype == Int4 || t.dtype == Int2) && v >= 1<<(bits-1) {
				v -= 1 << bits
			}
			out[i] = v
		default:
			return nil, fmt.Errorf("tensor of %v holds no integers", t.dtype)
		}
	}
	return out, nil
}

// Floats converts the elements of any float or integer tensor to float64.
func (t *Tensor) Floats() ([]float64, error) {
	out := make([]float64, t.Len())
	switch t.dtype {
	case Float64:
		return t.Float64s()
	case Float32:
		v, err := t.Float32s()
		for i, x := range v {
			out[i] = float64(x)
		}
		return out, err
	case Float16:
		for i := range out {
			out[i] = float64(float16.Frombits(binary.LittleEndian.Uint16(t.raw[2*i:])).Float32())
		}
		return out, nil
	case BFloat16:
		for i := range out {
			out[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.raw[2*i:])) << 16))
		}
		return out, nil
	}
	v, err := t.Ints()
	for i, x := range v {
		out[i] = float64(x)
	}
	return out, err
}

// PackInts makes a tensor of integer type d, sub-byte ones included, from v; an error when an element is out of range.
func PackInts(d DType, v []int64, dims ...int64) (*Tensor, error) {
	bits := d.Bits()
	lo, hi := int64(0), int64(0)
	switch d {
	case Int2, Int4, Int8, Int16, Int32:
		lo, hi = -1<<(bits-1), 1<<(bits-1)-1
	case Uint2, Uint4, Uint8, Uint16, Uint32:
		hi = 1<<bits - 1
	case Int64:
		return FromInt64s(append([]int64{}, v...), dims...)
	default:
		return nil, fmt.Errorf("cannot pack integers as %v", d)
	}
	size, err := PackedSize(d, int64(len(v)))
	if err != nil {
		return nil, err
	}
	raw := make([]byte, size)
	for i, x := range v {
		if x < lo || x > hi {
			return nil, fmt.Errorf("element %d = %d does not fit %v", i, x, d)
		}
		if bits < 8 {
			per := 8 / bits
			raw[i/per] |= byte(x&(1<<bits-1)) << (uint(i%per) * uint(bits))
			continue
		}
		for k := 0; k < bits/8; k++ {
			raw[i*bits/8+k] = byte(x >> (8 * k))
		}
	}
	return NewTensor(d, dims, raw)
}

// PackFloats makes a tensor of type float16 or bfloat16 from v, each element rounded to nearest, halves to even.
func PackFloats(d DType, v []float32, dims ...int64) (*Tensor, error) {
	raw := make([]byte, 2*len(v))
	for i, x := range v {
		var h uint16
		switch d {
		case Float16:
			h = float16.Fromfloat32(x).Bits()
		case BFloat16:
			b := math.Float32bits(x)
			if x == x {
				b += 0x7fff + b>>16&1
			}
			h = uint16(b >> 16)
		default:
			return nil, fmt.Errorf("cannot pack floats as %v", d)
		}
		binary.LittleEndian.PutUint16(raw[2*i:], h)
	}
	return NewTensor(d, dims, raw)
}
