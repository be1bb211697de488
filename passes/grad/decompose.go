package grad

import "mqatc/onnx/ir"

// decomposed is the row of an operator that others express: f makes its outputs anew from its inputs, and their gradient is the
// operator's. f may leave out outputs at the end, which then have no gradient.
func decomposed(f func(c *call) []*ir.Value) row { return row{vjp: noInput, parts: f} }

// decomposed1 is decomposed for operators of one output.
func decomposed1(f func(c *call) *ir.Value) row {
	return decomposed(func(c *call) []*ir.Value { return []*ir.Value{f(c)} })
}

// part is the cotangent of input i of a decomposed operator.
func (c *call) part(f func(c *call) []*ir.Value, i int) *ir.Value {
	v := c.in(i)
	for k := range i {
		if c.in(k) == v {
			return nil // the engine adds up by input, and through gave the whole to the first
		}
	}
	return c.share(f, v)
}

// share is the cotangent of a value that a decomposed operator reads.
func (c *call) share(f func(c *call) []*ir.Value, v *ir.Value) *ir.Value {
	if c.cotIn == nil {
		c.cotIn = c.through(f)
	}
	return c.cotIn[v]
}

// through differentiates what f makes and returns the cotangents of the node's inputs and of what its subgraphs read. Nodes of f that no cotangent reads are
// removed again.
func (c *call) through(f func(c *call) []*ir.Value) map[*ir.Value]*ir.Value {
	res := map[*ir.Value]*ir.Value{}
	before := c.G.Last()
	outs := f(c)
	if c.Err() != nil {
		return res
	}
	e := &engine{g: c.G, b: c.Builder, opt: Options{Pass: c.Pass}, active: map[*ir.Value]bool{}, flows: map[*ir.Value]bool{},
		parts: map[*ir.Value][]*ir.Value{}, shared: c.shared}
	ins := append(append([]*ir.Value{}, c.n.Inputs()...), c.inside...)
	for _, v := range ins {
		if v != nil && c.active[v] {
			e.active[v] = true
		}
	}
	first := c.G.First()
	if before != nil {
		first = before.Next()
	}
	var nodes []*ir.Node
	for n := first; n != nil; n = n.Next() {
		nodes = append(nodes, n)
		e.mark(n)
	}
	for i, ct := range c.cots {
		if ct == nil {
			continue
		}
		if i >= len(outs) || outs[i] == nil {
			c.fail("no rule for output %d", i)
			return res
		}
		if err := e.seed(Seed{outs[i], ct}); err != nil {
			c.Fail(err)
			return res
		}
	}
	site := c.Site
	for i := len(nodes) - 1; i >= 0; i-- {
		if err := e.visit(nodes[i]); err != nil {
			c.Fail(err)
			return res
		}
		c.Site = site
	}
	for _, v := range ins {
		if v != nil && e.active[v] && res[v] == nil {
			res[v] = e.total(v)
		}
	}
	for i := len(nodes) - 1; i >= 0 && c.Err() == nil; i-- {
		used := false
		for _, o := range nodes[i].Outputs() {
			used = used || o.Used()
		}
		if !used {
			if err := c.G.Remove(nodes[i]); err != nil {
				c.Fail(err)
			}
		}
	}
	return res
}
