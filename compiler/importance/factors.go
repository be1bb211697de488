package importance

import (
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// joinFactors turns (a*p)*q into a*(p*q) where only a depends on a probe: the product of the factors, such as the mask of a Relu and
// the scale of a normalization, is made once per batch.
func joinFactors(g *ir.Graph, probes []*ir.Value) error {
	depends := map[*ir.Value]bool{}
	for _, v := range probes {
		depends[v] = true
	}
	b := ir.NewBuilder(g, pass, op.InferNode)
	joined := map[[2]*ir.Value]*ir.Value{}
	for n := g.First(); n != nil; {
		next, any := n.Next(), false
		for _, v := range outer(n, g) {
			any = any || depends[v]
		}
		for _, o := range n.Outputs() {
			depends[o] = any
		}
		if any {
			if a, p, q := factors(n, depends); a != nil {
				b.Before, b.Site = n, n.Output(0).Name()
				pq := joined[[2]*ir.Value{p, q}]
				if pq == nil {
					pq = b.Op("Mul", []*ir.Value{p, q})
					joined[[2]*ir.Value{p, q}], joined[[2]*ir.Value{q, p}] = pq, pq
				}
				y := b.Op("Mul", []*ir.Value{a, pq})
				if b.Err() != nil {
					return b.Err()
				}
				depends[y] = true
				if err := g.ReplaceAllUses(n.Output(0), y); err != nil {
					return err
				}
				if err := g.Remove(n); err != nil {
					return err
				}
			}
		}
		n = next
	}
	return nil
}

// factors are a, p and q of n = (a*p)*q, where a has n's size; nil where n is none such.
func factors(n *ir.Node, depends map[*ir.Value]bool) (a, p, q *ir.Value) {
	if !n.Is("Mul") {
		return nil, nil, nil
	}
	for k := range 2 {
		x, q := n.Input(k), n.Input(1-k)
		m := x.Producer()
		if depends[q] || m == nil || !m.Is("Mul") || len(x.Uses()) != 1 || x.IsOutput() || !same(x, n.Output(0)) {
			continue
		}
		for j := range 2 {
			if a, p := m.Input(j), m.Input(1-j); depends[a] && !depends[p] && same(a, x) {
				return a, p, q
			}
		}
	}
	return nil, nil, nil
}
