package ir

import "fmt"

// Clone copies the graph deeply and returns the map from old to new values. Tensors are shared.
func (g *Graph) Clone() (*Graph, map[*Value]*Value, error) {
	c := NewGraph(g.Name)
	vals := map[*Value]*Value{}
	if err := c.fill(g, vals, sameName); err != nil {
		return nil, nil, err
	}
	for _, o := range g.outputs {
		if err := c.AddOutput(vals[o]); err != nil {
			return nil, nil, err
		}
	}
	c.Doc, c.Meta, c.Extra = g.Doc, g.Meta.Clone(), g.Extra
	return c, vals, nil
}

// Inline copies the nodes and initializers of src to the end of g. Inputs of src that stand in bind become those values of g;
// other inputs become inputs of g under the same name. Names that are taken, also those inside subgraphs, get a fresh one. It returns the map from values of
// src to values of g; the outputs of src are not made outputs of g.
func (g *Graph) Inline(src *Graph, bind map[*Value]*Value, pass string) (map[*Value]*Value, error) {
	vals := map[*Value]*Value{}
	for k, v := range bind {
		if !g.sees(v) {
			return nil, fmt.Errorf("graph %q: value %q to bind is not in scope", g.Name, v.name)
		}
		vals[k] = v
	}
	before := g.last
	if err := g.fill(src, vals, (*Graph).FreshName); err != nil {
		return nil, err
	}
	n := g.first
	if before != nil {
		n = before.next
	}
	for ; n != nil && pass != ""; n = n.next {
		n.Pass = pass
	}
	return vals, nil
}

// fill appends copies of the values and nodes of src; vals holds what is bound already and receives the rest.
func (c *Graph) fill(src *Graph, vals map[*Value]*Value, rename func(*Graph, string) string) error {
	for _, v := range src.inputs {
		if vals[v] != nil || v.IsInitializer() {
			continue
		}
		w, err := c.AddInput(rename(c, v.name), v.Type.Clone())
		if err != nil {
			return err
		}
		copyInfo(w, v)
		vals[v] = w
	}
	for _, v := range src.inits {
		if vals[v] != nil {
			continue
		}
		var w *Value
		var err error
		if v.sparse != nil {
			w, err = c.AddSparse(rename(c, v.name), v.sparse)
		} else {
			w, err = c.AddInitializer(rename(c, v.name), v.init)
		}
		if err != nil {
			return err
		}
		w.Type = v.Type.Clone()
		copyInfo(w, v)
		vals[v] = w
	}
	for _, v := range src.inputs {
		if v.IsInitializer() && vals[v] != nil && vals[v].graph == c && !vals[v].input {
			vals[v].input = true
			c.inputs = append(c.inputs, vals[v])
		}
	}
	if c.count == 0 && len(c.inputs) == len(src.inputs) {
		for i, v := range src.inputs {
			if vals[v] != nil && vals[v].graph == c {
				c.inputs[i] = vals[v]
			}
		}
	}
	for n := src.first; n != nil; n = n.next {
		if _, err := c.copyNode(n, vals, rename); err != nil {
			return err
		}
	}
	return nil
}

func copyInfo(w, v *Value) {
	w.Doc, w.Meta, w.Extra, w.Quant = v.Doc, v.Meta.Clone(), v.Extra, v.Quant.Clone()
}

func (c *Graph) copyNode(n *Node, vals map[*Value]*Value, rename func(*Graph, string) string) (*Node, error) {
	spec := NodeSpec{Op: n.Op, Domain: n.Domain, Name: n.Name, Pass: n.Pass, Meta: n.Meta}
	for _, v := range n.inputs {
		w := v
		if v != nil && vals[v] != nil {
			w = vals[v]
		}
		spec.Inputs = append(spec.Inputs, w)
	}
	for _, o := range n.outputs {
		if o.name == "" {
			spec.Outputs = append(spec.Outputs, "")
			continue
		}
		spec.Outputs = append(spec.Outputs, rename(c, o.name))
	}
	m, err := c.Append(spec)
	if err != nil {
		return nil, err
	}
	m.Overload, m.Doc, m.Extra = n.Overload, n.Doc, n.Extra
	for i, o := range n.outputs {
		m.outputs[i].Type = o.Type.Clone()
		copyInfo(m.outputs[i], o)
		vals[o] = m.outputs[i]
	}
	for _, a := range n.attrs {
		b := a
		if a.G != nil {
			if b.G, err = a.G.cloneInto(m, vals, rename); err != nil {
				return nil, err
			}
		}
		b.Graphs = nil
		for _, s := range a.Graphs {
			h, err := s.cloneInto(m, vals, rename)
			if err != nil {
				return nil, err
			}
			b.Graphs = append(b.Graphs, h)
		}
		m.attrs = append(m.attrs, b)
	}
	return m, nil
}

// cloneInto copies a subgraph for node m, whose graph sees the values that vals maps outer ones to.
func (g *Graph) cloneInto(m *Node, vals map[*Value]*Value, rename func(*Graph, string) string) (*Graph, error) {
	c := NewSubgraph(g.Name, m.graph)
	c.parent = m
	c.Doc, c.Meta, c.Extra = g.Doc, g.Meta.Clone(), g.Extra
	if err := c.fill(g, vals, rename); err != nil {
		return nil, err
	}
	for _, o := range g.outputs {
		if err := c.AddOutput(vals[o]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func sameName(_ *Graph, name string) string { return name }
