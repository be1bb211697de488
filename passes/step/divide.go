package step

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/parts"
)

// Divide makes the step graph of m, divided into count parts of equal numbers of images; Options.Batch is that of all, a multiple of
// count, which is a power of two. Options.Lower has no say: the graphs run once Complete gave them forms. The whole step, and that of a
// part, are changed by simplify before they are divided. Results differ from those of Build by rounding. It is an error if the step mixes images in another way
// than by sums and means over them, if m has a fixed batch, and with Accumulate or Recompute.
func Divide(m *ir.Model, o Options, count int, simplify func(*ir.Graph) error) (*parts.Stages, error) {
	if count < 2 || count&(count-1) != 0 || o.Batch < int64(count) || o.Batch%int64(count) != 0 {
		return nil, fmt.Errorf("pass %s: %d images in %d parts", parts.Pass, o.Batch, count)
	}
	if o.Accumulate || o.Recompute != 0 {
		return nil, fmt.Errorf("pass %s: a step that sums gradients, or computes values again, is not divided", parts.Pass)
	}
	o.Lower = func(*ir.Model) error { return nil } // gradients of convolutions stay operators of their own
	one := o
	one.Batch /= int64(count)
	var merged [2]*ir.Model
	var made [2]*ir.Model
	for i, o := range []Options{o, one} {
		if err := o.check(); err != nil {
			return nil, fmt.Errorf("pass %s: %w", Pass, err)
		}
		var err error
		if merged[i], err = merge(m, o); err != nil {
			return nil, fmt.Errorf("pass %s: %w", Pass, err)
		}
	}
	var trained []string
	for _, p := range o.Params {
		trained = append(trained, p.Name)
	}
	means := meansOverImages(merged[0].Graph, merged[1].Graph, trained)
	for i, o := range []Options{o, one} {
		by := float32(1)
		if i == 1 {
			by = 1 / float32(count)
		}
		var err error
		if made[i], err = build(m, o, func(g *ir.Graph) error { return scaled(g, means, by) }); err != nil {
			return nil, err
		}
		if err := simplify(made[i].Graph); err != nil {
			return nil, err
		}
	}
	return parts.Cut(made[0], made[1], count, trained)
}

// Complete gives the graphs of a divided step the forms in which they run: that of a part, and those that are computed once for all.
func Complete(s *parts.Stages, part, once func(*ir.Model) error) error {
	for _, m := range []*ir.Model{s.Batch, s.Weights} {
		if m == nil {
			continue
		}
		if err := complete(m, once); err != nil {
			return err
		}
	}
	if err := complete(s.Images, part); err != nil {
		return err
	}
	return complete(s.Update, once)
}

// meansOverImages names means, of what the trained tensors have a part in, whose input has more elements for all images than for a part,
// and whose output has not.
func meansOverImages(whole, part *ir.Graph, trained []string) []string {
	same := func(a, b *ir.Value) bool {
		x, okX := a.StaticDims()
		y, okY := b.StaticDims()
		return okX && okY && slices.Equal(x, y)
	}
	learned := map[*ir.Value]bool{}
	for _, name := range trained {
		if v := part.Value(name); v != nil {
			learned[v] = true
		}
	}
	var out []string
	for _, n := range part.Nodes() {
		if !slices.ContainsFunc(n.Inputs(), func(v *ir.Value) bool { return learned[v] }) {
			continue
		}
		for _, v := range n.Outputs() {
			learned[v] = true
		}
		w := whole.Value(n.Output(0).Name())
		if n.Is("ReduceMean") && w != nil && w.Producer() != nil && same(n.Output(0), w) && !same(n.Input(0), w.Producer().Input(0)) {
			out = append(out, n.Output(0).Name())
		}
	}
	return out
}

// scaled multiplies the named values.
func scaled(g *ir.Graph, names []string, by float32) error {
	b := ir.NewBuilder(g, parts.Pass, op.InferNode)
	for _, name := range names {
		v := g.Value(name)
		b.Before, b.Site = v.Producer().Next(), name
		uses := slices.Clone(v.Uses())
		y := b.Op("Mul", []*ir.Value{v, b.Float(by)})
		if err := b.Err(); err != nil {
			return err
		}
		for _, u := range uses {
			if err := g.SetInput(u.Node, u.Index, y); err != nil {
				return err
			}
		}
		if v.IsOutput() {
			outs := slices.Clone(g.Outputs())
			outs[slices.Index(outs, v)] = y
			if err := g.SetOutputs(outs...); err != nil {
				return err
			}
		}
	}
	return nil
}
