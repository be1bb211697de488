package importance

import (
	"mqatc/onnx/ir"
)

// The parts of a graph of Hessian-vector products, by what their values depend on.
const (
	constant = iota
	byBatch
	byProbe
)

// fewElements is the size up to which a constant is computed again in each part: the optimizer does that once, and kernels see that
// their small inputs are constants.
const fewElements = 1024

// divide cuts h into parts that hand values on by name. A part without values to compute is nil; that of the probes is there always.
func divide(h *ir.Model, layers []string) ([3]*ir.Model, error) {
	d := divider{g: h.Graph, part: map[*ir.Value]int{}, reads: map[*ir.Node][]*ir.Value{}}
	for _, v := range d.g.Inputs() {
		if v.Init() == nil {
			d.part[v] = byBatch
		}
	}
	for _, l := range layers {
		d.part[d.g.Value(l+probeSuffix)] = byProbe
	}
	for n := d.g.First(); n != nil; n = n.Next() {
		d.reads[n] = outer(n, d.g)
		most := constant
		for _, v := range d.reads[n] {
			most = max(most, d.part[v])
		}
		for _, o := range n.Outputs() {
			d.part[o] = most
		}
	}
	var out [3]*ir.Model
	want := d.g.Outputs()
	for k := byProbe; k >= constant; k-- {
		if len(want) == 0 && k != byProbe {
			continue
		}
		var mine, earlier []*ir.Value
		for _, v := range want {
			if k == byProbe || d.part[v] == k {
				mine = append(mine, v)
			} else {
				earlier = append(earlier, v)
			}
		}
		if len(mine) == 0 {
			continue
		}
		nodes, more := d.need(mine, k)
		var err error
		if out[k], err = h.Extract(nodes, mine); err != nil {
			return out, err
		}
		want = unite(earlier, more)
	}
	return out, nil
}

type divider struct {
	g     *ir.Graph
	part  map[*ir.Value]int
	reads map[*ir.Node][]*ir.Value
}

// need lists the nodes that compute values in part k, and what these read from earlier parts.
func (d *divider) need(values []*ir.Value, k int) (nodes []*ir.Node, earlier []*ir.Value) {
	want := map[*ir.Value]bool{}
	for _, v := range values {
		want[v] = true
	}
	for n := d.g.Last(); n != nil; n = n.Prev() {
		used := false
		for _, o := range n.Outputs() {
			used = used || want[o]
		}
		if !used {
			continue
		}
		nodes = append(nodes, n)
		for _, v := range d.reads[n] {
			if v.Producer() == nil || want[v] {
				continue
			}
			if d.part[v] < k && handed(v, d.part[v]) {
				earlier = unite(earlier, []*ir.Value{v})
			} else {
				want[v] = true
			}
		}
	}
	return nodes, earlier
}

// handed reports whether a value is handed on by its part instead of being computed again.
func handed(v *ir.Value, part int) bool {
	if v.Type.Kind != ir.KindTensor || v.DType() == ir.Undefined || v.DType() == ir.String {
		return false
	}
	if part != constant {
		return true
	}
	dims, ok := v.StaticDims()
	n, err := ir.NumElements(dims)
	return ok && err == nil && v.DType() == ir.Float32 && n > fewElements
}

func unite(a, b []*ir.Value) []*ir.Value {
	seen := map[*ir.Value]bool{}
	var out []*ir.Value
	for _, v := range append(append([]*ir.Value{}, a...), b...) {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

// outer lists the values of g that n or its subgraphs read.
func outer(n *ir.Node, g *ir.Graph) []*ir.Value {
	var out []*ir.Value
	for _, v := range n.Inputs() {
		if v != nil && v.Graph() == g {
			out = append(out, v)
		}
	}
	for _, s := range n.Subgraphs() {
		for m := s.First(); m != nil; m = m.Next() {
			out = append(out, outer(m, g)...)
		}
	}
	return out
}
