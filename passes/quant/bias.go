package quant

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// InsertedBias is a bias rounded to the scale of its layer's integer accumulator.
type InsertedBias struct {
	Bias   string `json:"bias"`
	Layer  string `json:"layer"`  // first output of the layer
	Output string `json:"output"` // what the layer reads now
	// Narrow biases have 11 significant bits, in units of the accumulator's scale.
	Narrow bool `json:"narrow,omitempty"`
}

// insertBiases rounds the constant biases of the layers that pl wants in integers to multiples of s_x*s_w, as integer arithmetic
// does: at few bits s_w is large, and a bias that only the emitted model rounds would differ from the trained one. The gradient
// passes through to the bias and, as for a weight, to the step. With narrow, biases of NarrowFrom elements and more keep as many
// significant bits as float16 has.
func insertBiases(g *ir.Graph, pl *Placement, ws []Inserted, narrow bool) ([]InsertedBias, error) {
	byOutput := map[string]Inserted{}
	for _, ins := range ws {
		byOutput[ins.Output] = ins
	}
	var out []InsertedBias
	for _, layer := range pl.Integer {
		v := g.Value(layer)
		if v == nil || v.Producer() == nil {
			return nil, fmt.Errorf("the layer that makes %q, which was placed to run in integers, is not in the graph", layer)
		}
		n := v.Producer()
		b := n.Input(2)
		if b == nil || n.Input(1) == nil {
			continue
		}
		ins, ok := byOutput[n.Input(1).Name()]
		x := n.Input(0).Producer()
		if !ok || x == nil || !x.Is("DequantizeLinear") || b.Init() == nil || len(b.Init().Dims()) != 1 {
			continue
		}
		bl := ir.NewBuilder(g, Pass, op.InferNode)
		bl.Before, bl.Site = n, b.Name()
		step, err := accumulatorScale(bl, g, ins, x.Input(1))
		if err != nil {
			return nil, fmt.Errorf("bias %q: %w", b.Name(), err)
		}
		rounded := InsertedBias{Bias: b.Name(), Layer: layer, Narrow: narrow && b.Init().Len() >= NarrowFrom}
		q := bl.Op("Round", []*ir.Value{bl.Op("Div", []*ir.Value{b, step})})
		if rounded.Narrow {
			q = narrowed(bl, q, halfBits)
		}
		q = bl.Op("Mul", []*ir.Value{q, step})
		if err := bl.Err(); err != nil {
			return nil, fmt.Errorf("bias %q: %w", b.Name(), err)
		}
		if err := g.SetInput(n, 2, q); err != nil {
			return nil, err
		}
		rounded.Output = q.Name()
		out = append(out, rounded)
	}
	return out, nil
}

// accumulatorScale is s_x*s_w per output channel, as a value that follows a trained step.
func accumulatorScale(b *ir.Builder, g *ir.Graph, ins Inserted, xScale *ir.Value) (*ir.Value, error) {
	if !ins.Masked {
		step := b.Op("Reshape", []*ir.Value{g.Value(ins.Name + StepSuffix), b.Int64s(-1)})
		return b.Op("Mul", []*ir.Value{step, xScale}), b.Err()
	}
	q, err := Find(ins.Quantizer)
	if err != nil {
		return nil, err
	}
	grid, err := q.Grid(ins.Bits)
	if err != nil {
		return nil, err
	}
	c := Codes{Bits: ins.Bits, Grid: grid, Scale: ins.Scale}
	_, scale, ok := c.Integers()
	if !ok {
		return nil, fmt.Errorf("weight %q: the codebook of %s at %d bits has no integer form: leave the activations float", ins.Name, ins.Quantizer, ins.Bits)
	}
	s := b.Floats(append([]float32(nil), scale...), int64(len(scale)))
	return b.Op("Mul", []*ir.Value{s, xScale}), b.Err()
}
