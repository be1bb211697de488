package loss

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Part is one of several losses that are added up.
type Part struct {
	Name   string // of a loss, or FILE.onnx
	Weight float64
}

// Parts reads NAME=WEIGHT,NAME=WEIGHT,...; ok is false where the text has no = and so names one loss alone. Weights are positive.
func Parts(text string) (parts []Part, ok bool, err error) {
	if !strings.Contains(text, "=") {
		return nil, false, nil
	}
	seen := map[string]bool{}
	for _, s := range strings.Split(text, ",") {
		i := strings.LastIndex(s, "=")
		if i <= 0 {
			return nil, true, fmt.Errorf("loss %q: write NAME=WEIGHT,NAME=WEIGHT,...", text)
		}
		p := Part{Name: strings.TrimSpace(s[:i])}
		if p.Weight, err = strconv.ParseFloat(strings.TrimSpace(s[i+1:]), 64); err != nil || !(p.Weight > 0) || p.Weight > math.MaxFloat32 {
			return nil, true, fmt.Errorf("loss %s: %q is no positive weight", p.Name, s[i+1:])
		}
		if seen[p.Name] {
			return nil, true, fmt.Errorf("loss %s is there twice", p.Name)
		}
		seen[p.Name] = true
		parts = append(parts, p)
	}
	return parts, true, nil
}

// Weighted is the sum of losses, each times its weight. Inputs of one name are one, and must be of one type and rank.
func Weighted(losses []*Loss, weights []float64) (*Loss, error) {
	if len(losses) == 0 || len(losses) != len(weights) {
		return nil, fmt.Errorf("loss: %d losses with %d weights", len(losses), len(weights))
	}
	opset := int64(lowestOpset)
	for _, l := range losses {
		opset = max(opset, l.Model.Opset(""))
	}
	all := &Loss{Model: ir.NewModel("weighted", opset), Bounds: map[string]Bounds{}}
	g := all.Model.Graph
	b := ir.NewBuilder(g, "loss", op.InferNode)
	var sum *ir.Value
	for i, l := range losses {
		out, err := add(all, l)
		if err != nil {
			return nil, fmt.Errorf("loss %s: %w", l.Name, err)
		}
		b.Site = fmt.Sprintf("loss_%d", i)
		part := b.Op("Mul", []*ir.Value{b.Op("Reshape", []*ir.Value{out, b.Const(ir.VectorInt64())}), b.Float(float32(weights[i]))})
		if sum == nil {
			sum = part
		} else {
			sum = b.Op("Add", []*ir.Value{sum, part})
		}
		if i > 0 {
			all.Name += ","
		}
		all.Name += fmt.Sprintf("%s=%g", l.Name, weights[i])
	}
	if v := g.Value(Output); v != nil {
		if err := g.Rename(v, g.FreshName("loss_part")); err != nil {
			return nil, err
		}
	}
	out := b.Node(ir.NodeSpec{Op: "Identity", Inputs: []*ir.Value{sum}, Outputs: []string{Output}}, 1)[0]
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("loss %s: %w", all.Name, err)
	}
	g.UniqueNodeNames()
	return all, g.SetOutputs(out)
}

// add puts l into the graph of all and returns its loss.
func add(all, l *Loss) (*ir.Value, error) {
	m, err := l.Model.Clone()
	if err != nil {
		return nil, err
	}
	if want := all.Model.Opset(""); m.Opset("") < want {
		if err := format.Upgrade(m, int(want)); err != nil {
			return nil, err
		}
	}
	for _, d := range m.Opsets {
		if d.Domain != "" && all.Model.Opset(d.Domain) == 0 {
			all.Model.SetOpset(d.Domain, d.Version)
		}
	}
	all.Model.IRVersion = max(all.Model.IRVersion, m.IRVersion)
	g := all.Model.Graph
	bind := map[*ir.Value]*ir.Value{}
	for _, v := range m.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		w := g.Value(v.Name())
		switch {
		case w == nil:
			if w, err = g.AddInput(v.Name(), v.Type.Clone()); err != nil {
				return nil, err
			}
		case !w.IsInput():
			if err := g.Rename(w, g.FreshName(w.Name()+"_part")); err != nil {
				return nil, err
			}
			if w, err = g.AddInput(v.Name(), v.Type.Clone()); err != nil {
				return nil, err
			}
		case w.DType() != v.DType() || len(w.Shape()) != len(v.Shape()):
			return nil, fmt.Errorf("input %q is %v here and %v in another loss", v.Name(), v.Type, w.Type)
		}
		bind[v] = w
	}
	for name, b := range l.Bounds {
		if have, ok := all.Bounds[name]; ok {
			b.Min, b.Max = max(b.Min, have.Min), min(b.Max, have.Max)
		}
		all.Bounds[name] = b
	}
	vals, err := g.Inline(m.Graph, bind, "")
	if err != nil {
		return nil, err
	}
	for _, o := range m.Graph.Outputs() {
		if o.Name() == Output {
			return vals[o], nil
		}
	}
	return nil, fmt.Errorf("it has no output %q", Output)
}
