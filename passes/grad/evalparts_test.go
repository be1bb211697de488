package grad

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// evalParts evaluates an operator by what its row says it is made of; that this is right, onnxruntime tells.
func (e *evaluator) evalParts(n *ir.Node, r row) ([]*arr, error) {
	g := ir.NewGraph("parts")
	spec := ir.NodeSpec{Op: n.Op, Domain: n.Domain, Attrs: n.Attrs()}
	feeds := map[string]*arr{}
	for i, v := range n.Inputs() {
		if v == nil {
			spec.Inputs = append(spec.Inputs, nil)
			continue
		}
		var w *ir.Value
		var err error
		if t := constTensor(v); t != nil {
			w, err = g.AddInitializer(fmt.Sprint("in", i), t)
		} else {
			w, err = g.AddInput(fmt.Sprint("in", i), v.Type)
			feeds[fmt.Sprint("in", i)] = e.get(v)
		}
		if err != nil {
			return nil, err
		}
		spec.Inputs = append(spec.Inputs, w)
	}
	for i := range n.Outputs() {
		spec.Outputs = append(spec.Outputs, fmt.Sprint("out", i))
	}
	m, err := g.Append(spec)
	if err != nil {
		return nil, err
	}
	for i, o := range n.Outputs() {
		m.Output(i).Type = o.Type
	}
	b := ir.NewBuilder(g, "parts", op.InferNode)
	made := r.parts(&call{Builder: b, n: m, dt: n.Output(0).DType(), memo: map[string]*ir.Value{}, shared: newShared()})
	if err := b.Err(); err != nil {
		return nil, err
	}
	inner := &evaluator{ste: e.ste, vals: map[*ir.Value]*arr{}}
	for _, v := range g.Inputs() {
		inner.vals[v] = feeds[v.Name()]
	}
	for k := m.Next(); k != nil; k = k.Next() {
		if err := inner.node(k); err != nil {
			return nil, fmt.Errorf("%v: %w", k, err)
		}
	}
	var outs []*arr
	for i := range n.Outputs() {
		if i >= len(made) {
			break
		}
		outs = append(outs, inner.get(made[i]))
	}
	return outs, nil
}

func (e *evaluator) evalIf(n *ir.Node, in []*arr) ([]*arr, error) {
	name := "else_branch"
	if in[0].v[0] != 0 {
		name = "then_branch"
	}
	return e.inside(n.Attr(name).G)
}

// inside evaluates a subgraph whose inputs have values.
func (e *evaluator) inside(s *ir.Graph) ([]*arr, error) {
	for m := s.First(); m != nil; m = m.Next() {
		if err := e.node(m); err != nil {
			return nil, fmt.Errorf("%v: %w", m, err)
		}
	}
	var outs []*arr
	for _, o := range s.Outputs() {
		outs = append(outs, e.get(o))
	}
	return outs, nil
}

func evalMaxUnpool(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	s, ok := n.Output(0).StaticDims()
	if !ok {
		return nil, fmt.Errorf("no static shape")
	}
	y := newArr(s...)
	for k, p := range in[1].ints() {
		y.v[p] = in[0].v[k]
	}
	return []*arr{y}, nil
}

func evalReverseSequence(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, lens := in[0], in[1].ints()
	b, t := n.Int("batch_axis", 1), n.Int("time_axis", 0)
	y := newArr(x.shape...)
	each(x.shape, func(at []int64, k int64) {
		src := append([]int64{}, at...)
		if l := lens[at[b]]; at[t] < l {
			src[t] = l - 1 - at[t]
		}
		y.v[k] = x.at(src)
	})
	return []*arr{y}, nil
}

// resizedByMatrices is a Resize in the modes that onnxruntime alone checks.
func resizedByMatrices(n *ir.Node, x *arr) ([]*arr, error) {
	c := &call{Builder: ir.NewBuilder(n.Graph(), "", nil), n: n}
	out, _ := n.Output(0).StaticDims()
	scales, err := c.resizeScales(x.shape, out)
	if err != nil {
		return nil, err
	}
	roi, err := c.resizeRegion(len(out))
	if err != nil {
		return nil, err
	}
	for a := range out {
		m, err := c.resizeMatrix(a, x.shape[a], out[a], scales[a], roi)
		if err != nil {
			return nil, err
		}
		if roi == nil && x.shape[a] == out[a] {
			continue
		}
		s := append([]int64{}, x.shape...)
		s[a] = out[a]
		y := newArr(s...)
		each(s, func(at []int64, k int64) {
			src := append([]int64{}, at...)
			for i := range x.shape[a] {
				src[a] = i
				y.v[k] += m[at[a]*x.shape[a]+i] * x.at(src)
			}
		})
		x = y
	}
	return []*arr{x}, nil
}
