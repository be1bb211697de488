package text

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"

	"mqatc/onnx/ir"
)

func floatLit(v float64, bits int, point bool) string {
	switch {
	case math.IsNaN(v):
		return "nan"
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(v, 'g', -1, bits)
	if point && !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func float32Lit(v float32) string { return floatLit(float64(v), 32, true) }

// tensorNotes writes what a tensor carries beside type and elements.
func (p *printer) tensorNotes(prefix string, t *ir.Tensor) {
	if t.Name != "" {
		p.note(prefix+"name", t.Name)
	}
	p.prefixed(prefix, t.Doc, t.Meta, t.Extra)
	for _, kv := range t.External {
		p.note(prefix+"external", kv.Key, kv.Value)
	}
	if !p.reference(t) && oddBytes(t) {
		p.note(prefix+"raw", plain(hex.EncodeToString(t.Raw())))
	}
}

// oddBytes reports whether the literals of t do not determine its bytes: unusual NaNs, bools other than 0 and 1, padding bits.
func oddBytes(t *ir.Tensor) bool {
	raw := t.Raw()
	switch t.DType() {
	case ir.Float32, ir.Complex64:
		for i := 0; i+4 <= len(raw); i += 4 {
			if odd32(math.Float32frombits(binary.LittleEndian.Uint32(raw[i:]))) {
				return true
			}
		}
	case ir.Float64, ir.Complex128:
		for i := 0; i+8 <= len(raw); i += 8 {
			if b := binary.LittleEndian.Uint64(raw[i:]); math.IsNaN(math.Float64frombits(b)) && b != nan64 {
				return true
			}
		}
	case ir.Bool:
		for _, b := range raw {
			if b > 1 {
				return true
			}
		}
	case ir.Int4, ir.Uint4, ir.Int2, ir.Uint2, ir.Float4E2M1, ir.Float6E2M3, ir.Float6E3M2:
		if n := t.Len() * int64(t.DType().Bits()) % 8; n != 0 && len(raw) > 0 {
			return raw[len(raw)-1]>>uint(n) != 0
		}
	}
	return false
}

const nan64 = 0x7ff8000000000001

// reference reports whether t is written as a reference into the weights file.
func (p *printer) reference(t *ir.Tensor) bool {
	return p.weights != nil && t.DType() != ir.String && t.Len() > inlineMax
}

// data writes the elements of t, or where they lie.
func (p *printer) data(t *ir.Tensor) {
	if p.reference(t) {
		off, err := p.weights.Add(t.Raw())
		if err != nil {
			p.err = err
			return
		}
		p.f(`["location": %s, "offset": "%d", "length": "%d"]`, quote(p.weights.Location), off, len(t.Raw()))
		return
	}
	p.f("{")
	if err := p.literals(t); err != nil && p.err == nil {
		p.err = err
	}
	p.f("}")
}

func (p *printer) literals(t *ir.Tensor) error {
	sep := func(i int) {
		if i > 0 {
			p.b.WriteString(", ")
		}
	}
	raw := t.Raw()
	le := binary.LittleEndian
	switch d := t.DType(); d {
	case ir.String:
		for i, s := range t.Strings() {
			sep(i)
			if p.inNote {
				p.f("%s", strconv.Quote(string(s)))
			} else {
				p.f("%s", quote(string(s)))
			}
		}
	case ir.Float32, ir.Complex64:
		for i := 0; i+4 <= len(raw); i += 4 {
			sep(i)
			p.b.WriteString(floatLit(float64(math.Float32frombits(le.Uint32(raw[i:]))), 32, false))
		}
	case ir.Float64, ir.Complex128:
		for i := 0; i+8 <= len(raw); i += 8 {
			sep(i)
			p.b.WriteString(floatLit(math.Float64frombits(le.Uint64(raw[i:])), 64, false))
		}
	case ir.Uint64:
		for i := 0; i+8 <= len(raw); i += 8 {
			sep(i)
			p.b.WriteString(strconv.FormatUint(le.Uint64(raw[i:]), 10))
		}
	default:
		vs, err := elements(t)
		if err != nil {
			return err
		}
		for i, v := range vs {
			sep(i)
			p.b.WriteString(strconv.FormatInt(v, 10))
		}
	}
	return nil
}

// carrier is the integer type whose bits stand for elements of d in ONNX text.
func carrier(d ir.DType) ir.DType {
	switch d {
	case ir.Float16, ir.BFloat16:
		return ir.Uint16
	case ir.Bool, ir.Float8E4M3FN, ir.Float8E4M3FNUZ, ir.Float8E5M2, ir.Float8E5M2FNUZ, ir.Float8E8M0:
		return ir.Uint8
	}
	return d
}

// coded reports whether elements of d, floats of less than a byte, are written as their bits.
func coded(d ir.DType) bool { return d == ir.Float4E2M1 || d == ir.Float6E2M3 || d == ir.Float6E3M2 }

func elements(t *ir.Tensor) ([]int64, error) {
	if coded(t.DType()) {
		codes, err := t.Codes()
		out := make([]int64, len(codes))
		for i, c := range codes {
			out[i] = int64(c)
		}
		return out, err
	}
	c := carrier(t.DType())
	if c == t.DType() {
		return t.Ints()
	}
	u, err := ir.NewTensor(c, t.Dims(), t.Raw())
	if err != nil {
		return nil, err
	}
	return u.Ints()
}

// sparseNotes writes a sparse tensor and what its two parts carry.
func (p *printer) sparseNotes(s *ir.Sparse) {
	if s.Values == nil || s.Indices == nil {
		p.err = fmt.Errorf("a sparse tensor lacks its values or indices")
		return
	}
	p.tensorNotes("values.", s.Values)
	p.tensorNotes("indices.", s.Indices)
	dims := make([]string, len(s.Dims))
	for i, d := range s.Dims {
		dims[i] = strconv.FormatInt(d, 10)
	}
	q := &printer{weights: p.weights, inNote: true}
	for _, t := range []*ir.Tensor{s.Values, s.Indices} {
		q.f(" %s = ", typeString(t.Type(), false))
		q.data(t)
	}
	if q.err != nil {
		p.err = q.err
	}
	p.note("sparse", plain("["+strings.Join(dims, ",")+"]"+q.b.String()))
}
