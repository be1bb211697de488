package importance

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
	"mqatc/passes/lower"
)

const (
	pass        = "hessian"
	probeSuffix = ".probe"
	curveSuffix = ".curvature"
)

// Graph appends to a copy of m what computes, for each layer W, the scalar output W.curvature = v . (Hv) restricted to W, where
// the inputs W.probe hold v and H is the Hessian of the output loss by all layers together, but for blocks between two layers: of
// these only what comes along is there. Convolutions take the forms that mach runs fastest, standard ones where mach is empty.
func Graph(m *ir.Model, loss string, layers []string, mach lower.Machine) (*ir.Model, error) {
	c, err := curvatures(m, loss, layers)
	if err != nil {
		return nil, err
	}
	if err := lower.Run(c, mach); err != nil {
		return nil, err
	}
	if err := prune(c.Graph); err != nil {
		return nil, err
	}
	// Names derived from values could meet names of the file's nodes, and onnxruntime wants node names to differ.
	for n := c.Graph.First(); n != nil; n = n.Next() {
		if n.Pass != "" {
			n.Name = ""
		}
	}
	return c, nil
}

// curvatures is Graph before lowering: gradients of convolutions are operators of grad.Domain.
func curvatures(m *ir.Model, loss string, layers []string) (*ir.Model, error) {
	c, err := m.Clone()
	if err != nil {
		return nil, err
	}
	g := c.Graph
	l := g.Value(loss)
	if l == nil {
		return nil, fmt.Errorf("hessian: the model has no value %q", loss)
	}
	wrt := make([]*ir.Value, len(layers))
	for i, name := range layers {
		if wrt[i] = g.Value(name); wrt[i] == nil || wrt[i].Init() == nil || wrt[i].DType() != ir.Float32 {
			return nil, fmt.Errorf("hessian: %q is not a float weight of the model", name)
		}
	}
	opt := grad.Options{Pass: pass, Opaque: true}
	first, err := grad.Gradients(g, []grad.Seed{{Value: l}}, wrt, opt)
	if err != nil {
		return nil, err
	}
	b := ir.NewBuilder(g, pass, op.InferNode)
	probes := make([]*ir.Value, len(layers))
	var seeds []grad.Seed
	for i, w := range wrt {
		if probes[i], err = g.AddInput(layers[i]+probeSuffix, w.Type.Clone()); err != nil {
			return nil, err
		}
		if first[i] != nil {
			seeds = append(seeds, grad.Seed{Value: first[i], Cotangent: probes[i]})
		}
	}
	opt.Skip = crossing(g, wrt, first)
	second, err := grad.Gradients(g, seeds, wrt, opt)
	if err != nil {
		return nil, err
	}
	outputs := make([]*ir.Value, 0, len(layers))
	for i, hv := range second {
		b.Site = layers[i]
		if hv == nil {
			hv = b.Op("Sub", []*ir.Value{probes[i], probes[i]})
		}
		curve := inner(b, probes[i], hv)
		if b.Err() != nil {
			return nil, b.Err()
		}
		if err := g.Rename(curve, layers[i]+curveSuffix); err != nil {
			return nil, err
		}
		outputs = append(outputs, curve)
	}
	if err := g.SetOutputs(outputs...); err != nil {
		return nil, err
	}
	if err := prune(g); err != nil {
		return nil, err
	}
	if err := joinFactors(g, probes); err != nil {
		return nil, err
	}
	return c, prune(g)
}

// inner is the inner product of a probe and what is made for it, a sum of gradients of convolutions by their weights as a rule. As
// those are bilinear, <v, ConvWeightGrad(x, d)> = <Conv(x, v), d> = <x, ConvInputGrad(d, v)>, and the Hessian's product needed one of
// the two already: no gradient by weights is computed, a third of all work.
func inner(b *ir.Builder, v, hv *ir.Value) *ir.Value {
	n := hv.Producer()
	if n != nil && n.Pass == pass && len(n.Outputs()) == 1 {
		switch {
		case n.Is("Add") && same(n.Input(0), hv) && same(n.Input(1), hv):
			return b.Op("Add", []*ir.Value{inner(b, v, n.Input(0)), inner(b, v, n.Input(1))})
		case n.Domain == grad.Domain && n.Op == grad.ConvWeightGrad:
			x, d := n.Input(0), n.Input(1)
			for _, u := range v.Uses() {
				m := u.Node
				if u.Index != 1 || m.Graph() != n.Graph() || !geometry(m, n) {
					continue
				}
				switch {
				case m.Is("Conv") && m.Input(0) == x && m.Input(2) == nil && same(m.Output(0), d):
					return total(b, m.Output(0), d)
				case m.Domain == grad.Domain && m.Op == grad.ConvInputGrad && m.Input(0) == d && same(m.Output(0), x):
					return total(b, x, m.Output(0))
				}
			}
		}
	}
	return total(b, v, hv)
}

// total is the sum of the products of all elements.
func total(b *ir.Builder, x, y *ir.Value) *ir.Value {
	var axes []int64
	for i := range x.Shape() {
		axes = append(axes, int64(i))
	}
	return b.Op("ReduceSum", []*ir.Value{b.Op("Mul", []*ir.Value{x, y}), b.Int64s(axes...)}, ir.AInt("keepdims", 0))
}

// geometry reports that the windows of two nodes that belong to one convolution move alike.
func geometry(a, b *ir.Node) bool {
	pads := func(n *ir.Node) []int64 {
		p := slices.Clone(n.Ints("pads"))
		for i := range p {
			p[i] = max(p[i], 0)
		}
		return p
	}
	for _, name := range []string{"kernel_shape", "strides", "dilations"} {
		if !slices.Equal(a.Ints(name), b.Ints(name)) {
			return false
		}
	}
	return a.Int("group", 1) == b.Int("group", 1) && slices.Equal(pads(a), pads(b))
}

func same(a, b *ir.Value) bool {
	x, okX := a.StaticDims()
	y, okY := b.StaticDims()
	return okX && okY && slices.Equal(x, y)
}

// prune removes nodes that no output needs.
func prune(g *ir.Graph) error {
	for n := g.Last(); n != nil; {
		prev, used := n.Prev(), false
		for _, v := range n.Outputs() {
			used = used || v.Used()
		}
		if !used {
			if err := g.Remove(n); err != nil {
				return err
			}
		}
		n = prev
	}
	return nil
}
