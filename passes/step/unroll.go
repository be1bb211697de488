package step

import (
	"fmt"
	"strings"

	"mqatc/onnx/ir"
)

// MostUnrolled bounds the number of steps in one graph.
const MostUnrolled = 256

// Unroll puts k steps of a graph that Build made, other than an accumulating one, into one. States W and W.S, masks and constants are
// there once; every other input X of step i (0..k-1) is X.i, its output loss is loss.i, and W.new and W.S.new are what k steps leave.
func Unroll(s *ir.Model, k int) (*ir.Model, error) {
	if k < 1 || k > MostUnrolled {
		return nil, fmt.Errorf("pass %s: %d steps in one graph; 1 to %d", Pass, k, MostUnrolled)
	}
	m := ir.NewModel(fmt.Sprintf("%s_%d", s.Graph.Name, k), s.Opset(""))
	m.IRVersion = s.IRVersion
	for _, d := range s.Opsets {
		m.SetOpset(d.Domain, d.Version)
	}
	u := &unrolling{src: s.Graph, g: m.Graph, next: map[*ir.Value]*ir.Value{}, shared: map[*ir.Value]*ir.Value{}}
	if err := u.states(); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	var outs []*ir.Value
	for i := range k {
		made, err := u.step(i)
		if err != nil {
			return nil, fmt.Errorf("pass %s: step %d: %w", Pass, i, err)
		}
		outs = append(outs, made...)
	}
	for _, o := range u.src.Outputs() {
		in := u.state(o)
		if in == nil {
			continue
		}
		if err := u.call(u.next[in], o.Name()); err != nil {
			return nil, fmt.Errorf("pass %s: %w", Pass, err)
		}
		outs = append(outs, u.next[in])
	}
	if err := m.Graph.SetOutputs(outs...); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	if err := prune(m.Graph); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	m.Graph.UniqueNodeNames()
	if err := m.Verify(); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	return m, nil
}

type unrolling struct {
	src, g *ir.Graph
	next   map[*ir.Value]*ir.Value // present value of each state, by its input in src
	shared map[*ir.Value]*ir.Value // masks and constants, by their value in src
}

// state is the input that an output of the step graph is the next content of; nil for other outputs.
func (u *unrolling) state(o *ir.Value) *ir.Value {
	name, ok := strings.CutSuffix(o.Name(), New)
	if v := u.src.Value(name); ok && v != nil && v.IsInput() {
		return v
	}
	return nil
}

func (u *unrolling) states() error {
	own := map[*ir.Value]bool{}
	for _, o := range u.src.Outputs() {
		if v := u.state(o); v != nil {
			own[v] = true
		}
	}
	if len(own) == 0 {
		return fmt.Errorf("the graph has no output X%s of an input X to go on from", New)
	}
	for _, v := range u.src.Inputs() {
		if strings.HasSuffix(v.Name(), Sum) && own[v] {
			return fmt.Errorf("%q: a graph that sums gradients makes no step", v.Name())
		}
		of, masks := strings.CutSuffix(v.Name(), Mask)
		if w := u.src.Value(of); !own[v] && !(masks && w != nil && own[w]) {
			continue
		}
		in, err := u.g.AddInput(v.Name(), v.Type.Clone())
		if err != nil {
			return err
		}
		if own[v] {
			u.next[v] = in
		} else {
			u.shared[v] = in
		}
	}
	for _, v := range u.src.Initializers() {
		if v.IsInput() {
			continue
		}
		var c *ir.Value
		var err error
		if v.SparseInit() != nil {
			c, err = u.g.AddSparse(u.g.FreshName(v.Name()), v.SparseInit())
		} else {
			c, err = u.g.AddInitializer(u.g.FreshName(v.Name()), v.Init())
		}
		if err != nil {
			return err
		}
		c.Type = v.Type.Clone()
		u.shared[v] = c
	}
	return nil
}

// step adds a step and returns its outputs that are no states.
func (u *unrolling) step(i int) ([]*ir.Value, error) {
	bind := map[*ir.Value]*ir.Value{}
	for v, w := range u.shared {
		bind[v] = w
	}
	for v, w := range u.next {
		bind[v] = w
	}
	for _, v := range u.src.Inputs() {
		if bind[v] != nil {
			continue
		}
		in, err := u.g.AddInput(fmt.Sprintf("%s.%d", v.Name(), i), v.Type.Clone())
		if err != nil {
			return nil, err
		}
		bind[v] = in
	}
	vals, err := u.g.Inline(u.src, bind, "")
	if err != nil {
		return nil, err
	}
	var outs []*ir.Value
	for _, o := range u.src.Outputs() {
		if in := u.state(o); in != nil {
			u.next[in] = vals[o]
			continue
		}
		if err := u.call(vals[o], fmt.Sprintf("%s.%d", o.Name(), i)); err != nil {
			return nil, err
		}
		outs = append(outs, vals[o])
	}
	return outs, nil
}

// call gives a value a name that another may have.
func (u *unrolling) call(v *ir.Value, name string) error {
	if w := u.g.Value(name); w != nil && w != v {
		if err := u.g.Rename(w, u.g.FreshName(name+"_")); err != nil {
			return err
		}
	}
	if v.Name() == name {
		return nil
	}
	return u.g.Rename(v, name)
}
