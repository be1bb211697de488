package grad

import "mqatc/onnx/ir"

const ms = "com.microsoft."

// choice is an If whose branches read x and w from outside; one of them does not read w.
func choice(b *ir.Builder, in []*ir.Value) []*ir.Value {
	branch := func(name string, f func(b *ir.Builder) *ir.Value) ir.Attr {
		g := ir.NewSubgraph(name, b.G)
		y := f(ir.NewBuilder(g, "test", b.Infer))
		if err := g.SetOutputs(y); err != nil {
			b.Fail(err)
		}
		return ir.AGraph(name, g)
	}
	x, w := in[1], in[2]
	return b.Node(ir.NodeSpec{Op: "If", Inputs: in[:1], Attrs: []ir.Attr{
		branch("then_branch", func(b *ir.Builder) *ir.Value {
			return b.Op("Mul", []*ir.Value{b.Op("Sin", []*ir.Value{x}), w})
		}),
		branch("else_branch", func(b *ir.Builder) *ir.Value { return b.Op("Exp", []*ir.Value{x}) }),
	}}, 1)
}

func moreCases() []ruleCase {
	i := func(v ...input) []input { return v }
	red := func(r string) ir.Attr { return ir.AString("reduction", r) }
	cond := func(v float64) input { return input{dims: []int64{}, vals: []float64{v}, kind: "bool"} }
	k := func(v ...int64) ir.Attr { return ir.AInts("kernel_shape", v...) }
	s := func(v ...int64) ir.Attr { return ir.AInts("strides", v...) }
	p := func(v ...int64) ir.Attr { return ir.AInts("pads", v...) }
	at := func(a ...ir.Attr) []ir.Attr { return a }
	rs := func(a ...ir.Attr) []ir.Attr { return append(a, ir.AString("mode", "linear")) }
	return []ruleCase{
		{op: "Dropout", name: "training, ratio 0", in: i(x(3, 4), scalar(0), input{dims: []int64{}, vals: []float64{1}, kind: "flag"})},
		{op: "Shrink", in: i(x(3, 4).off(-0.5, 0.5))},
		{op: "Shrink", name: "attributes", in: i(x(3, 4).off(-0.7, 0.7)), attrs: at(ir.AFloat("lambd", 0.7), ir.AFloat("bias", 0.3))},
		{op: "Swish", in: i(x(3, 4)), attrs: at(ir.AFloat("alpha", 1.5)), opset: 24},
		{op: ms + "QuickGelu", in: i(x(3, 4))},
		{op: ms + "Gelu", in: i(x(3, 4))},
		{op: ms + "FastGelu", in: i(x(3, 4), x(4))},
		{op: ms + "BiasGelu", in: i(x(3, 4), x(4))},
		{op: "Mod", name: "fmod", in: i(in(1.1, 1.4, 3, 4), in(0.45, 0.5, 4)), attrs: at(ir.AInt("fmod", 1))},
		{op: "Mod", name: "negative", in: i(in(-1.4, -1.1, 3, 4), in(0.45, 0.5, 4)), attrs: at(ir.AInt("fmod", 1))},
		{op: "LRN", name: "odd", in: i(x(2, 5, 3, 2)), attrs: at(ir.AInt("size", 3), ir.AFloat("alpha", 0.5))},
		{op: "LRN", name: "even", in: i(x(1, 4, 2, 2)), attrs: at(ir.AInt("size", 2), ir.AFloat("alpha", 0.3), ir.AFloat("beta", 0.5), ir.AFloat("bias", 2)), lacking: true},
		{op: "MeanVarianceNormalization", in: i(x(2, 3, 3, 2))},
		{op: "RMSNormalization", in: i(x(2, 3, 4), x(4)), opset: 23},
		{op: "RMSNormalization", name: "two", in: i(x(2, 3, 4), x(3, 4)), attrs: at(ir.AInt("axis", 1)), opset: 23},
		{op: "SimplifiedLayerNormalization", in: i(x(2, 3, 4), x(4))},
		{op: ms + "SkipLayerNormalization", in: i(x(2, 3, 4), x(2, 3, 4), x(4), x(4), x(4)), attrs: at(ir.AFloat("epsilon", 1e-5))},
		{op: ms + "SkipSimplifiedLayerNormalization", in: i(x(2, 3, 4), x(2, 3, 4), x(4), x(4)), attrs: at(ir.AFloat("epsilon", 1e-5))},
		{op: "LpPool", name: "2", in: i(x(1, 2, 5, 6)), attrs: at(k(3, 2), s(2, 1), p(1, 0, 1, 1))},
		{op: "LpPool", name: "1", in: i(x(1, 2, 5, 5)), attrs: at(k(2, 2), s(2, 2), ir.AInt("p", 1))},
		{op: "LpPool", name: "3", in: i(x(1, 2, 7)), attrs: at(k(3), s(2), ir.AInt("p", 3))},
		{op: "LpPool", name: "dilated ceil", in: i(x(1, 2, 8, 7)), attrs: at(k(2, 3), s(2, 2), ir.AInts("dilations", 2, 1), ir.AInt("ceil_mode", 1)), opset: 18},
		{op: "GlobalLpPool", in: i(x(2, 3, 4, 2))},
		{op: "GlobalLpPool", name: "3", in: i(x(2, 3, 4)), attrs: at(ir.AInt("p", 3))},
		{op: "MaxUnpool", in: i(x(1, 1, 2, 2), ints(5, 7, 8, 2).shaped(1, 1, 2, 2)), attrs: at(k(2, 2), s(2, 2))},
		{op: "AveragePool", name: "dilated", in: i(x(1, 2, 7, 7)), attrs: at(k(2, 2), ir.AInts("dilations", 2, 3)), opset: 19},
		{op: "AveragePool", name: "ceil counting pads", in: i(x(1, 2, 6, 6)), attrs: at(k(3, 3), s(2, 2), p(1, 1, 0, 0), ir.AInt("ceil_mode", 1), ir.AInt("count_include_pad", 1)), opset: 19},
		{op: "MaxPool", name: "3D", in: i(x(1, 2, 4, 4, 3)), attrs: at(k(2, 2, 2), s(2, 1, 1))},
		{op: "ConvTranspose", name: "3D", in: i(x(1, 2, 2, 3, 2), x(2, 2, 2, 2, 3)), attrs: at(s(2, 1, 2), p(0, 1, 1, 1, 0, 0))},
		{op: "OneHot", in: i(ints(0, 2, 1), ints(3), x(2))},
		{op: "OneHot", name: "axis", in: i(ints(0, 2, 1), ints(3), x(2)), attrs: at(ir.AInt("axis", 0))},
		{op: "ReverseSequence", in: i(x(4, 3), ints(4, 2, 1))},
		{op: "ReverseSequence", name: "axes", in: i(x(3, 4, 2), ints(4, 2, 1)), attrs: at(ir.AInt("batch_axis", 0), ir.AInt("time_axis", 1))},
		{op: "ScatterElements", name: "mul", in: i(x(3, 4), ints(0, 1, 2, 0, 0, 2, 1, 1).shaped(2, 4), x(2, 4)), attrs: at(red("mul")), opset: 18},
		{op: "ScatterElements", name: "max", in: i(x(3, 4), ints(0, 1, 2, 0, 0, 2, 1, 1).shaped(2, 4), x(2, 4)), attrs: at(red("max")), opset: 18},
		{op: "ScatterND", name: "mul", in: i(x(4, 3), ints(2, 2).shaped(2, 1), x(2, 3)), attrs: at(red("mul")), opset: 18},
		{op: "ScatterND", name: "min", in: i(x(4, 3), ints(2, 2).shaped(2, 1), x(2, 3)), attrs: at(red("min")), opset: 18},
		{op: "Einsum", name: "ellipsis", in: i(x(2, 3, 4), x(2, 4, 5)), attrs: at(ir.AString("equation", "...ij,...jk->...ik"))},
		{op: "If", name: "then", in: i(cond(1), x(3, 4), x(4)), make: choice},
		{op: "If", name: "else", in: i(cond(0), x(3, 4), x(4)), make: choice},
		{op: "Resize", name: "antialias", in: i(x(1, 2, 6, 8), absent, absent, ints(1, 2, 3, 5)), attrs: rs(ir.AInt("antialias", 1)), opset: 18},
		{op: "Resize", name: "antialias cubic", in: i(x(1, 2, 6, 8), absent, absent, ints(1, 2, 3, 5)), attrs: at(ir.AString("mode", "cubic"), ir.AInt("antialias", 1)), opset: 18},
		{op: "Resize", name: "cubic inside", in: i(x(1, 2, 5, 6), absent, absent, ints(1, 2, 3, 8)), attrs: at(ir.AString("mode", "cubic"), ir.AInt("exclude_outside", 1), ir.AString("coordinate_transformation_mode", "asymmetric")), opset: 18},
		{op: "Resize", name: "not larger", in: i(x(1, 2, 6, 8), absent, absent, ints(5, 9)), attrs: rs(ir.AInts("axes", 2, 3), ir.AString("keep_aspect_ratio_policy", "not_larger")), opset: 18},
		{op: "Resize", name: "region", in: i(x(1, 2, 6, 8), num(0, 0, 0.2, -0.1, 1, 1, 0.7, 0.8), absent, ints(1, 2, 4, 5)), attrs: rs(ir.AString("coordinate_transformation_mode", "tf_crop_and_resize"))},
		{op: "Resize", name: "symmetric", in: i(x(1, 2, 5, 4), absent, num(1, 1, 1.5, 0.7)), attrs: rs(ir.AString("coordinate_transformation_mode", "half_pixel_symmetric")), opset: 19},
	}
}

func sampleCases() []ruleCase {
	grid := func(d ...int64) input {
		v := in(-1.1, 1.1, d...)
		for k := -8.0; k <= 8; k++ { // pixel centres of sizes 4 and 5, which the two alignments put at different places
			v = v.off(k/4, k/5, k/3)
		}
		return v
	}
	gs := func(name, mode, pad string, align int64, v, g input, opset int64) ruleCase {
		return ruleCase{op: "GridSample", name: name, in: []input{v, g}, opset: opset,
			attrs: []ir.Attr{ir.AString("mode", mode), ir.AString("padding_mode", pad), ir.AInt("align_corners", align)}}
	}
	inner := func(d ...int64) input {
		v := grid(d...)
		v.lo, v.hi = -0.9, 0.9
		return v
	}
	rois := func(v ...float64) input { return input{dims: []int64{int64(len(v) / 4), 4}, vals: v} }
	roi := func(name string, ratio int64, a ...ir.Attr) ruleCase {
		return ruleCase{op: "RoiAlign", name: name, in: []input{x(2, 2, 6, 7), rois(0.33, 0.74, 4.12, 4.87, 1.4, 0.6, 5.65, 5.15), ints(1, 0)},
			attrs: append(a, ir.AInt("output_height", 2), ir.AInt("output_width", 3), ir.AInt("sampling_ratio", ratio))}
	}
	one := roi("one image", 2)
	one.in = []input{x(1, 2, 6, 7), rois(0.33, 0.74, 4.12, 4.87, 1.4, 0.6, 5.65, 5.15), ints(0, 0)}
	sized := roi("by size", 0)
	sized.in[1] = rois(0.33, 0.74, 6.12, 4.87, 1.4, 2.6, 1.65, 3.15)
	return []ruleCase{
		gs("zeros", "bilinear", "zeros", 0, x(2, 2, 4, 5), grid(2, 3, 2, 2), 16),
		gs("border", "bilinear", "border", 1, x(2, 2, 4, 5), grid(2, 3, 2, 2), 16),
		gs("reflection", "bilinear", "reflection", 0, x(1, 2, 4, 5), grid(1, 3, 2, 2), 16),
		gs("reflection aligned", "bilinear", "reflection", 1, x(1, 2, 4, 5), grid(1, 3, 2, 2), 16),
		gs("nearest", "nearest", "zeros", 0, x(1, 2, 4, 5), grid(1, 3, 2, 2), 16),
		gs("cubic", "bicubic", "zeros", 0, x(1, 2, 4, 5), inner(1, 3, 2, 2), 16),
		gs("cubic border", "bicubic", "border", 1, x(1, 2, 4, 5), inner(1, 3, 2, 2), 16),
		gs("3D", "linear", "zeros", 0, x(1, 2, 3, 4, 5), grid(1, 2, 2, 2, 3), 20),
		{op: "AffineGrid", in: []input{x(2, 2, 3), ints(2, 1, 3, 4)}, opset: 20},
		{op: "AffineGrid", name: "3D", in: []input{x(2, 3, 4), ints(2, 1, 2, 3, 4)}, attrs: []ir.Attr{ir.AInt("align_corners", 1)}, opset: 20},
		roi("half pixel", 2, ir.AString("coordinate_transformation_mode", "half_pixel")),
		one, sized,
		roi("scaled", 2, ir.AString("coordinate_transformation_mode", "output_half_pixel"), ir.AFloat("spatial_scale", 0.9)),
	}
}

func attentionCases() []ruleCase {
	i := func(v ...input) []input { return v }
	at := func(a ...ir.Attr) []ir.Attr { return a }
	h := func(q, kv int64) []ir.Attr { return at(ir.AInt("q_num_heads", q), ir.AInt("kv_num_heads", kv)) }
	heads := ir.AInt("num_heads", 2)
	flags := func(v ...float64) input { return input{dims: []int64{2, int64(len(v) / 2)}, vals: v, kind: "bool"} }
	return []ruleCase{
		{op: "Attention", name: "heads", in: i(x(2, 2, 3, 4), x(2, 2, 5, 4), x(2, 2, 5, 3)), opset: 23},
		{op: "Attention", name: "self", opset: 23, in: i(x(1, 2, 3, 4)), make: func(b *ir.Builder, in []*ir.Value) []*ir.Value {
			return b.Node(ir.NodeSpec{Op: "Attention", Inputs: []*ir.Value{in[0], in[0], in[0]}}, 1)
		}},
		{op: "Attention", name: "packed", in: i(x(2, 3, 8), x(2, 5, 8), x(2, 5, 6)), attrs: h(2, 2), opset: 23},
		{op: "Attention", name: "groups", in: i(x(1, 3, 8), x(1, 3, 4), x(1, 3, 4)), attrs: h(4, 2), opset: 23},
		{op: "Attention", name: "mask", in: i(x(1, 2, 2, 4), x(1, 2, 3, 4), x(1, 2, 3, 4), x(2, 3)), attrs: at(ir.AFloat("scale", 0.3)), opset: 23},
		{op: "Attention", name: "flags", in: i(x(1, 2, 2, 4), x(1, 2, 3, 4), x(1, 2, 3, 4), flags(1, 0, 1, 1, 1, 0)), opset: 23},
		{op: "Attention", name: "causal", in: i(x(1, 2, 3, 4), x(1, 2, 3, 4), x(1, 2, 3, 4)), attrs: at(ir.AInt("is_causal", 1)), opset: 23},
		{op: "Attention", name: "softcap", in: i(x(1, 2, 3, 4), x(1, 2, 3, 4), x(1, 2, 3, 4)), attrs: at(ir.AFloat("softcap", 1.5)), opset: 23},
		{op: "Attention", name: "past", nout: 3, in: i(x(1, 2, 2, 4), x(1, 2, 2, 4), x(1, 2, 2, 4), absent, x(1, 2, 3, 4), x(1, 2, 3, 4)), opset: 23},
		{op: ms + "MultiHeadAttention", name: "apart", in: i(x(2, 3, 8), x(2, 4, 8), x(2, 4, 8)), attrs: at(heads)},
		{op: ms + "MultiHeadAttention", name: "bias", in: i(x(2, 3, 8), x(2, 3, 8), x(2, 3, 8), x(24)), attrs: at(heads)},
		{op: ms + "MultiHeadAttention", name: "mask", in: i(x(2, 3, 8), x(2, 3, 8), x(2, 3, 8), absent,
			input{dims: []int64{2, 3}, vals: []float64{1, 1, 0, 1, 1, 1}, kind: "int32"}, x(2, 2, 3, 3)), attrs: at(heads)},
	}
}
