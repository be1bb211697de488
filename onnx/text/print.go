package text

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"mqatc/onnx/ir"
)

// inlineMax is the number of elements up to which a tensor is written out where there is a weights file.
const inlineMax = 32

// Write prints m. Tensors of more than a few elements go to weights; all are written out where weights is nil.
func Write(w io.Writer, m *ir.Model, weights *Weights) error {
	p := &printer{weights: weights}
	p.model(m)
	if p.err != nil {
		return fmt.Errorf("printing model: %w", p.err)
	}
	_, err := w.Write(p.b.Bytes())
	return err
}

// Format prints m with all tensors written out.
func Format(m *ir.Model) (string, error) {
	var b strings.Builder
	err := Write(&b, m, nil)
	return b.String(), err
}

type printer struct {
	b       bytes.Buffer
	weights *Weights
	err     error
	depth   int
	inNote  bool
}

func (p *printer) f(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

func (p *printer) indent() {
	for range p.depth {
		p.b.WriteString("  ")
	}
}

// note writes one "#@" line; strings among args are quoted, other types written as they are.
func (p *printer) note(key string, args ...any) {
	p.indent()
	p.b.WriteString("#@" + key)
	for _, a := range args {
		if s, ok := a.(string); ok {
			p.f(" %s", strconv.Quote(s))
		} else {
			p.f(" %v", a)
		}
	}
	p.b.WriteByte('\n')
}

// plain is a note argument that is written unquoted.
type plain string

func (p *printer) common(doc string, meta ir.Meta, extra []byte) { p.prefixed("", doc, meta, extra) }

func (p *printer) prefixed(prefix, doc string, meta ir.Meta, extra []byte) {
	if doc != "" {
		p.note(prefix+"doc", doc)
	}
	for _, kv := range meta {
		p.note(prefix+"meta", kv.Key, kv.Value)
	}
	if len(extra) > 0 {
		p.note(prefix+"extra", plain(hex.EncodeToString(extra)))
	}
}

func (p *printer) pairs(m ir.Meta) string {
	var parts []string
	for _, kv := range m {
		parts = append(parts, quote(kv.Key)+": "+quote(kv.Value))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func opsets(list []ir.OpsetID) string {
	var parts []string
	for _, o := range list {
		parts = append(parts, quote(o.Domain)+": "+strconv.FormatInt(o.Version, 10))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (p *printer) model(m *ir.Model) {
	for _, e := range m.Extra {
		p.note("extra", plain(hex.EncodeToString(e)))
	}
	p.f("<\n  ir_version: %d,\n  opset_import: %s", m.IRVersion, opsets(m.Opsets))
	for _, e := range []struct{ key, v string }{{"producer_name", m.Producer}, {"producer_version", m.ProducerVersion}, {"domain", m.Domain}} {
		if e.v != "" {
			p.f(",\n  %s: %s", e.key, quote(e.v))
		}
	}
	if m.Version != 0 {
		p.f(",\n  model_version: %d", m.Version)
	}
	if m.Doc != "" {
		p.f(",\n  doc_string: %s", quote(m.Doc))
	}
	if len(m.Meta) > 0 {
		p.f(",\n  metadata_props: %s", p.pairs(m.Meta))
	}
	p.f("\n>\n")
	if m.Graph == nil {
		p.err = fmt.Errorf("the model has no graph")
		return
	}
	p.common(m.Graph.Doc, m.Graph.Meta, m.Graph.Extra)
	p.f("%s ", quoteName(m.Graph.Name))
	p.graph(m.Graph)
	p.f("\n")
	for _, f := range m.Functions {
		p.function(f)
	}
}

// graph writes everything after the graph's name.
func (p *printer) graph(g *ir.Graph) {
	if p.depth > 2*maxDepth {
		p.err = fmt.Errorf("graph %q: graphs are nested more than %d deep", g.Name, maxDepth)
		return
	}
	p.values(g.Inputs(), func(*ir.Value) bool { return true })
	p.f(" => ")
	seen := map[*ir.Value]bool{}
	p.values(g.Outputs(), func(v *ir.Value) bool {
		first := !seen[v] && v.Producer() != nil
		seen[v] = true
		return first
	})
	p.valueInfos(g)
	p.nodes(g)
}

// values writes a list of inputs or outputs, one to a line if any of them has notes; own tells whose notes are written here.
func (p *printer) values(vs []*ir.Value, own func(*ir.Value) bool) {
	notes := make([]string, len(vs))
	lines := false
	p.depth++
	for i, v := range vs {
		if !own(v) {
			continue
		}
		q := &printer{depth: p.depth}
		q.valueNotes(v, true)
		notes[i] = q.b.String()
		lines = lines || notes[i] != ""
	}
	p.f("(")
	for i, v := range vs {
		switch {
		case lines && i > 0:
			p.f(",\n")
		case lines:
			p.f("\n")
		case i > 0:
			p.f(", ")
		}
		if lines {
			p.f("%s", notes[i])
			p.indent()
		}
		p.typed(v.Type, v.Name())
	}
	p.depth--
	p.f(")")
}

func (p *printer) typed(t ir.Type, name string) {
	if plainType(t) {
		p.f("%s ", typeString(t, false))
	}
	p.f("%s", quoteName(name))
}

// valueNotes writes what a value carries beside its name; withType adds a type that plain text cannot express.
func (p *printer) valueNotes(v *ir.Value, withType bool) {
	p.common(v.Doc, v.Meta, v.Extra)
	for _, kv := range v.Quant {
		p.note("quant", kv.Key, kv.Value)
	}
	if withType && !untyped(v.Type) && !plainType(v.Type) {
		p.note("type", plain(typeString(v.Type, true)))
	}
}

// valueInfos writes initializers and the types of the values that nodes make.
func (p *printer) valueInfos(g *ir.Graph) {
	first := true
	next := func() {
		if first {
			p.f("\n")
			p.depth--
			p.indent()
			p.depth++
			p.f("<\n")
		} else {
			p.f(",\n")
		}
		first = false
	}
	p.depth++
	for _, v := range g.Initializers() {
		next()
		if v.IsInput() {
			if v.Init() != nil {
				p.tensorNotes("tensor.", v.Init())
			}
		} else {
			p.valueNotes(v, false)
			if v.Init() != nil {
				p.tensorNotes("tensor.", v.Init())
				if typeString(v.Type, true) != typeString(v.Init().Type(), true) {
					p.note("type", plain(typeString(v.Type, true)))
				}
			}
		}
		if s := v.SparseInit(); s != nil {
			p.sparseNotes(s)
			if !v.IsInput() {
				p.note("type", plain(typeString(v.Type, true)))
			}
			p.indent()
			p.f("%s", quoteName(v.Name()))
			continue
		}
		p.indent()
		p.f("%s %s = ", typeString(v.Init().Type(), false), quoteName(v.Name()))
		p.data(v.Init())
	}
	for n := g.First(); n != nil; n = n.Next() {
		for _, v := range n.Outputs() {
			bare := untyped(v.Type) && v.Doc == "" && len(v.Meta)+len(v.Extra)+len(v.Quant) == 0
			if v.Name() == "" || v.IsOutput() || bare {
				continue
			}
			next()
			p.valueNotes(v, true)
			p.indent()
			p.typed(v.Type, v.Name())
		}
	}
	p.depth--
	if !first {
		p.f("\n")
		p.indent()
		p.f(">")
	}
}

func (p *printer) function(f *ir.Function) {
	p.f("\n<\n  domain: %s,\n  opset_import: %s", quote(f.Domain), opsets(f.Opsets))
	if f.Overload != "" {
		p.f(",\n  overload: %s", quote(f.Overload))
	}
	if f.Doc != "" {
		p.f(",\n  doc_string: %s", quote(f.Doc))
	}
	p.f("\n>\n")
	p.common("", f.Meta, f.Extra)
	p.f("%s ", quoteName(f.Name))
	if len(f.Attrs)+len(f.AttrDefaults) > 0 {
		p.f("<\n")
		p.depth++
		for i, a := range f.Attrs {
			p.indent()
			p.f("%s", quoteName(a))
			if i+1 < len(f.Attrs)+len(f.AttrDefaults) {
				p.f(",")
			}
			p.f("\n")
		}
		p.attrLines(f.AttrDefaults)
		p.depth--
		p.f("> ")
	}
	if f.Graph == nil {
		p.err = fmt.Errorf("function %s.%s has no body", f.Domain, f.Name)
		return
	}
	p.graph(f.Graph)
	p.f("\n")
}
