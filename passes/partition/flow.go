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
	shared  map[*ir.Node]bool    // reads a weight that other nodes read too
}

func newFlow(g *ir.Graph, params []weights.Param) *flow {
	f := &flow{g: g, order: g.Nodes(), data: map[*ir.Node]bool{}, stride: map[*ir.Node]float64{}, weighty: map[*ir.Node]bool{}, shared: map[*ir.Node]bool{}}
	for _, p := range params {
		for _, n := range p.Nodes {
			f.weighty[n] = true
			if p.Kind == weights.Weight && len(p.Nodes) > 1 {
				f.shared[n] = true
			}
		}
	}
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
		for i, v := range n.Inputs() {
			if v == nil || parameterInput(n, i) {
				continue
			}
			in := 0.0
			switch {
			case inputs[v]:
				in = 1
			case v.Producer() != nil && f.data[v.Producer()]:
				in = f.stride[v.Producer()]
			default:
				continue
			}
			f.data[n] = true
			if first || in > s {
				s, first = in, false
			}
		}
		if f.data[n] {
			f.stride[n] = s * factor(n)
		}
	}
	return f
}

func shapeOnly(n *ir.Node) bool {
	switch n.Op {
	case "Shape", "Size", "Constant", "ConstantOfShape", "Range", "NonZero":
		return true
	}
	return false
}

// parameterInput reports inputs that hold shapes, axes and the like.
func parameterInput(n *ir.Node, i int) bool {
	switch n.Op {
	case "Reshape", "Resize", "Upsample", "Slice", "Expand", "Tile", "Pad", "Gather", "TopK", "Split", "Unsqueeze", "Squeeze":
		return i > 0
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
			return float64(b.Size) / float64(a.Size)
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

// producers lists the data-carrying nodes that n reads.
func (f *flow) producers(n *ir.Node) []*ir.Node {
	var out []*ir.Node
	for i, v := range n.Inputs() {
		if v != nil && !parameterInput(n, i) && v.Producer() != nil && f.data[v.Producer()] {
			out = append(out, v.Producer())
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
			if f.data[u.Node] && !parameterInput(u.Node, u.Index) && !seen[u.Node] {
				seen[u.Node] = true
				out = append(out, u.Node)
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

// raises reports a node that enlarges the spatial extent.
func (f *flow) raises(n *ir.Node) bool {
	k := factor(n)
	return f.data[n] && k > 0 && k < 1
}

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
