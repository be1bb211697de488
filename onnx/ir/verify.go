package ir

import "fmt"

// Verify checks the graph's invariants: unique names, both ends of every edge, topological order, outputs that exist.
func (g *Graph) Verify() error {
	at := map[*Node]int{}
	i := 0
	for n := g.first; n != nil; n = n.next {
		at[n] = i
		i++
		if n.graph != g {
			return fmt.Errorf("graph %q: node %v belongs to another graph", g.Name, n)
		}
	}
	if i != g.count {
		return fmt.Errorf("graph %q: %d nodes in the list, %d counted", g.Name, i, g.count)
	}
	outs := map[*Value]int{}
	for _, o := range g.outputs {
		if o.graph != g || g.values[o.name] != o {
			return fmt.Errorf("graph %q: output %q is not a value of it", g.Name, o.name)
		}
		outs[o]++
	}
	for name, v := range g.values {
		if v.name != name || v.graph != g {
			return fmt.Errorf("graph %q: value %q is filed as %q", g.Name, v.name, name)
		}
		if v.producer == nil && !v.input && !v.IsInitializer() {
			return fmt.Errorf("graph %q: value %q has no producer", g.Name, name)
		}
		if v.producer != nil {
			if _, ok := at[v.producer]; !ok {
				return fmt.Errorf("graph %q: the producer of %q is not in it", g.Name, name)
			}
		}
		if v.outputs != outs[v] {
			return fmt.Errorf("graph %q: value %q counts %d outputs, there are %d", g.Name, name, v.outputs, outs[v])
		}
		for _, u := range v.uses {
			if u.Index >= len(u.Node.inputs) || u.Node.inputs[u.Index] != v {
				return fmt.Errorf("graph %q: value %q lists a use by %v that does not read it", g.Name, name, u.Node)
			}
		}
	}
	for n := g.first; n != nil; n = n.next {
		if err := g.verifyNode(n, at); err != nil {
			return err
		}
	}
	return nil
}

func (g *Graph) verifyNode(n *Node, at map[*Node]int) error {
	for i, v := range n.inputs {
		if v == nil {
			continue
		}
		if !g.sees(v) || v.graph.values[v.name] != v {
			return fmt.Errorf("graph %q: node %v: input %d (%q) is not in scope", g.Name, n, i, v.name)
		}
		if v.graph == g && v.producer != nil && at[v.producer] >= at[n] {
			return fmt.Errorf("graph %q: node %v reads %q before it is made", g.Name, n, v.name)
		}
		found := false
		for _, u := range v.uses {
			found = found || (u.Node == n && u.Index == i)
		}
		if !found {
			return fmt.Errorf("graph %q: node %v: value %q does not know this use", g.Name, n, v.name)
		}
	}
	for i, o := range n.outputs {
		if o.producer != n || o.index != i || (o.name != "" && g.values[o.name] != o) {
			return fmt.Errorf("graph %q: node %v: output %d (%q) is not its own", g.Name, n, i, o.name)
		}
	}
	for _, s := range n.Subgraphs() {
		if s.parent != n {
			return fmt.Errorf("graph %q: node %v: subgraph %q has another parent", g.Name, n, s.Name)
		}
		if err := s.Verify(); err != nil {
			return err
		}
	}
	return nil
}

// Sort brings the nodes into topological order, keeping the present order where it is free; an error names a cycle.
func (g *Graph) Sort() error {
	pending := map[*Node]int{}
	readers := map[*Node][]*Node{}
	nodes := g.Nodes()
	for _, n := range nodes {
		deps := map[*Node]bool{}
		g.collectDeps(n, deps)
		delete(deps, nil)
		pending[n] = len(deps)
		if deps[n] {
			return fmt.Errorf("graph %q: node %v reads its own output", g.Name, n)
		}
		for d := range deps {
			readers[d] = append(readers[d], n)
		}
	}
	pos := map[*Node]int{}
	for i, n := range nodes {
		pos[n] = i
	}
	ready := &nodeHeap{pos: pos}
	for _, n := range nodes {
		if pending[n] == 0 {
			ready.push(n)
		}
	}
	var order []*Node
	for len(ready.h) > 0 {
		n := ready.pop()
		order = append(order, n)
		for _, r := range readers[n] {
			if pending[r]--; pending[r] == 0 {
				ready.push(r)
			}
		}
	}
	if len(order) != len(nodes) {
		for _, n := range nodes {
			if pending[n] > 0 {
				return fmt.Errorf("graph %q has a cycle through node %v", g.Name, n)
			}
		}
	}
	g.first, g.last, g.count = nil, nil, 0
	for _, n := range order {
		n.prev, n.next = nil, nil
		g.link(n, nil)
	}
	return nil
}

// collectDeps gathers the nodes of g whose outputs n, or a subgraph of n, reads.
func (g *Graph) collectDeps(n *Node, deps map[*Node]bool) {
	for _, v := range n.inputs {
		if v != nil && v.graph == g {
			deps[v.producer] = true
		}
	}
	for _, s := range n.Subgraphs() {
		for m := s.first; m != nil; m = m.next {
			g.collectDeps(m, deps)
		}
	}
}

type nodeHeap struct {
	h   []*Node
	pos map[*Node]int
}

func (q *nodeHeap) push(n *Node) {
	q.h = append(q.h, n)
	for i := len(q.h) - 1; i > 0; {
		p := (i - 1) / 2
		if q.pos[q.h[p]] <= q.pos[q.h[i]] {
			break
		}
		q.h[p], q.h[i] = q.h[i], q.h[p]
		i = p
	}
}

func (q *nodeHeap) pop() *Node {
	top := q.h[0]
	last := len(q.h) - 1
	q.h[0] = q.h[last]
	q.h = q.h[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && q.pos[q.h[c+1]] < q.pos[q.h[c]] {
			c++
		}
		if q.pos[q.h[i]] <= q.pos[q.h[c]] {
			break
		}
		q.h[i], q.h[c] = q.h[c], q.h[i]
		i = c
	}
	return top
}
