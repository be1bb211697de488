package distill

import "mqatc/onnx/ir"

// selects are operators whose result depends on which elements win: a small change of their input may change all of it.
var selects = map[string]bool{"NonMaxSuppression": true, "TopK": true, "NonZero": true, "Compress": true, "Unique": true}

// Raw lists, in graph order, the values that a detector's post-processing selects from: float values computed from the inputs that stand
// before any selection, and that nodes behind one, or one itself, read on the way to an output. What a region operator cuts features
// out of is none of them, as a head follows. Outputs of the graph are left out.
//
// Outputs behind a selection are no sure guide in training: scores that only decide what is selected have no gradient there.
func Raw(g *ir.Graph) []*ir.Value {
	depends, behind := map[*ir.Value]bool{}, map[*ir.Value]bool{}
	for _, v := range g.Inputs() {
		depends[v] = !v.IsInitializer()
	}
	needed := map[*ir.Node]bool{}
	nodes := g.Nodes()
	for i := len(nodes) - 1; i >= 0; i-- {
		for _, o := range nodes[i].Outputs() {
			needed[nodes[i]] = needed[nodes[i]] || o.IsOutput()
			for _, u := range o.Uses() {
				needed[nodes[i]] = needed[nodes[i]] || needed[u.Node]
			}
		}
	}
	var out []*ir.Value
	seen := map[*ir.Value]bool{}
	for _, n := range nodes {
		after := selects[n.Op]
		on := false
		for _, v := range n.Inputs() {
			if v != nil {
				after, on = after || behind[v], on || depends[v]
			}
		}
		for _, o := range n.Outputs() {
			depends[o], behind[o] = on, after && on
		}
		if !after || !needed[n] {
			continue
		}
		for k, v := range n.Inputs() {
			cut := k == 0 && (n.Op == "RoiAlign" || n.Op == "MaxRoiPool")
			if v == nil || cut || seen[v] || !depends[v] || behind[v] || v.IsOutput() || v.IsInput() || v.DType() != ir.Float32 || !v.Shape().HasRank() {
				continue
			}
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}
