package text

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"mqatc/onnx/ir"
)

func (p *printer) nodes(g *ir.Graph) {
	p.f("\n")
	p.indent()
	p.f("{\n")
	p.depth++
	for n := g.First(); n != nil; n = n.Next() {
		p.node(n)
	}
	p.depth--
	p.indent()
	p.f("}")
}

// plainOp is the operator as ONNX text writes it; ok is false when a "#@op" note has to say it.
func plainOp(n *ir.Node) (s string, ok bool) {
	parts := []string{n.Op}
	if n.Domain != "" {
		parts = append(strings.Split(n.Domain, "."), n.Op)
	}
	for _, w := range parts {
		if w == "" || !isAlpha(w[0]) || strings.ContainsFunc(w, func(r rune) bool { return r > 127 || !isAlpha(byte(r)) && !isDigit(byte(r)) }) {
			return "Op", false
		}
	}
	s = strings.Join(parts, ".")
	if n.Overload == "" {
		return s, true
	}
	return s + ":" + n.Overload, isIdent(n.Overload)
}

func (p *printer) node(n *ir.Node) {
	if n.Pass != "" {
		p.note("pass", n.Pass)
	}
	p.common(n.Doc, n.Meta, n.Extra)
	op, ok := plainOp(n)
	if !ok {
		p.note("op", n.Domain, n.Op, n.Overload)
		op = "Op"
	}
	p.indent()
	if n.Name != "" {
		p.f("[%s] ", quoteName(n.Name))
	}
	for i, o := range n.Outputs() {
		if i > 0 {
			p.f(", ")
		}
		p.f("%s", quoteName(o.Name()))
	}
	p.f(" = %s", op)
	p.attrs(n.Attrs())
	p.f(" (")
	for i, v := range n.Inputs() {
		if i > 0 {
			p.f(", ")
		}
		if v == nil {
			p.f(`""`)
		} else {
			p.f("%s", quoteName(v.Name()))
		}
	}
	p.f(")\n")
}

// attrs writes short attributes on the node's line and others one to a line.
func (p *printer) attrs(list []ir.Attr) {
	if len(list) == 0 {
		return
	}
	simple := true
	for i := range list {
		simple = simple && p.simple(&list[i])
	}
	if !simple {
		p.f(" <\n")
		p.depth += 2
		p.attrLines(list)
		p.depth--
		p.indent()
		p.f(">")
		p.depth--
		return
	}
	p.f(" <")
	for i := range list {
		if i > 0 {
			p.f(", ")
		}
		p.attr(&list[i])
	}
	p.f(">")
}

func (p *printer) attrLines(list []ir.Attr) {
	for i := range list {
		p.attrNotes(&list[i])
		p.indent()
		p.attr(&list[i])
		if i+1 < len(list) {
			p.f(",")
		}
		p.f("\n")
	}
}

// simple reports whether an attribute needs no note and no line of its own.
func (p *printer) simple(a *ir.Attr) bool {
	switch a.Kind {
	case ir.AttrGraph, ir.AttrGraphs, ir.AttrTensors, ir.AttrSparse, ir.AttrSparses, ir.AttrTypes:
		if a.Ref == "" {
			return false
		}
	}
	q := &printer{weights: p.weights}
	q.attrNotes(a)
	if q.err != nil {
		p.err = q.err
	}
	return q.b.Len() == 0
}

var kindNames = [...]string{
	ir.AttrFloat: "float", ir.AttrInt: "int", ir.AttrString: "string", ir.AttrTensor: "tensor", ir.AttrGraph: "graph",
	ir.AttrFloats: "floats", ir.AttrInts: "ints", ir.AttrStrings: "strings", ir.AttrTensors: "tensors", ir.AttrGraphs: "graphs",
	ir.AttrSparse: "sparse_tensor", ir.AttrSparses: "sparse_tensors", ir.AttrType: "type_proto", ir.AttrTypes: "type_protos",
}

func kindName(k ir.AttrKind) string {
	if k > 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

// needsKind reports whether the value alone does not tell the attribute's type.
func needsKind(a *ir.Attr) bool {
	switch a.Kind {
	case ir.AttrFloats:
		return len(a.Floats) == 0
	case ir.AttrInts:
		return len(a.Ints) == 0
	case ir.AttrStrings:
		return len(a.Strings) == 0
	case ir.AttrTensors:
		return len(a.Tensors) == 0
	case ir.AttrGraphs:
		return len(a.Graphs) == 0
	case ir.AttrTypes:
		return len(a.Types) == 0
	}
	return false
}

func isAttrName(s string) bool {
	return s != "" && isAlpha(s[0]) && !strings.ContainsFunc(s, func(r rune) bool { return r > 127 || !isAlpha(byte(r)) && !isDigit(byte(r)) })
}

func (p *printer) attrNotes(a *ir.Attr) {
	p.common(a.Doc, nil, a.Extra)
	if !isAttrName(a.Name) {
		p.note("name", a.Name)
	}
	if a.Ref != "" {
		if a.Kind != ir.AttrUndefined && (kindName(a.Kind) == "" || a.Kind == ir.AttrTypes || a.Kind == ir.AttrSparses) {
			p.note("kind", plain(strconv.Itoa(int(a.Kind))))
		}
		return
	}
	switch a.Kind {
	case ir.AttrFloat:
		if odd32(a.F) {
			p.note("bits", plain(bits32(a.F)))
		}
	case ir.AttrFloats:
		for _, f := range a.Floats {
			if odd32(f) {
				var all []string
				for _, f := range a.Floats {
					all = append(all, bits32(f))
				}
				p.note("bits", plain(strings.Join(all, " ")))
				break
			}
		}
	case ir.AttrTensor:
		if a.T != nil {
			p.tensorNotes("tensor.", a.T)
		}
	case ir.AttrSparse:
		if a.Sparse != nil {
			p.sparseNotes(a.Sparse)
		}
	case ir.AttrSparses:
		for _, s := range a.Sparses {
			p.sparseNotes(s)
		}
		p.note("kind", plain(strconv.Itoa(int(a.Kind))))
	case ir.AttrType:
		if a.Type != nil && !plainType(*a.Type) {
			p.note("type", plain(typeString(*a.Type, true)))
		}
	case ir.AttrTypes:
		for _, t := range a.Types {
			p.note("type", plain(typeString(*t, true)))
		}
		p.note("kind", plain(strconv.Itoa(int(a.Kind))))
	case ir.AttrGraph, ir.AttrInt, ir.AttrString, ir.AttrInts, ir.AttrStrings, ir.AttrTensors, ir.AttrGraphs:
	default:
		p.note("kind", plain(strconv.Itoa(int(a.Kind))))
	}
}

func odd32(f float32) bool    { return f != f && math.Float32bits(f) != 0x7fc00000 }
func bits32(f float32) string { return fmt.Sprintf("%08x", math.Float32bits(f)) }

// attr writes name = value. What ONNX text cannot hold is written as 0; a note before it has the value.
func (p *printer) attr(a *ir.Attr) {
	name := a.Name
	if !isAttrName(name) {
		name = "attr"
	}
	p.f("%s", name)
	if kind := kindName(a.Kind); kind != "" && (a.Ref != "" || needsKind(a)) && a.Kind != ir.AttrTypes && a.Kind != ir.AttrSparses {
		p.f(": %s", kind)
	}
	p.f(" = ")
	if a.Ref != "" {
		p.f("@%s", quoteName(a.Ref))
		return
	}
	switch a.Kind {
	case ir.AttrFloat:
		p.f("%s", float32Lit(a.F))
	case ir.AttrInt:
		p.f("%d", a.I)
	case ir.AttrString:
		p.f("%s", quote(string(a.S)))
	case ir.AttrFloats:
		list(p, a.Floats, func(f float32) { p.f("%s", float32Lit(f)) })
	case ir.AttrInts:
		list(p, a.Ints, func(i int64) { p.f("%d", i) })
	case ir.AttrStrings:
		list(p, a.Strings, func(s []byte) { p.f("%s", quote(string(s))) })
	case ir.AttrTensor:
		p.attrTensor(a, a.T)
	case ir.AttrTensors:
		p.items(len(a.Tensors), func(i int) {
			if a.Tensors[i] != nil {
				p.tensorNotes("tensor.", a.Tensors[i])
			}
		}, func(i int) { p.attrTensor(a, a.Tensors[i]) })
	case ir.AttrGraph:
		p.attrGraph(a, a.G, true)
	case ir.AttrGraphs:
		p.items(len(a.Graphs), func(i int) { p.graphNotes(a.Graphs[i]) }, func(i int) { p.attrGraph(a, a.Graphs[i], false) })
	case ir.AttrType:
		if a.Type != nil && plainType(*a.Type) {
			p.f("%s", typeString(*a.Type, false))
			return
		}
		p.f("0")
	default:
		p.f("0")
	}
}

func list[T any](p *printer, vs []T, one func(T)) {
	p.f("[")
	for i, v := range vs {
		if i > 0 {
			p.f(", ")
		}
		one(v)
	}
	p.f("]")
}

// items writes a list with one item to a line, each after its notes.
func (p *printer) items(n int, notes, one func(int)) {
	if n == 0 {
		p.f("[]")
		return
	}
	p.f("[\n")
	p.depth++
	for i := range n {
		notes(i)
		p.indent()
		one(i)
		if i+1 < n {
			p.f(",")
		}
		p.f("\n")
	}
	p.depth--
	p.indent()
	p.f("]")
}

func (p *printer) attrTensor(a *ir.Attr, t *ir.Tensor) {
	if t == nil {
		p.err = fmt.Errorf("attribute %q has no tensor", a.Name)
		return
	}
	p.f("%s ", typeString(t.Type(), false))
	if p.reference(t) {
		p.f("= ")
	}
	p.data(t)
}

func plainGraphName(s string) bool {
	switch strings.ToLower(s) {
	case "inf", "infinity", "nan":
		return false
	}
	return isIdent(s)
}

func (p *printer) graphNotes(g *ir.Graph) {
	if g == nil {
		p.err = fmt.Errorf("a graph attribute has no graph")
		return
	}
	p.common(g.Doc, g.Meta, g.Extra)
	if !plainGraphName(g.Name) {
		p.note("name", g.Name)
	}
}

// attrGraph writes a subgraph; alone puts its notes on lines of their own after "=".
func (p *printer) attrGraph(a *ir.Attr, g *ir.Graph, alone bool) {
	if g == nil {
		p.err = fmt.Errorf("attribute %q has no graph", a.Name)
		return
	}
	if alone {
		mark := p.b.Len()
		p.f("\n")
		start := p.b.Len()
		p.graphNotes(g)
		if p.b.Len() == start {
			p.b.Truncate(mark)
		} else {
			p.indent()
		}
	}
	name := g.Name
	if !plainGraphName(name) {
		name = "g"
	}
	p.f("%s ", name)
	p.graph(g)
}
