package parts

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// few is the number of elements up to which what states decide is computed by each part for itself.
const few = 1 << 12

// stages puts the nodes into graphs of their own.
func (c *cutter) stages(whole, m *ir.Model) (*Stages, error) {
	var all [4]map[*ir.Node]bool
	for i := range all {
		all[i] = map[*ir.Node]bool{}
	}
	shared := map[*ir.Value]bool{}
	given := map[*ir.Value]bool{}
	var parts, rest func(n *ir.Node)
	parts = func(n *ir.Node) { // n, and what it needs, to the graph of a part
		if all[each][n] {
			return
		}
		all[each][n] = true
		for _, v := range n.Inputs() {
			if v == nil || v.Producer() == nil {
				continue
			}
			given[v] = c.at[v.Producer()] == batch
			if c.at[v.Producer()] != states {
				continue
			}
			if c.kinds[v] == sized || c.light(v.Producer()) {
				parts(v.Producer())
			} else {
				shared[v] = true
			}
		}
	}
	rest = func(n *ir.Node) {
		if all[update][n] {
			return
		}
		all[update][n] = true
		for _, v := range n.Inputs() {
			if v == nil || v.Producer() == nil {
				continue
			}
			given[v] = c.at[v.Producer()] == batch
			if c.at[v.Producer()] == states && !shared[v] {
				rest(v.Producer())
			}
		}
	}
	for n, at := range c.at {
		if at == each {
			parts(n)
		}
	}
	var outs []*ir.Value // that the updating graph computes with nodes of the step
	for _, o := range c.g.Outputs() {
		n := o.Producer()
		if n != nil && c.at[n] == states {
			rest(n)
		}
		if n != nil && c.at[n] == batch {
			return nil, fmt.Errorf("output %q follows from inputs alone", o.Name())
		}
		if n == nil || c.at[n] != each {
			outs = append(outs, o)
		}
	}
	for n, at := range c.at {
		if at == update {
			rest(n)
		}
	}
	var first func(v *ir.Value)
	first = func(v *ir.Value) {
		n := v.Producer()
		if n == nil || all[states][n] {
			return
		}
		if given[v] = c.at[n] == batch; given[v] {
			return
		}
		all[states][n] = true
		for _, x := range n.Inputs() {
			if x != nil {
				first(x)
			}
		}
	}
	for v := range shared {
		first(v)
	}

	s := &Stages{Divided: c.divided, Count: int(c.n)}
	var err error
	if list := c.values(func(v *ir.Value) bool { return given[v] }); len(list) > 0 {
		if s.Batch, err = ofAll(whole, list); err != nil {
			return nil, err
		}
	}
	if len(shared) > 0 {
		if s.Weights, err = m.Extract(c.listed(all[states]), c.values(func(v *ir.Value) bool { return shared[v] })); err != nil {
			return nil, err
		}
	}
	sums := c.values(func(v *ir.Value) bool { return c.kinds[v] == summed && c.at[v.Producer()] == each && v.Used() })
	if s.Images, err = m.Extract(c.listed(all[each]), sums); err != nil {
		return nil, err
	}
	if s.Update, err = m.Extract(c.listed(all[update]), outs); err != nil {
		return nil, err
	}
	return s, c.addUp(s.Update.Graph, sums)
}

// ofAll is the part of the whole step that computes what the values of the same names are.
func ofAll(whole *ir.Model, list []*ir.Value) (*ir.Model, error) {
	need := map[*ir.Node]bool{}
	var note func(n *ir.Node)
	note = func(n *ir.Node) {
		if n == nil || need[n] {
			return
		}
		need[n] = true
		for _, v := range n.Inputs() {
			if v != nil {
				note(v.Producer())
			}
		}
	}
	var outs []*ir.Value
	for _, v := range list {
		w := whole.Graph.Value(v.Name())
		note(w.Producer())
		outs = append(outs, w)
	}
	var nodes []*ir.Node
	for n := whole.Graph.First(); n != nil; n = n.Next() {
		if need[n] {
			nodes = append(nodes, n)
		}
	}
	return whole.Extract(nodes, outs)
}

// light reports whether n, and all that it is computed from, has few elements.
func (c *cutter) light(n *ir.Node) bool {
	is, known := c.lights[n]
	if !known {
		is = c.isLight(n)
		c.lights[n] = is
	}
	return is
}

func (c *cutter) isLight(n *ir.Node) bool {
	for _, v := range append(slices.Clone(n.Inputs()), n.Outputs()...) {
		if v == nil {
			continue
		}
		d, ok := v.StaticDims()
		size := int64(1)
		for _, x := range d {
			size *= x
		}
		if !ok || size > few {
			return false
		}
	}
	for _, v := range n.Inputs() {
		if v != nil && v.Producer() != nil && !c.light(v.Producer()) {
			return false
		}
	}
	return true
}

// listed are the nodes in graph order.
func (c *cutter) listed(in map[*ir.Node]bool) []*ir.Node {
	var out []*ir.Node
	for n := c.g.First(); n != nil; n = n.Next() {
		if in[n] {
			out = append(out, n)
		}
	}
	return out
}

// values are the computed values that want is true of, in graph order.
func (c *cutter) values(want func(*ir.Value) bool) []*ir.Value {
	var out []*ir.Value
	for n := c.g.First(); n != nil; n = n.Next() {
		for _, v := range n.Outputs() {
			if v.Name() != "" && want(v) {
				out = append(out, v)
			}
		}
	}
	return out
}

// addUp has the updating graph read sums as those of all parts.
func (c *cutter) addUp(g *ir.Graph, sums []*ir.Value) error {
	b := ir.NewBuilder(g, Pass, op.InferNode)
	for _, v := range sums {
		in := g.Value(v.Name())
		b.Before, b.Site = g.First(), v.Name()
		for in != nil && b.Before != nil && !slices.Contains(b.Before.Inputs(), in) {
			b.Before = b.Before.Next()
		}
		var sum *ir.Value
		for k := range int(c.n) {
			x, err := g.AddInput(Name(v.Name(), k), v.Type.Clone())
			if err != nil {
				return err
			}
			if sum == nil {
				sum = x
				continue
			}
			sum = b.Op("Add", []*ir.Value{sum, x})
			if err := b.Err(); err != nil {
				return err
			}
		}
		if in != nil {
			if err := g.ReplaceAllUses(in, sum); err != nil {
				return err
			}
			if err := g.RemoveInput(in); err != nil {
				return err
			}
		}
		if v.IsOutput() {
			if err := g.Rename(sum, v.Name()); err != nil {
				return err
			}
		}
	}
	var outs []*ir.Value
	for _, o := range c.g.Outputs() {
		v := g.Value(o.Name())
		if v == nil {
			return fmt.Errorf("output %q is lost", o.Name())
		}
		outs = append(outs, v)
	}
	return g.SetOutputs(outs...)
}
