package target

import (
	"fmt"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/quant"
)

// EmitOptions say how Emit writes.
type EmitOptions struct {
	// KeepNames keeps the names of nodes and intermediate values and the inferred types. Without it only inputs, outputs and trained
	// tensors keep their names: in small networks names are a tenth of the file.
	KeepNames bool
}

// Emitted is a quantized model and what was made of its layers.
type Emitted struct {
	Model   *ir.Model
	Weights []EmittedWeight // in the order of the codes
	Integer []IntegerLayer  // in graph order
}

// EmittedWeight is a weight as it is stored: an initializer of its own name.
type EmittedWeight struct {
	Name  string   `json:"name"`
	Bits  int      `json:"bits"`
	Type  ir.DType `json:"type"`
	Axis  int      `json:"axis"`  // of the scales; -1 for one scale
	Bytes int64    `json:"bytes"` // elements and scales; neither biases nor the shared levels of a codebook
}

// IntegerLayer is a layer meant to run in integers.
type IntegerLayer struct {
	Node   string `json:"node"` // the node's name in the fake-quantized model
	Weight string `json:"weight"`
	Output string `json:"output"` // the value in the emitted model that the integer operator gives, or dequantizes to
	Op     string `json:"op"`
}

// Emit turns a fake-quantized model into a quantized one: each fake-quantized weight becomes its codes, stored packed, and a
// DequantizeLinear (behind a Cast to int8 where a layer that runs in integers reads codes of less than 8 bits), or, where only float
// layers read them and the target folds, Mul(Cast(codes), scale); biases of layers that run in integers
// become integers at the scale of the accumulator. A target that is Narrow stores long vectors of scales and biases in 16 bits. Activation quantizers stay where Insert put them; an exact target clips integers
// where a Clip stands between two of one scale. codes are those that
// quant.Collect made from m and r; pl is the placement that was inserted, nil without one. m is not changed.
func (t Target) Emit(m *ir.Model, r *quant.Report, codes []*quant.Codes, pl *quant.Placement, opt EmitOptions) (*Emitted, error) {
	if len(codes) != len(r.Weights) {
		return nil, fmt.Errorf("emit: %d weights were inserted and %d have codes", len(r.Weights), len(codes))
	}
	if len(codes) == 0 && len(r.Activations) == 0 {
		return nil, fmt.Errorf("emit: nothing is quantized")
	}
	c, err := m.Clone()
	if err != nil {
		return nil, fmt.Errorf("emit: %w", err)
	}
	e := &emitter{t: t, g: c.Graph, integer: map[*ir.Node]bool{}, biases: map[string]quant.InsertedBias{}, out: &Emitted{Model: c}}
	for _, b := range r.Biases {
		e.biases[b.Layer] = b
	}
	e.b = ir.NewBuilder(c.Graph, Pass, nil)
	if pl != nil {
		if err := e.markInteger(pl); err != nil {
			return nil, fmt.Errorf("emit: %w", err)
		}
	}
	for i, ins := range r.Weights {
		if err := e.weight(ins, codes[i]); err != nil {
			return nil, fmt.Errorf("emit: weight %q: %w", ins.Name, err)
		}
	}
	if err := e.layers(); err != nil {
		return nil, fmt.Errorf("emit: %w", err)
	}
	if err := e.halves(r.Halves); err != nil {
		return nil, fmt.Errorf("emit: %w", err)
	}
	if err := e.saturated(); err != nil {
		return nil, fmt.Errorf("emit: %w", err)
	}
	if t.Exact {
		if err := e.clips(); err != nil {
			return nil, fmt.Errorf("emit: %w", err)
		}
	}
	if err := e.finish(opt); err != nil {
		return nil, fmt.Errorf("emit: %w", err)
	}
	return e.out, nil
}

type emitter struct {
	t       Target
	g       *ir.Graph
	b       *ir.Builder
	integer map[*ir.Node]bool
	biases  map[string]quant.InsertedBias // by the layer's first output
	needs   int64                         // opset
	out     *Emitted
}

func (e *emitter) markInteger(pl *quant.Placement) error {
	for _, name := range pl.Integer {
		v := e.g.Value(name)
		if v == nil || v.Producer() == nil {
			return fmt.Errorf("the layer that makes %q, which was placed to run in integers, is not in the graph", name)
		}
		e.integer[v.Producer()] = true
	}
	return nil
}

// weight replaces what the graph reads for a weight.
func (e *emitter) weight(ins quant.Inserted, c *quant.Codes) error {
	if c.Name != ins.Name {
		return fmt.Errorf("codes of %q were given for it", c.Name)
	}
	fq := e.g.Value(ins.Output)
	if fq == nil {
		return fmt.Errorf("the graph has no value %q", ins.Output)
	}
	old := e.g.Value(ins.Name)
	if old == nil || old.Init() == nil {
		return fmt.Errorf("the graph has no such constant")
	}
	uses := append([]ir.Use(nil), fq.Uses()...)
	if len(uses) == 0 {
		return fmt.Errorf("no node reads %q", ins.Output)
	}
	if err := e.g.Rename(old, e.g.FreshName(ins.Name+"_float")); err != nil {
		return err
	}
	widen := false
	for _, u := range uses {
		widen = widen || e.integer[u.Node]
	}
	e.b.Before, e.b.Site = e.g.First(), ins.Name
	x, size, err := e.stored(c, widen, e.t.folds(uses))
	if err != nil {
		return err
	}
	for _, u := range uses {
		if err := u.Node.Graph().SetInput(u.Node, u.Index, x); err != nil {
			return err
		}
	}
	if p := fq.Producer(); p != nil {
		if err := removeDead(e.g, p); err != nil {
			return err
		}
	}
	e.out.Weights = append(e.out.Weights, size)
	return nil
}

// stored adds the codes and what turns them into floats again.
func (e *emitter) stored(c *quant.Codes, widen, fold bool) (*ir.Value, EmittedWeight, error) {
	w := EmittedWeight{Name: c.Name, Bits: c.Bits, Axis: c.Axis}
	q, scale, ok := c.Integers()
	if !ok {
		if widen || e.t.Bytes {
			return nil, w, fmt.Errorf("the codebook of quantizer %s at %d bits is no uniform grid, which integer arithmetic needs: use --activations none", c.Quantizer, c.Bits)
		}
		return e.lookup(c, w)
	}
	w.Type = e.t.Container(c.Bits)
	t, err := ir.PackInts(w.Type, q, c.Dims...)
	if err != nil {
		return nil, w, err
	}
	x, err := e.g.AddInitializer(c.Name, t)
	if err != nil {
		return nil, w, err
	}
	w.Bytes = int64(len(t.Raw())) + e.t.scaleBytes(int64(len(scale)), c.Axis)
	e.need(w.Type)
	if fold && !widen {
		x, err = e.multiply(x, scale, c)
		return x, w, err
	}
	var dims []int64
	if c.Axis >= 0 {
		dims = []int64{int64(len(scale))}
	}
	s, err := e.scales(scale, dims)
	if err != nil {
		return nil, w, err
	}
	if widen && e.t.Widen && w.Type != ir.Int8 {
		x = e.b.Op("Cast", []*ir.Value{x}, ir.AInt("to", int64(ir.Int8)))
	}
	x = e.dequantize(x, s, c.Axis)
	return x, w, e.b.Err()
}

// dequantize adds a DequantizeLinear without zero point, which then is 0.
func (e *emitter) dequantize(x, scale *ir.Value, axis int) *ir.Value {
	var attrs []ir.Attr
	if axis >= 0 && axis != 1 {
		attrs = append(attrs, ir.AInt("axis", int64(axis)))
	}
	return e.b.Op("DequantizeLinear", []*ir.Value{x, scale}, attrs...)
}

// lookup stores indices into a table of levels: Mul(Gather(levels, indices), scale).
func (e *emitter) lookup(c *quant.Codes, w EmittedWeight) (*ir.Value, EmittedWeight, error) {
	w.Type = ir.Uint8
	if len(c.Grid.Levels) <= 16 {
		w.Type = ir.Uint4
	}
	idx := make([]int64, len(c.Q))
	for i, q := range c.Q {
		idx[i] = int64(q)
	}
	t, err := ir.PackInts(w.Type, idx, c.Dims...)
	if err != nil {
		return nil, w, err
	}
	x, err := e.g.AddInitializer(c.Name, t)
	if err != nil {
		return nil, w, err
	}
	w.Bytes = int64(len(t.Raw())) + e.t.scaleBytes(int64(len(c.Scale)), c.Axis)
	e.need(w.Type)
	levels := e.b.Floats(append([]float32(nil), c.Grid.Levels...), int64(len(c.Grid.Levels)))
	x = e.b.Op("Cast", []*ir.Value{x}, ir.AInt("to", int64(ir.Int32)))
	x, err = e.times(e.b.Op("Gather", []*ir.Value{levels, x}), c.Scale, c)
	return x, w, err
}

// multiply adds Mul(Cast(codes), scale), which a runtime folds into float weights when it loads the model.
func (e *emitter) multiply(x *ir.Value, scale []float32, c *quant.Codes) (*ir.Value, error) {
	return e.times(e.b.Op("Cast", []*ir.Value{x}, ir.AInt("to", int64(ir.Float32))), scale, c)
}

// times adds Mul(x, scale) with the scales along the codes' axis; their shape has no leading ones.
func (e *emitter) times(x *ir.Value, scale []float32, c *quant.Codes) (*ir.Value, error) {
	var dims []int64
	if c.Axis >= 0 {
		dims = make([]int64, len(c.Dims)-c.Axis)
		for i := range dims {
			dims[i] = 1
		}
		dims[0] = int64(len(scale))
	}
	s, err := e.scales(scale, dims)
	if err != nil {
		return nil, err
	}
	return e.b.Op("Mul", []*ir.Value{x, s}), e.b.Err()
}

// need raises the opset to what an element type needs: int4 and uint4 21, int2 and uint2 25 (ONNX, DequantizeLinear and Cast).
func (e *emitter) need(d ir.DType) {
	switch d {
	case ir.Int4, ir.Uint4:
		e.needs = max(e.needs, 21)
	case ir.Int2, ir.Uint2:
		e.needs = max(e.needs, 25)
	}
}

// removeDead removes n and what only it needed, if its outputs are unused; constants too.
func removeDead(g *ir.Graph, n *ir.Node) error {
	work := []*ir.Node{n}
	for len(work) > 0 {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		if n.Graph() != g {
			continue
		}
		used := false
		for _, o := range n.Outputs() {
			used = used || o.Used()
		}
		if used {
			continue
		}
		in := append([]*ir.Value(nil), n.Inputs()...)
		if err := g.Remove(n); err != nil {
			return err
		}
		for _, v := range in {
			if v != nil && v.Producer() != nil {
				work = append(work, v.Producer())
			}
		}
	}
	return nil
}

// finish removes unused constants, sets the lowest opset and IR version that serve, and shortens names.
func (e *emitter) finish(opt EmitOptions) error {
	m := e.out.Model
	for _, v := range append([]*ir.Value(nil), e.g.Initializers()...) {
		if !v.Used() && !v.IsInput() {
			if err := e.g.RemoveInitializer(v); err != nil {
				return err
			}
		}
	}
	if e.needs > m.Opset("") {
		if err := format.Upgrade(m, int(e.needs)); err != nil {
			return err
		}
	}
	m.IRVersion = format.LowestIR(m.Opset(""))
	m.Producer, m.ProducerVersion = "mqatc", ""
	if !opt.KeepNames {
		if err := e.compact(); err != nil {
			return err
		}
	}
	return m.Verify()
}
