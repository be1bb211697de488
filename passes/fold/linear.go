package fold

import (
	"math"
	"slices"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/passes/pass"
)

// linear merges affine functions per channel into the Conv, ConvTranspose or Gemm before them.
func linear(c *pass.Ctx, m *ir.Model) (bool, error) {
	changed := false
	for _, g := range pass.Graphs(m.Graph) {
		for _, n := range g.Nodes() {
			for n.Graph() != nil {
				did, err := absorb(c, g, n)
				if err != nil {
					return changed, c.Errorf(n, "%w", err)
				}
				if !did {
					break
				}
				changed = true
			}
		}
	}
	return changed, nil
}

// layer is a linear node with constant weights that it alone reads.
type layer struct {
	n        *ir.Node
	weight   *ir.Value
	w        []float64
	channels int
	rank     int             // of the output
	channel  func(i int) int // output channel of weight element i
	beta     float64         // factor of the bias
}

func layerOf(g *ir.Graph, n *ir.Node) (*layer, bool) {
	w := n.Input(1)
	t, f, ok := constFloats(w)
	if !ok || n.Domain != "" || w.Graph() != g || len(w.Uses()) != 1 || w.IsOutput() {
		return nil, false
	}
	d := t.Dims()
	l := &layer{n: n, weight: w, w: f, rank: len(d), beta: 1}
	switch n.Op {
	case "Conv":
		if len(d) < 3 || len(f) == 0 {
			return nil, false
		}
		l.channels = int(d[0])
		per := len(f) / l.channels
		l.channel = func(i int) int { return i / per }
	case "ConvTranspose":
		group := n.Int("group", 1)
		if len(d) < 3 || len(f) == 0 || group < 1 || d[0]%group != 0 {
			return nil, false
		}
		l.channels = int(d[1] * group)
		taps := len(f) / int(d[0]*d[1])
		outs, ins := int(d[1]), int(d[0]/group)
		l.channel = func(i int) int { return i/(taps*outs)/ins*outs + i/taps%outs }
	case "Gemm":
		if len(d) != 2 || len(f) == 0 {
			return nil, false
		}
		l.beta = float64(n.Float("beta", 1))
		cols := int(d[1])
		l.channels = cols
		l.channel = func(i int) int { return i % cols }
		if n.Int("transB", 0) != 0 {
			l.channels = int(d[0])
			l.channel = func(i int) int { return i / cols }
		}
	default:
		return nil, false
	}
	return l, true
}

// absorb merges the only reader of n's output into n, if it can.
func absorb(c *pass.Ctx, g *ir.Graph, n *ir.Node) (bool, error) {
	out := n.Output(0)
	if out == nil || out.IsOutput() || len(out.Uses()) != 1 {
		return false, nil
	}
	next := out.Uses()[0].Node
	if next.Graph() != g || next.Output(0) == nil {
		return false, nil
	}
	l, ok := layerOf(g, n)
	if !ok {
		return false, nil
	}
	a, ok := affineOf(next, out, l.rank, l.channels)
	if !ok || !pass.CanReplace(next.Output(0), out) {
		return false, nil
	}
	bias, ok := l.bias()
	if !ok {
		return false, nil
	}
	for i := range l.w {
		l.w[i] *= a.scale[l.channel(i)]
	}
	for i := range bias {
		bias[i] = (l.beta*bias[i]*a.scale[i] + a.shift[i]) / l.beta
	}
	d := l.weight.DType()
	if !representable(l.w, d) || !representable(bias, d) {
		c.Note("%v stays: merging it into %v would leave the range of %v", next, n, d)
		return false, nil
	}
	if err := l.store(g, bias); err != nil {
		return false, err
	}
	old := next.Output(0)
	out.Type = old.Type.Clone()
	if err := pass.Replace(old, out); err != nil {
		return false, err
	}
	return true, g.Remove(next)
}

// bias is a copy of the layer's bias per channel, zeros where it has none; ok is false when it is not constant per channel. The
// weights are copied too, for the caller to change.
func (l *layer) bias() (b []float64, ok bool) {
	l.w = append([]float64(nil), l.w...)
	if l.n.Input(2) == nil {
		l.beta = 1
		return make([]float64, l.channels), true
	}
	if l.beta == 0 {
		return nil, false
	}
	rank := 1
	if l.n.Op == "Gemm" {
		rank = 2
	}
	if rank == 2 {
		b, ok = perChannel(l.n.Input(2), 2, l.channels)
	} else {
		b, ok = vector(l.n.Input(2), l.channels)
	}
	return append([]float64(nil), b...), ok
}

// store writes the changed weights and bias. The bias keeps its name and place if nobody else reads it.
func (l *layer) store(g *ir.Graph, bias []float64) error {
	t, err := pack(l.w, l.weight.Init())
	if err != nil {
		return err
	}
	if err := g.SetInit(l.weight, t); err != nil {
		return err
	}
	old := l.n.Input(2)
	if old == nil && !slices.ContainsFunc(bias, func(b float64) bool { return b != 0 }) {
		return nil
	}
	dims := []int64{int64(l.channels)}
	if old != nil && len(old.Init().Dims()) == 2 {
		dims = []int64{1, int64(l.channels)}
	}
	like, err := floats(make([]float64, l.channels), t.DType(), dims)
	if err != nil {
		return err
	}
	if old != nil && old.Graph() == g && len(old.Uses()) == 1 && !old.IsOutput() {
		like.Doc, like.Meta = old.Init().Doc, old.Init().Meta
		b, err := pack(bias, like)
		if err != nil {
			return err
		}
		return g.SetInit(old, b)
	}
	b, err := pack(bias, like)
	if err != nil {
		return err
	}
	v, err := g.AddInitializer(g.FreshName(biasName(l.weight.Name())), b)
	if err != nil {
		return err
	}
	if l.n.Op == "Gemm" && old == nil {
		l.n.RemoveAttr("beta")
	}
	return g.SetInput(l.n, 2, v)
}

// biasName derives a bias's name from its weight's: conv1.weight gives conv1.bias.
func biasName(w string) string {
	if stem, ok := strings.CutSuffix(w, ".weight"); ok {
		return stem + ".bias"
	}
	return w + "_bias"
}

// pack makes a tensor like t with other elements.
func pack(v []float64, t *ir.Tensor) (*ir.Tensor, error) {
	out, err := floats(v, t.DType(), t.Dims())
	if err == nil {
		out.Doc, out.Meta, out.Name = t.Doc, t.Meta.Clone(), t.Name
	}
	return out, err
}

func floats(v []float64, d ir.DType, dims []int64) (*ir.Tensor, error) {
	if d == ir.Float64 {
		return ir.FromFloat64s(append([]float64(nil), v...), dims...)
	}
	f := make([]float32, len(v))
	for i, x := range v {
		f[i] = float32(x)
	}
	return ir.FromFloat32s(f, dims...)
}

func representable(v []float64, d ir.DType) bool {
	limit := math.MaxFloat64
	if d == ir.Float32 {
		limit = math.MaxFloat32
	}
	for _, x := range v {
		if !(math.Abs(x) <= limit) {
			return false
		}
	}
	return true
}
