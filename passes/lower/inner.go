package lower

import (
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
)

// innerProducts replaces the sums over products that gradients of step sizes consist of by what convolutions on either side know
// already. A convolution y = x * w + b is linear in x and in w, so that with the cotangent g of y
//
//	<gradient by x, x> = <gradient by w, w>            (both are <g, x * w>)
//	<g, y>             = <gradient by w, w> + <gradient by b, b>
//	<gradient by x, v> = <g, v * w>                    for any v
//
// The first two turn a sum over an activation into one over weights, also where an activation that is linear on either side of zero lies in
// between; the third spares the gradient by an input that nothing else reads, as that of the image.
func innerProducts(g *ir.Graph) error {
	p := products{ir.NewBuilder(g, Info.Name, op.InferNode), false}
	for _, n := range g.Nodes() {
		if n.Graph() != g || !n.Is("ReduceSum") || n.Output(0).DType() != ir.Float32 || product(dimsOf(n.Output(0))) != 1 {
			continue
		}
		m := from(n.Input(0), "Mul")
		if m == nil || only(m.Output(0), "ReduceSum") == nil || !same(m.Input(0), m.Output(0)) || !same(m.Input(1), m.Output(0)) {
			continue
		}
		v := p.known(m.Input(0), m.Input(1), n)
		if v == nil {
			v = p.known(m.Input(1), m.Input(0), n)
		}
		if err := p.Err(); err != nil {
			return err
		}
		if v == nil {
			continue
		}
		if v = p.shaped(v, dimsOf(n.Output(0))); p.Err() != nil {
			return p.Err()
		}
		if err := g.ReplaceAllUses(n.Output(0), v); err != nil {
			return err
		}
		if err := removeWith(g, n); err != nil {
			return err
		}
		p.changed = true
	}
	if !p.changed {
		return nil
	}
	return g.Sort()
}

type products struct {
	*ir.Builder
	changed bool
}

// known is <a, x>, of one element, for the sum n of their products; nil where it takes a sum over them.
func (p *products) known(a, x *ir.Value, n *ir.Node) *ir.Value {
	if v := p.read(a, x); v != nil {
		return v
	}
	if v := p.made(a, x, n); v != nil {
		return v
	}
	return p.adjoint(a, x, n)
}

// read: a is the gradient by x of convolutions that read it.
func (p *products) read(a, x *ir.Value) *ir.Value {
	n := a.Producer()
	if n == nil {
		return nil
	}
	if n.Is("Add") && same(n.Input(0), a) && same(n.Input(1), a) {
		if !p.reads(n.Input(0), x) || !p.reads(n.Input(1), x) {
			return nil
		}
		v, w := p.read(n.Input(0), x), p.read(n.Input(1), x)
		p.Before = nil
		return p.Op("Add", []*ir.Value{v, w})
	}
	if u := weightGradOf(n, x); u != nil {
		return p.total(u.Output(0), n.Input(1))
	}
	return nil
}

// reads reports whether read is not nil.
func (p *products) reads(a, x *ir.Value) bool {
	n := a.Producer()
	if n == nil {
		return false
	}
	if n.Is("Add") && same(n.Input(0), a) && same(n.Input(1), a) {
		return p.reads(n.Input(0), x) && p.reads(n.Input(1), x)
	}
	return weightGradOf(n, x) != nil
}

// weightGradOf is the gradient by the weights of the convolution of x whose gradient by the input is n.
func weightGradOf(n *ir.Node, x *ir.Value) *ir.Node {
	if n.Domain != grad.Domain || n.Op != grad.ConvInputGrad {
		return nil
	}
	for _, u := range x.Uses() {
		if m := u.Node; m.Domain == grad.Domain && m.Op == grad.ConvWeightGrad && u.Index == 0 && m.Input(1) == n.Input(0) && m.Graph() == n.Graph() &&
			windowOf(m).equal(windowOf(n)) && m.Int("group", 1) == n.Int("group", 1) && same(m.Output(0), n.Input(1)) {
			return m
		}
	}
	return nil
}

func (w window) equal(v window) bool {
	return slices.Equal(w.kernel, v.kernel) && slices.Equal(w.strides, v.strides) && slices.Equal(w.dilations, v.dilations) && slices.Equal(w.pads, v.pads)
}

// made: x is made by a convolution, or an activation after one, of which a is the only cotangent.
func (p *products) made(a, x *ir.Value, sum *ir.Node) *ir.Value {
	n := x.Producer()
	if n == nil || n.Domain != "" {
		return nil
	}
	if n.Is("Conv") {
		return p.trained(a, n)
	}
	c := from(n.Input(0), "Conv")
	if c == nil {
		return nil
	}
	for _, u := range a.Uses() {
		m := u.Node
		if !m.Is("Mul") || !same(m.Output(0), a) {
			continue
		}
		switch mask := m.Input(1 - u.Index); {
		case n.Is("Relu") && stepOf(mask) == x, n.Is("LeakyRelu") && leakyOf(mask, n) == x:
			return p.trained(m.Output(0), c)
		case n.Is("Clip"):
			if v := p.clipped(a, x, n, c, m.Output(0), mask, sum); v != nil {
				return v
			}
		}
	}
	return nil
}

// clipped: x = Clip(y, 0, k), and a is dy where x is below a bound. If the bound is beyond k, a is dy, else x is y wherever dz, the
// cotangent of y, is not zero.
func (p *products) clipped(a, x *ir.Value, act, c *ir.Node, dz, mask *ir.Value, sum *ir.Node) *ir.Value {
	lo, okLo := number(act.Input(1))
	k, ok := number(act.Input(2))
	bound, dy := belowBound(a, x)
	if !ok || !okLo || lo != 0 || bound == nil || betweenOf(mask, k) != x || product(dimsOf(bound)) != 1 {
		return nil
	}
	inside := p.trained(dz, c)
	if inside == nil {
		return nil
	}
	p.Before, p.Site = sum, sum.Output(0).Name()
	beyond := p.shaped(p.Op("Greater", []*ir.Value{bound, p.Float(float32(k))}), []int64{1})
	all := p.shaped(p.whole(p.Op("Mul", []*ir.Value{dy, x})), []int64{1})
	p.Before = nil
	return p.Op("Where", []*ir.Value{beyond, all, p.shaped(inside, []int64{1})})
}

// trained is <dz, z> of a convolution's output z with the cotangent dz, where its weights, and bias, are trained.
func (p *products) trained(dz *ir.Value, c *ir.Node) *ir.Value {
	w := windowOf(c)
	group := c.Int("group", 1)
	if c.Str("auto_pad", "NOTSET") != "NOTSET" {
		return nil
	}
	bias := c.Input(2)
	var weights, biases *ir.Value
	for _, u := range dz.Uses() {
		switch m := u.Node; {
		case m.Graph() != c.Graph():
		case m.Domain == grad.Domain && m.Op == grad.ConvWeightGrad && u.Index == 1 && m.Input(0) == c.Input(0) && same(m.Output(0), c.Input(1)) && m.Int("group", 1) == group &&
			w.begins(windowOf(m)):
			weights = m.Output(0)
		case m.Is("ReduceSum") && bias != nil && same(m.Output(0), bias) && overAllBut(m, 1):
			biases = m.Output(0)
		}
	}
	if weights == nil || bias != nil && biases == nil {
		return nil
	}
	v := p.total(weights, c.Input(1))
	if bias == nil {
		return v
	}
	p.Before = biases.Producer().Next()
	b := p.whole(p.Op("Mul", []*ir.Value{biases, bias}))
	p.Before = nil
	return p.Op("Add", []*ir.Value{v, b})
}

// begins reports whether a convolution's attributes w say the windows of v, a gradient's.
func (w window) begins(v window) bool {
	is := func(have, want []int64, def int64) bool {
		if len(have) == 0 {
			return !slices.ContainsFunc(want, func(x int64) bool { return x != def })
		}
		return slices.Equal(have[:len(want)], want)
	}
	return is(w.kernel, v.kernel, -1) == (len(w.kernel) > 0) && is(w.strides, v.strides, 1) && is(w.dilations, v.dilations, 1) && is(w.pads, v.pads[:2], 0)
}

// overAllBut reports whether n sums over all axes but one of a value of four.
func overAllBut(n *ir.Node, axis int64) bool {
	d, ok := n.Input(0).StaticDims()
	if !ok || len(d) != 4 || n.Input(1) == nil || n.Input(1).Init() == nil {
		return false
	}
	axes, err := n.Input(1).Init().Ints()
	return err == nil && len(axes) == 3 && !slices.ContainsFunc(axes, func(a int64) bool { return (a+4)%4 == axis })
}

// total is the sum of all products of two values; where their sums by the first axis are there already, of those.
func (p *products) total(a, b *ir.Value) *ir.Value {
	for _, u := range a.Uses() {
		m := u.Node
		if !m.Is("Mul") || m.Input(1-u.Index) != b {
			continue
		}
		for _, r := range m.Output(0).Uses() {
			if r.Node.Is("ReduceSum") && r.Index == 0 && r.Node.Graph() == m.Graph() {
				p.Before, p.Site = r.Node.Next(), r.Node.Output(0).Name()
				return p.whole(r.Node.Output(0))
			}
		}
	}
	p.Before, p.Site = a.Producer().Next(), a.Name()
	return p.whole(p.Op("Mul", []*ir.Value{a, b}))
}

// whole is the sum of all elements of v.
func (p *products) whole(v *ir.Value) *ir.Value {
	d := dimsOf(v)
	if product(d) == 1 {
		return p.shaped(v, nil)
	}
	axes := make([]int64, len(d))
	for i := range axes {
		axes[i] = int64(i)
	}
	return p.Op("ReduceSum", []*ir.Value{v, p.Int64s(axes...)}, ir.AInt("keepdims", 0))
}

func (p *products) shaped(v *ir.Value, dims []int64) *ir.Value {
	if d, ok := v.StaticDims(); ok && slices.Equal(d, dims) {
		return v
	}
	return p.Op("Reshape", []*ir.Value{v, p.Int64s(dims...)})
}

// adjoint: a is the gradient of a convolution by an input that only this sum reads, or a product with it.
func (p *products) adjoint(a, x *ir.Value, sum *ir.Node) *ir.Value {
	v := x
	p.Before, p.Site = sum, sum.Output(0).Name()
	if n := from(a, "Mul"); n != nil {
		if only(a, "Mul") == nil {
			return nil
		}
		for i := range 2 {
			if c := n.Input(i); isInputGrad(c.Producer()) && only(c, "Mul") == n && same(n.Input(1-i), a) {
				a, v = c, p.Op("Mul", []*ir.Value{n.Input(1 - i), x})
				break
			}
		}
	}
	n := a.Producer()
	if !isInputGrad(n) || len(a.Uses()) != 1 || a.IsOutput() {
		return nil
	}
	w := windowOf(n)
	pads := []int64{w.pads[0], w.pads[1], max(0, w.pads[2]), max(0, w.pads[3])}
	y := p.Op("Conv", []*ir.Value{v, n.Input(1)}, ir.AInts("kernel_shape", w.kernel...), ir.AInts("strides", w.strides...), ir.AInts("dilations", w.dilations...),
		ir.AInts("pads", pads...), ir.AInt("group", n.Int("group", 1)))
	return p.whole(p.Op("Mul", []*ir.Value{n.Input(0), y}))
}

func isInputGrad(n *ir.Node) bool {
	return n != nil && n.Domain == grad.Domain && n.Op == grad.ConvInputGrad
}
