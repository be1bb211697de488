package step

import (
	"fmt"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// merge puts the loss onto a copy of the model, fixes the batch and infers shapes. The only output of the result is the loss.
func merge(m *ir.Model, o Options) (*ir.Model, error) {
	s, err := m.Clone()
	if err != nil {
		return nil, err
	}
	g := s.Graph
	lg := o.Loss.Graph
	if lv, mv := o.Loss.Opset(""), m.Opset(""); lv < 13 {
		return nil, fmt.Errorf("the loss has opset %d: bring it up to 17 first", lv)
	} else if lv > mv {
		if err := format.Upgrade(s, int(lv)); err != nil {
			return nil, fmt.Errorf("the loss has opset %d: %w", lv, err)
		}
	}
	for _, d := range o.Loss.Opsets {
		if d.Domain != "" && s.Opset(d.Domain) == 0 {
			s.SetOpset(d.Domain, d.Version)
		}
	}
	lossOut, err := scalarOutput(lg)
	if err != nil {
		return nil, err
	}
	for _, name := range o.Expose {
		v := g.Value(name)
		if v == nil || v.Producer() == nil {
			return nil, fmt.Errorf("no computed value %q for the loss to read", name)
		}
		if !v.IsOutput() {
			if err := g.AddOutput(v); err != nil {
				return nil, err
			}
		}
	}
	bind, err := bindings(g, lg)
	if err != nil {
		return nil, err
	}
	if err := shapes(g, o); err != nil {
		return nil, err
	}
	vals, err := g.Inline(lg, bind, Pass)
	if err != nil {
		return nil, err
	}
	for _, in := range lg.Inputs() {
		if v := vals[in]; bind[in] == nil && !in.IsInitializer() {
			if err := fix(v, o); err != nil {
				return nil, err
			}
		}
	}
	b := ir.NewBuilder(g, Pass, op.InferNode)
	out := vals[lossOut]
	if err := release(g, Loss); err != nil && out.Name() != Loss {
		return nil, err
	}
	out = b.Node(ir.NodeSpec{Op: "Reshape", Name: "loss_scalar", Inputs: []*ir.Value{out, b.Const(vector())}, Outputs: []string{Loss}}, 1)[0]
	if err := b.Err(); err != nil {
		return nil, err
	}
	if err := g.SetOutputs(out); err != nil {
		return nil, err
	}
	if err := prune(g); err != nil {
		return nil, err
	}
	op.ClearTypes(g)
	if err := op.InferModel(s, nil); err != nil {
		return nil, err
	}
	return s, nil
}

// vector is the shape operand that makes a tensor of one element a scalar.
func vector() *ir.Tensor { return ir.VectorInt64() }

func scalarOutput(lg *ir.Graph) (*ir.Value, error) {
	var found *ir.Value
	for _, v := range lg.Outputs() {
		if v.Name() == Loss {
			return v, nil
		}
		if found == nil {
			found = v
		}
	}
	if found == nil || len(lg.Outputs()) > 1 {
		return nil, fmt.Errorf("the loss graph has %d outputs and none is called %q", len(lg.Outputs()), Loss)
	}
	return found, nil
}

// bindings maps the loss's inputs to the model's outputs or inputs of the same name. The other inputs are targets; an inner
// value of the model that has a target's name makes way.
func bindings(g, lg *ir.Graph) (map[*ir.Value]*ir.Value, error) {
	bind := map[*ir.Value]*ir.Value{}
	reads := false
	for _, in := range lg.Inputs() {
		if in.IsInitializer() {
			continue
		}
		v := g.Value(in.Name())
		if v != nil && (v.IsOutput() || v.IsInput()) {
			bind[in] = v
			reads = reads || v.IsOutput()
			continue
		}
		if v != nil {
			if err := release(g, in.Name()); err != nil {
				return nil, err
			}
		}
	}
	if !reads {
		return nil, fmt.Errorf("the loss reads no output of the model; its inputs are %s, the model's outputs %s", names(lg.Inputs()), names(g.Outputs()))
	}
	return bind, nil
}

func names(vs []*ir.Value) string {
	s := ""
	for i, v := range vs {
		if i == 8 {
			return s + ", ..."
		}
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%q", v.Name())
	}
	return s
}

func shapes(g *ir.Graph, o Options) error {
	for name := range o.Shapes {
		if v := g.Value(name); v == nil || !v.IsInput() {
			return fmt.Errorf("no input %q to give a shape to", name)
		}
	}
	for _, v := range g.Inputs() {
		if v.IsInitializer() {
			continue
		}
		if err := fix(v, o); err != nil {
			return err
		}
	}
	return nil
}

// fix gives an input its sizes.
func fix(v *ir.Value, o Options) error {
	if want := o.Shapes[v.Name()]; want != nil {
		have := v.Shape()
		if have.HasRank() && len(have) != len(want) {
			return fmt.Errorf("input %q has shape %v, not %v", v.Name(), have, want)
		}
		v.Type.Shape = ir.StaticShape(want...)
	}
	s := v.Type.Shape
	if !s.HasRank() {
		return fmt.Errorf("input %q has no shape", v.Name())
	}
	if len(s) > 0 && !s[0].Known() && o.Batch > 0 {
		s[0] = ir.D(o.Batch)
	}
	if len(s) > 0 && s[0].Symbol != "" {
		s[0] = ir.UnknownDim()
	}
	if _, ok := s.Static(); !ok {
		return fmt.Errorf("input %q has shape %v: a step graph needs sizes", v.Name(), s)
	}
	return nil
}

// WithLoss puts a loss onto a copy of m and fixes the batch as Build does; its only output is the loss.
func WithLoss(m, loss *ir.Model, batch int64) (*ir.Model, error) {
	s, err := merge(m, Options{Loss: loss, Batch: batch})
	if err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	return s, nil
}
