package quant

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// Method chooses a range from a histogram.
type Method string

// Methods of calibration.
const (
	MSE        Method = "mse"        // the range of least squared error of quantizing what was observed
	MinMax     Method = "minmax"     // everything observed
	Percentile Method = "percentile" // all but one element in 100,000 on either side
)

// Ranges chooses a range for every point of pl from what was observed; points of one group get one range from their joint
// histogram. The empty method is MSE.
func Ranges(obs Observations, pl *Placement, method Method) (map[string]Range, error) {
	groups, err := Groups(obs, pl)
	if err != nil {
		return nil, err
	}
	out := map[string]Range{}
	for _, g := range groups {
		r, err := g.Seen.Range(method, pl.Type, pl.Exact, g.Through, g.Limit)
		if err != nil {
			return nil, fmt.Errorf("quant: activation %q: %w", g.Values[0], err)
		}
		for _, v := range g.Values {
			out[v] = r
		}
	}
	return out, nil
}

// Group is a set of activations that share a range, with their joint histogram.
type Group struct {
	Values []string
	Seen   *Observation
	Limit  float64 // the least of the members' limits; 0 where there is none
	// Through is the function of all that reads the activation, where the group is one and it is known.
	Through func(x float64) float64
}

// Groups are the points of pl by the range they share, in the order of their first points.
func Groups(obs Observations, pl *Placement) ([]*Group, error) {
	var out []*Group
	by := map[string]*Group{}
	seen := map[string]bool{}
	for _, p := range pl.Points {
		if seen[p.Value] {
			continue
		}
		seen[p.Value] = true
		o := obs[p.Value]
		if o == nil || o.Count == 0 {
			return nil, fmt.Errorf("quant: activation %q was never observed", p.Value)
		}
		key := "v:" + p.Value
		if p.Group != "" {
			key = "g:" + p.Group
		}
		g := by[key]
		if g == nil {
			g = &Group{Seen: &Observation{}, Through: p.Through}
			by[key] = g
			out = append(out, g)
		} else {
			g.Through = nil
		}
		if p.Limit > 0 && (g.Limit == 0 || p.Limit < g.Limit) {
			g.Limit = p.Limit
		}
		g.Values = append(g.Values, p.Value)
		g.Seen.merge(o)
	}
	return out, nil
}

// Noise is the squared error of the best range for the group's values times factor, relative to the sum of their squares. Through is
// taken to be scaled with them.
func (g *Group) Noise(t ir.DType, exact bool, factor float64) (float64, error) {
	o := g.Seen
	at, count := o.counted(factor)
	all := Range{float32(factor * float64(min(o.Min, 0))), float32(factor * float64(max(o.Max, 0)))}
	through := g.Through
	if through != nil {
		through = func(x float64) float64 { return factor * g.Through(x/factor) }
	}
	_, e, err := leastError(at, count, all, t, exact, through, factor*g.Limit)
	power := 0.0
	for i, x := range at {
		if through != nil {
			x = through(x)
		}
		power += x * x * count[i]
	}
	if err != nil || power == 0 || math.IsInf(e, 0) {
		return 0, err
	}
	return e / power, nil
}

// Range chooses a range for quantization to t. The error that MSE makes small is that of through, where it is not nil. A limit above
// 0 makes it a range from 0 to the limit or below.
func (o *Observation) Range(method Method, t ir.DType, exact bool, through func(float64) float64, limit float64) (Range, error) {
	all := Range{min(o.Min, 0), max(o.Max, 0)}
	switch method {
	case MinMax:
		return all.within(limit, exact), nil
	case Percentile:
		return o.percentile(1e-5).within(limit, exact), nil
	case MSE, "":
		at, count := o.counted(1)
		r, _, err := leastError(at, count, all, t, exact, through, limit)
		return r, err
	}
	return all, fmt.Errorf("unknown calibration method %q: mse, minmax or percentile", method)
}

func (o *Observation) center(i int) float64 {
	return (float64(i-half) + 0.5) * math.Ldexp(1, o.exponent) / half
}

// within cuts a range off at 0 and limit, if that is above 0; an exact one so that the power of two that covers it stays below.
func (r Range) within(limit float64, exact bool) Range {
	if limit <= 0 {
		return r
	}
	r.Min, r.Max = 0, min(r.Max, float32(limit))
	if r.Max <= 0 {
		r.Max = float32(limit)
	}
	if s := nextPower(float64(r.Max) / 255); exact && s*255 > limit*(1+1e-6) {
		r.Max = float32(s / 2 * 255)
	}
	return r
}

// counted are the centers of the bins that hold something, times factor, and how many each holds.
func (o *Observation) counted(factor float64) (at, count []float64) {
	for i, n := range o.bins {
		if n > 0 {
			at = append(at, factor*min(max(o.center(i), float64(o.Min)), float64(o.Max)))
			count = append(count, float64(n))
		}
	}
	return at, count
}

func (o *Observation) percentile(p float64) Range {
	drop := int64(p * float64(o.Count))
	lo, hi := 0, 2*half-1
	for n := int64(0); lo < hi; lo++ {
		if n += o.bins[lo]; n > drop {
			break
		}
	}
	for n := int64(0); hi > lo; hi-- {
		if n += o.bins[hi]; n > drop {
			break
		}
	}
	w := math.Ldexp(1, o.exponent) / half
	return Range{min(max(o.Min, float32(float64(lo-half)*w)), 0), max(min(o.Max, float32(float64(hi-half+1)*w)), 0)}
}

// leastError searches clipping ratios of both ends, coarse and then around the best; for exact scales all that may serve, with a
// choice of zero points. It returns the range and its error.
func leastError(at, count []float64, all Range, t ir.DType, exact bool, through func(float64) float64, limit float64) (Range, float64, error) {
	all = all.within(limit, exact)
	best, bestErr := all, math.Inf(1)
	try := func(r Range) error {
		if r.Min == r.Max {
			return nil
		}
		s, z, err := r.Params(t, exact)
		if err != nil {
			return err
		}
		if e := gridError(at, count, float64(s), float64(z), t, through); e < bestErr {
			best, bestErr = r, e
		}
		return nil
	}
	if exact {
		s, _, err := all.Params(t, true)
		if err != nil {
			return best, bestErr, err
		}
		for range 4 {
			// Zero points between the one that keeps the lower end and the one that keeps the upper end.
			lo, hi := float64(-all.Min/s), 255-float64(all.Max/s)
			if lo > hi {
				lo, hi = hi, lo
			}
			lo, hi = max(lo, 0), min(hi, 254)
			if hi-lo < 2 || all.Min == 0 {
				hi = lo
			}
			for k := range 13 {
				z := float32(2 * math.RoundToEven((lo+(hi-lo)*float64(k)/12)/2))
				r := Range{-z * s, (255 - z) * s}
				if t == ir.Int8 {
					r = Range{-127 * s, 127 * s}
				}
				if err := try(r); err != nil {
					return best, bestErr, err
				}
				if hi == lo || t == ir.Int8 {
					break
				}
			}
			s /= 2
		}
		return best, bestErr, nil
	}
	ratios := []float32{1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.1, 0}
	for _, a := range ratios {
		for _, b := range ratios {
			if all.Min == 0 && b != 1 || all.Max == 0 && a != 1 {
				continue
			}
			if err := try(Range{all.Min * b, all.Max * a}); err != nil {
				return best, bestErr, err
			}
		}
	}
	around := best
	for _, a := range []float32{0.97, 0.98, 0.99, 1, 1.01, 1.02, 1.03} {
		for _, b := range []float32{0.97, 0.98, 0.99, 1, 1.01, 1.02, 1.03} {
			if err := try(Range{max(around.Min*b, all.Min), min(around.Max*a, all.Max)}); err != nil {
				return best, bestErr, err
			}
		}
	}
	return best, bestErr, nil
}

// gridError is the squared error, behind through, of quantizing counted values.
func gridError(at, count []float64, scale, zero float64, t ir.DType, through func(float64) float64) float64 {
	lo, hi := 0.0, 255.0
	if t == ir.Int8 {
		lo, hi = -128, 127
	}
	sum := 0.0
	for i, x := range at {
		y := (min(max(math.RoundToEven(x/scale)+zero, lo), hi) - zero) * scale
		if through != nil {
			x, y = through(x), through(y)
		}
		sum += (x - y) * (x - y) * count[i]
	}
	return sum
}
