package equalize

import (
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"mqatc/onnx/ir"
	"mqatc/onnx/mapped"
	"mqatc/passes/quant"
)

const (
	perOctave = 16   // factors tried between 1/sqrt(2) and sqrt(2)
	leastGain = 0.02 // part of the noise that a factor must take away
)

// ByRegion chooses one factor per region, between 1/sqrt(2) and sqrt(2), where activation scales are powers of two: the one with
// which the ranges of the region's groups suit the steps there are, by the sum of their noise. What a power of two costs a range,
// up to a bit, is so absorbed by weights, whose scales are finer. In a region with Clips it is a factor that puts the bound of one on the
// last step, so that the quantizer takes the Clip's place.
func ByRegion(regions []*Region, groups []*quant.Group, t ir.DType) (Factors, error) {
	at := map[string]*Region{}
	for _, r := range regions {
		for _, v := range r.Values {
			at[v.Name()] = r
		}
	}
	of := map[*Region][]*quant.Group{}
	for _, g := range groups {
		if r := at[g.Values[0]]; r != nil {
			of[r] = append(of[r], g)
		}
	}
	found := make([]float32, len(regions))
	var eg errgroup.Group
	eg.SetLimit(runtime.GOMAXPROCS(0))
	for i, r := range regions {
		if len(of[r]) == 0 {
			continue
		}
		eg.Go(mapped.Guarded(func() (err error) {
			found[i], err = r.bestFactor(of[r], t)
			return err
		}))
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	out := Factors{}
	for i, r := range regions {
		if f := found[i]; f != 0 && f != 1 {
			out[r.Name()] = []float32{f}
		}
	}
	return out, nil
}

func (r *Region) bestFactor(groups []*quant.Group, t ir.DType) (float32, error) {
	noise := func(f float64) (float64, error) {
		sum := 0.0
		for _, g := range groups {
			e, err := g.Noise(t, true, f)
			if err != nil {
				return 0, err
			}
			sum += e
		}
		return sum, nil
	}
	var factors []float64
	for _, n := range r.clips {
		v := n.Input(1)
		if n.Is("Clip") {
			v = n.Input(2)
		}
		f := 255 / slices.Min(floats(v))
		factors = append(factors, f*math.Exp2(-math.Round(math.Log2(f))))
	}
	best, least := 1.0, math.Inf(1)
	if len(r.clips) == 0 {
		e, err := noise(1)
		if err != nil {
			return 0, err
		}
		least = e * (1 - leastGain)
		for k := -perOctave / 2; k < perOctave/2; k++ {
			factors = append(factors, math.Exp2(float64(k)/perOctave))
		}
	}
	for _, f := range factors {
		e, err := noise(f)
		if err != nil {
			return 0, err
		}
		if e < least {
			best, least = f, e
		}
	}
	return float32(best), nil
}
