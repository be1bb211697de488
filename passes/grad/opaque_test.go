package grad

import "mqatc/onnx/ir"

// opaqueCases exercise the gradients of operators of Domain, which onnxruntime does not have.
func opaqueCases() []ruleCase {
	type geometry struct {
		name              string
		x, w, dy          []int64
		s, pads, dilation []int64
		group             int64
	}
	var out []ruleCase
	for _, g := range []geometry{
		{"3x3", []int64{2, 3, 5, 4}, []int64{4, 3, 3, 3}, []int64{2, 4, 5, 4}, []int64{1, 1}, []int64{1, 1, 1, 1}, []int64{1, 1}, 1},
		{"1x1 stride 2", []int64{2, 3, 5, 6}, []int64{4, 3, 1, 1}, []int64{2, 4, 3, 3}, []int64{2, 2}, []int64{0, 0, 0, -1}, []int64{1, 1}, 1},
		{"stride 2", []int64{1, 2, 7, 6}, []int64{3, 2, 3, 3}, []int64{1, 3, 4, 3}, []int64{2, 2}, []int64{1, 1, 1, 0}, []int64{1, 1}, 1},
		{"kernel smaller than stride", []int64{1, 2, 8, 8}, []int64{2, 2, 2, 2}, []int64{1, 2, 2, 3}, []int64{4, 3}, []int64{0, 0, -2, 0}, []int64{1, 1}, 1},
		{"dilated", []int64{1, 2, 7, 7}, []int64{2, 2, 3, 3}, []int64{1, 2, 7, 7}, []int64{1, 1}, []int64{2, 2, 2, 2}, []int64{2, 2}, 1},
		{"groups", []int64{2, 4, 5, 4}, []int64{6, 2, 3, 3}, []int64{2, 6, 5, 4}, []int64{1, 1}, []int64{1, 1, 1, 1}, []int64{1, 1}, 2},
		{"depthwise stride 2", []int64{2, 3, 6, 7}, []int64{3, 1, 3, 3}, []int64{2, 3, 3, 4}, []int64{2, 2}, []int64{1, 1, 0, 1}, []int64{1, 1}, 3},
	} {
		for _, name := range []string{ConvWeightGrad, ConvInputGrad} {
			in, dims := []input{x(g.x...), x(g.dy...)}, g.w
			if name == ConvInputGrad {
				in, dims = []input{x(g.dy...), x(g.w...)}, g.x
			}
			out = append(out, ruleCase{op: Domain + "." + name, name: g.name, in: in, lacking: true, make: func(b *ir.Builder, in []*ir.Value) []*ir.Value {
				infer := b.Infer
				b.Infer = nil
				v := b.Node(ir.NodeSpec{Op: name, Domain: Domain, Inputs: in, Attrs: []ir.Attr{ir.AInts("kernel_shape", g.w[2:]...), ir.AInts("strides", g.s...),
					ir.AInts("dilations", g.dilation...), ir.AInts("pads", g.pads...), ir.AInt("group", g.group), ir.AInts("shape", dims...)}}, 1)
				b.Infer = infer
				v[0].Type = ir.TensorType(ir.Float32, ir.StaticShape(dims...))
				return v
			}})
		}
	}
	return out
}

// evalOpaque goes over all products of an element of x, one of the weights and one of the cotangent that belong together.
func evalOpaque(n *ir.Node, in []*arr) []*arr {
	y := newArr(n.Ints("shape")...)
	x, w, dy := in[0], y, in[1]
	if n.Op == ConvInputGrad {
		x, w, dy = y, in[1], in[0]
	}
	s, d, lo, group := n.Ints("strides"), n.Ints("dilations"), n.Ints("pads"), n.Int("group", 1)
	per := w.shape[1]
	xs, ws := x.strides(), w.strides()
	each(dy.shape, func(at []int64, k int64) {
		each(w.shape[1:], func(t []int64, _ int64) {
			py, px := at[2]*s[0]+t[1]*d[0]-lo[0], at[3]*s[1]+t[2]*d[1]-lo[1]
			if py < 0 || px < 0 || py >= x.shape[2] || px >= x.shape[3] {
				return
			}
			i := dot([]int64{at[0], at[1]/(w.shape[0]/group)*per + t[0], py, px}, xs)
			j := dot([]int64{at[1], t[0], t[1], t[2]}, ws)
			if n.Op == ConvInputGrad {
				y.v[i] += dy.v[k] * w.v[j]
			} else {
				y.v[j] += dy.v[k] * x.v[i]
			}
		})
	})
	return []*arr{y}
}
