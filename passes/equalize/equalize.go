// Package equalize scales channels of activations so that 8 bits suit them, and takes the scale back in the layers that read them:
// cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1), with
// ranges that were observed. The network computes the same function, up to the rounding of float arithmetic.
package equalize

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/pass"
)

// Info is the pass's row.
var Info = pass.Info{
	Name: "equalize",
	Doc:  "Channels of activations are scaled so that they fill the range they share, and weights behind them by the inverse.",
	After: []pass.Order{
		{Pass: "clean", Why: "weights are found as initializers"},
		{Pass: "fold", Why: "a normalization between a layer and its readers would stop the scale"},
	},
	Exact: true,
}

// Factors are scales of regions by the name of their first value: one number, or one per channel.
type Factors map[string][]float32

// Times is f and g one after the other; g has one factor per region.
func (f Factors) Times(g Factors) Factors {
	out := Factors{}
	for name, s := range f {
		out[name] = s
	}
	for name, s := range g {
		t := []float32{1}
		if f[name] != nil {
			t = append([]float32(nil), f[name]...)
		}
		for i := range t {
			t[i] *= s[0]
		}
		out[name] = t
	}
	return out
}

// New multiplies the regions that f names by their factors.
func New(f Factors) pass.Pass {
	return pass.Pass{Info: Info, Run: func(c *pass.Ctx, m *ir.Model) (bool, error) {
		changed := 0
		for _, r := range Regions(m.Graph) {
			s := f[r.Name()]
			if len(s) == 0 {
				continue
			}
			if len(s) != 1 && len(s) != r.Channels {
				return false, fmt.Errorf("%d factors for %q, which has %d channels", len(s), r.Name(), r.Channels)
			}
			for _, x := range s {
				if !(x > 0) || x-x != 0 {
					return false, fmt.Errorf("factor %g for %q: it must be positive and finite", x, r.Name())
				}
			}
			if err := r.scale(m.Graph, s); err != nil {
				return false, err
			}
			changed++
		}
		if changed < len(f) {
			return false, fmt.Errorf("%d factors, of which only %d are for regions of the network", len(f), changed)
		}
		if changed > 0 {
			c.Note("%d groups of activations scaled", changed)
		}
		return changed > 0, nil
	}}
}

// scale multiplies what makes the region by s and divides what reads it.
func (r *Region) scale(g *ir.Graph, s []float32) error {
	done := map[*ir.Value]bool{}
	for _, n := range r.makers {
		if w := n.Input(1); !done[w] {
			done[w] = true
			l, err := layoutOf(n)
			if err != nil {
				return err
			}
			if err := edit(g, w, func(i int) float64 { return float64(at(s, l.out(i))) }); err != nil {
				return err
			}
		}
		if b := n.Input(2); b != nil && !done[b] {
			done[b] = true
			channels := int(b.Init().Len())
			if err := edit(g, b, func(i int) float64 { return float64(at(s, i%channels)) }); err != nil {
				return err
			}
		}
	}
	for _, n := range r.clips {
		if err := raise(g, n, s); err != nil {
			return err
		}
	}
	done = map[*ir.Value]bool{}
	for _, n := range r.readers {
		if w := n.Input(1); !done[w] {
			done[w] = true
			l, err := layoutOf(n)
			if err != nil {
				return err
			}
			if err := edit(g, w, func(i int) float64 { return 1 / float64(at(s, l.in(i))) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// raise multiplies the bounds of a Clip or Min. A Clip whose channels get different bounds becomes Relu and Min.
func raise(g *ir.Graph, n *ir.Node, s []float32) error {
	old := n.Input(2)
	if n.Is("Min") {
		old = n.Input(1)
	}
	was := floats(old)
	bounds := make([]float32, max(len(was), len(s)))
	for c := range bounds {
		bounds[c] = scaledBound(was[min(c, len(was)-1)], at(s, c))
	}
	site := n.Output(0).Name() + "_max"
	if n.Is("Clip") && len(bounds) == 1 {
		v, err := g.AddInitializer(g.FreshName(site), ir.ScalarFloat32(bounds[0]))
		if err != nil {
			return err
		}
		return swap(g, n, 2, v)
	}
	dims := []int64{int64(len(bounds))}
	for range len(n.Input(0).Shape()) - 2 {
		dims = append(dims, 1)
	}
	t, err := ir.FromFloat32s(bounds, dims...)
	if err != nil {
		return err
	}
	v, err := g.AddInitializer(g.FreshName(site), t)
	if err != nil {
		return err
	}
	if n.Is("Min") {
		return swap(g, n, 1, v)
	}
	b := ir.NewBuilder(g, Info.Name, op.InferNode)
	b.Before, b.Site = n, n.Output(0).Name()
	y := b.Op("Min", []*ir.Value{b.Op("Relu", []*ir.Value{n.Input(0)}), v})
	if err := b.Err(); err != nil {
		return err
	}
	if err := g.ReplaceUses(n.Output(0), y); err != nil {
		return err
	}
	if err := g.Remove(n); err != nil {
		return err
	}
	return forget(g, old)
}

// swap gives a node another constant.
func swap(g *ir.Graph, n *ir.Node, input int, v *ir.Value) error {
	old := n.Input(input)
	if err := g.SetInput(n, input, v); err != nil {
		return err
	}
	return forget(g, old)
}

// forget removes an initializer that nothing reads any more.
func forget(g *ir.Graph, v *ir.Value) error {
	if v.Used() || v.IsInput() {
		return nil
	}
	return g.RemoveInitializer(v)
}

// scaledBound is hi*s, without the last bits of rounding where eight bits will do: a factor that was chosen to put the bound on the last
// step of a grid puts it there.
func scaledBound(hi float64, s float32) float32 {
	x := hi * float64(s)
	f, e := math.Frexp(x)
	if y := math.Ldexp(math.Round(f*256), e-8); math.Abs(y-x) < 1e-6*x {
		x = y
	}
	return float32(x)
}

func at(s []float32, c int) float32 {
	if len(s) == 1 {
		return s[0]
	}
	return s[c]
}

// edit multiplies the elements of an initializer.
func edit(g *ir.Graph, v *ir.Value, by func(i int) float64) error {
	old, err := v.Init().Float32s()
	if err != nil {
		return fmt.Errorf("%q: %w", v.Name(), err)
	}
	out := make([]float32, len(old))
	for i, x := range old {
		out[i] = float32(float64(x) * by(i))
	}
	t, err := ir.FromFloat32s(out, v.Init().Dims()...)
	if err != nil {
		return err
	}
	return g.SetInit(v, t)
}

// layout says which channels an element of a weight connects.
type layout struct{ in, out func(i int) int }

// layoutOf reads the weight of a Conv ([M, C/group, ...]), ConvTranspose ([C, M/group, ...]) or Gemm.
func layoutOf(n *ir.Node) (layout, error) {
	d := n.Input(1).Init().Dims()
	if len(d) < 2 {
		return layout{}, fmt.Errorf("%v: a weight of rank %d", n, len(d))
	}
	inner := 1
	for _, x := range d[2:] {
		inner *= int(x)
	}
	a, b := int(d[0]), int(d[1])
	first := func(i int) int { return i / inner / b }
	second := func(i int) int { return i / inner % b }
	if n.Is("Gemm") {
		if n.Int("transB", 0) != 0 {
			return layout{in: second, out: first}, nil
		}
		return layout{in: first, out: second}, nil
	}
	group := int(n.Int("group", 1))
	if group < 1 || a%group != 0 {
		return layout{}, fmt.Errorf("%v: %d channels in %d groups", n, a, group)
	}
	across := func(i int) int { return first(i)/(a/group)*b + second(i) }
	if n.Is("ConvTranspose") {
		return layout{in: first, out: across}, nil
	}
	return layout{in: across, out: first}, nil
}
