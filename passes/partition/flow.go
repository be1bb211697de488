package partition

import (
	"math"

	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// flow holds what the structural rules look at: which nodes carry data from the inputs, and at which stride.
type flow struct {
	g       *ir.Graph
	order   []*ir.Node
	data    map[*ir.Node]bool    // reached from a graph input through something other than shape arithmetic
	stride  map[*ir.Node]float64 // input pixels per output pixel; 0 where there is no spatial extent
	weighty map[*ir.Node]bool    // reads a trained tensor
	layer   map[*ir.Node]bool    // reads a weight that is quantized
	shared  map[*ir.Node]bool    // reads a weight that nodes of other strides read too
	live    map[*ir.Node]bool    // before and behind layers of the first stage: neither pre- nor post-processing
	owner   map[*ir.Node]*ir.Node
}

func newFlow(g *ir.Graph, params []weights.Param) *flow {
	f := &flow{g: g, order: g.Nodes(), data: map[*ir.Node]bool{}, stride: map[*ir.Node]float64{}, weighty: map[*ir.Node]bool{},
		layer: map[*ir.Node]bool{}, shared: map[*ir.Node]bool{}, owner: map[*ir.Node]*ir.Node{}}
	for _, n := range f.order {
		f.own(n, n)
	}
	f.measure()
	for _, p := range params {
		levels := false
		for _, n := range p.Nodes {
			levels = levels || !same(f.stride[n], f.stride[p.Nodes[0]])
		}
		for _, n := range p.Nodes {
			f.weighty[n] = true
			if p.Kind == weights.Weight {
				f.layer[n] = true
			}
			if p.Kind == weights.Weight && levels {
				f.shared[n] = true
			}
		}
	}
	f.enliven()
	return f
}

// own notes which node of the graph holds the nodes of its subgraphs.
func (f *flow) own(n, holder *ir.Node) {
	f.owner[n] = holder
	for _, s := range n.Subgraphs() {
		for _, x := range s.Nodes() {
			f.own(x, holder)
		}
	}
}

// captured lists the values of the graph that the subgraphs of n read as data; with all, also as shapes, axes and the like.
func (f *flow) captured(n *ir.Node, all bool) []*ir.Value {
	var out []*ir.Value
	for _, s := range n.Subgraphs() {
		for _, x := range s.Nodes() {
			for i, v := range x.Inputs() {
				if v != nil && v.Graph() == f.g && (all || !parameterInput(x, i)) {
					out = append(out, v)
				}
			}
			out = append(out, f.captured(x, all)...)
		}
	}
	return out
}

// enliven finds the nodes between layers. What RoiAlign cuts out is a second stage of its own.
func (f *flow) enliven() {
	second := f.descendants(f.cuts(), all)
	first := func(n *ir.Node) bool { return !second[n] }
	behind, before := f.descendants(f.layer, first), f.ancestors(f.layer, first)
	f.live = map[*ir.Node]bool{}
	for n := range behind {
		f.live[n] = before[n]
	}
}

// measure follows the stride from the inputs on.
func (f *flow) measure() {
	g := f.g
	inputs := map[*ir.Value]bool{}
	for _, v := range g.Inputs() {
		if !v.IsInitializer() {
			inputs[v] = true
		}
	}
	for _, n := range f.order {
		if shapeOnly(n) {
			continue
		}
		s, first := 0.0, true
		take := func(v *ir.Value) {
			in := 0.0
			switch {
			case inputs[v]:
				in = 1
			case v.Producer() != nil && f.data[v.Producer()]:
				in = f.stride[v.Producer()]
			default:
				return
			}
			f.data[n] = true
			if first || in > s {
				s, first = in, false
			}
		}
		for i, v := range n.Inputs() {
			if v == nil || parameterInput(n, i) {
				continue
			}
			take(v)
		}
		for _, v := range f.captured(n, false) {
			take(v)
		}
		if f.data[n] {
			f.stride[n] = s * factor(n)
		}
	}
}

func shapeOnly(n *ir.Node) bool {
	switch n.Op {
	case "Shape", "Size", "Constant", "ConstantOfShape", "Range", "NonZero", "NonMaxSuppression":
		return true
	}
	return false
}

// parameterInput reports inputs that hold shapes, axes and the like.
func parameterInput(n *ir.Node, i int) bool {
	switch n.Op {
	case "Reshape", "Resize", "Upsample", "Slice", "Expand", "Tile", "Pad", "Gather", "TopK", "Split", "Unsqueeze", "Squeeze", "GatherElements",
		"GatherND", "RoiAlign", "MaxRoiPool":
		return i > 0
	case "ScatterElements", "ScatterND":
		return i == 1
	case "Where":
		return i == 0
	}
	return false
}

// factor is by how much a node multiplies the stride; 0 where the spatial extent ends.
func factor(n *ir.Node) float64 {
	first := func(name string) float64 {
		if s := n.Ints(name); len(s) > 0 {
			return float64(s[0])
		}
		return 1
	}
	switch n.Op {
	case "Conv", "MaxPool", "AveragePool", "LpPool", "FusedConv", "ConvInteger", "QLinearConv":
		return first("strides")
	case "ConvTranspose":
		return 1 / first("strides")
	case "DepthToSpace":
		return 1 / float64(max(n.Int("blocksize", 1), 1))
	case "SpaceToDepth":
		return float64(max(n.Int("blocksize", 1), 1))
	case "Resize", "Upsample":
		if r := resizeScale(n); r > 0 {
			return 1 / r
		}
		return 0.5
	case "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Gemm", "Flatten", "MatMul":
		return 0
	case "ReduceMean", "ReduceMax", "ReduceSum":
		if o := n.Output(0); o != nil && len(o.Shape()) == 4 {
			h := o.Shape()[2]
			if !h.Known() || h.Size != 1 {
				return 1
			}
		}
		return 0
	}
	return 1
}

// resizeScale is the enlargement along the rows, 0 when it cannot be told.
func resizeScale(n *ir.Node) float64 {
	in, out := n.Input(0), n.Output(0)
	if in != nil && out != nil && len(in.Shape()) == 4 && len(out.Shape()) == 4 {
		a, b := in.Shape()[2], out.Shape()[2]
		if a.Known() && b.Known() && a.Size > 0 {
			return even(float64(b.Size) / float64(a.Size))
		}
	}
	for _, v := range n.Inputs() {
		if v == nil || v.Init() == nil || !v.Init().DType().IsFloat() || v.Init().Len() != 4 {
			continue
		}
		if f, err := v.Init().Floats(); err == nil && f[2] > 0 {
			return f[2]
		}
	}
	if a := n.Attr("scales"); a != nil && len(a.Floats) == 4 {
		return float64(a.Floats[2])
	}
	return 0
}

// even rounds a scale that odd sizes made uneven to a power of two.
func even(k float64) float64 {
	if p := math.Exp2(math.Round(math.Log2(k))); k > 0.8*p && k < 1.25*p {
		return p
	}
	return k
}

// producers lists the data-carrying nodes that n reads.
func (f *flow) producers(n *ir.Node) []*ir.Node {
	var out []*ir.Node
	for i, v := range n.Inputs() {
		if v != nil && !parameterInput(n, i) && v.Producer() != nil && f.data[v.Producer()] {
			out = append(out, v.Producer())
		}
	}
	for _, v := range f.captured(n, false) {
		if p := v.Producer(); p != nil && f.data[p] {
			out = append(out, p)
		}
	}
	return out
}

// consumers lists the data-carrying nodes that read n.
func (f *flow) consumers(n *ir.Node) []*ir.Node {
	var out []*ir.Node
	seen := map[*ir.Node]bool{}
	for _, o := range n.Outputs() {
		for _, u := range o.Uses() {
			n := f.owner[u.Node]
			if n != nil && f.data[n] && !parameterInput(u.Node, u.Index) && !seen[n] {
				seen[n] = true
				out = append(out, n)
			}
		}
	}
	return out
}

// ancestors closes set under producers, within keep.
func (f *flow) ancestors(set map[*ir.Node]bool, keep func(*ir.Node) bool) map[*ir.Node]bool {
	out := map[*ir.Node]bool{}
	for i := len(f.order) - 1; i >= 0; i-- {
		n := f.order[i]
		if !keep(n) || !f.data[n] {
			continue
		}
		if set[n] {
			out[n] = true
		}
		if out[n] {
			for _, p := range f.producers(n) {
				if keep(p) {
					out[p] = true
				}
			}
		}
	}
	return out
}

// descendants closes set under consumers, within keep.
func (f *flow) descendants(set map[*ir.Node]bool, keep func(*ir.Node) bool) map[*ir.Node]bool {
	out := map[*ir.Node]bool{}
	for _, n := range f.order {
		if !keep(n) || !f.data[n] {
			continue
		}
		hit := set[n]
		for _, p := range f.producers(n) {
			hit = hit || out[p]
		}
		if hit {
			out[n] = true
		}
	}
	return out
}

func all(*ir.Node) bool { return true }

// raises reports a node among layers that enlarges the spatial extent; to spread a global average again is none.
func (f *flow) raises(n *ir.Node) bool {
	k := factor(n)
	return f.live[n] && f.stride[n] > 0 && (k > 0 && k < 1 || k == 1 && resizes(n))
}

// resizes reports a Resize of any scale: two levels of a pyramid may have the same stride.
func resizes(n *ir.Node) bool { return n.Is("Resize") || n.Is("Upsample") }

func same(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Max(a, b) }

// signature describes the weighted operations among nodes, in graph order: what a lateral or a smoothing unit looks like.
func (f *flow) signature(in map[*ir.Node]bool) []string {
	var out []string
	for _, n := range f.order {
		if in[n] && f.weighty[n] {
			if s := unitSignature(n); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

// unitSignature describes a convolution by kernel and grouping, other weighted operators by name.
func unitSignature(n *ir.Node) string {
	switch n.Op {
	case "Conv", "ConvTranspose":
		w := n.Input(1)
		if w == nil || w.Init() == nil {
			return n.Op
		}
		s := n.Op
		for _, k := range w.Init().Dims()[2:] {
			s += " " + string(rune('0'+min(k, 9)))
		}
		if n.Int("group", 1) > 1 {
			s += " grouped"
		}
		return s
	case "Mul", "Add", "BatchNormalization":
		return ""
	}
	return n.Op
}
