package quant

import (
	"fmt"
	"slices"
	"sort"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/weights"
)

// WeightSpec says how one weight is quantized.
type WeightSpec struct {
	Bits      int    // 1 to 8, as far as the quantizer goes
	Quantizer string // a row of Quantizers
	PerTensor bool   // one scale instead of one per output channel
	Pairs     bool   // keep to PairLimit where the weight is multiplied with unsigned activations
	ScaleBits int    // significant bits that scales are rounded to, trained ones at every step; 0 leaves them as they are
	// Scale, if not nil, continues with these scales instead of the quantizer's start values, as for a module trained before.
	Scale []float32
}

// Spec says what Insert quantizes. Activations may be nil; each of its points needs a range by the name of its value.
type Spec struct {
	Weights     map[string]WeightSpec
	Activations *Placement
	Ranges      map[string]Range
	// Narrow says that the target stores biases of NarrowFrom elements and more in float16.
	Narrow bool
}

// Inserted is a weight that Insert quantized.
type Inserted struct {
	Site
	// Output is the value that the graph reads in place of the weight; the weight itself for masked quantizers.
	Output string `json:"output"`
	// Masked weights are trained under the mask W.mask (true: free) and frozen by Freeze with Scale.
	Masked bool    `json:"masked,omitempty"`
	States []State `json:"states,omitempty"`
	// Scale holds the scales that stand in no initializer, one per channel.
	Scale []float32 `json:"scale,omitempty"`
}

// Report lists what Insert did, weights in graph order. It is plain data and may be stored as JSON.
type Report struct {
	Weights     []Inserted     `json:"weights"`
	Activations []Quantized    `json:"activations,omitempty"`
	Biases      []InsertedBias `json:"biases,omitempty"`
	// Halves names biases of quantized layers that are added in float and stored in float16 if they fit: see FitsHalf.
	Halves []string `json:"halves,omitempty"`
	// Exact is that of the placement.
	Exact bool `json:"exact,omitempty"`
}

// Insert puts fake quantization into m, which must have inferred shapes and opset 13 at least. Every reader of a weight, wherever it
// is used, reads one quantized value. Trained tensors are to be listed before Insert, since a rounded weight is no longer the direct
// input of its operator.
func Insert(m *ir.Model, spec Spec) (*Report, error) {
	if m.Opset("") < 13 {
		return nil, fmt.Errorf("quant: opset %d: 13 is the lowest that has what fake quantization needs", m.Opset(""))
	}
	r := &Report{}
	params := map[string]weights.Param{}
	var order []string
	for _, p := range weights.Find(m.Graph) {
		if p.Kind == weights.Weight {
			params[p.Value.Name()] = p
			order = append(order, p.Value.Name())
		}
	}
	var unknown []string
	for name := range spec.Weights {
		if _, ok := params[name]; !ok {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return nil, fmt.Errorf("quant: %q is no weight of rank 2 or more of a Conv, ConvTranspose, Gemm or MatMul", unknown[0])
	}
	first := m.Graph.First()
	for _, name := range order {
		ws, ok := spec.Weights[name]
		if !ok {
			continue
		}
		ins, err := insertWeight(m.Graph, first, params[name], ws)
		if err != nil {
			return nil, fmt.Errorf("quant: weight %q of shape %v: %w", name, params[name].Value.Init().Dims(), err)
		}
		r.Weights = append(r.Weights, ins)
	}
	if spec.Narrow {
		r.Halves = floatBiases(m.Graph, r.Weights, params)
	}
	if spec.Activations != nil {
		var err error
		if r.Activations, err = insertActivations(m.Graph, spec.Activations, spec.Ranges); err != nil {
			return nil, fmt.Errorf("quant: %w", err)
		}
		r.Exact = spec.Activations.Exact
		if r.Biases, err = insertBiases(m.Graph, spec.Activations, r.Weights, spec.Narrow); err != nil {
			return nil, fmt.Errorf("quant: %w", err)
		}
		r.Halves = slices.DeleteFunc(r.Halves, func(name string) bool { return !addedInFloat(m.Graph.Value(name)) })
	}
	return r, nil
}

// SiteOf describes a weight as ws quantizes it.
func SiteOf(p weights.Param, ws WeightSpec) Site {
	s := Site{Name: p.Value.Name(), Dims: p.Value.Init().Dims(), Axis: Axis(p), Bits: ws.Bits, Quantizer: ws.Quantizer, ScaleBits: ws.ScaleBits}
	if ws.PerTensor {
		s.Axis = -1
	}
	if ws.Pairs && ws.Bits == 8 && paired(p) {
		s.PairLimit = PairLimit
	}
	return s
}

func insertWeight(g *ir.Graph, first *ir.Node, p weights.Param, ws WeightSpec) (Inserted, error) {
	v := p.Value
	q, err := Find(ws.Quantizer)
	if err != nil {
		return Inserted{}, err
	}
	grid, err := q.Grid(ws.Bits)
	if err != nil {
		return Inserted{}, fmt.Errorf("quantizer %s: %w", q.Name, err)
	}
	w, err := v.Init().Float32s()
	if err != nil {
		return Inserted{}, err
	}
	ins := Inserted{Site: SiteOf(p, ws), Output: v.Name()}
	for i, x := range w {
		if x-x != 0 {
			return ins, fmt.Errorf("element %d is %g", i, x)
		}
	}
	start := append([]float32(nil), ws.Scale...)
	if ws.Scale == nil {
		if start, err = ins.Start(w); err != nil {
			return ins, err
		}
	} else if len(start) != ins.Channels() {
		return ins, fmt.Errorf("%d scales given for %d channels", len(start), ins.Channels())
	}
	if v.IsInput() {
		if err := g.RemoveInput(v); err != nil {
			return ins, err
		}
	}
	if q.Masked {
		ins.Masked, ins.Scale = true, start
		return ins, nil
	}
	uses := append([]ir.Use(nil), v.Uses()...)
	t, err := ir.FromFloat32s(start, stepDims(ins.Dims, ins.Axis)...)
	if err != nil {
		return ins, err
	}
	step, err := g.AddInitializer(v.Name()+StepSuffix, t)
	if err != nil {
		return ins, err
	}
	b := ir.NewBuilder(g, Pass, op.InferNode)
	b.Before, b.Site = first, v.Name()
	scale := step
	if q.Trained && ins.ScaleBits > 0 {
		scale = narrowed(b, step, ins.ScaleBits)
	}
	out := fakeQuantize(b, v, scale, grid, ins.Site)
	if err := b.Err(); err != nil {
		return ins, err
	}
	if err := g.Rename(out, g.FreshName(v.Name()+"_fq")); err != nil {
		return ins, err
	}
	for _, u := range uses {
		if err := u.Node.Graph().SetInput(u.Node, u.Index, out); err != nil {
			return ins, err
		}
	}
	ins.Output = out.Name()
	if q.Trained {
		ins.States = []State{trainedStep(ins.Site, start, grid)}
	}
	return ins, nil
}

// Collect turns the trained weights of a fake-quantized model into codes, in the order of the report. A masked weight must lie on
// its grid everywhere. What is stored with fewer bits than it is trained with is first rounded in m: steps to the ScaleBits of their
// weight, and to ExactBits under an exact placement; the biases of r.Halves that fit to float16.
func Collect(m *ir.Model, r *Report) ([]*Codes, error) {
	var out []*Codes
	for _, ins := range r.Weights {
		bits := ins.ScaleBits
		if r.Exact && (bits == 0 || bits > ExactBits) {
			bits = ExactBits
		}
		if v := m.Graph.Value(ins.Name + StepSuffix); v != nil && v.Init() != nil && bits > 0 && !ins.Masked {
			if err := replace(m.Graph, v, func(x []float32) []float32 { return significant(x, bits) }); err != nil {
				return nil, fmt.Errorf("quant: steps of weight %q: %w", ins.Name, err)
			}
		}
		c, err := collect(m.Graph, ins)
		if err != nil {
			return nil, fmt.Errorf("quant: codes of weight %q: %w", ins.Name, err)
		}
		out = append(out, c)
	}
	for _, name := range r.Halves {
		b, err := floats(m.Graph, name)
		if err == nil && FitsHalf(b) {
			err = replace(m.Graph, m.Graph.Value(name), halves)
		}
		if err != nil {
			return nil, fmt.Errorf("quant: bias %q: %w", name, err)
		}
	}
	return out, nil
}

// replace sets the float32 constant v to what f makes of a copy of its elements.
func replace(g *ir.Graph, v *ir.Value, f func([]float32) []float32) error {
	old, err := v.Init().Float32s()
	if err != nil {
		return err
	}
	t, err := ir.FromFloat32s(f(append([]float32(nil), old...)), v.Init().Dims()...)
	if err != nil {
		return err
	}
	return g.SetInit(v, t)
}

func collect(g *ir.Graph, ins Inserted) (*Codes, error) {
	q, err := Find(ins.Quantizer)
	if err != nil {
		return nil, err
	}
	grid, err := q.Grid(ins.Bits)
	if err != nil {
		return nil, err
	}
	w, err := floats(g, ins.Name)
	if err != nil {
		return nil, err
	}
	scale := ins.Scale
	if !ins.Masked {
		if scale, err = floats(g, ins.Name+StepSuffix); err != nil {
			return nil, err
		}
	}
	c, err := newCodes(ins.Site, w, scale, grid)
	if err != nil {
		return nil, err
	}
	c.limit(ins.Site)
	if !ins.Masked {
		return c, nil
	}
	loose := 0
	for i, x := range c.Values() {
		if x != w[i] {
			loose++
		}
	}
	if loose > 0 {
		return nil, fmt.Errorf("%d of %d elements are not frozen yet", loose, len(w))
	}
	return c, nil
}

func floats(g *ir.Graph, name string) ([]float32, error) {
	v := g.Value(name)
	if v == nil || v.Init() == nil {
		return nil, fmt.Errorf("the graph has no constant %q", name)
	}
	return v.Init().Float32s()
}
