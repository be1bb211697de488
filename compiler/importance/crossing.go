package importance

import (
	"math/big"

	"mqatc/onnx/ir"
)

// crossing reports the edges of a network and its first gradient that lie on no path from a layer's weights to the gradient by the
// same weights. They only carry derivatives of one layer's gradient by another's weights, which have mean zero in v . (Hv) as probes
// of two layers are independent: without them every block of the Hessian's diagonal is exact, products cost less, and estimates
// scatter less.
func crossing(g *ir.Graph, weights, gradients []*ir.Value) func(n *ir.Node, input int) bool {
	from := map[*ir.Value]*big.Int{} // layers whose weights a value depends on
	to := map[*ir.Node]*big.Int{}    // layers whose gradients depend on a node
	none := new(big.Int)
	set := func(v *ir.Value) *big.Int {
		if s := from[v]; s != nil {
			return s
		}
		return none
	}
	for i, w := range weights {
		from[w] = new(big.Int).SetBit(new(big.Int).Set(set(w)), i, 1)
	}
	for n := g.First(); n != nil; n = n.Next() {
		s := new(big.Int)
		for _, v := range outer(n, g) {
			s.Or(s, set(v))
		}
		for _, o := range n.Outputs() {
			from[o] = s
		}
	}
	ends := map[*ir.Value]*big.Int{}
	for i, v := range gradients {
		if v == nil {
			continue
		}
		if ends[v] == nil {
			ends[v] = new(big.Int)
		}
		ends[v].SetBit(ends[v], i, 1)
	}
	for n := g.Last(); n != nil; n = n.Prev() {
		s := new(big.Int)
		for _, o := range n.Outputs() {
			if e := ends[o]; e != nil {
				s.Or(s, e)
			}
		}
		to[n] = s
		for _, v := range outer(n, g) {
			if ends[v] == nil {
				ends[v] = new(big.Int)
			}
			ends[v].Or(ends[v], s)
		}
	}
	return func(n *ir.Node, input int) bool {
		return to[n] != nil && new(big.Int).And(set(n.Input(input)), to[n]).Sign() == 0
	}
}
