package quant

import (
	"fmt"
	"math"
	"strings"

	"mqatc/onnx/ir"
)

// StepSuffix ends the name of the initializer that holds a weight's scales in the graph.
const StepSuffix = ".step"

// Quantizer is one row of the table.
type Quantizer struct {
	Name string
	Doc  string
	// Grid gives the levels at a width in bits, or an error naming the widths there are.
	Grid func(bits int) (Grid, error)
	// Start gives the scales to begin with, one per channel, all positive.
	Start func(s Site, w []float32, g Grid) ([]float32, error)
	// Trained says that the scales are trained, as the state W.step; else they stay as they started.
	Trained bool
	// Masked says that weights are frozen onto the grid bit by bit by Freeze; the graph then reads W itself and W.mask gates its
	// training. Otherwise the graph rounds W by fakeQuantize at every step.
	Masked   bool
	Schedule Schedule
}

// Quantizers is the table.
var Quantizers = []Quantizer{lsq, inq, inqPowers, nearest}

// Find returns a row by name.
func Find(name string) (Quantizer, error) {
	var names []string
	for _, q := range Quantizers {
		if q.Name == name {
			return q, nil
		}
		names = append(names, q.Name)
	}
	return Quantizer{}, fmt.Errorf("unknown quantizer %q: one of %s", name, strings.Join(names, ", "))
}

// Site is one weight to quantize.
type Site struct {
	Name      string  `json:"name"`
	Dims      []int64 `json:"dims"`
	Axis      int     `json:"axis"` // of the output channels; -1 for one scale
	Bits      int     `json:"bits"`
	Quantizer string  `json:"quantizer"`
	// PairLimit, where not 0, bounds neighbouring codes: see the constant of this name.
	PairLimit int `json:"pair_limit,omitempty"`
	// ScaleBits, where not 0, is the number of significant bits that scales have in the end.
	ScaleBits int `json:"scale_bits,omitempty"`
}

// Channels is the number of scales.
func (s Site) Channels() int { return layoutOf(s.Dims, s.Axis).channels }

// Elements is the number of weights.
func (s Site) Elements() int {
	l := layoutOf(s.Dims, s.Axis)
	return l.outer * l.channels * l.inner
}

// State is a tensor that a quantizer trains beside the weight: an initializer of the fake-quantized model.
type State struct {
	Name      string  `json:"name"`
	GradScale float32 `json:"grad_scale"` // the gradient is multiplied by it
	Min       float32 `json:"min"`        // lower bound after each update
}

// trainedStep is the state W.step with LSQ's gradient scale g = 1/sqrt(N*Qp) (section 2.2). N is the number of weights that share
// one step, so that per-channel steps are scaled as if each channel were a layer.
func trainedStep(s Site, start []float32, g Grid) State {
	least := float32(math.Inf(1))
	for _, x := range start {
		least = min(least, x)
	}
	n := float64(s.Elements()) / float64(s.Channels())
	return State{Name: s.Name + StepSuffix, GradScale: float32(1 / math.Sqrt(max(n, 1)*float64(g.Max()))), Min: max(least/1024, 1e-12)}
}

// fakeQuantize builds Mul(Round(Clip(Div(W, step), lo, hi)), step), and for {-1, +1} the same around halves:
// (2 Round(Clip(W/(2 step) + 1/2, 0, 1)) - 1) step. With Round's gradient taken as one its derivatives are one inside the clip range
// and zero outside for W, and round(W/step) - W/step inside and the level outside for step. Pairs of codes are limited where s says so.
func fakeQuantize(b *ir.Builder, w, step *ir.Value, g Grid, s Site) *ir.Value {
	op := func(name string, in ...*ir.Value) *ir.Value { return b.Op(name, in) }
	x := op("Div", w, step)
	if g.Binary {
		half, one := b.Float(0.5), b.Float(1)
		x = op("Clip", op("Add", op("Mul", x, half), half), b.Float(0), one)
		x = op("Sub", op("Mul", op("Round", x), b.Float(2)), one)
	} else {
		x = op("Round", op("Clip", x, b.Float(float32(g.Lo)), b.Float(float32(g.Hi))))
	}
	if s.limitsPairs(g) {
		x = limitedPairs(b, x, s.Dims, s.PairLimit)
	}
	return op("Mul", x, step)
}
