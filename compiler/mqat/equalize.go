package mqat

import (
	"fmt"

	"mqatc/compiler/plan"
	"mqatc/compiler/rundir"
	"mqatc/onnx/ir"
	"mqatc/passes/equalize"
	"mqatc/passes/pass"
	"mqatc/passes/quant"
	"mqatc/passes/weights"
	"mqatc/runtime/train"
)

// equalizeImages is how many training images ways of equalizing are compared on.
const equalizeImages = 16

// equalize scales the network's activations so that they suit 8 bits: channel by channel, and group by group to the steps that there
// are. Of leaving the network as it is, scaling only the channels that depthwise layers alone read, which costs their weights nothing,
// and scaling all, it takes what moves the outputs least when everything is rounded to 8 bits. The network stays the same function;
// what is quantized from here on is the scaled one.
func (b *Bench) equalize() error {
	if b.tgt.Activation == ir.Undefined || b.cfg.NoEqualize {
		return nil
	}
	f, err := rundir.Once(b.dir, b.prefix+"equalize", b.chooseFactors)
	if err != nil {
		return fmt.Errorf("equalize: %w", err)
	}
	if len(f) == 0 {
		return nil
	}
	before := b.norms(b.net.Model)
	m, err := b.net.Model.Clone()
	if err != nil {
		return err
	}
	if err := b.runPass(m, equalize.New(f)); err != nil {
		return err
	}
	b.use(m)
	b.stretched = map[string]float64{}
	for name, n := range b.norms(m) {
		if before[name] > 0 && n > 0 {
			b.stretched[name] = n / before[name]
		}
	}
	return nil
}

// chooseFactors compares the ways of equalizing and leaves the network as it is.
func (b *Bench) chooseFactors() (equalize.Factors, error) {
	original := b.net.Model
	pl, err := b.tgt.Place(original, b.inModules())
	if err != nil || len(pl.Points) == 0 {
		return nil, err
	}
	feeds, err := b.prob.Calibration(equalizeImages)
	if err != nil {
		return nil, err
	}
	want, err := b.outputs(original, feeds)
	if err != nil {
		return nil, err
	}
	stats, err := b.channelStats(original)
	if err != nil {
		return nil, err
	}
	defer b.use(original)
	var best equalize.Factors
	least, err := b.roundingError(feeds, want)
	if err != nil {
		return nil, err
	}
	tell := fmt.Sprintf("%.4f", least)
	for _, depthwise := range []bool{true, false} {
		b.use(original)
		f, err := b.factors(pl, stats, depthwise)
		if err != nil {
			return nil, err
		}
		e, err := b.roundingError(feeds, want)
		if err != nil {
			return nil, err
		}
		tell += fmt.Sprintf(", %.4f", e)
		if e < least {
			best, least = f, e
		}
	}
	b.watch.Line("equalization: 1 - cosine at 8 bits without it, for depthwise layers, for all: %s", tell)
	return best, nil
}

// use makes m the network.
func (b *Bench) use(m *ir.Model) {
	b.net.Model, b.obs, b.starts = m, nil, &quant.Starts{}
	b.findParams()
}

// factors chooses factors for the network and leaves it scaled by them.
func (b *Bench) factors(pl *quant.Placement, stats equalize.Stats, depthwise bool) (equalize.Factors, error) {
	var points []equalize.Point
	for _, p := range pl.Points {
		points = append(points, equalize.Point{Value: p.Value, Through: p.Through})
	}
	f, err := equalize.ByChannel(equalize.Regions(b.net.Model.Graph), points, stats, b.meanBits(), depthwise)
	if err != nil {
		return nil, err
	}
	if err := b.scaleBy(f); err != nil {
		return nil, err
	}
	if !pl.Exact {
		return f, nil
	}
	if pl, err = b.tgt.Place(b.net.Model, b.inModules()); err != nil {
		return nil, err
	}
	if err := b.observe(pl); err != nil {
		return nil, err
	}
	groups, err := quant.Groups(b.obs, pl)
	if err != nil {
		return nil, err
	}
	g, err := equalize.ByRegion(equalize.Regions(b.net.Model.Graph), groups, pl.Type)
	if err != nil {
		return nil, err
	}
	return f.Times(g), b.scaleBy(g)
}

// scaleBy replaces the network by a scaled copy.
func (b *Bench) scaleBy(f equalize.Factors) error {
	m, err := b.net.Model.Clone()
	if err != nil {
		return err
	}
	p := equalize.New(f)
	if _, err := p.Run(pass.NewCtx(b.ctx, pass.Env{}, p.Name), m); err != nil {
		return err
	}
	b.use(m)
	return nil
}

// channelStats are what the channels of values hold that factors by channel could scale.
func (b *Bench) channelStats(m *ir.Model) (equalize.Stats, error) {
	watched := &quant.Placement{}
	for _, r := range equalize.Regions(m.Graph) {
		if r.Channels > 1 {
			for _, v := range r.Values {
				watched.Points = append(watched.Points, quant.ActivationPoint{Value: v.Name()})
			}
		}
	}
	stats := equalize.Stats{}
	if len(watched.Points) == 0 {
		return stats, nil
	}
	return stats, b.calibrate(watched, stats.Add)
}

// roundingError is how far the outputs move when all weights and activations are rounded to 8 bits: 1 - cosine, mean over outputs and
// images.
func (b *Bench) roundingError(feeds []train.Feeds, want []map[string]*ir.Tensor) (float64, error) {
	defer b.plainly()()
	v, err := b.eightBits()
	if err != nil {
		return 0, err
	}
	m, err := b.baked(v)
	if err != nil {
		return 0, err
	}
	got, err := b.outputs(m, feeds)
	if err != nil {
		return 0, err
	}
	return disagreement(got, want)
}

// meanBits is about the width that weights will have on average.
func (b *Bench) meanBits() float64 {
	if b.cfg.Budget > 0 {
		total := int64(0)
		for _, p := range b.params {
			total += p.Elements()
		}
		return min(max(8*float64(b.cfg.Budget)/float64(max(total, 1)), 2), 8)
	}
	return min(max(32/b.cfg.Compress, 2), 8)
}

// norms are the sums of squares of the weights.
func (b *Bench) norms(m *ir.Model) map[string]float64 {
	out := map[string]float64{}
	for name := range b.weight {
		f, err := m.Graph.Value(name).Init().Float32s()
		if err != nil {
			continue
		}
		for _, x := range f {
			out[name] += float64(x) * float64(x)
		}
	}
	return out
}

// unstretched makes sensitivities of the network as it came those of the equalized one: what they are multiplied with, the squared
// rounding error of a weight, has grown as the weight has.
func (b *Bench) unstretched(s plan.Sensitivity) plan.Sensitivity {
	if b.stretched == nil {
		return s
	}
	out := plan.Sensitivity{Source: s.Source, Lambda: map[string]float64{}}
	for name := range b.weight {
		l, ok := 1.0, true
		if s.Lambda != nil {
			l, ok = s.Lambda[name]
		}
		if !ok {
			continue
		}
		by := b.stretched[name]
		if by == 0 {
			by = 1
		}
		out.Lambda[name] = l / by
	}
	return out
}

func (b *Bench) runPass(m *ir.Model, p pass.Pass) error {
	if b.passes != nil {
		return b.passes.Run(b.ctx, m, p)
	}
	_, err := p.Run(pass.NewCtx(b.ctx, pass.Env{}, p.Name), m)
	return err
}

// findParams lists the trained tensors of the network as it is now.
func (b *Bench) findParams() {
	b.params = weights.Find(b.net.Model.Graph)
	for _, p := range b.params {
		if p.Kind == weights.Weight {
			b.weight[p.Value.Name()] = p
		}
	}
}
