package text

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/mapped"
)

type parser struct {
	scanner
	open  External
	depth int
}

// Load reads a text and the weights files it refers to, which must lie in its folder.
func Load(path string) (m *ir.Model, err error) {
	err = mapped.Guard(func() error {
		m, err = load(path)
		return err
	})
	return m, err
}

func load(path string) (*ir.Model, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dir, err := OpenFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return Parse(filepath.Base(path), src, dir.External)
}

// Parse reads a model. file stands in messages; open serves references to weights files and may be nil where there are none.
func Parse(file string, src []byte, open External) (*ir.Model, error) {
	p := &parser{scanner: scanner{file: file, src: string(src), end: len(src)}, open: open}
	m := p.model()
	if p.err != nil {
		return nil, p.err
	}
	if err := m.Verify(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

func (p *parser) check(at int, err error) bool {
	if err != nil {
		p.fail(at, "%v", err)
	}
	return p.err == nil
}

func (p *parser) opsets() []ir.OpsetID {
	var out []ir.OpsetID
	p.expect('[')
	if p.accept(']') {
		return out
	}
	for {
		d := p.str()
		p.expect(':')
		out = append(out, ir.OpsetID{Domain: d, Version: p.int64()})
		if !p.accept(',') {
			break
		}
	}
	p.expect(']')
	return out
}

func (p *parser) pairs() ir.Meta {
	var out ir.Meta
	p.expect('[')
	if p.accept(']') {
		return out
	}
	for {
		k := p.str()
		p.expect(':')
		out = append(out, ir.KV{Key: k, Value: p.str()})
		if !p.accept(',') {
			break
		}
	}
	p.expect(']')
	return out
}

// header reads <key: value, ...>, letting field read each value.
func (p *parser) header(field func(key string) bool) {
	p.expect('<')
	for {
		key := p.needIdent("a field name")
		at := p.pos
		p.expect(':')
		if p.err == nil && !field(key) {
			p.fail(at, "unknown field %q", key)
		}
		if !p.accept(',') {
			break
		}
	}
	p.expect('>')
}

func (p *parser) model() *ir.Model {
	m := &ir.Model{}
	if p.peek() == '<' {
		m.Extra = p.annotations("extra").extra
		p.header(func(key string) bool {
			switch key {
			case "ir_version":
				m.IRVersion = p.int64()
			case "opset_import":
				m.Opsets = p.opsets()
			case "producer_name":
				m.Producer = p.str()
			case "producer_version":
				m.ProducerVersion = p.str()
			case "domain":
				m.Domain = p.str()
			case "model_version":
				m.Version = p.int64()
			case "doc_string":
				m.Doc = p.str()
			case "metadata_props":
				m.Meta = p.pairs()
			default:
				return false
			}
			return true
		})
	}
	a := p.annotations(itemKeys)
	m.Graph = ir.NewGraph(p.needName("the graph's name"))
	m.Graph.Doc, m.Graph.Meta, m.Graph.Extra = a.doc, a.meta, a.oneExtra()
	p.graph(m.Graph, false)
	for p.err == nil && !p.atEnd() {
		m.Functions = append(m.Functions, p.function())
	}
	p.token()
	return m
}

func (p *parser) function() *ir.Function {
	f := &ir.Function{}
	if p.peek() == '<' {
		p.header(func(key string) bool {
			switch key {
			case "opset_import":
				f.Opsets = p.opsets()
			case "domain":
				f.Domain = p.str()
			case "overload":
				f.Overload = p.str()
			case "doc_string":
				f.Doc = p.str()
			default:
				return false
			}
			return true
		})
	}
	a := p.annotations(itemKeys)
	f.Meta, f.Extra = a.meta, a.oneExtra()
	if a.doc != "" {
		f.Doc = a.doc
	}
	f.Name = p.needName("a function's name")
	f.Graph = ir.NewGraph(f.Name)
	if p.accept('<') {
		for {
			at := p.pos
			notes := p.annotations(attrKeys)
			name := p.needName("an attribute")
			if c := p.peek(); c == ':' || c == '=' {
				f.AttrDefaults = append(f.AttrDefaults, p.attr(f.Graph, name, notes, at))
			} else {
				f.Attrs = append(f.Attrs, name)
			}
			if !p.accept(',') {
				break
			}
		}
		p.expect('>')
	}
	p.graph(f.Graph, true)
	return f
}

// valueInfo is a typed name with its notes.
type valueInfo struct {
	at   int
	name string
	typ  ir.Type
	annotations
}

func (p *parser) valueInfo(allowed string) valueInfo {
	v := valueInfo{annotations: p.annotations(allowed)}
	v.at = p.pos
	if p.nextIsType() {
		v.typ = p.typ(0)
	}
	v.name = p.needName("a value's name")
	return v
}

// graph reads everything after a graph's name into g.
func (p *parser) graph(g *ir.Graph, function bool) {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.pos, "graphs are nested more than %d deep", maxDepth)
		return
	}
	defer func() { p.depth-- }()
	p.expect('(')
	if !p.accept(')') {
		for {
			i := p.valueInfo(valueKeys)
			v, err := g.AddInput(i.name, ir.Type{})
			if !p.check(i.at, err) {
				return
			}
			i.apply(v, i.typ)
			if !function && p.accept('=') {
				p.initializer(g, i)
			}
			if !p.accept(',') {
				break
			}
		}
		p.expect(')')
	}
	p.expect('=')
	p.expect('>')
	p.expect('(')
	var outs []valueInfo
	if !p.accept(')') {
		for {
			outs = append(outs, p.valueInfo(valueKeys))
			if !p.accept(',') {
				break
			}
		}
		p.expect(')')
	}
	infos := p.valueInfos(g)
	p.nodes(g)
	if p.err != nil {
		return
	}
	done := map[*ir.Value]bool{}
	for _, o := range outs {
		v := g.Value(o.name)
		if v == nil {
			p.fail(o.at, "output %q is made nowhere in graph %q", o.name, g.Name)
			return
		}
		if v.Producer() != nil && !done[v] {
			o.apply(v, o.typ)
		}
		done[v] = true
		p.check(o.at, g.AddOutput(v))
	}
	for _, i := range infos {
		if v := g.Value(i.name); v != nil && v.Producer() != nil && !done[v] {
			i.apply(v, i.typ)
		}
	}
}

// valueInfos reads the list of initializers, which it adds to g, and of other values, which it returns.
func (p *parser) valueInfos(g *ir.Graph) []valueInfo {
	var out []valueInfo
	if !p.accept('<') || p.accept('>') {
		return nil
	}
	for {
		i := p.valueInfo(initKeys)
		switch {
		case p.accept('='):
			p.initializer(g, i)
		case len(i.sparses) == 1 && p.err == nil:
			v, err := g.AddSparse(i.name, i.sparses[0])
			if p.check(i.at, err) {
				i.apply(v, v.Type)
			}
		case len(i.tensors)+len(i.sparses) > 0:
			p.fail(i.annotations.at, "notes about a tensor before %q, which has none", i.name)
		default:
			out = append(out, i)
		}
		if !p.accept(',') {
			break
		}
	}
	p.expect('>')
	return out
}

// initializer reads the data of i, whose name and type have been read.
func (p *parser) initializer(g *ir.Graph, i valueInfo) {
	t := p.data(i.typ, i.tensors["tensor"])
	if p.err != nil {
		return
	}
	if v := g.Value(i.name); v != nil && slices.Contains(g.Initializers(), v) {
		p.fail(i.at, "two initializers are called %q", i.name)
		return
	}
	v, err := g.AddInitializer(i.name, t)
	if p.check(i.at, err) && !v.IsInput() {
		i.apply(v, t.Type())
	}
}
