package importance

import (
	"fmt"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/lower"
	"mqatc/runtime/ort"
)

// keepBytes bounds what is kept between probes of the values that only a batch decides.
const keepBytes = 1 << 30

// products runs the graph of Hessian-vector products in three parts, each of them as seldom as its inputs allow: what the weights
// alone decide (their blocked forms), what a batch decides (the network and its first gradient), and what a probe decides.
type products struct {
	layers []string
	parts  [3]*ort.Session // nil where there is nothing to compute
	feeds  [3][]string     // what each of them reads
	fixed  map[string]*ir.Tensor
	kept   map[int]map[string]*ir.Tensor // by batch
	size   int64                         // bytes in kept
}

// hessianWork is about how many training steps a Hessian product costs.
const hessianWork = 2

func newProducts(m *ir.Model, loss string, layers []string, mach lower.Machine, o Options) (p *products, err error) {
	h, err := Graph(m, loss, layers, mach)
	if err != nil {
		return nil, err
	}
	models, err := divide(h, layers)
	if err != nil {
		return nil, fmt.Errorf("hessian: %w", err)
	}
	p = &products{layers: layers, kept: map[int]map[string]*ir.Tensor{}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for i, part := range models {
		if part == nil {
			continue
		}
		raw, err := format.Marshal(part)
		if err != nil {
			return nil, err
		}
		level := ort.LevelFor(len(part.Graph.Nodes()), hessianWork*float64(o.MACs)*float64(o.MaxProbes))
		so := ort.SessionOptions{OptLevel: level, Threads: o.Threads, DisableQDQ: true}
		if i == constant {
			so.OptLevel = ort.DisableAll // the optimizer would compute it all, to have it computed again
		}
		if i == byProbe {
			so.Profile = o.Profile
		}
		if p.parts[i], err = ort.NewSession(raw, so); err != nil {
			return nil, fmt.Errorf("hessian: %w", err)
		}
		for _, v := range part.Graph.Inputs() {
			p.feeds[i] = append(p.feeds[i], v.Name())
		}
	}
	if p.parts[constant] != nil {
		if p.fixed, err = p.parts[constant].Run(nil, nil); err != nil {
			return nil, fmt.Errorf("hessian: %w", err)
		}
		err = p.parts[constant].Close()
		p.parts[constant] = nil
	}
	return p, err
}

func (p *products) close() {
	for _, s := range p.parts {
		if s != nil {
			s.Close()
		}
	}
}

// run gives v . (Hv) for each layer, of the batch with the given number.
func (p *products) run(number int, batch, probe map[string]*ir.Tensor) ([]float64, error) {
	base := p.kept[number]
	if base == nil && p.parts[byBatch] != nil {
		var err error
		if base, err = p.parts[byBatch].Run(p.collect(byBatch, batch), nil); err != nil {
			return nil, err
		}
		size := int64(0)
		for _, t := range base {
			size += int64(len(t.Raw()))
		}
		if p.size+size <= keepBytes {
			p.kept[number] = base
			p.size += size
		}
	}
	got, err := p.parts[byProbe].Run(p.collect(byProbe, batch, base, probe), nil)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(p.layers))
	for i, l := range p.layers {
		f, err := got[l+curveSuffix].Floats()
		if err != nil {
			return nil, err
		}
		if len(f) != 1 {
			return nil, fmt.Errorf("layer %s: %d numbers instead of one", l, len(f))
		}
		out[i] = f[0]
	}
	return out, nil
}

// collect is what a part reads, from the weights' values and the sources.
func (p *products) collect(part int, sources ...map[string]*ir.Tensor) map[string]*ir.Tensor {
	out := map[string]*ir.Tensor{}
	for _, name := range p.feeds[part] {
		out[name] = p.fixed[name]
		for _, s := range sources {
			if t := s[name]; t != nil {
				out[name] = t
			}
		}
	}
	return out
}
