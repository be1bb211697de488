package equalize

import (
	"math"
	"slices"

	"mqatc/onnx/ir"
)

// Region is a set of values that can be multiplied by one positive factor, or one per channel, without changing what the network
// computes: layers make all of them and read all of them, and what stands between commutes with the factor.
type Region struct {
	Values   []*ir.Value // in graph order
	Channels int         // along axis 1; 1 where only one factor for all will do
	makers   []*ir.Node  // layers that make a value of it
	readers  []*ir.Node  // layers that read one
	clips    []*ir.Node  // Clips from 0 to a bound, and Mins with constant bounds, which grow with the factor
}

// Name is the name of the first value.
func (r *Region) Name() string { return r.Values[0].Name() }

// perChannel lists operators that commute with positive factors per channel: f(s*x) = s*f(x).
var perChannel = map[string]bool{
	"Relu": true, "LeakyRelu": true, "PRelu": true, "Identity": true, "Dropout": true, "MaxPool": true, "AveragePool": true, "LpPool": true,
	"GlobalAveragePool": true, "GlobalMaxPool": true, "Add": true, "Sub": true, "Sum": true, "Max": true, "Min": true, "Mean": true,
}

// oneFactor lists operators that commute with one positive factor: they move data between channels.
var oneFactor = map[string]bool{
	"Reshape": true, "Transpose": true, "Flatten": true, "Squeeze": true, "Unsqueeze": true, "Slice": true, "Split": true, "Expand": true,
	"Tile": true, "DepthToSpace": true, "SpaceToDepth": true, "Concat": true, "ReduceMean": true, "ReduceMax": true, "ReduceSum": true,
}

// operands says how many inputs of an operator are data; the others are shapes and the like.
func operands(n *ir.Node) []*ir.Value {
	switch n.Op {
	case "Add", "Sub", "Sum", "Max", "Min", "Mean", "Concat":
		return n.Inputs()
	}
	return n.Inputs()[:min(1, len(n.Inputs()))]
}

type finder struct {
	g       *ir.Graph
	up      map[*ir.Value]*ir.Value
	fixed   map[*ir.Value]bool // values that nothing may scale
	one     map[*ir.Value]bool // values whose region has one factor
	layers  []*ir.Node
	clips   []*ir.Node
	weights map[*ir.Value]*ir.Node // first layer that reads a weight
	biases  map[*ir.Value]*ir.Node
}

// Regions finds the regions of g in graph order. A weight that several layers share joins what they read, and what they make.
func Regions(g *ir.Graph) []*Region {
	f := &finder{g: g, up: map[*ir.Value]*ir.Value{}, fixed: map[*ir.Value]bool{}, one: map[*ir.Value]bool{},
		weights: map[*ir.Value]*ir.Node{}, biases: map[*ir.Value]*ir.Node{}}
	for _, v := range g.Inputs() {
		f.fixed[v] = true
	}
	for n := g.First(); n != nil; n = n.Next() {
		f.visit(n)
	}
	return f.collect()
}

func (f *finder) find(v *ir.Value) *ir.Value {
	for f.up[v] != nil {
		v = f.up[v]
	}
	return v
}

func (f *finder) join(a, b *ir.Value) {
	if a, b = f.find(a), f.find(b); a != b {
		f.up[b] = a
	}
}

func (f *finder) visit(n *ir.Node) {
	switch {
	case n.Is("Shape"), n.Is("Size"):
		return
	case f.layer(n):
	case capped(n):
		f.join(n.Input(0), n.Output(0))
		f.clips = append(f.clips, n)
	case n.Domain == "" && perChannel[n.Op] && f.pass(n):
	case n.Domain == "" && oneFactor[n.Op] && f.pass(n):
		f.one[n.Output(0)] = true
	case (n.Is("Resize") || n.Is("Upsample") || n.Is("Pad") || n.Is("Clip")) && commutes(n) && f.pass(n):
		if n.Is("Pad") { // may shift channels
			f.one[n.Output(0)] = true
		}
	case bound(n) > 0 && f.pass(n):
		f.clips = append(f.clips, n)
	case (n.Is("Mul") || n.Is("Div")) && scalar(n.Input(1)) && !wider(n.Input(1), n.Input(0)) && f.pass(n):
	default:
		f.stop(n)
	}
	for _, o := range n.Outputs() {
		if o.IsOutput() || o.DType() != ir.Float32 {
			f.fixed[o] = true
		}
		for _, u := range o.Uses() {
			if u.Node.Graph() != f.g {
				f.fixed[o] = true
			}
		}
	}
}

// stop fixes everything around a node.
func (f *finder) stop(n *ir.Node) {
	for _, v := range n.Inputs() {
		if v != nil {
			f.fixed[v] = true
		}
	}
	for _, v := range n.Outputs() {
		f.fixed[v] = true
	}
}

// pass joins the data inputs of a node with its outputs; false where one is a constant or an output beside the first is read.
func (f *finder) pass(n *ir.Node) bool {
	y := n.Output(0)
	data := operands(n)
	if y == nil || len(data) == 0 || n.Is("PRelu") && (n.Input(1) == nil || n.Input(1).Init() == nil) {
		return false
	}
	for i, o := range n.Outputs() {
		if i > 0 && o.Used() && !n.Is("Split") {
			return false
		}
	}
	rank := -1
	for _, x := range data {
		if x == nil || x.Init() != nil || x.SparseInit() != nil || !x.Shape().HasRank() {
			return false
		}
		// Operands that broadcast their channels do not share factors by channel.
		if rank >= 0 && len(x.Shape()) != rank {
			return false
		}
		rank = len(x.Shape())
	}
	for _, x := range data {
		f.join(x, y)
	}
	if n.Is("Split") {
		for _, o := range n.Outputs() {
			f.join(y, o)
		}
	}
	return true
}

// layer takes a Conv, ConvTranspose or Gemm with a constant weight as a border: false where it is none.
func (f *finder) layer(n *ir.Node) bool {
	if !(n.Is("Conv") || n.Is("ConvTranspose") || n.Is("Gemm")) {
		return false
	}
	x, w, b, y := n.Input(0), n.Input(1), n.Input(2), n.Output(0)
	if x == nil || y == nil || x == w || !onlyAt(w, 1) || n.Int("transA", 0) != 0 || len(w.Init().Dims()) < 2 {
		return false
	}
	if b != nil && (!onlyAt(b, 2) || channels(y) != int(b.Init().Len()) || last(b.Init().Dims()) != b.Init().Len()) {
		return false
	}
	if x.IsInitializer() {
		f.fixed[x] = true
	}
	if o := f.weights[w]; o != nil {
		f.join(o.Input(0), x)
		f.join(o.Output(0), y)
	} else {
		f.weights[w] = n
	}
	if b != nil {
		if o := f.biases[b]; o != nil {
			f.join(o.Output(0), y)
		} else {
			f.biases[b] = n
		}
	}
	f.layers = append(f.layers, n)
	return true
}

// onlyAt reports whether v is a float constant that layers of one kind of shape read, all at input index.
func onlyAt(v *ir.Value, index int) bool {
	if v == nil || v.Init() == nil || v.Init().DType() != ir.Float32 || v.IsInput() || v.IsOutput() {
		return false
	}
	first := v.Uses()[0].Node
	for _, u := range v.Uses() {
		n := u.Node
		if u.Index != index || n.Op != first.Op || n.Domain != "" || n.Graph() != v.Graph() ||
			n.Int("group", 1) != first.Int("group", 1) || n.Int("transB", 0) != first.Int("transB", 0) {
			return false
		}
	}
	return true
}

// channels is the size of axis 1, 0 where it is unknown.
func channels(v *ir.Value) int {
	if s := v.Shape(); len(s) >= 2 && s[1].Known() {
		return int(s[1].Size)
	}
	return 0
}

// scalar reports a finite constant of one element.
func scalar(v *ir.Value) bool {
	if v == nil || v.Init() == nil || v.Init().Len() != 1 {
		return false
	}
	x, err := v.Init().Floats()
	return err == nil && x[0]-x[0] == 0
}

// commutes reports whether a Resize, Pad or Clip with its present constants scales with its input.
func commutes(n *ir.Node) bool {
	switch n.Op {
	case "Resize", "Upsample":
		return n.Str("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"
	case "Pad":
		v := n.Input(2)
		return v == nil || scalar(v) && floats(v)[0] == 0
	}
	for i, want := range []float64{0, math.Inf(1)} {
		v := n.Input(i + 1)
		switch {
		case v == nil:
		case !scalar(v):
			return false
		case i == 0 && floats(v)[0] != want, i == 1 && floats(v)[0] < math.MaxFloat32:
			return false
		}
	}
	return true
}

// bound is the upper bound of a Clip from 0 to a finite constant, 0 for anything else.
func bound(n *ir.Node) float64 {
	if !n.Is("Clip") || !scalar(n.Input(1)) || !scalar(n.Input(2)) || floats(n.Input(1))[0] != 0 || n.Input(2).Init().DType() != ir.Float32 {
		return 0
	}
	if hi := floats(n.Input(2))[0]; hi > 0 && hi < math.MaxFloat32 {
		return hi
	}
	return 0
}

// wider reports a constant of higher rank than x, which it would broadcast.
func wider(c, x *ir.Value) bool {
	return x == nil || !x.Shape().HasRank() || len(c.Init().Dims()) > len(x.Shape())
}

func last(d []int64) int64 {
	if len(d) == 0 {
		return 0
	}
	return d[len(d)-1]
}

// capped reports Min(x, bounds) with one positive constant bound, or one per channel.
func capped(n *ir.Node) bool {
	x, v := n.Input(0), n.Input(1)
	if !n.Is("Min") || len(n.Inputs()) != 2 || x == nil || x.Init() != nil || v == nil || v.Init() == nil || v.Init().DType() != ir.Float32 {
		return false
	}
	d := v.Init().Dims()
	if wider(v, x) {
		return false
	}
	if n := v.Init().Len(); n != 1 && (len(d) != len(x.Shape())-1 || int(n) != channels(x) || int64(n) != d[0]) {
		return false
	}
	return !slices.ContainsFunc(floats(v), func(b float64) bool { return !(b > 0) || b > math.MaxFloat32 })
}

func floats(v *ir.Value) []float64 {
	f, err := v.Init().Floats()
	if err != nil {
		return []float64{math.NaN()}
	}
	return f
}

// collect lists the regions that nothing fixes and that have a layer at both ends.
func (f *finder) collect() []*Region {
	// A refused layer, or another reader, fixed these constants: no layer that shares them may be scaled there.
	for _, n := range f.layers {
		if f.fixed[n.Input(1)] {
			f.fixed[n.Input(0)], f.fixed[n.Output(0)] = true, true
		}
		if b := n.Input(2); b != nil && f.fixed[b] {
			f.fixed[n.Output(0)] = true
		}
	}
	fixed, one := map[*ir.Value]bool{}, map[*ir.Value]bool{}
	for v := range f.fixed {
		fixed[f.find(v)] = true
	}
	for v := range f.one {
		one[f.find(v)] = true
	}
	var out []*Region
	regions := map[*ir.Value]*Region{}
	for n := f.g.First(); n != nil; n = n.Next() {
		for _, v := range n.Outputs() {
			root := f.find(v)
			if fixed[root] {
				continue
			}
			r := regions[root]
			if r == nil {
				r = &Region{Channels: channels(v)}
				regions[root] = r
				out = append(out, r)
			}
			if c := channels(v); c != r.Channels || one[root] || c == 0 {
				r.Channels = 1
			}
			r.Values = append(r.Values, v)
		}
	}
	for _, n := range f.layers {
		if r := regions[f.find(n.Output(0))]; r != nil {
			r.makers = append(r.makers, n)
		}
		if r := regions[f.find(n.Input(0))]; r != nil {
			r.readers = append(r.readers, n)
		}
	}
	for _, n := range f.clips {
		if r := regions[f.find(n.Output(0))]; r != nil {
			r.clips = append(r.clips, n)
		}
	}
	kept := out[:0]
	for _, r := range out {
		if len(r.makers) > 0 && len(r.readers) > 0 {
			kept = append(kept, r)
		}
	}
	return kept
}
