package grad

import "mqatc/onnx/ir"

// newerCases are of operators that onnxruntime checks, being evaluated by their parts.
func newerCases() []ruleCase {
	i := func(v ...input) []input { return v }
	at := func(a ...ir.Attr) []ir.Attr { return a }
	s, p := func(v ...int64) ir.Attr { return ir.AInts("strides", v...) }, func(v ...int64) ir.Attr { return ir.AInts("pads", v...) }
	d := func(v ...int64) ir.Attr { return ir.AInts("dilations", v...) }
	group, parts := func(n int64) ir.Attr { return ir.AInt("group", n) }, func(n int64) ir.Attr { return ir.AInt("offset_group", n) }
	// Offsets keep away from whole numbers, where the samples have kinks.
	shift := func(d ...int64) input { return in(-1.9, 1.9, d...).off(-1, 0, 1) }
	act := func(name string, v ...float32) []ir.Attr {
		a := at(ir.AString("activation", name))
		if len(v) > 0 {
			a = append(a, ir.AFloats("activation_params", v...))
		}
		return a
	}
	flags := func(v ...float64) input { return input{dims: []int64{int64(len(v))}, vals: v, kind: "flag"} }
	rois := num(0, 0, 0, 5, 4, 1, 1.2, 2.4, 6.3, 5.1, 0, 3, 3, 9, 9, 1, 7, 2, 9, 4).shaped(4, 5)
	trans := func(names ...string) []ir.Attr {
		a := at(ir.AFloat("alpha", 0.7))
		for _, n := range names {
			a = append(a, ir.AInt(n, 1))
		}
		return a
	}
	scaled := func(a ...ir.Attr) []ir.Attr { return append(a, ir.AInts("pooled_shape", 2, 3)) }
	far := in(2.1, 4.9, 1, 8, 2, 3).off(3, 4)
	return []ruleCase{
		{op: "DeformConv", in: i(x(2, 2, 4, 5), x(3, 2, 2, 3), shift(2, 12, 3, 3)), opset: 19},
		{op: "DeformConv", name: "mask", in: i(x(1, 2, 4, 5), x(2, 2, 3, 3), shift(1, 18, 4, 5), x(2), x(1, 9, 4, 5)), attrs: at(p(1, 1, 1, 1)), opset: 19},
		{op: "DeformConv", name: "groups", in: i(x(2, 4, 5, 5), x(6, 2, 2, 2), shift(2, 16, 2, 2), x(6), x(2, 8, 2, 2)),
			attrs: at(group(2), parts(2), s(2, 3), d(2, 1), p(0, 1, 1, 0)), opset: 19},
		{op: "DeformConv", name: "offset groups", in: i(x(1, 4, 4, 4), x(2, 4, 2, 2), shift(1, 32, 3, 3)), attrs: at(parts(4)), opset: 19},
		{op: "DeformConv", name: "far outside", in: i(x(1, 2, 3, 4), x(2, 2, 2, 2), far), opset: 22},
		{op: "Col2Im", in: i(x(2, 8, 6), ints(3, 4), ints(2, 2)), opset: 18},
		{op: "Col2Im", name: "attributes", in: i(x(1, 12, 6), ints(5, 6), ints(2, 3)), attrs: at(s(2, 3), p(1, 0, 1, 1), d(2, 1)), opset: 18},
		{op: "Col2Im", name: "left over", in: i(x(1, 8, 4), ints(7, 7), ints(2, 2)), attrs: at(s(4, 4)), opset: 18},
		{op: "Col2Im", name: "1D", in: i(x(2, 6, 4), ints(6), ints(3)), opset: 18},
		{op: "CenterCropPad", in: i(x(5, 4), ints(2, 7)), opset: 18},
		{op: "CenterCropPad", name: "axes", in: i(x(2, 6, 3, 4), ints(3, 6)), attrs: at(ir.AInts("axes", 1, -1)), opset: 18},
		{op: "CenterCropPad", name: "odd", in: i(x(8, 3), ints(3, 8)), opset: 18},
		{op: "RotaryEmbedding", in: i(x(2, 2, 3, 4), x(2, 3, 2), x(2, 3, 2)), opset: 23},
		{op: "RotaryEmbedding", name: "interleaved part", in: i(x(1, 2, 3, 6), x(1, 3, 2), x(1, 3, 2)),
			attrs: at(ir.AInt("interleaved", 1), ir.AInt("rotary_embedding_dim", 4)), opset: 23},
		{op: "RotaryEmbedding", name: "part", in: i(x(1, 2, 3, 6), x(1, 3, 2), x(1, 3, 2)), attrs: at(ir.AInt("rotary_embedding_dim", 4)), opset: 23},
		{op: "RotaryEmbedding", name: "flat at positions", in: i(x(2, 3, 8), x(5, 2), x(5, 2), ints(0, 4, 1, 2, 2, 3).shaped(2, 3)),
			attrs: at(ir.AInt("num_heads", 2)), opset: 23},
		{op: "RotaryEmbedding", name: "flat interleaved", in: i(x(2, 3, 8), x(2, 3, 2), x(2, 3, 2)),
			attrs: at(ir.AInt("num_heads", 2), ir.AInt("interleaved", 1)), opset: 23},
		{op: "DFT", name: "real", in: i(x(2, 6, 1))},
		{op: "DFT", name: "complex", in: i(x(2, 5, 3, 2)), attrs: at(ir.AInt("axis", 2))},
		{op: "DFT", name: "one side", in: i(x(2, 7, 1)), attrs: at(ir.AInt("onesided", 1))},
		{op: "DFT", name: "inverse", in: i(x(2, 6, 2), absent, ints(-2).shaped()), attrs: at(ir.AInt("inverse", 1)), opset: 20},
		{op: "DFT", name: "longer", in: i(x(2, 5, 1), ints(8).shaped(), ints(1).shaped()), opset: 20},
		{op: "DFT", name: "shorter", in: i(x(2, 5, 3, 1), ints(3).shaped(), ints(1).shaped()), opset: 20},
		{op: "Compress", name: "axis", in: i(x(3, 4), flags(1, 0, 1)), attrs: at(ir.AInt("axis", -1))},
		{op: "Compress", name: "flat", in: i(x(3, 2), flags(0, 1, 1, 0, 1))},
		{op: "Det", name: "1", in: i(x(2, 1, 1))},
		{op: "Det", name: "2", in: i(x(2, 3, 2, 2))},
		{op: "Det", name: "3", in: i(x(3, 3))},
		{op: "Det", name: "4", in: i(x(2, 4, 4))},
		{op: "MaxRoiPool", in: i(x(2, 2, 6, 7), rois), attrs: scaled()},
		{op: "MaxRoiPool", name: "scaled", in: i(x(2, 2, 6, 7), rois), attrs: scaled(ir.AFloat("spatial_scale", 0.6))},
		{op: ms + "FusedConv", name: "Relu", in: i(x(1, 2, 4, 5), x(3, 2, 3, 3), x(3)), attrs: append(act("Relu"), p(1, 1, 1, 1))},
		{op: ms + "FusedConv", name: "sum", in: i(x(1, 2, 4, 5), x(3, 2, 3, 3), x(3), x(1, 3, 2, 3)), attrs: act("Tanh")},
		{op: ms + "FusedConv", name: "Clip", in: i(x(1, 2, 4, 5), x(3, 2, 3, 3)), attrs: act("Clip", -1, 1.5)},
		{op: ms + "FusedConv", name: "HardSigmoid", in: i(x(1, 4, 4, 5), x(2, 2, 3, 3)), attrs: append(act("HardSigmoid", 0.1, 0.4), group(2))},
		{op: ms + "FusedGemm", in: i(x(3, 4), x(5, 4), x(5)), attrs: append(trans("transB"), ir.AString("activation", "LeakyRelu"), ir.AFloat("activation_alpha", 0.2))},
		{op: ms + "FusedMatMul", in: i(x(4, 3), x(5, 4)), attrs: trans("transA", "transB")},
		{op: ms + "FusedMatMul", name: "batch", in: i(x(3, 2, 4), x(5, 2, 4)), attrs: trans("transBatchA", "transBatchB", "transB")},
		{op: ms + "FusedMatMul", name: "vector", in: i(x(2, 3, 4), x(4)), attrs: trans()},
	}
}
