package ir

import (
	"fmt"
	"math"
	"strings"
)

// Dim is one dimension: a size, a symbol, or unknown.
type Dim struct {
	Size   int64  // size when Symbol is empty and Size >= 0; -1 when not known
	Symbol string // dim_param: an identifier or an expression
	Denote string // ONNX dimension denotation, usually empty
}

// D is a dimension of known size.
func D(n int64) Dim { return Dim{Size: n} }

// Sym is a symbolic dimension.
func Sym(s string) Dim { return Dim{Size: -1, Symbol: s} }

// UnknownDim is a dimension nothing is known of.
func UnknownDim() Dim { return Dim{Size: -1} }

// Known reports whether the size is a number.
func (d Dim) Known() bool { return d.Symbol == "" && d.Size >= 0 }

// String is the size, the symbol or "?".
func (d Dim) String() string {
	switch {
	case d.Known():
		return fmt.Sprint(d.Size)
	case d.Symbol != "":
		return d.Symbol
	}
	return "?"
}

// Shape lists the dimensions of a tensor. A nil Shape has unknown rank; a non-nil empty one is a scalar's.
type Shape []Dim

// StaticShape makes a shape of known sizes; without arguments it is a scalar's.
func StaticShape(dims ...int64) Shape {
	s := make(Shape, len(dims))
	for i, d := range dims {
		s[i] = D(d)
	}
	return s
}

// HasRank reports whether the number of dimensions is known.
func (s Shape) HasRank() bool { return s != nil }

// Static returns the sizes if every one of them is known.
func (s Shape) Static() ([]int64, bool) {
	if s == nil {
		return nil, false
	}
	out := make([]int64, len(s))
	for i, d := range s {
		if !d.Known() {
			return nil, false
		}
		out[i] = d.Size
	}
	return out, true
}

// Clone copies the shape.
func (s Shape) Clone() Shape {
	if s == nil {
		return nil
	}
	return append(Shape{}, s...)
}

// Equal reports whether both shapes have the same rank, sizes and symbols.
func (s Shape) Equal(t Shape) bool {
	if (s == nil) != (t == nil) || len(s) != len(t) {
		return false
	}
	for i := range s {
		if s[i].Size != t[i].Size || s[i].Symbol != t[i].Symbol {
			return false
		}
	}
	return true
}

// String is the shape in ONNX textual syntax, as "[1,3,H,?]"; "[...]" when the rank is unknown.
func (s Shape) String() string {
	if s == nil {
		return "[...]"
	}
	var b strings.Builder
	b.WriteByte('[')
	for i, d := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(d.String())
	}
	b.WriteByte(']')
	return b.String()
}

// NumElements multiplies dims; an error when one is negative or the product exceeds an int64.
func NumElements(dims []int64) (int64, error) {
	n := int64(1)
	zero := false
	for _, d := range dims {
		if d < 0 {
			return 0, fmt.Errorf("negative dimension in %v", dims)
		}
		if d == 0 {
			zero = true
			continue
		}
		if n > math.MaxInt64/d {
			return 0, fmt.Errorf("number of elements of %v overflows", dims)
		}
		n *= d
	}
	if zero {
		return 0, nil
	}
	return n, nil
}

// TypeKind says what a value is.
type TypeKind uint8

// Kinds of ONNX TypeProto. KindUnknown stands for a value whose type is not given.
const (
	KindUnknown TypeKind = iota
	KindTensor
	KindSparse
	KindSequence
	KindMap
	KindOptional
	KindOpaque
)

// Type is a value's type. Elem and Shape serve tensors, Key and Inner the containers.
type Type struct {
	Kind   TypeKind
	Elem   DType
	Shape  Shape
	Key    DType
	Inner  *Type
	Denote string // ONNX type denotation
	Opaque [2]string
	Extra  []byte // unknown protobuf fields of TypeProto
}

// TensorType is the type of a dense tensor.
func TensorType(e DType, s Shape) Type { return Type{Kind: KindTensor, Elem: e, Shape: s} }

// Clone copies the type deeply.
func (t Type) Clone() Type {
	t.Shape = t.Shape.Clone()
	if t.Inner != nil {
		c := t.Inner.Clone()
		t.Inner = &c
	}
	return t
}

// String is the type in ONNX textual syntax, as "float[1,3,224,224]".
func (t Type) String() string {
	in := "?"
	if t.Inner != nil {
		in = t.Inner.String()
	}
	switch t.Kind {
	case KindTensor:
		return t.tensorString()
	case KindSparse:
		return "sparse_tensor(" + t.tensorString() + ")"
	case KindSequence:
		return "seq(" + in + ")"
	case KindMap:
		return "map(" + t.Key.String() + "," + in + ")"
	case KindOptional:
		return "optional(" + in + ")"
	case KindOpaque:
		return "opaque(" + t.Opaque[0] + "," + t.Opaque[1] + ")"
	}
	return "?"
}

func (t Type) tensorString() string {
	if t.Shape == nil {
		return t.Elem.String() + "[...]"
	}
	if len(t.Shape) == 0 {
		return t.Elem.String()
	}
	return t.Elem.String() + t.Shape.String()
}
