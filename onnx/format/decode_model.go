package format

import (
	"errors"
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
)

type decoder struct {
	where string
	files *externalFiles
}

func (d *decoder) model(p *pb.ModelProto) (*ir.Model, error) {
	m := &ir.Model{
		IRVersion: p.GetIrVersion(), Producer: p.GetProducerName(), ProducerVersion: p.GetProducerVersion(), Domain: p.GetDomain(),
		Version: p.GetModelVersion(), Doc: p.GetDocString(), Meta: meta(p.MetadataProps),
	}
	wrap := func(err error) error {
		hint := "export the model again; onnx.checker.check_model of the onnx package may tell more"
		if e := new(Error); errors.As(err, &e) && e.hint != "" {
			hint = e.hint
		}
		return fail(d.where, hint, "%w", err)
	}
	var err error
	if m.Opsets, err = opsets(p.OpsetImport); err != nil {
		return nil, wrap(err)
	}
	if len(m.Opsets) == 0 && len(p.Functions) == 0 {
		m.Opsets = []ir.OpsetID{{Version: 1}}
	}
	if m.Extra, err = modelExtra(p); err != nil {
		return nil, wrap(err)
	}
	if m.Graph, err = d.graph(p.Graph, nil); err != nil {
		return nil, wrap(err)
	}
	for _, f := range p.Functions {
		fn, err := d.function(f)
		if err != nil {
			return nil, wrap(fmt.Errorf("function %s.%s: %w", f.GetDomain(), f.GetName(), err))
		}
		m.Functions = append(m.Functions, fn)
	}
	return m, nil
}

func domain(s string) string {
	if s == "ai.onnx" {
		return ""
	}
	return s
}

func opsets(ps []*pb.OperatorSetIdProto) ([]ir.OpsetID, error) {
	var out []ir.OpsetID
	seen := map[string]int64{}
	for _, o := range ps {
		dom, v := domain(o.GetDomain()), o.GetVersion()
		if old, ok := seen[dom]; ok {
			if old != v {
				return nil, fmt.Errorf("the model imports operator set %q at versions %d and %d", o.GetDomain(), old, v)
			}
			continue
		}
		if v < 1 {
			return nil, fmt.Errorf("the model imports operator set %q at version %d", o.GetDomain(), v)
		}
		seen[dom] = v
		out = append(out, ir.OpsetID{Domain: dom, Version: v})
	}
	return out, nil
}

// modelExtra keeps, as wire bytes, the fields that ir.Model has no place for.
func modelExtra(p *pb.ModelProto) ([][]byte, error) {
	rest := pb.ModelProto{TrainingInfo: p.TrainingInfo, Configuration: p.Configuration, XXX_unrecognized: p.XXX_unrecognized}
	b, err := rest.Marshal()
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return [][]byte{b}, nil
}

// graph decodes a main graph (outer nil) or a subgraph.
func (d *decoder) graph(p *pb.GraphProto, outer *ir.Graph) (*ir.Graph, error) {
	g := ir.NewGraph(p.GetName())
	if outer != nil {
		g = ir.NewSubgraph(p.GetName(), outer)
	}
	g.Doc, g.Meta, g.Extra = p.GetDocString(), meta(p.MetadataProps), p.XXX_unrecognized
	at := func(err error) error {
		if err != nil && outer != nil {
			return fmt.Errorf("in subgraph %q: %w", g.Name, err)
		}
		return err
	}
	if err := d.inputs(g, p); err != nil {
		return nil, at(err)
	}
	if err := d.initializers(g, p); err != nil {
		return nil, at(err)
	}
	if err := d.nodes(g, p.Node); err != nil {
		return nil, at(err)
	}
	if err := valueInfos(g, p.ValueInfo); err != nil {
		return nil, at(err)
	}
	if err := d.outputs(g, p.Output); err != nil {
		return nil, at(err)
	}
	return g, at(annotations(g, p.QuantizationAnnotation))
}

func (d *decoder) inputs(g *ir.Graph, p *pb.GraphProto) error {
	for i, in := range p.Input {
		t, err := decodeType(in.Type)
		if err != nil {
			return fmt.Errorf("input %d %q: %w", i, in.GetName(), err)
		}
		v, err := g.AddInput(in.GetName(), t)
		if err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
		setInfo(v, in)
	}
	return nil
}

func setInfo(v *ir.Value, p *pb.ValueInfoProto) {
	if s := p.GetDocString(); s != "" {
		v.Doc = s
	}
	if len(p.MetadataProps) > 0 {
		v.Meta = meta(p.MetadataProps)
	}
	if len(p.XXX_unrecognized) > 0 {
		v.Extra = p.XXX_unrecognized
	}
}

func (d *decoder) initializers(g *ir.Graph, p *pb.GraphProto) error {
	for i, q := range p.Initializer {
		name := q.GetName()
		if name == "" {
			return fmt.Errorf("initializer %d has no name", i)
		}
		t, err := d.tensor(q)
		if err != nil {
			return fmt.Errorf("initializer %q: %w", name, err)
		}
		t.Name = ""
		if in := g.Value(name); in != nil && in.Type.Kind == ir.KindTensor && in.Type.Elem != ir.Undefined && in.Type.Elem != t.DType() {
			return fmt.Errorf("initializer %q is of %v, the graph input of that name of %v", name, t.DType(), in.Type.Elem)
		}
		if _, err := g.AddInitializer(name, t); err != nil {
			return fmt.Errorf("initializer %d: %w", i, err)
		}
	}
	for i, q := range p.SparseInitializer {
		s, err := d.sparse(q)
		if err == nil {
			name := s.Values.Name
			s.Values.Name = ""
			_, err = g.AddSparse(name, s)
		}
		if err != nil {
			return fmt.Errorf("sparse initializer %d: %w", i, err)
		}
	}
	return nil
}

func (d *decoder) nodes(g *ir.Graph, ps []*pb.NodeProto) error {
	order, err := sortNodes(ps, func(name string) bool { return g.Value(name) != nil })
	if err != nil {
		return err
	}
	for _, i := range order {
		if err := d.node(g, ps[i]); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) node(g *ir.Graph, p *pb.NodeProto) error {
	spec := ir.NodeSpec{Op: p.GetOpType(), Domain: domain(p.GetDomain()), Name: p.GetName(), Meta: meta(p.MetadataProps), Outputs: p.Output}
	for i, name := range p.Input {
		if name == "" {
			spec.Inputs = append(spec.Inputs, nil)
			continue
		}
		v := g.Resolve(name)
		if v == nil {
			return fmt.Errorf("node %s: input %d, %q, is made by no node, graph input or initializer", describe(p), i, name)
		}
		spec.Inputs = append(spec.Inputs, v)
	}
	seen := map[string]bool{}
	for _, a := range p.Attribute {
		if seen[a.GetName()] {
			return fmt.Errorf("node %s: attribute %q is given twice", describe(p), a.GetName())
		}
		seen[a.GetName()] = true
		attr, err := d.attr(a, g)
		if err != nil {
			return fmt.Errorf("node %s: attribute %q: %w", describe(p), a.GetName(), err)
		}
		spec.Attrs = append(spec.Attrs, attr)
	}
	n, err := g.Append(spec)
	if err != nil {
		return err
	}
	n.Overload, n.Doc = p.GetOverload(), p.GetDocString()
	rest := pb.NodeProto{DeviceConfigurations: p.DeviceConfigurations, XXX_unrecognized: p.XXX_unrecognized}
	n.Extra, err = nonEmpty(rest.Marshal())
	return err
}

func nonEmpty(b []byte, err error) ([]byte, error) {
	if len(b) == 0 {
		return nil, err
	}
	return b, err
}

func describe(p *pb.NodeProto) string {
	s := p.GetOpType()
	if dom := domain(p.GetDomain()); dom != "" {
		s = dom + "." + s
	}
	if p.GetName() != "" {
		return fmt.Sprintf("%s %q", s, p.GetName())
	}
	for _, o := range p.Output {
		if o != "" {
			return fmt.Sprintf("%s -> %q", s, o)
		}
	}
	return s
}

// valueInfos sets types of values made in g; entries for names that no longer exist are dropped.
func valueInfos(g *ir.Graph, ps []*pb.ValueInfoProto) error {
	for _, p := range ps {
		v := g.Value(p.GetName())
		if v == nil {
			continue
		}
		t, err := decodeType(p.Type)
		if err != nil {
			return fmt.Errorf("value %q: %w", p.GetName(), err)
		}
		if v.Producer() != nil {
			v.Type = t
		}
		setInfo(v, p)
	}
	return nil
}

func (d *decoder) outputs(g *ir.Graph, ps []*pb.ValueInfoProto) error {
	if len(ps) == 0 && g.Outer() == nil {
		return fmt.Errorf("graph %q has no outputs", g.Name)
	}
	for i, p := range ps {
		v := g.Value(p.GetName())
		if v == nil && g.Outer() != nil && p.GetName() != "" {
			if o := g.Resolve(p.GetName()); o != nil {
				n, err := g.Append(ir.NodeSpec{Op: "Identity", Inputs: []*ir.Value{o}, Outputs: []string{g.FreshName(p.GetName() + "_out")}})
				if err != nil {
					return err
				}
				v = n.Output(0)
				v.Type = o.Type.Clone()
			}
		}
		if v == nil {
			return fmt.Errorf("graph output %d, %q, is made by no node, graph input or initializer", i, p.GetName())
		}
		t, err := decodeType(p.Type)
		if err != nil {
			return fmt.Errorf("output %q: %w", p.GetName(), err)
		}
		if v.Producer() != nil && t.Kind != ir.KindUnknown {
			v.Type = t
		}
		setInfo(v, p)
		if err := g.AddOutput(v); err != nil {
			return err
		}
	}
	return nil
}

// annotations attaches quantization annotations; those of names that do not exist stay in the graph's unknown fields.
func annotations(g *ir.Graph, ps []*pb.TensorAnnotation) error {
	var rest pb.GraphProto
	for _, p := range ps {
		if v := g.Value(p.GetTensorName()); v != nil && len(p.XXX_unrecognized) == 0 && v.Quant == nil {
			v.Quant = meta(p.QuantParameterTensorNames)
			continue
		}
		rest.QuantizationAnnotation = append(rest.QuantizationAnnotation, p)
	}
	b, err := rest.Marshal()
	g.Extra = append(g.Extra, b...)
	return err
}

func (d *decoder) function(p *pb.FunctionProto) (*ir.Function, error) {
	f := &ir.Function{
		Domain: domain(p.GetDomain()), Name: p.GetName(), Overload: p.GetOverload(), Attrs: p.Attribute, Doc: p.GetDocString(),
		Meta: meta(p.MetadataProps), Extra: p.XXX_unrecognized, Graph: ir.NewGraph(p.GetName()),
	}
	var err error
	if f.Opsets, err = opsets(p.OpsetImport); err != nil {
		return nil, err
	}
	for _, a := range p.AttributeProto {
		attr, err := d.attr(a, f.Graph)
		if err != nil {
			return nil, fmt.Errorf("default of attribute %q: %w", a.GetName(), err)
		}
		f.AttrDefaults = append(f.AttrDefaults, attr)
	}
	for _, in := range p.Input {
		if _, err := f.Graph.AddInput(in, ir.Type{}); err != nil {
			return nil, err
		}
	}
	if err := d.nodes(f.Graph, p.Node); err != nil {
		return nil, err
	}
	for _, vi := range p.ValueInfo {
		v := f.Graph.Value(vi.GetName())
		if v == nil {
			continue
		}
		if v.Type, err = decodeType(vi.Type); err != nil {
			return nil, fmt.Errorf("value %q: %w", vi.GetName(), err)
		}
		setInfo(v, vi)
	}
	for i, name := range p.Output {
		v := f.Graph.Value(name)
		if v == nil {
			return nil, fmt.Errorf("output %d, %q, is made by no node", i, name)
		}
		if err := f.Graph.AddOutput(v); err != nil {
			return nil, err
		}
	}
	return f, nil
}
