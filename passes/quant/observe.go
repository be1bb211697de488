package quant

import (
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"

	"mqatc/onnx/ir"
)

// Observers returns a copy of m whose outputs are the values of pl's points, each once, and their names in output order. Points on
// graph inputs are among the names but not among the outputs: the caller has those values.
func Observers(m *ir.Model, pl *Placement) (*ir.Model, []string, error) {
	c, err := m.Clone()
	if err != nil {
		return nil, nil, fmt.Errorf("quant: observers: %w", err)
	}
	var names []string
	var outs []*ir.Value
	seen := map[string]bool{}
	for _, p := range pl.Points {
		if seen[p.Value] {
			continue
		}
		seen[p.Value] = true
		v := c.Graph.Value(p.Value)
		if v == nil {
			return nil, nil, fmt.Errorf("quant: observers: the graph has no value %q", p.Value)
		}
		names = append(names, p.Value)
		if !v.IsInput() {
			outs = append(outs, v)
		}
	}
	if err := c.Graph.SetOutputs(outs...); err != nil {
		return nil, nil, fmt.Errorf("quant: observers: %w", err)
	}
	return c, names, nil
}

// half is the number of histogram bins on either side of zero.
const half = 4096

// Observation is a histogram of one value over any number of batches. Its width is a power of two that grows with the data, so
// that the result does not depend on how the data was split or ordered.
type Observation struct {
	Min, Max float32
	Count    int64
	exponent int // the bins cover -2^exponent..2^exponent
	bins     []int64
}

// sideBySide is the number of elements from which Add counts parts of them at once.
const sideBySide = 1 << 18

// Add counts the elements of x; one that is not finite is an error.
func (o *Observation) Add(x []float32) error {
	parts := min(runtime.GOMAXPROCS(0), len(x)/sideBySide)
	if parts < 2 {
		return o.add(x)
	}
	seen := make([]Observation, parts)
	var eg errgroup.Group
	for k := range seen {
		eg.Go(func() error { return seen[k].add(x[k*len(x)/parts : (k+1)*len(x)/parts]) })
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	for k := range seen {
		o.merge(&seen[k])
	}
	return nil
}

func (o *Observation) add(x []float32) error {
	if len(x) == 0 {
		return nil
	}
	lo, hi := x[0], x[0]
	for _, v := range x {
		if v-v != 0 {
			return fmt.Errorf("an element is %g", v)
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	if o.Count == 0 {
		o.Min, o.Max = lo, hi
		o.bins = make([]int64, 2*half)
		o.exponent = -100
	}
	o.Min, o.Max = min(o.Min, lo), max(o.Max, hi)
	if top := max(-lo, hi); top > 0 {
		_, e := math.Frexp(float64(top))
		o.widen(e)
	}
	f := float32(math.Ldexp(half, -o.exponent))
	for _, v := range x {
		y := v * f
		i := int(y)
		if float32(i) > y {
			i--
		}
		o.bins[min(max(i+half, 0), 2*half-1)]++
	}
	o.Count += int64(len(x))
	return nil
}

// widen merges bins until they cover -2^e..2^e.
func (o *Observation) widen(e int) {
	if o.exponent >= e {
		return
	}
	by := uint(min(e-o.exponent, 14))
	merged := make([]int64, 2*half)
	for i, n := range o.bins {
		if n != 0 {
			merged[((i-half)>>by)+half] += n
		}
	}
	o.bins, o.exponent = merged, e
}

// merge adds the counts of p.
func (o *Observation) merge(p *Observation) {
	if p.Count == 0 {
		return
	}
	if o.Count == 0 {
		*o = *p
		o.bins = append([]int64(nil), p.bins...)
		return
	}
	q := &Observation{exponent: p.exponent, bins: append([]int64(nil), p.bins...)}
	o.widen(p.exponent)
	q.widen(o.exponent)
	for i, n := range q.bins {
		o.bins[i] += n
	}
	o.Min, o.Max, o.Count = min(o.Min, p.Min), max(o.Max, p.Max), o.Count+p.Count
}

// Observations are histograms by value name.
type Observations map[string]*Observation

// Add counts the elements of t, a float tensor, for the value name.
func (obs Observations) Add(name string, t *ir.Tensor) error {
	x, err := t.Float32s()
	if err != nil {
		return fmt.Errorf("quant: observing %q: %w", name, err)
	}
	if obs[name] == nil {
		obs[name] = &Observation{}
	}
	if err := obs[name].Add(x); err != nil {
		return fmt.Errorf("quant: observing %q: %w", name, err)
	}
	return nil
}
