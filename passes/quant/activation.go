package quant

import (
	"fmt"
	"math"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Placement says which activations are quantized: the points, and the layers that are to run in integers because of them.
type Placement struct {
	// Type is ir.Uint8 (any zero point) or ir.Int8 (symmetric, zero point 0).
	Type ir.DType
	// Exact restricts activation scales to powers of two and weight scales to five significant bits (WeightSpec.ScaleBits). Dequantized values, products
	// and, up to 2^24 units, sums are then exact in float32, so that float simulation and integer kernels round alike: a network is
	// the same function at every optimization level. Zero points are even, since some kernels add them before rounding halves to
	// even and others afterwards. With free scales they differ in one element of 100,000 per layer, which
	// twenty-five layers amplify to the size of the quantization error itself.
	Exact  bool
	Points []ActivationPoint
	// Integer names, by their first output value in the model that was placed, the nodes meant to run in integers.
	Integer []string
}

// ActivationPoint quantizes one value for all nodes that read it; a graph output keeps the float value. Points of one Group share
// a range, so that moving data from one to the other rounds nothing.
type ActivationPoint struct {
	Value string
	Group string
	// Except names, by first output value, readers that keep the float value.
	Except []string
	// Limit, above 0, is what an activation function in front bounds the value by, from below by 0: the range begins at 0 and ends at
	// Limit or below, so that saturation takes the function's place.
	Limit float64
	// Through, if not nil, is the function of all that reads the value: calibration then counts the error behind it.
	Through func(x float64) float64
}

// Range is what an activation is clipped to.
type Range struct {
	Min float32 `json:"min"`
	Max float32 `json:"max"`
}

// Params are scale and zero point of the range in element type t. Zero is always exact. Uint8 covers the range with 256 levels;
// Int8 is symmetric with zero point 0 and 255 levels. An exact scale is the next power of two, an exact zero point even.
func (r Range) Params(t ir.DType, exact bool) (scale float32, zero int64, err error) {
	lo, hi := float64(min(r.Min, 0)), float64(max(r.Max, 0))
	if math.IsNaN(hi-lo) || math.IsInf(hi-lo, 0) {
		return 0, 0, fmt.Errorf("range %g..%g is not finite", r.Min, r.Max)
	}
	if hi-lo < 1e-30 {
		return 1, 0, nil
	}
	step := (hi - lo) / 255
	if t == ir.Int8 {
		step = max(hi, -lo) / 127
	}
	if exact {
		step = nextPower(step)
	}
	scale = float32(step)
	switch t {
	case ir.Uint8:
		if exact {
			return scale, 2 * int64(min(math.RoundToEven(-lo/float64(scale)/2), 127)), nil
		}
		return scale, int64(min(math.RoundToEven(-lo/float64(scale)), 255)), nil
	case ir.Int8:
		return scale, 0, nil
	}
	return 0, 0, fmt.Errorf("activations cannot be %v: uint8 or int8", t)
}

// nextPower is the least power of two that is not below x by more than rounding.
func nextPower(x float64) float64 { return math.Ldexp(1, int(math.Ceil(math.Log2(x)-1e-6))) }

// Quantized is an activation that Insert quantized.
type Quantized struct {
	Value  string  `json:"value"`  // the float value
	Output string  `json:"output"` // what its readers read now
	Scale  float32 `json:"scale"`
	Zero   int64   `json:"zero"`
	Range  Range   `json:"range"`
}

func insertActivations(g *ir.Graph, pl *Placement, ranges map[string]Range) ([]Quantized, error) {
	var out []Quantized
	b := ir.NewBuilder(g, Pass, op.InferNode)
	for _, p := range pl.Points {
		v := g.Value(p.Value)
		if v == nil {
			return nil, fmt.Errorf("activation %q: the graph has no such value", p.Value)
		}
		r, ok := ranges[p.Value]
		if !ok {
			return nil, fmt.Errorf("activation %q has no calibrated range", p.Value)
		}
		scale, zero, err := r.Params(pl.Type, pl.Exact)
		if err != nil {
			return nil, fmt.Errorf("activation %q: %w", p.Value, err)
		}
		uses := append([]ir.Use(nil), v.Uses()...)
		if len(uses) == 0 {
			continue
		}
		b.Before = g.First()
		if n := v.Producer(); n != nil {
			b.Before = n.Next()
		}
		b.Site = p.Value
		z, err := ir.PackInts(pl.Type, []int64{zero})
		if err != nil {
			return nil, fmt.Errorf("activation %q: zero point: %w", p.Value, err)
		}
		s, zp := b.Const(ir.ScalarFloat32(scale)), b.Const(z)
		x := b.Op("QuantizeLinear", []*ir.Value{v, s, zp})
		x = b.Op("DequantizeLinear", []*ir.Value{x, s, zp})
		if err := b.Err(); err != nil {
			return nil, fmt.Errorf("activation %q: %w", p.Value, err)
		}
		for _, u := range uses {
			if u.Node.Is("Shape") || exempt(p, u.Node) {
				continue
			}
			if err := u.Node.Graph().SetInput(u.Node, u.Index, x); err != nil {
				return nil, err
			}
		}
		out = append(out, Quantized{Value: p.Value, Output: x.Name(), Scale: scale, Zero: zero, Range: r})
	}
	return out, nil
}

func exempt(p ActivationPoint, n *ir.Node) bool {
	o := n.Output(0)
	return o != nil && slices.Contains(p.Except, o.Name())
}
