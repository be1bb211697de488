package ir

import "fmt"

// Extract copies some nodes of g, in graph order, into a graph of their own. What they or their subgraphs read comes along where it is
// an initializer; other values become inputs, graph inputs first, then outputs of nodes left behind in graph order. Outputs are values
// that one of the nodes computes, or inputs or initializers of g. Names, types and metadata stay, tensors are shared.
func (g *Graph) Extract(nodes []*Node, outputs []*Value) (*Graph, error) {
	in := map[*Node]bool{}
	read := map[*Value]bool{}
	var note func(n *Node)
	note = func(n *Node) {
		for _, v := range n.inputs {
			if v != nil && v.graph == g {
				read[v] = true
			}
		}
		for _, s := range n.Subgraphs() {
			for x := s.first; x != nil; x = x.next {
				note(x)
			}
		}
	}
	for _, n := range nodes {
		if n == nil || n.graph != g {
			return nil, fmt.Errorf("graph %q: a node to extract is not in this graph", g.Name)
		}
		in[n] = true
		note(n)
	}
	for _, v := range outputs {
		if v == nil || v.graph != g {
			return nil, fmt.Errorf("graph %q: an output to extract is not a value of this graph", g.Name)
		}
		read[v] = true
	}
	g.annotations(in, read)
	c := NewGraph(g.Name)
	c.Doc, c.Meta, c.Extra = g.Doc, g.Meta.Clone(), g.Extra
	vals := map[*Value]*Value{}
	if err := c.takeLeaves(g, read, vals); err != nil {
		return nil, err
	}
	for n := g.first; n != nil; n = n.next {
		for _, o := range n.outputs {
			if in[n] || !read[o] {
				continue
			}
			if err := c.takeInput(o, vals); err != nil {
				return nil, err
			}
		}
	}
	for n := g.first; n != nil; n = n.next {
		if !in[n] {
			continue
		}
		if _, err := c.copyNode(n, vals, sameName); err != nil {
			return nil, err
		}
	}
	for _, o := range outputs {
		if err := c.AddOutput(vals[o]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// annotations adds the initializers that hold the quantization parameters of what is read or computed.
func (g *Graph) annotations(in map[*Node]bool, read map[*Value]bool) {
	add := func(v *Value) {
		for _, q := range v.Quant {
			if p := g.values[q.Value]; p != nil && p.IsInitializer() {
				read[p] = true
			}
		}
	}
	for _, v := range g.inputs {
		if read[v] {
			add(v)
		}
	}
	for n := g.first; n != nil; n = n.next {
		for _, o := range n.outputs {
			if in[n] || read[o] {
				add(o)
			}
		}
	}
}

// takeLeaves copies those initializers and inputs of g that are read.
func (c *Graph) takeLeaves(g *Graph, read map[*Value]bool, vals map[*Value]*Value) error {
	for _, v := range g.inits {
		if !read[v] {
			continue
		}
		var w *Value
		var err error
		if v.sparse != nil {
			w, err = c.AddSparse(v.name, v.sparse)
		} else {
			w, err = c.AddInitializer(v.name, v.init)
		}
		if err != nil {
			return err
		}
		w.Type = v.Type.Clone()
		copyInfo(w, v)
		vals[v] = w
	}
	for _, v := range g.inputs {
		if !read[v] {
			continue
		}
		if err := c.takeInput(v, vals); err != nil {
			return err
		}
	}
	return nil
}

func (c *Graph) takeInput(v *Value, vals map[*Value]*Value) error {
	w, err := c.AddInput(v.name, v.Type.Clone())
	if err != nil {
		return err
	}
	copyInfo(w, v)
	vals[v] = w
	return nil
}

// Extract makes a model of some nodes of m's graph: its operator sets, functions and metadata with Graph.Extract. Fields that the
// package keeps as bytes (training information, device configurations) speak of the whole graph and stay behind.
func (m *Model) Extract(nodes []*Node, outputs []*Value) (*Model, error) {
	c, err := m.without()
	if err != nil {
		return nil, err
	}
	c.Extra = nil
	if c.Graph, err = m.Graph.Extract(nodes, outputs); err != nil {
		return nil, err
	}
	return c, nil
}
