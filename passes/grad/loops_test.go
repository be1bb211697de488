package grad

import "mqatc/onnx/ir"

func (e *evaluator) evalLoop(n *ir.Node, in []*arr) ([]*arr, error) {
	body := n.Attr("body").G
	carried := len(n.Inputs()) - 2
	state, on := in[2:2+carried], in[1] == nil || in[1].v[0] != 0
	scanned := make([][]*arr, len(body.Outputs())-1-carried)
	for t := 0.0; on && (in[0] == nil || t < in[0].v[0]); t++ {
		e.vals[body.Inputs()[0]], e.vals[body.Inputs()[1]] = &arr{nil, []float64{t}}, &arr{nil, []float64{1}}
		for i, s := range state {
			e.vals[body.Inputs()[2+i]] = s
		}
		outs, err := e.inside(body)
		if err != nil {
			return nil, err
		}
		on, state = outs[0].v[0] != 0, outs[1:1+carried]
		for i, o := range outs[1+carried:] {
			scanned[i] = append(scanned[i], o)
		}
	}
	outs := append([]*arr{}, state...)
	for _, s := range scanned {
		outs = append(outs, stacked(s, 0))
	}
	return outs, nil
}

// stacked puts arrays beside each other along a new axis.
func stacked(as []*arr, axis int64) *arr {
	s := append(append(append([]int64{}, as[0].shape[:axis]...), int64(len(as))), as[0].shape[axis:]...)
	y := newArr(s...)
	each(s, func(at []int64, k int64) {
		y.v[k] = as[at[axis]].at(append(append([]int64{}, at[:axis]...), at[axis+1:]...))
	})
	return y
}

// element is the slice of a at i along an axis, without that.
func element(a *arr, axis, i int64) *arr {
	y := newArr(append(append([]int64{}, a.shape[:axis]...), a.shape[axis+1:]...)...)
	each(y.shape, func(at []int64, k int64) {
		y.v[k] = a.at(append(append(append([]int64{}, at[:axis]...), i), at[axis:]...))
	})
	return y
}

func (e *evaluator) evalScan(n *ir.Node, in []*arr) ([]*arr, error) {
	body, all := n.Attr("body").G, len(n.Inputs())
	carried := all - int(n.Int("num_scan_inputs", 0))
	get := func(name string, i int) int64 {
		if v := n.Ints(name); len(v) > i {
			return v[i]
		}
		return 0
	}
	state := in[:carried]
	steps := in[carried].shape[posAxis(get("scan_input_axes", 0), in[carried])]
	scanned := make([][]*arr, len(body.Outputs())-carried)
	for t := range steps {
		for i, v := range body.Inputs() {
			if i < carried {
				e.vals[v] = state[i]
				continue
			}
			k := i - carried
			at := t
			if get("scan_input_directions", k) == 1 {
				at = steps - 1 - t
			}
			e.vals[v] = element(in[i], posAxis(get("scan_input_axes", k), in[i]), at)
		}
		outs, err := e.inside(body)
		if err != nil {
			return nil, err
		}
		state = outs[:carried]
		for i, o := range outs[carried:] {
			if get("scan_output_directions", i) == 1 {
				scanned[i] = append([]*arr{o}, scanned[i]...)
			} else {
				scanned[i] = append(scanned[i], o)
			}
		}
	}
	outs := append([]*arr{}, state...)
	for i, s := range scanned {
		axis := get("scan_output_axes", i)
		if axis < 0 {
			axis += int64(len(s[0].shape)) + 1
		}
		outs = append(outs, stacked(s, axis))
	}
	return outs, nil
}

// bodyOf makes a subgraph with inputs of the types given, and what f makes of them as outputs.
func bodyOf(b *ir.Builder, types []ir.Type, f func(b *ir.Builder, in []*ir.Value) []*ir.Value) ir.Attr {
	g := ir.NewSubgraph("body", b.G)
	var in []*ir.Value
	for _, t := range types {
		v, err := g.AddInput(g.FreshName("body_in"), t)
		if err != nil {
			b.Fail(err)
			return ir.Attr{}
		}
		in = append(in, v)
	}
	inner := ir.NewBuilder(g, "test", b.Infer)
	inner.Site = "inner"
	if err := g.SetOutputs(f(inner, in)...); err != nil {
		b.Fail(err)
	}
	if err := inner.Err(); err != nil {
		b.Fail(err)
	}
	return ir.AGraph("body", g)
}

func floatType(dims ...int64) ir.Type { return ir.TensorType(ir.Float32, ir.StaticShape(dims...)) }

var counter = []ir.Type{ir.TensorType(ir.Int64, ir.StaticShape()), ir.TensorType(ir.Bool, ir.StaticShape())}

// loopCase makes a Loop of the first two inputs whose body carries h, the third, through f.
func loopCase(nout int, f func(b *ir.Builder, trip, cond, h *ir.Value, outer []*ir.Value) []*ir.Value) func(*ir.Builder, []*ir.Value) []*ir.Value {
	return func(b *ir.Builder, in []*ir.Value) []*ir.Value {
		body := bodyOf(b, append(counter[:2:2], floatType(2, 3)), func(b *ir.Builder, v []*ir.Value) []*ir.Value { return f(b, v[0], v[1], v[2], in) })
		return b.Node(ir.NodeSpec{Op: "Loop", Inputs: in[:3], Attrs: []ir.Attr{body}}, nout)
	}
}

func turn(b *ir.Builder, h, w *ir.Value) *ir.Value {
	return b.Op("Tanh", []*ir.Value{b.Op("MatMul", []*ir.Value{h, w})})
}

func loopCases() []ruleCase {
	i := func(v ...input) []input { return v }
	flag := func(v float64) input { return input{dims: []int64{}, vals: []float64{v}, kind: "flag"} }
	count := func(n int64) input { return ints(n).shaped() }
	scanned := func(attrs ...ir.Attr) func(*ir.Builder, []*ir.Value) []*ir.Value {
		return func(b *ir.Builder, in []*ir.Value) []*ir.Value {
			body := bodyOf(b, []ir.Type{floatType(2, 3), floatType(2, 3)}, func(b *ir.Builder, v []*ir.Value) []*ir.Value {
				h := b.Op("Add", []*ir.Value{turn(b, v[0], in[2]), v[1]})
				return []*ir.Value{h, b.Op("Mul", []*ir.Value{h, v[1]})}
			})
			return b.Node(ir.NodeSpec{Op: "Scan", Inputs: in[:2], Attrs: append(attrs, body, ir.AInt("num_scan_inputs", 1))}, 2)
		}
	}
	ax := func(name string, v ...int64) ir.Attr { return ir.AInts(name, v...) }
	return []ruleCase{
		{op: "Loop", name: "count", in: i(count(3), absent, x(2, 3), x(3, 3)), make: loopCase(2, func(b *ir.Builder, _, cond, h *ir.Value, outer []*ir.Value) []*ir.Value {
			h = turn(b, h, outer[3])
			return []*ir.Value{b.Op("Identity", []*ir.Value{cond}), h, b.Op("Mul", []*ir.Value{h, h})}
		})},
		{op: "Loop", name: "until", in: i(absent, flag(1), x(2, 3), x(3, 3)), make: loopCase(1, func(b *ir.Builder, trip, _, h *ir.Value, outer []*ir.Value) []*ir.Value {
			return []*ir.Value{b.Op("Less", []*ir.Value{trip, b.Const(ir.ScalarInt64(2))}), turn(b, h, outer[3])}
		})},
		{op: "Loop", name: "rows by trip", in: i(count(2), flag(1), x(2, 3), x(4, 3)), make: loopCase(1, func(b *ir.Builder, trip, cond, h *ir.Value, outer []*ir.Value) []*ir.Value {
			row := b.Op("Gather", []*ir.Value{outer[3], trip})
			return []*ir.Value{cond, b.Op("Sin", []*ir.Value{b.Op("Mul", []*ir.Value{h, row})})}
		})},
		{op: "Loop", name: "input read inside", in: i(count(2), absent, x(2, 3)), make: loopCase(1, func(b *ir.Builder, _, cond, h *ir.Value, outer []*ir.Value) []*ir.Value {
			return []*ir.Value{cond, b.Op("Sin", []*ir.Value{b.Op("Mul", []*ir.Value{h, outer[2]})})}
		})},
		{op: "Loop", name: "never", in: i(count(3), flag(0), x(2, 3), x(3, 3)), make: loopCase(1, func(b *ir.Builder, _, cond, h *ir.Value, outer []*ir.Value) []*ir.Value {
			return []*ir.Value{cond, turn(b, h, outer[3])}
		})},
		{op: "Loop", name: "choice inside", in: i(count(2), absent, x(2, 3), x(2, 3)), make: loopCase(1, func(b *ir.Builder, trip, cond, h *ir.Value, outer []*ir.Value) []*ir.Value {
			first := b.Op("Equal", []*ir.Value{trip, b.Const(ir.ScalarInt64(0))})
			return append([]*ir.Value{cond}, choice(b, []*ir.Value{first, h, outer[3]})...)
		})},
		{op: "Loop", name: "nested", in: i(count(2), absent, x(2, 3), x(3, 3)), make: loopCase(1, func(b *ir.Builder, _, cond, h *ir.Value, outer []*ir.Value) []*ir.Value {
			inner := bodyOf(b, append(counter[:2:2], floatType(2, 3)), func(b *ir.Builder, v []*ir.Value) []*ir.Value {
				return []*ir.Value{v[1], b.Op("Add", []*ir.Value{turn(b, v[2], outer[3]), h})}
			})
			return []*ir.Value{cond, b.Node(ir.NodeSpec{Op: "Loop", Inputs: []*ir.Value{b.Const(ir.ScalarInt64(2)), nil, h}, Attrs: []ir.Attr{inner}}, 1)[0]}
		})},
		{op: "Scan", in: i(x(2, 3), x(3, 2, 3), x(3, 3)), make: scanned()},
		{op: "Scan", name: "axes and directions", in: i(x(2, 3), x(2, 3, 4), x(3, 3)), make: scanned(ax("scan_input_axes", -1), ax("scan_input_directions", 1),
			ax("scan_output_axes", 1), ax("scan_output_directions", 1))},
		{op: "Scan", name: "one", in: i(x(2, 3), x(2, 1, 3), x(3, 3)), make: scanned(ax("scan_input_axes", 1))},
	}
}
