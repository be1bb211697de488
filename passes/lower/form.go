package lower

import (
	"fmt"
	"slices"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/passes/grad"
)

// Site is a node that can be computed in several forms.
type Site struct {
	// Key is the operator, its attributes and sizes, and the block: all that the costs of its forms depend on for one machine.
	Key string
	// Forms names the forms, the one that is fastest on most machines first.
	Forms []string
	// Model is a network of that node alone in one of the forms. Its inputs, of static sizes, have the layout that they have in the
	// graph, or are converted where the form takes another one; so is the output.
	Model func(form string) (*ir.Model, error)
}

// Costs knows what forms cost on a machine.
type Costs interface {
	// Cheapest is one of s.Forms.
	Cheapest(s Site) (string, error)
}

// standard is the form of standard operators.
const standard = "standard"

// choose is the form, one of forms, that n takes; empty after an error.
func (l *lowerer) choose(n *ir.Node, forms []string) string {
	if l.forced != "" {
		if !slices.Contains(forms, l.forced) {
			l.b.Fail(fmt.Errorf("node %v has no form %q", n, l.forced))
			return ""
		}
		return l.forced
	}
	if l.costs == nil || len(forms) == 1 {
		return forms[0]
	}
	form, err := l.costs.Cheapest(Site{Key: l.key(n), Forms: forms, Model: func(form string) (*ir.Model, error) { return l.alone(n, form) }})
	if err == nil && !slices.Contains(forms, form) {
		err = fmt.Errorf("costs: node %v: form %q is none of %s", n, form, strings.Join(forms, ", "))
	}
	if err != nil {
		l.b.Fail(err)
		return ""
	}
	return form
}

// isBlocked reports whether v is there in blocked form only.
func (l *lowerer) isBlocked(v *ir.Value) bool { return l.blocked[v] != nil && l.gone[v] }

func (l *lowerer) key(n *ir.Node) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s by %d", n.Op, l.block)
	if l.frugal {
		s.WriteString(" frugal")
	}
	for _, v := range n.Inputs() {
		if v == nil {
			continue
		}
		d, _ := v.StaticDims()
		fmt.Fprintf(&s, " %v", d)
		if l.isBlocked(v) {
			s.WriteString("b")
		}
	}
	for _, name := range []string{"kernel_shape", "strides", "dilations", "pads"} {
		if a := n.Ints(name); len(a) > 0 {
			fmt.Fprintf(&s, " %s %v", name, a)
		}
	}
	if g := n.Int("group", 1); g != 1 {
		fmt.Fprintf(&s, " group %d", g)
	}
	return s.String()
}

// alone is a network of n in one form.
func (l *lowerer) alone(n *ir.Node, form string) (*ir.Model, error) {
	m := ir.NewModel("form", l.opset)
	sub := newLowerer(m, l.block)
	sub.frugal, sub.forced, sub.opset = l.frugal, form, l.opset
	in := make([]*ir.Value, len(n.Inputs()))
	for i, v := range n.Inputs() {
		if v == nil {
			continue
		}
		x := m.Graph.Value(v.Name())
		if x == nil {
			var err error
			if x, err = m.Graph.AddInput(v.Name(), v.Type.Clone()); err != nil {
				return nil, err
			}
			if l.isBlocked(v) {
				d, _ := v.StaticDims()
				stored, err := m.Graph.AddInput(m.Graph.FreshName(v.Name()), ir.TensorType(ir.Float32, ir.StaticShape(d[0], l.up(d[1]), d[2], d[3])))
				if err != nil {
					return nil, err
				}
				sub.blocked[x], sub.gone[x] = stored, true
			}
		}
		in[i] = x
	}
	c, err := m.Graph.Append(ir.NodeSpec{Op: n.Op, Domain: n.Domain, Inputs: in, Outputs: []string{n.Output(0).Name()}, Attrs: n.Attrs()})
	if err != nil {
		return nil, err
	}
	y := c.Output(0)
	y.Type = n.Output(0).Type.Clone()
	sub.at(c)
	switch {
	case form == standard:
		sub.b.Before = nil
		y = sub.toBlocked(y)
	case c.Domain == grad.Domain && c.Op == grad.ConvWeightGrad:
		y = weightGrad(sub, c)
	default:
		y = ruleOf(c)(sub, c)
	}
	if err := sub.b.Err(); err != nil {
		return nil, err
	}
	if y == nil {
		return nil, fmt.Errorf("node %v was not computed in the form %q", n, form)
	}
	if form != standard {
		if err := m.Graph.Remove(c); err != nil {
			return nil, err
		}
	}
	for x := range sub.gone { // stands for what is stored
		if x.Producer() != nil {
			continue
		}
		if x.Used() {
			sub.b.Before = m.Graph.First()
			p := sub.plain(sub.blocked[x], x)
			if err := sub.b.Err(); err != nil {
				return nil, err
			}
			if err := m.Graph.ReplaceAllUses(x, p); err != nil {
				return nil, err
			}
		}
		if err := m.Graph.RemoveInput(x); err != nil {
			return nil, err
		}
	}
	if err := m.Graph.AddOutput(y); err != nil {
		return nil, err
	}
	sub.imports(m)
	return m, grad.Expand(m.Graph, l.frugal)
}
