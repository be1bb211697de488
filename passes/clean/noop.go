package clean

import (
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/pass"
)

// noops removes nodes whose first output equals their first input. Graph outputs keep their names; a graph output that would have
// to become an input or an initializer keeps its Identity.
func noops(c *pass.Ctx, g *ir.Graph) (bool, error) {
	changed := false
	for _, n := range g.Nodes() {
		x, y := n.Input(0), n.Output(0)
		if x == nil || y == nil {
			continue
		}
		if n.Is("CastLike") && n.Input(1) != nil && n.Input(1).DType() != ir.Undefined {
			if err := castLike(g, n); err != nil {
				return changed, c.Errorf(n, "%w", err)
			}
			changed = true
		}
		if !noop(n) {
			continue
		}
		if x.Graph() != g {
			if y.IsOutput() || !replaceByOuter(y, x) {
				continue
			}
		} else {
			if !pass.CanReplace(y, x) {
				continue
			}
			if err := pass.Replace(y, x); err != nil {
				return changed, c.Errorf(n, "%w", err)
			}
		}
		if err := g.Remove(n); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// replaceByOuter lets the readers of y read x, a value of a graph around theirs.
func replaceByOuter(y, x *ir.Value) bool {
	for _, u := range y.Uses() {
		if !pass.Visible(x, u.Node.Graph()) {
			return false
		}
	}
	for _, u := range append([]ir.Use(nil), y.Uses()...) {
		if u.Node.Graph().SetInput(u.Node, u.Index, x) != nil {
			return false
		}
	}
	return true
}

func noop(n *ir.Node) bool {
	switch {
	case n.Is("Identity"):
		return true
	case n.Is("Dropout"):
		return inferenceDropout(n)
	case n.Is("Cast"):
		x := n.Input(0)
		return x.Type.Kind == ir.KindTensor && x.DType() != ir.Undefined && int64(x.DType()) == n.Int("to", -1)
	case n.Is("Concat"):
		return len(n.Inputs()) == 1
	case n.Is("Expand"), n.Is("Reshape"):
		from, ok1 := n.Input(0).StaticDims()
		to, ok2 := n.Output(0).StaticDims()
		return ok1 && ok2 && slices.Equal(from, to)
	case n.Is("Transpose"):
		perm := n.Ints("perm")
		for i, p := range perm {
			if p != int64(i) {
				return false
			}
		}
		return len(perm) > 0
	case n.Is("Pad"):
		if n.Input(1) == nil {
			return false
		}
		pads, ok := op.ConstInts(n.Input(1))
		return ok && !slices.ContainsFunc(pads, func(p int64) bool { return p != 0 })
	}
	return false
}

// castLike writes a cast to the type of another value as a cast to that type.
func castLike(g *ir.Graph, n *ir.Node) error {
	to := n.Input(1).DType()
	if err := g.SetInput(n, 1, nil); err != nil {
		return err
	}
	n.Op = "Cast"
	n.SetAttr(ir.AInt("to", int64(to)))
	return nil
}

// inferenceDropout reports whether a Dropout passes its input on: always up to opset 11, afterwards unless training_mode may be
// true. Its mask must not be read.
func inferenceDropout(n *ir.Node) bool {
	if mask := n.Output(1); mask != nil && mask.Used() {
		return false
	}
	mode := n.Input(2)
	if mode == nil {
		return true
	}
	v, ok := op.ConstInts(mode)
	return ok && len(v) == 1 && v[0] == 0
}
