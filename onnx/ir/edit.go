package ir

import (
	"fmt"
	"slices"
)

// NodeSpec describes a node to add.
type NodeSpec struct {
	Op, Domain, Name string
	Inputs           []*Value // nil for an absent optional input
	Outputs          []string // names; "" for an absent optional output
	Attrs            []Attr
	Pass             string
	Meta             Meta
}

// Append adds a node at the end of the graph.
func (g *Graph) Append(s NodeSpec) (*Node, error) { return g.insert(s, nil) }

// InsertBefore adds a node before at.
func (g *Graph) InsertBefore(at *Node, s NodeSpec) (*Node, error) {
	if at == nil || at.graph != g {
		return nil, fmt.Errorf("graph %q: insertion point is not in this graph", g.Name)
	}
	return g.insert(s, at)
}

// InsertAfter adds a node after at.
func (g *Graph) InsertAfter(at *Node, s NodeSpec) (*Node, error) {
	if at == nil || at.graph != g {
		return nil, fmt.Errorf("graph %q: insertion point is not in this graph", g.Name)
	}
	return g.insert(s, at.next)
}

func (g *Graph) insert(s NodeSpec, before *Node) (*Node, error) {
	if s.Op == "" {
		return nil, fmt.Errorf("graph %q: node %q has no operator", g.Name, s.Name)
	}
	for i, v := range s.Inputs {
		if v != nil && !g.sees(v) {
			return nil, fmt.Errorf("graph %q: node %s %s: input %d (%q) is not a value of this graph or one around it", g.Name, s.Op, s.Name, i, v.name)
		}
	}
	seen := map[string]bool{}
	for _, o := range s.Outputs {
		if o != "" && (g.values[o] != nil || seen[o]) {
			return nil, fmt.Errorf("graph %q: node %s %s: two values are called %q", g.Name, s.Op, s.Name, o)
		}
		seen[o] = true
	}
	n := &Node{graph: g, Name: s.Name, Op: s.Op, Domain: s.Domain, Pass: s.Pass, Meta: s.Meta.Clone()}
	for i, v := range s.Inputs {
		n.inputs = append(n.inputs, v)
		if v != nil {
			v.uses = append(v.uses, Use{n, i})
		}
	}
	for i, o := range s.Outputs {
		v := &Value{name: o, graph: g, producer: n, index: i}
		if o != "" {
			g.values[o] = v
		}
		n.outputs = append(n.outputs, v)
	}
	for _, a := range s.Attrs {
		n.SetAttr(a)
	}
	g.link(n, before)
	return n, nil
}

func (g *Graph) sees(v *Value) bool {
	for h := g; h != nil; h = h.outer {
		if v.graph == h {
			return true
		}
	}
	return false
}

func (g *Graph) link(n, before *Node) {
	n.next = before
	if before == nil {
		n.prev, g.last = g.last, n
	} else {
		n.prev, before.prev = before.prev, n
	}
	if n.prev == nil {
		g.first = n
	} else {
		n.prev.next = n
	}
	g.count++
}

func (g *Graph) unlink(n *Node) {
	if n.prev == nil {
		g.first = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		g.last = n.prev
	} else {
		n.next.prev = n.prev
	}
	n.prev, n.next = nil, nil
	g.count--
}

// MoveBefore moves a node before at within its graph; at nil moves it to the end. The caller keeps the order topological.
func (g *Graph) MoveBefore(n, at *Node) error {
	if n == nil || n.graph != g || (at != nil && at.graph != g) {
		return fmt.Errorf("graph %q: node to move is not in this graph", g.Name)
	}
	if n == at {
		return nil
	}
	g.unlink(n)
	g.link(n, at)
	return nil
}

// Remove deletes a node none of whose outputs is used.
func (g *Graph) Remove(n *Node) error {
	if n == nil || n.graph != g {
		return fmt.Errorf("graph %q: node to remove is not in this graph", g.Name)
	}
	for _, o := range n.outputs {
		if o.Used() {
			return fmt.Errorf("cannot remove node %v: its output %q is in use", n, o.name)
		}
	}
	for _, s := range n.Subgraphs() {
		s.releaseOuter()
		g.inner = slices.DeleteFunc(g.inner, func(h *Graph) bool { return h == s })
	}
	for i, v := range n.inputs {
		if v != nil {
			v.dropUse(n, i)
		}
	}
	for _, o := range n.outputs {
		if o.name != "" {
			delete(g.values, o.name)
		}
	}
	g.unlink(n)
	n.graph = nil
	return nil
}

// releaseOuter drops the uses that nodes of g, or of its subgraphs, hold on values of other graphs.
func (g *Graph) releaseOuter() {
	for n := g.first; n != nil; n = n.next {
		for i, v := range n.inputs {
			if v != nil && v.graph != g {
				v.dropUse(n, i)
			}
		}
		for _, s := range n.Subgraphs() {
			s.releaseOuter()
		}
	}
}

// SetInput connects input i of n to v (nil: absent), lengthening the list of inputs if need be.
func (g *Graph) SetInput(n *Node, i int, v *Value) error {
	if n == nil || n.graph != g || i < 0 {
		return fmt.Errorf("graph %q: no such node input", g.Name)
	}
	if v != nil && !g.sees(v) {
		return fmt.Errorf("node %v: input %d (%q) is not visible here", n, i, v.name)
	}
	for len(n.inputs) <= i {
		n.inputs = append(n.inputs, nil)
	}
	if old := n.inputs[i]; old != nil {
		old.dropUse(n, i)
	}
	n.inputs[i] = v
	if v != nil {
		v.uses = append(v.uses, Use{n, i})
		return nil
	}
	for len(n.inputs) > 0 && n.inputs[len(n.inputs)-1] == nil {
		n.inputs = n.inputs[:len(n.inputs)-1]
	}
	return nil
}

// ReplaceUses lets every node that reads old read v instead. It refuses graph outputs: see ReplaceAllUses.
func (g *Graph) ReplaceUses(old, v *Value) error {
	if old == nil || v == nil || old == v {
		return fmt.Errorf("graph %q: nothing to replace", g.Name)
	}
	if old.outputs > 0 {
		return fmt.Errorf("value %q is a graph output: use ReplaceAllUses with keepOutputName", old.name)
	}
	return replaceNodeUses(old, v)
}

func replaceNodeUses(old, v *Value) error {
	for _, u := range append([]Use(nil), old.uses...) {
		if err := u.Node.graph.SetInput(u.Node, u.Index, v); err != nil {
			return err
		}
	}
	return nil
}

// ReplaceAllUses lets nodes and graph outputs that read old read v instead. A graph output keeps its name: v takes the name of
// old, which gets a fresh one; it is an error if v is itself an output, an input or an initializer then.
func (g *Graph) ReplaceAllUses(old, v *Value) error {
	if old == nil || v == nil || old == v {
		return fmt.Errorf("graph %q: nothing to replace", g.Name)
	}
	if old.outputs == 0 {
		return replaceNodeUses(old, v)
	}
	if v.outputs > 0 || v.input || v.IsInitializer() || v.graph != old.graph {
		return fmt.Errorf("output %q cannot be replaced by %q, which keeps its own name", old.name, v.name)
	}
	if err := replaceNodeUses(old, v); err != nil {
		return err
	}
	og := old.graph
	name := old.name
	if err := og.Rename(old, og.FreshName(name+"_old")); err != nil {
		return err
	}
	if err := og.Rename(v, name); err != nil {
		return err
	}
	for i, o := range og.outputs {
		if o == old {
			og.outputs[i] = v
			old.outputs--
			v.outputs++
		}
	}
	v.Doc, v.Meta = old.Doc, old.Meta.Clone()
	return nil
}

// UniqueNodeNames renames nodes whose name an earlier one has, as nodes of merged graphs may; onnxruntime refuses such graphs.
func (g *Graph) UniqueNodeNames() {
	seen := map[string]bool{}
	for n := g.first; n != nil; n = n.next {
		for i, name := 2, n.Name; n.Name != "" && seen[n.Name]; i++ {
			n.Name = fmt.Sprintf("%s_%d", name, i)
		}
		seen[n.Name] = true
	}
}
