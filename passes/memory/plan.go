package memory

import (
	"slices"

	"mqatc/onnx/ir"
)

// renames are operators whose first output is their first input in another shape.
var renames = map[string]bool{"Reshape": true, "Flatten": true, "Squeeze": true, "Unsqueeze": true, "Identity": true, "Dropout": true}

// inPlace are operators that write into the buffer of their first input where nobody reads that any more.
var inPlace = map[string]bool{
	"Relu": true, "LeakyRelu": true, "Elu": true, "Selu": true, "Sigmoid": true, "HardSigmoid": true, "Tanh": true, "Softplus": true,
	"Softsign": true, "ThresholdedRelu": true, "Clip": true, "Cast": true,
}

// alignment is what onnxruntime's arena rounds sizes up to.
const alignment = 256

// buffer is a piece of memory that one or several values use in turn.
type buffer struct {
	bytes       int64
	dims        []int64
	width       int // bits of an element
	first, last int // places in the order
	uses        int // reads that are left while planning
	outside     bool
}

type plan struct {
	g       *ir.Graph
	of      map[*ir.Value]*buffer
	all     []*buffer
	unsized int
}

// newPlan gives every value a buffer.
func newPlan(g *ir.Graph, order []*ir.Node) *plan {
	p := &plan{g: g, of: map[*ir.Value]*buffer{}}
	reads := map[*ir.Value]int{}
	for _, n := range order {
		for _, v := range reader(g, n, nil) {
			reads[v]++
		}
	}
	var free []*buffer // latest first
	for i, n := range order {
		for k, v := range n.Outputs() {
			if v.Name() == "" {
				continue
			}
			p.place(n, k, v, reads[v], i, &free)
		}
		for _, v := range reader(g, n, nil) {
			b := p.of[v]
			if b == nil || b.outside {
				continue
			}
			b.last = i
			if b.uses--; b.uses == 0 {
				free = slices.Insert(free, 0, b)
			}
		}
		for _, v := range n.Outputs() {
			if b := p.of[v]; b != nil && !b.outside && b.uses == 0 && reads[v] == 0 {
				free = slices.Insert(free, 0, b)
			}
		}
	}
	return p
}

// place finds the buffer of output k of n.
func (p *plan) place(n *ir.Node, k int, v *ir.Value, reads, at int, free *[]*buffer) {
	if v.IsOutput() {
		p.of[v] = &buffer{outside: true}
		return
	}
	std := n.Domain == ""
	if std && k == 0 && renames[n.Op] && n.Input(0) != nil {
		b := p.of[n.Input(0)]
		if b == nil {
			b = &buffer{outside: true}
		}
		b.uses += reads
		b.last = at
		p.of[v] = b
		return
	}
	bytes := Size(v)
	if bytes == 0 {
		p.unsized++
	}
	dims, _ := v.StaticDims()
	if x := n.Input(0); std && k == 0 && inPlace[n.Op] && x != nil {
		if b := p.of[x]; b != nil && !b.outside && b.uses == 1 && b.width == v.DType().Bits() && slices.Equal(shape(x), dims) {
			b.uses += reads
			b.last = at
			p.of[v] = b
			return
		}
	}
	for i, b := range *free {
		if len(dims) > 0 && b.width == v.DType().Bits() && slices.Equal(b.dims, dims) {
			*free = slices.Delete(*free, i, i+1)
			b.uses, b.last = reads, at
			p.of[v] = b
			return
		}
	}
	b := &buffer{bytes: (bytes + alignment - 1) / alignment * alignment, dims: dims, width: v.DType().Bits(), first: at, last: at, uses: reads}
	p.of[v], p.all = b, append(p.all, b)
}

func shape(v *ir.Value) []int64 {
	d, _ := v.StaticDims()
	return d
}

// reader lists the values of g that n, or a graph inside it, reads, as often as it does.
func reader(g *ir.Graph, n *ir.Node, out []*ir.Value) []*ir.Value {
	for _, v := range n.Inputs() {
		if v != nil && v.Graph() == g {
			out = append(out, v)
		}
	}
	for _, s := range n.Subgraphs() {
		for m := s.First(); m != nil; m = m.Next() {
			out = reader(g, m, out)
		}
		for _, o := range s.Outputs() {
			if o.Graph() == g {
				out = append(out, o)
			}
		}
	}
	return out
}

// peak is the largest sum of buffers in use at a time.
func (p *plan) peak(order []*ir.Node) Use {
	u := Use{Unsized: p.unsized}
	change := make([]int64, len(order)+1)
	for _, b := range p.all {
		change[b.first] += b.bytes
		change[b.last+1] -= b.bytes
	}
	var now int64
	for i, n := range order {
		now += change[i]
		u.Scratch = max(u.Scratch, scratch(n))
		if all := now + scratch(n); all > u.Peak {
			u.Peak, u.At = all, n
		}
	}
	return u
}

// scratch is what a kernel allocates while it runs: the columns that a convolution multiplies, for one image and group, where it does
// not take them piece by piece (MlasConvPrepare), and all of them for a transposed one; the indices of a ScatterElements as int64.
func scratch(n *ir.Node) int64 {
	if n.Op == "ScatterElements" && n.Domain == "" {
		return 8 * product(shape(n.Input(1)))
	}
	if n.Domain != "" && n.Op != "FusedConv" {
		return 0
	}
	if n.Op != "Conv" && n.Op != "FusedConv" && n.Op != "ConvTranspose" || n.Input(0) == nil || n.Input(1) == nil || n.Output(0) == nil {
		return 0
	}
	x, w, y := shape(n.Input(0)), shape(n.Input(1)), shape(n.Output(0))
	if len(x) < 3 || len(w) != len(x) || len(y) != len(x) {
		return 0
	}
	group := max(n.Int("group", 1), 1)
	if n.Op == "ConvTranspose" {
		return 4 * product(w[1:]) * product(x[2:])
	}
	pointwise := product(w[2:]) == 1
	for _, s := range n.Ints("strides") {
		pointwise = pointwise && s == 1
	}
	outs := product(y[2:])
	if pointwise || w[0]/group <= outs || group > 1 && w[1] == 1 {
		return 0
	}
	return 4 * product(w[1:]) * outs
}

func product(d []int64) int64 {
	n := int64(1)
	for _, v := range d {
		n *= v
	}
	return n
}
