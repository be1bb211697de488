package text

import (
	"math"
	"strconv"

	"mqatc/onnx/ir"
)

func (p *parser) nodes(g *ir.Graph) {
	p.expect('{')
	for p.err == nil && !p.accept('}') {
		if p.atEnd() {
			p.fail(p.pos, "the body of graph %q does not end", g.Name)
			return
		}
		p.node(g)
	}
}

// names reads a list of quotable identifiers; "" stands for an absent one.
func (p *parser) names() (out []string, at []int) {
	for {
		p.skip()
		pos := p.pos
		n, ok := p.name()
		if !ok {
			if p.peek() != ',' {
				return out, at
			}
			n = ""
		}
		out, at = append(out, n), append(at, pos)
		if !p.accept(',') {
			return out, at
		}
	}
}

func (p *parser) node(g *ir.Graph) {
	a := p.annotations(nodeKeys)
	at := p.pos
	spec := ir.NodeSpec{Pass: a.pass, Meta: a.meta}
	if p.accept('[') {
		spec.Name, _ = p.name()
		p.expect(']')
	}
	spec.Outputs, _ = p.names()
	p.expect('=')
	word := p.needIdent("an operator")
	for p.accept('.') {
		if spec.Domain != "" {
			spec.Domain += "."
		}
		spec.Domain += word
		word = p.needIdent("an operator")
	}
	spec.Op = word
	overload := ""
	if p.accept(':') {
		overload = p.needIdent("an overload")
	}
	if a.op != nil {
		spec.Domain, spec.Op, overload = a.op[0], a.op[1], a.op[2]
	}
	had := p.peek() == '<'
	if had {
		spec.Attrs = p.attrs(g)
	}
	p.expect('(')
	names, places := p.names()
	p.expect(')')
	if !had && p.peek() == '<' {
		spec.Attrs = p.attrs(g)
	}
	for i, name := range names {
		if name == "" {
			spec.Inputs = append(spec.Inputs, nil)
			continue
		}
		v := g.Resolve(name)
		if v == nil {
			p.fail(places[i], "%s reads %q, which nothing before it makes", spec.Op, name)
			return
		}
		spec.Inputs = append(spec.Inputs, v)
	}
	if p.err != nil {
		return
	}
	n, err := g.Append(spec)
	if !p.check(at, err) {
		return
	}
	n.Overload, n.Doc, n.Extra = overload, a.doc, a.oneExtra()
}

func (p *parser) attrs(g *ir.Graph) []ir.Attr {
	var out []ir.Attr
	p.expect('<')
	seen := map[string]bool{}
	for {
		at := p.pos
		notes := p.annotations(attrKeys)
		a := p.attr(g, p.needIdent("an attribute's name"), notes, at)
		if seen[a.Name] {
			p.fail(at, "two attributes are called %q", a.Name)
		}
		seen[a.Name] = true
		out = append(out, a)
		if !p.accept(',') {
			break
		}
	}
	p.expect('>')
	return out
}

// attr reads an attribute after its name.
func (p *parser) attr(g *ir.Graph, name string, n annotations, at int) ir.Attr {
	a := ir.Attr{Name: name, Doc: n.doc, Extra: n.oneExtra()}
	if n.name != nil {
		a.Name = *n.name
	}
	if p.accept(':') {
		at := p.pos
		word := p.needIdent("an attribute type")
		for k := range kindNames {
			if k > 0 && kindNames[k] == word {
				a.Kind = ir.AttrKind(k)
			}
		}
		if a.Kind == ir.AttrUndefined && p.err == nil {
			p.fail(at, "%q is not an attribute type", word)
		}
	}
	want := a.Kind
	p.expect('=')
	if p.accept('@') {
		a.Ref = p.needName("an attribute to refer to")
	} else if p.peek() == '[' {
		p.list(g, &a, &n, want)
	} else {
		p.single(g, &a, &n, want)
	}
	if p.err != nil {
		return a
	}
	if n.kind != nil {
		a = ir.Attr{Name: a.Name, Kind: *n.kind, Doc: a.Doc, Extra: a.Extra, Ref: a.Ref}
		for i := range n.types {
			a.Types = append(a.Types, &n.types[i])
		}
		a.Sparses = n.sparses
		return a
	}
	switch {
	case len(n.sparses) == 1:
		a.Kind, a.Sparse = ir.AttrSparse, n.sparses[0]
	case len(n.types) == 1:
		a.Kind, a.Type = ir.AttrType, &n.types[0]
	case len(n.types)+len(n.sparses) > 0:
		p.fail(at, "attribute %q has several types or sparse tensors and no #@kind", a.Name)
	}
	p.bits(&a, n.bits, at)
	return a
}

func (p *parser) bits(a *ir.Attr, bits []uint32, at int) {
	switch {
	case bits == nil:
	case a.Kind == ir.AttrFloat && len(bits) == 1:
		a.F = math.Float32frombits(bits[0])
	case a.Kind == ir.AttrFloats && len(bits) == len(a.Floats):
		for i, b := range bits {
			a.Floats[i] = math.Float32frombits(b)
		}
	default:
		p.fail(at, "#@bits does not fit attribute %q", a.Name)
	}
}

// single reads one value into a.
func (p *parser) single(g *ir.Graph, a *ir.Attr, n *annotations, want ir.AttrKind) {
	notes := p.annotations(graphKeys)
	at := p.pos
	c := p.peek()
	switch {
	case notes.any || isAlpha(c) && !p.nextIsType() && !p.specialFloat():
		a.Kind, a.G = ir.AttrGraph, p.subgraph(g, notes)
	case isAlpha(c) && p.nextIsType():
		t := p.typ(0)
		name, ok := "", false
		if c := p.peek(); c == '"' || isAlpha(c) {
			name, ok = p.name()
		}
		if !ok && p.peek() != '{' && p.peek() != '=' {
			a.Kind, a.Type = ir.AttrType, &t
			break
		}
		p.accept('=')
		a.Kind, a.T = ir.AttrTensor, p.data(t, n.tensors["tensor"])
		if a.T != nil && a.T.Name == "" {
			a.T.Name = name
		}
		delete(n.tensors, "tensor")
	case c == '"':
		a.Kind, a.S = ir.AttrString, []byte(p.str())
	default:
		lit, isInt := p.literal()
		if isInt && want != ir.AttrFloat {
			v, err := strconv.ParseInt(lit, 10, 64)
			p.check(at, err)
			a.Kind, a.I = ir.AttrInt, v
		} else {
			v, err := strconv.ParseFloat(lit, 32)
			p.check(at, err)
			a.Kind, a.F = ir.AttrFloat, canonNaN(float32(v))
		}
	}
	if want != ir.AttrUndefined && a.Kind != want && p.err == nil && n.kind == nil {
		p.fail(at, "attribute %q is declared %s and given %s", a.Name, kindNames[want], kindNames[a.Kind])
	}
	if len(n.tensors) > 0 {
		p.fail(at, "notes about a tensor before attribute %q, which holds none", a.Name)
	}
}

func canonNaN(f float32) float32 {
	if f != f {
		return math.Float32frombits(0x7fc00000)
	}
	return f
}

func (p *parser) specialFloat() bool {
	return !plainGraphName(p.peekIdent()) && !isTypeWord(p.peekIdent())
}

func (p *parser) subgraph(g *ir.Graph, n annotations) *ir.Graph {
	name := p.needName("a graph's name")
	if n.name != nil {
		name = *n.name
	}
	s := ir.NewSubgraph(name, g)
	s.Doc, s.Meta, s.Extra = n.doc, n.meta, n.oneExtra()
	p.graph(s, false)
	return s
}

// list reads [v, ...] into a; all values are of one kind, given by want where the list is empty.
func (p *parser) list(g *ir.Graph, a *ir.Attr, n *annotations, want ir.AttrKind) {
	at := p.pos
	p.expect('[')
	single := ir.AttrUndefined
	if want >= ir.AttrFloats && want <= ir.AttrGraphs {
		single = want - ir.AttrFloats + ir.AttrFloat
	}
	count := 0
	for !p.accept(']') {
		if count > 0 {
			p.expect(',')
		}
		if p.err != nil {
			return
		}
		count++
		p.skip()
		item := ir.Attr{Name: a.Name}
		notes := annotations{}
		if p.elementIsTensor() {
			notes = p.annotations(tensorKeys)
		}
		p.single(g, &item, &notes, single)
		if single == ir.AttrUndefined {
			single = item.Kind
		} else if single == ir.AttrFloat && item.Kind == ir.AttrInt {
			item.Kind, item.F = ir.AttrFloat, float32(item.I)
		}
		if item.Kind != single && p.err == nil {
			p.fail(at, "attribute %q mixes %s and %s", a.Name, kindNames[single], kindNames[item.Kind])
			return
		}
		switch item.Kind {
		case ir.AttrFloat:
			a.Floats = append(a.Floats, item.F)
		case ir.AttrInt:
			a.Ints = append(a.Ints, item.I)
		case ir.AttrString:
			a.Strings = append(a.Strings, item.S)
		case ir.AttrTensor:
			a.Tensors = append(a.Tensors, item.T)
		case ir.AttrGraph:
			a.Graphs = append(a.Graphs, item.G)
		case ir.AttrType:
			a.Types = append(a.Types, item.Type)
		}
	}
	switch {
	case count == 0 && want == ir.AttrUndefined && n.kind == nil:
		p.fail(at, "the empty list %q needs a type, as in %s: ints = []", a.Name, a.Name)
	case count == 0:
		a.Kind = want
	case single == ir.AttrType:
		a.Kind = ir.AttrTypes
	case single != ir.AttrUndefined:
		a.Kind = single + ir.AttrFloats - ir.AttrFloat
	}
	if count == 0 && want != ir.AttrUndefined && single == ir.AttrUndefined && want != ir.AttrTypes && want != ir.AttrSparses {
		p.fail(at, "attribute %q is declared %s and given a list", a.Name, kindNames[want])
	}
}

// elementIsTensor reports whether the next list element is a tensor, to tell whose notes stand before it.
func (p *parser) elementIsTensor() bool { return p.nextIsType() }
