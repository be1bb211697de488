package ir

import (
	"fmt"
	"regexp"
	"slices"
)

// Anonymize gives every name in the model a meaningless one, in graph order: values and initializers t1, t2, ..., nodes n1, ..., graphs
// g1, ..., functions f1, ..., symbolic sizes d1, .... Producer, domain, documentation, metadata, denotations and fields kept as bytes are
// dropped. Operators, attributes, types and tensors stay, so the model computes the same. It returns the old name of each value, those
// of subgraphs and functions included, by its new one.
func (m *Model) Anonymize() (map[string]string, error) {
	a := &anonymizer{old: map[string]string{}, symbols: map[string]string{}, functions: map[[3]string]string{}}
	m.Producer, m.ProducerVersion, m.Domain, m.Doc, m.Version, m.Meta, m.Extra = "", "", "", "", 0, nil, nil
	for i, f := range m.Functions {
		a.functions[[3]string{f.Domain, f.Name, f.Overload}] = fmt.Sprint("f", i+1)
	}
	if err := a.graph(m.Graph); err != nil {
		return nil, err
	}
	for i, f := range m.Functions {
		f.Name, f.Overload, f.Doc, f.Meta, f.Extra = fmt.Sprint("f", i+1), "", "", nil, nil
		if err := a.graph(f.Graph); err != nil {
			return nil, err
		}
	}
	return a.old, nil
}

type anonymizer struct {
	values, nodes, graphs int
	old, symbols          map[string]string
	functions             map[[3]string]string // by domain, name and overload
}

func (a *anonymizer) graph(g *Graph) error {
	a.graphs++
	g.Name, g.Doc, g.Meta, g.Extra = fmt.Sprint("g", a.graphs), "", nil, nil
	all := g.everyValue()
	quant := map[*Value][]*Value{}
	for _, v := range all {
		for _, q := range v.Quant {
			quant[v] = append(quant[v], g.Resolve(q.Value))
		}
	}
	first := a.values + 1
	was := make([]string, len(all))
	for i, v := range all {
		was[i] = v.name
		if err := g.Rename(v, fmt.Sprintf("\x00%d", first+i)); err != nil {
			return err
		}
	}
	for i, v := range all {
		a.values++
		name := fmt.Sprint("t", a.values)
		a.old[name] = was[i]
		if err := g.Rename(v, name); err != nil {
			return err
		}
		a.value(v)
	}
	for n := g.first; n != nil; n = n.next {
		a.nodes++
		n.Name, n.Doc, n.Meta, n.Extra, n.Pass = fmt.Sprint("n", a.nodes), "", nil, nil, ""
		if f := a.functions[[3]string{n.Domain, n.Op, n.Overload}]; f != "" {
			n.Op, n.Overload = f, ""
		}
		for i := range n.attrs {
			if err := a.attr(&n.attrs[i]); err != nil {
				return err
			}
		}
	}
	for v, list := range quant {
		var kept Meta
		for i, p := range list {
			if p != nil {
				kept = append(kept, KV{v.Quant[i].Key, p.name})
			}
		}
		v.Quant = kept
	}
	g.serial = map[string]int{}
	return nil
}

// everyValue lists the values of the graph that have names: inputs, initializers, then what nodes compute.
func (g *Graph) everyValue() []*Value {
	var all []*Value
	seen := map[*Value]bool{}
	add := func(vs []*Value) {
		for _, v := range vs {
			if v.name != "" && !seen[v] {
				seen[v] = true
				all = append(all, v)
			}
		}
	}
	add(g.inputs)
	add(g.inits)
	for n := g.first; n != nil; n = n.next {
		add(n.outputs)
	}
	return all
}

func (a *anonymizer) value(v *Value) {
	v.Doc, v.Meta, v.Extra = "", nil, nil
	v.Type = a.typ(v.Type)
	v.init = bare(v.init)
	v.sparse = bareSparse(v.sparse)
}

func (a *anonymizer) attr(at *Attr) error {
	at.Doc, at.Extra, at.T, at.Sparse = "", nil, bare(at.T), bareSparse(at.Sparse)
	at.Tensors, at.Sparses, at.Types = slices.Clone(at.Tensors), slices.Clone(at.Sparses), slices.Clone(at.Types)
	for i, t := range at.Tensors {
		at.Tensors[i] = bare(t)
	}
	for i, s := range at.Sparses {
		at.Sparses[i] = bareSparse(s)
	}
	if at.Type != nil {
		t := a.typ(*at.Type)
		at.Type = &t
	}
	for i, t := range at.Types {
		if t != nil {
			c := a.typ(*t)
			at.Types[i] = &c
		}
	}
	for _, s := range at.subgraphs() {
		if err := a.graph(s); err != nil {
			return err
		}
	}
	return nil
}

// bare copies a tensor without what is not its contents.
func bare(t *Tensor) *Tensor {
	if t == nil {
		return nil
	}
	c := *t
	c.Name, c.Doc, c.Meta, c.Extra, c.External = "", "", nil, nil, nil
	return &c
}

func bareSparse(s *Sparse) *Sparse {
	if s == nil {
		return nil
	}
	return &Sparse{bare(s.Values), bare(s.Indices), s.Dims}
}

func (a *anonymizer) typ(t Type) Type {
	t = t.Clone()
	t.Denote, t.Extra = "", nil
	for i, d := range t.Shape {
		t.Shape[i].Denote, t.Shape[i].Symbol = "", a.symbol(d.Symbol)
	}
	if t.Inner != nil {
		in := a.typ(*t.Inner)
		t.Inner = &in
	}
	return t
}

var identifier = regexp.MustCompile(`[\pL_][\pL\pN_.]*\(?`)

// symbol renames the identifiers of a symbolic size; names of functions, which stand before a parenthesis, stay.
func (a *anonymizer) symbol(s string) string {
	return identifier.ReplaceAllStringFunc(s, func(id string) string {
		if id[len(id)-1] == '(' {
			return id
		}
		if a.symbols[id] == "" {
			a.symbols[id] = fmt.Sprint("d", len(a.symbols)+1)
		}
		return a.symbols[id]
	})
}
