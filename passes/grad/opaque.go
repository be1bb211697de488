package grad

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Domain is that of operators that stand for a part of a gradient until Expand, or a lowering, gives them a form that runs. They are
// made with Options.Opaque, for convolutions over two dimensions in float with static sizes, and have gradients themselves.
const Domain = "mqatc"

// Operators of Domain. Both have the attributes kernel_shape, strides, dilations, pads and group of the convolution they belong to,
// and shape, the sizes of what they compute. pads are those that the windows reach: begins as the convolution has them, ends as far
// as the last window goes beyond the input, negative where it falls short of its end.
const (
	ConvWeightGrad = "ConvWeightGrad" // (x [N,C,H,W], dy [N,K,h,w]) -> [K, C/group, kh, kw]
	ConvInputGrad  = "ConvInputGrad"  // (dy [N,K,h,w], weights [K, C/group, kh, kw]) -> [N,C,H,W]
)

// Expand replaces the operators of Domain in g by the standard ones that Gradients writes without Options.Opaque, with or without Frugal.
func Expand(g *ir.Graph, frugal bool) error {
	b := ir.NewBuilder(g, "grad", op.InferNode)
	with := newShared()
	for n := g.First(); n != nil; {
		next := n.Next()
		if n.Domain == Domain {
			if err := expand(b, n, with, frugal); err != nil {
				return err
			}
		}
		n = next
	}
	return nil
}

func expand(b *ir.Builder, n *ir.Node, with *shared, frugal bool) error {
	out := n.Output(0)
	b.Before, b.Site = n, out.Name()
	c := &call{Builder: b, n: n, dt: out.DType(), memo: map[string]*ir.Value{}, shared: with, frugal: frugal}
	w := c.opaqueWindow()
	var v *ir.Value
	if n.Op == ConvWeightGrad {
		v = c.weightForm(n.Input(0), n.Input(1), c.dims(out), w, n.Int("group", 1))
	} else {
		v = c.inputForm(n.Input(0), n.Input(1), nil, w, n.Int("group", 1))
	}
	if err := b.Err(); err != nil {
		return fmt.Errorf("pass grad: node %v: %w", n, err)
	}
	if err := n.Graph().ReplaceAllUses(out, v); err != nil {
		return fmt.Errorf("pass grad: node %v: %w", n, err)
	}
	return n.Graph().Remove(n)
}

// Scratch is about what a convolution, or an operator of Domain, takes beside its inputs and outputs in the forms that a frugal lowering
// gives them, in bytes: weights, and their gradients, in a second and third layout, and columns.
func Scratch(n *ir.Node) int64 {
	bytes := func(v *ir.Value) int64 {
		d, _ := v.StaticDims()
		return 4 * product(d)
	}
	switch {
	case n.Is("Conv"), n.Domain == Domain && n.Op == ConvInputGrad:
		return 2 * min(bytes(n.Input(1)), FrugalWeights)
	case n.Domain == Domain && n.Op == ConvWeightGrad:
		return frugalColumns + min(bytes(n.Output(0)), frugalPart)
	}
	return 0
}

// opaque makes a node of Domain, nil where only the standard form will do.
func (c *call) opaque(name string, a, b *ir.Value, dims []int64, w window, group int64) *ir.Value {
	if !c.later || w.in == nil || len(w.kernel) != 2 || c.dt != ir.Float32 || dims == nil {
		return nil
	}
	at := append(w.attrs(group), ir.AInts("pads", append(append([]int64{}, w.lo...), w.trailing(0), w.trailing(1))...), ir.AInts("shape", dims...))
	infer := c.Infer
	c.Infer = nil
	v := c.Node(ir.NodeSpec{Op: name, Domain: Domain, Inputs: []*ir.Value{a, b}, Attrs: at}, 1)[0]
	c.Infer = infer
	v.Type = ir.TensorType(c.dt, ir.StaticShape(dims...))
	return v
}

// opaqueWindow is the geometry of a node of Domain.
func (c *call) opaqueWindow() window {
	pads := c.n.Ints("pads")
	w := window{kernel: c.n.Ints("kernel_shape"), strides: c.n.Ints("strides"), dilations: c.n.Ints("dilations"), lo: pads[:2], hi: pads[2:]}
	big, small := c.in(0), c.in(1)
	if c.n.Op == ConvInputGrad {
		big, small = c.out(0), c.in(0)
	}
	w.in, w.out = c.dims(big)[2:], c.dims(small)[2:]
	return w
}

// Both operators are linear in either input, and with the convolution itself they are each other's gradients.

func vjpConvWeightGrad(c *call, i int) *ir.Value {
	x, dy, v := c.in(0), c.in(1), c.dy()
	w, group := c.opaqueWindow(), c.n.Int("group", 1)
	if i == 0 {
		if g := c.opaque(ConvInputGrad, dy, v, c.dims(x), w, group); g != nil {
			return g
		}
		return c.inputForm(dy, v, nil, w, group)
	}
	return c.convolved(x, v, w, group)
}

func vjpConvInputGrad(c *call, i int) *ir.Value {
	dy, weights, u := c.in(0), c.in(1), c.dy()
	w, group := c.opaqueWindow(), c.n.Int("group", 1)
	if i == 0 {
		return c.convolved(u, weights, w, group)
	}
	return c.weightGrad(u, dy, c.dims(weights), w, group)
}

// convolved is the convolution of the geometry w. An end of the input that no window reaches stays unread without negative pads.
func (c *call) convolved(x, weights *ir.Value, w window, group int64) *ir.Value {
	pads := append(append([]int64{}, w.lo...), max(w.hi[0], 0), max(w.hi[1], 0))
	return c.Op("Conv", []*ir.Value{x, weights}, append(w.attrs(group), ir.AInts("pads", pads...))...)
}
