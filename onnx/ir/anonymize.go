package ir

import "fmt"

// Anonymize replaces the name of every value, subgraphs included, by t1, t2, ..., empties those of nodes, and drops metadata and doc
// strings of model, graphs, nodes and values. Function bodies and names of symbolic sizes stay. It returns the names that the values had.
func (m *Model) Anonymize() map[*Value]string {
	m.Doc, m.Meta = "", nil
	a := anonymizer{old: map[*Value]string{}}
	a.graph(m.Graph)
	return a.old
}

type anonymizer struct {
	old    map[*Value]string
	serial int
}

func (a *anonymizer) graph(g *Graph) {
	g.Name, g.Doc, g.Meta = "graph", "", nil
	byName := g.values
	g.values, g.serial = map[string]*Value{}, map[string]int{}
	var all []*Value
	take := func(vs []*Value) {
		for _, v := range vs {
			if _, done := a.old[v]; done || v.name == "" {
				continue
			}
			a.serial++
			a.old[v] = v.name
			v.name = fmt.Sprint("t", a.serial)
			v.Doc, v.Meta = "", nil
			g.values[v.name] = v
			all = append(all, v)
		}
	}
	take(g.inputs)
	take(g.inits)
	for n := g.first; n != nil; n = n.next {
		n.Name, n.Doc, n.Meta = "", "", nil
		take(n.outputs)
		for _, s := range n.Subgraphs() {
			a.graph(s)
		}
	}
	for _, v := range all {
		for i, e := range v.Quant {
			if x := byName[e.Value]; x != nil {
				v.Quant[i].Value = x.name
			}
		}
	}
}
