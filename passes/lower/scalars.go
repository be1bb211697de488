package lower

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// spellOut gives single numbers the rank of what they are combined with where that ends in axes of size 1: onnxruntime's broadcasting
// takes one element at a time there otherwise, 70 times slower.
func spellOut(g *ir.Graph) error {
	b := ir.NewBuilder(g, Info.Name, op.InferNode)
	made := map[string]*ir.Value{}
	for n := g.First(); n != nil; n = n.Next() {
		if n.Domain != "" || !binary[n.Op] || len(n.Inputs()) != 2 {
			continue
		}
		for i, v := range n.Inputs() {
			d, okV := v.StaticDims()
			like, okLike := n.Input(1 - i).StaticDims()
			if !okV || !okLike || product(d) != 1 || len(d) >= len(like) || len(like) < 2 || like[len(like)-1] != 1 || product(like) == 1 {
				continue
			}
			key := fmt.Sprint(len(like), " ", v.Name())
			if made[key] == nil {
				b.Before, b.Site = n, v.Name()
				ones := make([]int64, len(like))
				for k := range ones {
					ones[k] = 1
				}
				if x, ok := number(v); ok && v.DType() == ir.Float32 {
					made[key] = b.Floats([]float32{float32(x)}, ones...)
				} else {
					made[key] = b.Op("Reshape", []*ir.Value{v, b.Int64s(ones...)})
				}
				if err := b.Err(); err != nil {
					return err
				}
			}
			if err := g.SetInput(n, i, made[key]); err != nil {
				return err
			}
		}
	}
	return nil
}
