package text

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"mqatc/onnx/ir"
)

// annotations are the notes that stand before an item.
type annotations struct {
	any     bool
	at      int
	doc     string
	meta    ir.Meta
	extra   [][]byte
	pass    string
	op      []string
	name    *string
	types   []ir.Type
	quant   ir.Meta
	bits    []uint32
	kind    *ir.AttrKind
	sparses []*ir.Sparse
	tensors map[string]*tensorNotes
}

type tensorNotes struct {
	name, doc      string
	meta, external ir.Meta
	extra, raw     []byte
	hasRaw         bool
}

const (
	itemKeys   = "doc meta extra "
	valueKeys  = itemKeys + "quant type "
	initKeys   = valueKeys + "tensor sparse "
	attrKeys   = itemKeys + "name bits kind type tensor sparse "
	nodeKeys   = itemKeys + "pass op "
	graphKeys  = itemKeys + "name "
	tensorKeys = "tensor "
)

// annotations claims the notes before the next token for an item that may have the given kinds of notes.
func (p *parser) annotations(allowed string) annotations {
	p.skip()
	a := annotations{at: p.pos}
	list := p.notes
	p.notes = nil
	for i, n := range list {
		kind, _, nested := strings.Cut(n.key, ".")
		if kind == "values" || kind == "indices" {
			kind = "sparse"
		}
		if !slices.Contains(strings.Fields(allowed), kind) || nested && kind != "tensor" && kind != "sparse" {
			p.fail(n.at, "#@%s does not belong to what follows", n.key)
			return a
		}
		if i == 0 {
			a.at = n.at
		}
		a.any = true
		sub := &parser{scanner: scanner{file: p.file, src: p.src, pos: n.start, end: n.end, inNote: true}, open: p.open}
		sub.note(n.key, &a)
		if sub.err == nil && !sub.atEnd() {
			sub.fail(sub.pos, "unexpected %s", sub.found())
		}
		if sub.err != nil {
			p.err = sub.err
			p.pos = p.end
			return a
		}
	}
	return a
}

// note reads the arguments of one note.
func (p *parser) note(key string, a *annotations) {
	if target, field, ok := strings.Cut(key, "."); ok {
		if a.tensors == nil {
			a.tensors = map[string]*tensorNotes{}
		}
		if a.tensors[target] == nil {
			a.tensors[target] = &tensorNotes{}
		}
		p.tensorNote(field, a.tensors[target])
		return
	}
	switch key {
	case "doc":
		a.doc = p.str()
	case "meta":
		a.meta = append(a.meta, ir.KV{Key: p.str(), Value: p.str()})
	case "quant":
		a.quant = append(a.quant, ir.KV{Key: p.str(), Value: p.str()})
	case "extra":
		a.extra = append(a.extra, p.hex())
	case "pass":
		a.pass = p.str()
	case "op":
		a.op = []string{p.str(), p.str(), p.str()}
		if p.err == nil && a.op[1] == "" {
			p.fail(p.pos, "#@op names no operator")
		}
	case "name":
		s := p.str()
		a.name = &s
	case "type":
		a.types = append(a.types, p.typ(0))
	case "kind":
		k := p.int64()
		if k < -1<<31 || k >= 1<<31 {
			p.fail(p.pos, "attribute type %d is out of range", k)
		}
		kind := ir.AttrKind(k)
		a.kind = &kind
	case "bits":
		for !p.atEnd() {
			at := p.pos
			v, err := strconv.ParseUint(p.word(), 16, 32)
			if err != nil {
				p.fail(at, "expected the 32 bits of a float in hexadecimal")
			}
			a.bits = append(a.bits, uint32(v))
		}
	case "sparse":
		a.sparses = append(a.sparses, p.sparse(a))
		delete(a.tensors, "values")
		delete(a.tensors, "indices")
	default:
		p.fail(p.pos, "unknown note #@%s", key)
	}
}

func (p *parser) tensorNote(field string, t *tensorNotes) {
	switch field {
	case "name":
		t.name = p.str()
	case "doc":
		t.doc = p.str()
	case "meta":
		t.meta = append(t.meta, ir.KV{Key: p.str(), Value: p.str()})
	case "external":
		t.external = append(t.external, ir.KV{Key: p.str(), Value: p.str()})
	case "extra":
		t.extra = p.hex()
	case "raw":
		t.raw, t.hasRaw = p.hex(), true
	default:
		p.fail(p.pos, "unknown note about a tensor: %s", field)
	}
}

func (p *parser) hex() []byte {
	p.skip()
	at := p.pos
	b, err := hex.DecodeString(p.word())
	if err != nil {
		p.fail(at, "expected hexadecimal digits")
	}
	return b
}

func (p *parser) sparse(a *annotations) *ir.Sparse {
	s := &ir.Sparse{}
	p.expect('[')
	if !p.accept(']') {
		for {
			s.Dims = append(s.Dims, p.int64())
			if !p.accept(',') {
				break
			}
		}
		p.expect(']')
	}
	part := func(key string) *ir.Tensor {
		t := p.tensorType()
		p.expect('=')
		return p.data(t, a.tensors[key])
	}
	s.Values = part("values")
	s.Indices = part("indices")
	return s
}

// oneExtra joins the bytes of several notes.
func (a *annotations) oneExtra() []byte {
	var out []byte
	for _, e := range a.extra {
		out = append(out, e...)
	}
	return out
}

// apply gives a value what its notes say, t being the type that stands in the text.
func (a *annotations) apply(v *ir.Value, t ir.Type) {
	v.Type = t
	if len(a.types) > 0 {
		v.Type = a.types[0]
	}
	v.Doc, v.Meta, v.Extra, v.Quant = a.doc, a.meta, a.oneExtra(), a.quant
}
