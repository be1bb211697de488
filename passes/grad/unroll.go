package grad

import "mqatc/onnx/ir"

// loop makes the outputs of a Loop from copies of its body. How often it runs must follow from constants and known sizes.
func loop(c *call) []*ir.Value {
	body := c.body()
	if c.Err() != nil {
		return nil
	}
	state := append([]*ir.Value{}, c.n.Inputs()[2:]...)
	if len(body.Inputs()) != len(state)+2 || len(body.Outputs()) <= len(state) {
		c.fail("a body with %d inputs and %d outputs for %d carried values", len(body.Inputs()), len(body.Outputs()), len(state))
		return nil
	}
	most := int64(longest + 1)
	if m := c.in(0); m != nil {
		v, ok := constInts(m)
		if !ok || len(v) != 1 {
			c.fail("the number of trips %q is known only when the graph runs", m.Name())
			return nil
		}
		most = v[0]
	}
	yes, err := ir.FromBools([]bool{true})
	if err != nil {
		c.Fail(err)
		return nil
	}
	cond := c.in(1)
	seen := make([][]*ir.Value, len(body.Outputs())-1-len(state))
	for t := int64(0); t < most; t++ {
		if cond != nil {
			v, ok := constInts(cond)
			if !ok || len(v) != 1 {
				c.fail("whether there is a trip %d is known only when the graph runs", t)
				return nil
			}
			if v[0] == 0 {
				break
			}
		}
		if t == longest {
			c.fail("more than the %d trips that can be unrolled", longest)
		}
		outs := c.trip(body, append([]*ir.Value{c.Const(ir.ScalarInt64(t)), c.Const(yes)}, state...))
		if c.Err() != nil {
			return nil
		}
		cond, state = outs[0], outs[1:1+len(state)]
		for i, v := range outs[1+len(state):] {
			seen[i] = append(seen[i], c.op("Unsqueeze", v, c.Int64s(0)))
		}
	}
	for _, s := range seen {
		if len(s) == 0 {
			c.fail("no trip to take an output from")
			return nil
		}
		state = append(state[:len(state):len(state)], c.joined(s, 0))
	}
	return state
}

// scan makes the outputs of a Scan from a copy of its body for each element along the scanned axes, whose size must be static.
func scan(c *call) []*ir.Value {
	body, ins := c.body(), c.n.Inputs()
	if c.Err() != nil {
		return nil
	}
	n := len(ins) - int(c.n.Int("num_scan_inputs", 0))
	if n < 0 || n >= len(ins) || len(body.Inputs()) != len(ins) || len(body.Outputs()) < n {
		c.fail("a body with %d inputs and %d outputs for %d inputs, %d of them carried", len(body.Inputs()), len(body.Outputs()), len(ins), n)
		return nil
	}
	entry := func(name string, i int) int64 {
		if v := c.n.Ints(name); i < len(v) {
			return v[i]
		}
		return 0
	}
	state, steps := ins[:n], int64(0)
	var pieces [][]*ir.Value
	for i, v := range ins[n:] {
		axis := c.axis(entry("scan_input_axes", i), c.rank(v))
		length := c.along(v, axis)
		if c.Err() == nil && (length < 1 || length > longest || i > 0 && length != steps) {
			c.fail("%d elements of %q to scan: 1 to %d can be unrolled, of all inputs equally many", length, v.Name(), longest)
		}
		if c.Err() != nil {
			return nil
		}
		steps = length
		var ps []*ir.Value
		for _, p := range c.split(v, axis, length) {
			ps = append(ps, c.op("Squeeze", p, c.Int64s(axis)))
		}
		pieces = append(pieces, inDirection(ps, entry("scan_input_directions", i)))
	}
	seen := make([][]*ir.Value, len(body.Outputs())-n)
	for t := range steps {
		in := append([]*ir.Value{}, state...)
		for _, p := range pieces {
			in = append(in, p[t])
		}
		outs := c.trip(body, in)
		if c.Err() != nil {
			return nil
		}
		state = outs[:n]
		for i, v := range outs[n:] {
			axis := c.axis(entry("scan_output_axes", i), c.rank(v)+1)
			seen[i] = append(seen[i], c.op("Unsqueeze", v, c.Int64s(axis)))
		}
	}
	outs := append([]*ir.Value{}, state...)
	for i, s := range seen {
		axis := c.axis(entry("scan_output_axes", i), c.rank(s[0]))
		outs = append(outs, c.joined(inDirection(s, entry("scan_output_directions", i)), axis))
	}
	return outs
}

// inDirection is v turned round where direction is 1.
func inDirection(v []*ir.Value, direction int64) []*ir.Value {
	if direction == 0 {
		return v
	}
	out := make([]*ir.Value, len(v))
	for i := range v {
		out[i] = v[len(v)-1-i]
	}
	return out
}

func (c *call) body() *ir.Graph {
	a := c.n.Attr("body")
	if a == nil || a.G == nil {
		c.fail("no body")
		return nil
	}
	return a.G
}

// trip copies a body into the graph, its inputs bound to in, and gives its outputs.
func (c *call) trip(body *ir.Graph, in []*ir.Value) []*ir.Value {
	if c.Err() != nil {
		return nil
	}
	bind := map[*ir.Value]*ir.Value{}
	for i, v := range body.Inputs() {
		bind[v] = in[i]
	}
	last := c.G.Last()
	vals, err := c.G.Inline(body, bind, c.Pass)
	if err != nil {
		c.Fail(err)
		return nil
	}
	n := c.G.First()
	if last != nil {
		n = last.Next()
	}
	for ; n != nil && c.Infer != nil; n = n.Next() {
		n.Name = nodeName(n)
		if err := c.Infer(n); err != nil {
			c.Fail(err)
			return nil
		}
	}
	var outs []*ir.Value
	for _, o := range body.Outputs() {
		if v := vals[o]; v != nil {
			o = v
		}
		outs = append(outs, o)
	}
	return outs
}

// nodeName is a name that no other node has, as onnxruntime wants: that of an output.
func nodeName(n *ir.Node) string {
	for _, o := range n.Outputs() {
		if o.Name() != "" {
			return o.Name()
		}
	}
	return ""
}
