package memory

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Join makes one Reshape out of one of Recompute's that waits and a Reshape, Squeeze or Unsqueeze that alone reads it, as onnxruntime's
// ReshapeFusion would, which drops the computed shape and fails over it. Who adds nodes to what Recompute left calls it again.
func Join(g *ir.Graph) error {
	b := ir.NewBuilder(g, "recompute", op.InferNode)
	for n := g.First(); n != nil; n = n.Next() {
		for zero := waits(n); zero != nil && len(n.Output(0).Uses()) == 1 && !n.Output(0).IsOutput(); {
			use := n.Output(0).Uses()[0]
			next := use.Node
			dims, ok := next.Output(0).StaticDims()
			if next.Graph() != g || !ok || len(dims) == 0 || use.Index != 0 || !next.Is("Reshape") && !next.Is("Squeeze") && !next.Is("Unsqueeze") ||
				next.Output(0).IsOutput() {
				break
			}
			b.Before, b.Site = next, next.Output(0).Name()
			w := b.Op("Reshape", []*ir.Value{n.Input(0), b.Op("Add", []*ir.Value{b.Int64s(dims...), zero})})
			if err := b.Err(); err != nil {
				return fmt.Errorf("recompute: %w", err)
			}
			w.Type = next.Output(0).Type.Clone()
			if err := g.ReplaceAllUses(next.Output(0), w); err != nil {
				return fmt.Errorf("recompute: %w", err)
			}
			for _, old := range []*ir.Node{next, n} {
				if err := g.Remove(old); err != nil {
					return fmt.Errorf("recompute: %w", err)
				}
			}
			n = w.Producer()
		}
	}
	return nil
}

// waits is the zero that n, where it is a Reshape that after made, waits for; else nil.
func waits(n *ir.Node) *ir.Value {
	if !n.Is("Reshape") || n.Input(1).Producer() == nil {
		return nil
	}
	add := n.Input(1).Producer()
	if !add.Is("Add") || add.Input(0).Init() == nil || add.Input(1).Producer() == nil || !add.Input(1).Producer().Is("Cast") {
		return nil
	}
	if less := add.Input(1).Producer().Input(0).Producer(); less == nil || !less.Is("Less") || less.Input(0) != less.Input(1) {
		return nil
	}
	return add.Input(1)
}
