package text

import (
	"encoding/hex"
	"strconv"
	"strings"

	"mqatc/onnx/ir"
)

const maxDepth = 100

// isIdent reports whether s can stand unquoted as a name.
func isIdent(s string) bool {
	if s == "" || !isAlpha(s[0]) || isTypeWord(s) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isAlpha(s[i]) && !isDigit(s[i]) {
			return false
		}
	}
	return true
}

func isTypeWord(s string) bool {
	switch s {
	case "seq", "map", "optional", "sparse_tensor", "opaque", "denote", "dtype", "unknown", "extra":
		return true
	}
	_, ok := ir.ParseDType(s)
	return ok
}

// quote writes a string as ONNX text does: only the quote and the backslash are escaped.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func quoteName(s string) string {
	if isIdent(s) {
		return s
	}
	return quote(s)
}

// untyped reports whether there is nothing to say of t.
func untyped(t ir.Type) bool { return t.Kind == ir.KindUnknown && t.Denote == "" && len(t.Extra) == 0 }

// plainType reports whether ONNX text can express t in full.
func plainType(t ir.Type) bool {
	if t.Denote != "" || len(t.Extra) > 0 {
		return false
	}
	switch t.Kind {
	case ir.KindTensor, ir.KindSparse:
		for _, d := range t.Shape {
			if d.Denote != "" || d.Symbol == "" && d.Size < -1 || strings.ContainsAny(d.Symbol, "\n\\\"") {
				return false
			}
		}
		return t.Elem.Valid()
	case ir.KindMap:
		if !t.Key.Valid() {
			return false
		}
	case ir.KindSequence, ir.KindOptional:
	default:
		return false
	}
	return t.Inner != nil && plainType(*t.Inner)
}

// typeString writes a type; full adds what only "#@type" lines may hold, with Go-quoted strings.
func typeString(t ir.Type, full bool) string {
	q := quoteName
	if full {
		q = func(s string) string {
			if isIdent(s) {
				return s
			}
			return strconv.Quote(s)
		}
	}
	inner := func() string {
		if t.Inner == nil {
			return ""
		}
		return typeString(*t.Inner, full)
	}
	tensor := func() string {
		elem := t.Elem.String()
		if !t.Elem.Valid() {
			elem = "dtype(" + strconv.Itoa(int(t.Elem)) + ")"
		}
		if t.Shape == nil {
			return elem + "[]"
		}
		if len(t.Shape) == 0 {
			return elem
		}
		dims := make([]string, len(t.Shape))
		for i, d := range t.Shape {
			switch {
			case d.Symbol != "":
				dims[i] = q(d.Symbol)
			case d.Size == -1:
				dims[i] = "?"
			default:
				dims[i] = strconv.FormatInt(d.Size, 10)
			}
			if d.Denote != "" {
				dims[i] += ":" + strconv.Quote(d.Denote)
			}
		}
		return elem + "[" + strings.Join(dims, ",") + "]"
	}
	s := "unknown"
	switch t.Kind {
	case ir.KindTensor:
		s = tensor()
	case ir.KindSparse:
		s = "sparse_tensor(" + tensor() + ")"
	case ir.KindSequence:
		s = "seq(" + inner() + ")"
	case ir.KindOptional:
		s = "optional(" + inner() + ")"
	case ir.KindMap:
		key := t.Key.String()
		if !t.Key.Valid() {
			key = "dtype(" + strconv.Itoa(int(t.Key)) + ")"
		}
		s = "map(" + key + "," + inner() + ")"
	case ir.KindOpaque:
		s = "opaque(" + strconv.Quote(t.Opaque[0]) + "," + strconv.Quote(t.Opaque[1]) + ")"
	}
	if t.Denote != "" {
		s = "denote(" + strconv.Quote(t.Denote) + "," + s + ")"
	}
	if len(t.Extra) > 0 {
		s = "extra(" + strconv.Quote(hex.EncodeToString(t.Extra)) + "," + s + ")"
	}
	return s
}

// nextIsType reports whether a type comes next.
func (s *scanner) nextIsType() bool {
	w := s.peekIdent()
	if !isTypeWord(w) {
		return false
	}
	return s.inNote || w != "denote" && w != "extra" && w != "dtype" && w != "unknown" && w != "opaque"
}

func (s *scanner) elemType() ir.DType {
	s.skip()
	at := s.pos
	w := s.needIdent("an element type")
	if w == "dtype" {
		s.expect('(')
		n := s.int64()
		s.expect(')')
		if n < -1<<31 || n >= 1<<31 {
			s.fail(at, "element type %d is out of range", n)
		}
		return ir.DType(n)
	}
	d, ok := ir.ParseDType(w)
	if !ok {
		s.fail(at, "%q is not an element type", w)
	}
	return d
}

func (s *scanner) typ(depth int) ir.Type {
	s.skip()
	at := s.pos
	if depth > maxDepth {
		s.fail(at, "types are nested more than %d deep", maxDepth)
		return ir.Type{}
	}
	inner := func() *ir.Type {
		if s.inNote && s.accept(')') {
			return nil
		}
		t := s.typ(depth + 1)
		s.expect(')')
		return &t
	}
	w := s.peekIdent()
	switch w {
	case "seq", "optional":
		s.ident()
		s.expect('(')
		if w == "seq" {
			return ir.Type{Kind: ir.KindSequence, Inner: inner()}
		}
		return ir.Type{Kind: ir.KindOptional, Inner: inner()}
	case "map":
		s.ident()
		s.expect('(')
		key := s.elemType()
		s.expect(',')
		return ir.Type{Kind: ir.KindMap, Key: key, Inner: inner()}
	case "sparse_tensor":
		s.ident()
		s.expect('(')
		t := s.tensorType()
		t.Kind = ir.KindSparse
		s.expect(')')
		return t
	case "opaque":
		s.ident()
		s.expect('(')
		t := ir.Type{Kind: ir.KindOpaque}
		t.Opaque[0] = s.str()
		s.expect(',')
		t.Opaque[1] = s.str()
		s.expect(')')
		return t
	case "denote", "extra":
		s.ident()
		s.expect('(')
		d := s.str()
		s.expect(',')
		t := s.typ(depth + 1)
		s.expect(')')
		if w == "denote" {
			t.Denote = d
			return t
		}
		raw, err := hex.DecodeString(d)
		if err != nil {
			s.fail(at, "unknown fields %q are not in hexadecimal", d)
		}
		t.Extra = raw
		return t
	case "unknown":
		s.ident()
		return ir.Type{}
	}
	return s.tensorType()
}

func (s *scanner) tensorType() ir.Type {
	t := ir.Type{Kind: ir.KindTensor, Elem: s.elemType(), Shape: ir.Shape{}}
	if !s.accept('[') {
		return t
	}
	if s.accept(']') {
		t.Shape = nil
		return t
	}
	for {
		d := ir.UnknownDim()
		if !s.accept('?') {
			if c := s.peek(); c == '"' || isAlpha(c) {
				d.Symbol, _ = s.name()
			} else {
				d.Size = s.int64()
			}
		}
		if s.inNote && s.accept(':') {
			d.Denote = s.str()
		}
		t.Shape = append(t.Shape, d)
		if !s.accept(',') {
			break
		}
	}
	s.expect(']')
	return t
}
