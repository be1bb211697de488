package target

import (
	"fmt"
	"math"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/passes/quant"
	"mqatc/passes/weights"
)

// layer is an operator that reads a weight to be quantized.
type layer struct {
	node   *ir.Node
	direct bool // the weight is input 1 itself
}

// Place computes where activation quantizers stand in m, a cleaned-up float model, when the weights called quantized (by name) are
// quantized. A target without activation type has no points.
//
// The input of each layer is quantized, for all that read the value except layers whose weight stays float: onnxruntime would
// quantize those weights by itself. With Outputs, so is the output of each Conv from which another layer can be reached, behind a
// fused activation function where there is one; layers that only a model's outputs follow keep float outputs, since that is where
// detectors lose their accuracy. Values that data movement (pooling, reshapes, slices, concatenation, ...) links share a range.
func (t Target) Place(m *ir.Model, quantized map[string]bool) (*quant.Placement, error) {
	pl := &quant.Placement{Type: t.Activation, Exact: t.Exact}
	if t.Activation == ir.Undefined {
		return pl, nil
	}
	p := &placer{t: t, g: m.Graph, points: map[*ir.Value]bool{}, float: map[*ir.Node]bool{}, layers: map[*ir.Node]layer{}}
	known := map[string]bool{}
	for _, w := range weights.Find(m.Graph) {
		if w.Kind != weights.Weight {
			continue
		}
		known[w.Value.Name()] = true
		for _, n := range w.Nodes {
			switch {
			case !quantized[w.Value.Name()]:
				p.float[n] = true
			case slices.Contains(t.Layers, n.Op) && n.Domain == "":
				p.add(n, w.Value)
			}
		}
	}
	for name, on := range quantized {
		if on && !known[name] {
			return nil, fmt.Errorf("place: %q is no weight of rank 2 or more of a Conv, ConvTranspose, Gemm or MatMul", name)
		}
	}
	p.root = p.movement()
	p.limits()
	p.run()
	p.collect(pl)
	return pl, nil
}

type placer struct {
	t      Target
	g      *ir.Graph
	layers map[*ir.Node]layer
	float  map[*ir.Node]bool // layers with a weight that stays float
	points map[*ir.Value]bool
	leads  map[*ir.Node]bool // a layer can be reached from here
	root   func(*ir.Value) *ir.Value
	limit  map[*ir.Value]float64 // by root: what bounds all values that share a range, from 0; none where there is no such
}

func (p *placer) add(n *ir.Node, w *ir.Value) {
	x := n.Input(0)
	if p.float[n] || x == nil || x.Init() != nil || x == w || x.DType() != ir.Float32 {
		return
	}
	p.layers[n] = layer{n, n.Input(1) == w}
}

// keep makes the layers around values that are to stay float run in float.
func (p *placer) keep() {
	if len(p.t.leave) == 0 {
		return
	}
	var float []*ir.Node
	for n := p.g.First(); n != nil; n = n.Next() {
		l, ok := p.layers[n]
		if !ok || p.float[n] {
			continue
		}
		out := p.integerOutput(l)
		if p.t.leave[n.Input(0).Name()] || out != nil && p.t.leave[out.Name()] {
			float = append(float, n)
		}
	}
	for _, n := range float {
		p.float[n] = true
	}
}

func (p *placer) run() {
	p.keep()
	p.leads = map[*ir.Node]bool{}
	for n := p.g.Last(); n != nil; n = n.Prev() {
		for _, o := range n.Outputs() {
			for _, u := range o.Uses() {
				at := u.Node
				for at != nil && at.Graph() != p.g {
					at = at.Graph().Parent()
				}
				if _, ok := p.layers[at]; ok || p.leads[at] {
					p.leads[n] = true
				}
			}
		}
	}
	for n := p.g.First(); n != nil; n = n.Next() {
		l, ok := p.layers[n]
		if !ok || p.float[n] {
			continue
		}
		p.points[n.Input(0)] = true
		if out := p.integerOutput(l); out != nil && p.t.Outputs && p.leads[n] {
			p.points[out] = true
		}
	}
}

// integerOutput is the value behind a Conv that must have a quantizer if the Conv is to run in integers; nil where it cannot.
func (p *placer) integerOutput(l layer) *ir.Value {
	n := l.node
	if !n.Is("Conv") || !l.direct || !constantBias(n) {
		return nil
	}
	y := n.Output(0)
	next := func() *ir.Node {
		if u := y.Uses(); len(u) == 1 && !y.IsOutput() && u[0].Node.Graph() == p.g && p.fused(u[0].Node) {
			return u[0].Node
		}
		return nil
	}
	if a := next(); a != nil {
		y = a.Output(0)
		if b := next(); b != nil && a.Is("Relu") && b.Is("Min") {
			y = b.Output(0)
		}
	}
	if y.IsOutput() {
		return nil
	}
	for _, u := range y.Uses() {
		if p.float[u.Node] || u.Node.Is("Shape") {
			return nil
		}
	}
	return y
}

func constantBias(n *ir.Node) bool { return n.Input(2) == nil || n.Input(2).Init() != nil }

// collect lists points in graph order, with their groups and exceptions, and the layers meant to run in integers.
func (p *placer) collect(pl *quant.Placement) {
	add := func(v *ir.Value) {
		if !p.points[v] {
			return
		}
		pt := quant.ActivationPoint{Value: v.Name(), Group: p.root(v).Name(), Through: through(v), Limit: p.limit[p.root(v)]}
		for _, u := range v.Uses() {
			if o := u.Node.Output(0); p.float[u.Node] && o != nil {
				pt.Except = append(pt.Except, o.Name())
			}
		}
		pl.Points = append(pl.Points, pt)
	}
	for _, v := range p.g.Inputs() {
		add(v)
	}
	for n := p.g.First(); n != nil; n = n.Next() {
		for _, o := range n.Outputs() {
			add(o)
		}
		if l, ok := p.layers[n]; ok && !p.float[n] && p.t.IntegerBias {
			if y := p.integerOutput(l); y != nil && p.points[y] {
				pl.Integer = append(pl.Integer, n.Output(0).Name())
			}
		}
	}
}

// moves lists operators whose outputs hold elements of their inputs, or zero, unchanged.
var moves = map[string]bool{
	"MaxPool": true, "Reshape": true, "Transpose": true, "Flatten": true, "Squeeze": true, "Unsqueeze": true, "Slice": true,
	"Split": true, "Identity": true, "Concat": true, "DepthToSpace": true, "SpaceToDepth": true, "Expand": true, "Tile": true,
}

// oneSign reports whether all inputs of n are known to be positive or none is. Joining both kinds would give a Relu a zero point
// other than 0, behind which no convolution runs in integers.
func (p *placer) oneSign(n *ir.Node) bool {
	positive, total := 0, 0
	for _, v := range n.Inputs() {
		if v == nil || v.Init() != nil {
			continue
		}
		total++
		if p.positive(v, 0) {
			positive++
		}
	}
	return positive == 0 || positive == total
}

func positiveClip(n *ir.Node) bool {
	lo, _, ok := clipBounds(n)
	return ok && lo >= 0
}

// fused reports an activation function that the quantizer behind it does by itself.
func (p *placer) fused(n *ir.Node) bool {
	return p.t.Fused != nil && (p.t.Fused(n) || p.limit[p.root(n.Output(0))] > 0 && bound(n) > 0)
}

// bound is the upper bound of a Clip from 0, or the least bound of a Min of constants behind Relu; 0 for anything else.
func bound(n *ir.Node) float64 {
	if n.Is("Min") && len(n.Inputs()) == 2 && n.Input(1) != nil && n.Input(1).Init() != nil && producer(n.Input(0), "Relu") != nil {
		f, err := n.Input(1).Init().Floats()
		if err != nil || len(f) == 0 || !n.Output(0).Shape().Equal(n.Input(0).Shape()) {
			return 0
		}
		return max(slices.Min(f), 0)
	}
	if lo, hi, ok := clipBounds(n); ok && lo == 0 && hi > 0 && !math.IsInf(hi, 1) {
		return hi
	}
	return 0
}

// limits finds the sets of values with one range that Clips from 0 to a bound make, all of them, behind layers.
func (p *placer) limits() {
	p.limit = map[*ir.Value]float64{}
	if p.t.Fused == nil || p.t.Activation != ir.Uint8 {
		return
	}
	free := map[*ir.Value]bool{}
	for _, v := range p.g.Inputs() {
		free[p.root(v)] = true
	}
	for n := p.g.First(); n != nil; n = n.Next() {
		for _, o := range n.Outputs() {
			r := p.root(o)
			if n.Domain == "" && moved(n) {
				for i, v := range n.Inputs() {
					if v != nil && v.IsInitializer() && (i == 0 || n.Is("Concat")) {
						free[r] = true
					}
				}
				continue
			}
			hi, x := bound(n), n.Input(0)
			if n.Is("Min") && hi > 0 {
				x = x.Producer().Input(0)
			}
			if hi == 0 || producer(x, "Conv") == nil || p.t.Exact && !onGrid(hi) {
				free[r] = true
				continue
			}
			if l, ok := p.limit[r]; !ok || hi < l {
				p.limit[r] = hi
			}
		}
	}
	for r := range free {
		delete(p.limit, r)
	}
}

// onGrid reports whether a grid of powers of two ends at the bound or little below it.
func onGrid(hi float64) bool {
	return 255*math.Exp2(math.Floor(math.Log2(hi/255)+1e-6)) >= 0.9*hi
}

// moved reports data movement.
func moved(n *ir.Node) bool {
	return moves[n.Op] || n.Op == "Resize" && n.Str("mode", "nearest") == "nearest"
}

// positive reports whether v holds no negative element, by the operators that make it.
func (p *placer) positive(v *ir.Value, depth int) bool {
	n := v.Producer()
	if n == nil || n.Domain != "" || depth > 32 {
		return false
	}
	switch {
	case clipsAtZero(n), positiveClip(n), bound(n) > 0, n.Is("Sigmoid"), n.Is("HardSigmoid"), n.Is("Softmax"):
		return true
	case moves[n.Op], n.Is("AveragePool"), n.Is("GlobalAveragePool"), n.Is("Resize"), n.Is("Add"), n.Is("Mul"):
		for i, x := range n.Inputs() {
			if x == nil || x.DType() != ir.Float32 || (i > 0 && (n.Is("Resize") || n.Is("Expand"))) {
				continue
			}
			if !p.positive(x, depth+1) {
				return false
			}
		}
		return n.Str("mode", "nearest") != "cubic"
	}
	return false
}

// movement links the values on both sides of data movement and returns one value that stands for each linked set.
func (p *placer) movement() func(*ir.Value) *ir.Value {
	up := map[*ir.Value]*ir.Value{}
	var find func(*ir.Value) *ir.Value
	find = func(v *ir.Value) *ir.Value {
		for up[v] != nil {
			v = up[v]
		}
		return v
	}
	for n := p.g.First(); n != nil; n = n.Next() {
		if n.Domain != "" || !moved(n) {
			continue
		}
		first := n.Input(0)
		if first == nil {
			continue
		}
		join := func(v *ir.Value) {
			a, b := find(first), find(v)
			if a != b {
				up[b] = a
			}
		}
		if n.Is("Concat") {
			if !p.oneSign(n) {
				continue
			}
			for _, v := range n.Inputs() {
				if v != nil && v.Init() == nil {
					join(v)
				}
			}
		}
		for _, o := range n.Outputs() {
			join(o)
		}
	}
	return find
}
