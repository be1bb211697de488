package grad

import (
	"fmt"

	"mqatc/onnx/ir"
)

func convCases() []ruleCase {
	a := func(s, p, d []int64, g int64, more ...ir.Attr) []ir.Attr {
		var out []ir.Attr
		if s != nil {
			out = append(out, ir.AInts("strides", s...))
		}
		if p != nil {
			out = append(out, ir.AInts("pads", p...))
		}
		if d != nil {
			out = append(out, ir.AInts("dilations", d...))
		}
		if g != 1 {
			out = append(out, ir.AInt("group", g))
		}
		return append(out, more...)
	}
	v := func(xs ...int64) []int64 { return xs }
	conv := func(name string, i, w input, at []ir.Attr) ruleCase {
		return ruleCase{op: "Conv", name: name, in: []input{i, w}, attrs: at}
	}
	ct := func(name string, i, w input, at []ir.Attr) ruleCase {
		return ruleCase{op: "ConvTranspose", name: name, in: []input{i, w}, attrs: at}
	}
	same := func(s string) ir.Attr { return ir.AString("auto_pad", s) }
	bias := conv("bias", x(2, 3, 5, 6), x(4, 3, 3, 3), a(nil, v(1, 1, 1, 1), nil, 1))
	bias.in = append(bias.in, x(4))
	tbias := ct("bias", x(2, 3, 4, 3), x(3, 2, 3, 3), a(v(2, 2), v(1, 1, 1, 1), nil, 1, ir.AInts("output_padding", 1, 1)))
	tbias.in = append(tbias.in, x(2))
	return []ruleCase{
		bias, tbias,
		conv("1x1", x(2, 3, 4, 3), x(5, 3, 1, 1), nil),
		conv("1x1 stride 2", x(2, 3, 5, 6), x(4, 3, 1, 1), a(v(2, 2), nil, nil, 1)),
		conv("1x1 padded", x(2, 2, 3, 3), x(2, 2, 1, 1), a(nil, v(1, 0, 1, 0), nil, 1)),
		conv("stride 2", x(2, 3, 6, 6), x(4, 3, 3, 3), a(v(2, 2), v(1, 1, 1, 1), nil, 1)),
		conv("stride 2 odd", x(2, 3, 7, 5), x(2, 3, 3, 3), a(v(2, 2), v(1, 1, 1, 1), nil, 1)),
		conv("stride 3 left over", x(1, 2, 9, 8), x(2, 2, 2, 3), a(v(3, 2), v(0, 1, 1, 0), nil, 1)),
		conv("kernel smaller than stride", x(1, 2, 8, 8), x(2, 2, 2, 2), a(v(4, 3), nil, nil, 1)),
		conv("dilated", x(1, 2, 8, 7), x(3, 2, 3, 2), a(nil, v(2, 1, 2, 0), v(2, 3), 1)),
		conv("dilated stride", x(1, 2, 9, 9), x(2, 2, 3, 3), a(v(2, 2), v(2, 2, 2, 2), v(2, 2), 1)),
		conv("same upper", x(1, 2, 5, 6), x(3, 2, 3, 2), a(v(2, 2), nil, nil, 1, same("SAME_UPPER"))),
		conv("same lower", x(1, 2, 5, 6), x(3, 2, 2, 4), a(v(2, 1), nil, nil, 1, same("SAME_LOWER"))),
		conv("valid", x(1, 2, 5, 6), x(3, 2, 3, 3), a(nil, nil, nil, 1, same("VALID"))),
		conv("pads larger than kernel", x(1, 1, 3, 3), x(1, 1, 2, 2), a(nil, v(2, 2, 3, 3), nil, 1)),
		conv("depthwise", x(2, 3, 5, 5), x(3, 1, 3, 3), a(nil, v(1, 1, 1, 1), nil, 3)),
		conv("depthwise stride 2", x(2, 3, 6, 7), x(3, 1, 3, 3), a(v(2, 2), v(1, 1, 1, 1), nil, 3)),
		conv("depthwise multiplier", x(2, 3, 5, 5), x(6, 1, 3, 3), a(v(2, 1), v(1, 1, 0, 1), nil, 3)),
		conv("depthwise dilated", x(1, 2, 7, 7), x(2, 1, 3, 3), a(v(2, 2), v(2, 2, 2, 2), v(2, 2), 2)),
		conv("depthwise left over", x(1, 2, 9, 9), x(2, 1, 2, 2), a(v(4, 4), nil, nil, 2)),
		conv("depthwise stride 1 dilated", x(2, 3, 7, 6), x(3, 1, 3, 3), a(nil, v(2, 2, 2, 2), v(2, 2), 3)),
		conv("depthwise 5x5", x(2, 3, 6, 6), x(3, 1, 5, 5), a(nil, v(2, 2, 2, 2), nil, 3)),
		conv("depthwise 5x4 large", x(1, 2, 25, 24), x(2, 1, 5, 4), a(nil, v(2, 1, 2, 2), nil, 2)),
		conv("depthwise pointwise", x(2, 3, 4, 4), x(3, 1, 1, 1), a(nil, nil, nil, 3)),
		conv("groups", x(2, 4, 5, 4), x(6, 2, 3, 3), a(nil, v(1, 1, 1, 1), nil, 2)),
		conv("groups stride 2", x(2, 4, 6, 5), x(4, 2, 3, 3), a(v(2, 2), v(1, 1, 1, 1), nil, 2)),
		conv("flipped", x(1, 2, 33, 33), x(2, 2, 3, 3), a(nil, v(1, 1, 1, 1), nil, 1)),
		conv("1D", x(2, 3, 9), x(4, 3, 3), a(v(2), v(1, 0), nil, 1)),
		conv("1D depthwise", x(2, 3, 9), x(3, 1, 5), a(nil, v(2, 2), nil, 3)),
		conv("3D", x(1, 2, 4, 5, 3), x(2, 2, 2, 3, 2), a(v(1, 2, 1), v(0, 1, 1, 1, 1, 0), nil, 1)),
		conv("3D pointwise", x(1, 2, 2, 3, 2), x(3, 2, 1, 1, 1), nil),
		ct("stride 2", x(2, 3, 4, 3), x(3, 2, 2, 2), a(v(2, 2), nil, nil, 1)),
		ct("4x4", x(1, 2, 4, 3), x(2, 3, 4, 4), a(v(2, 2), v(1, 1, 1, 1), nil, 1)),
		ct("asymmetric", x(1, 2, 4, 3), x(2, 3, 3, 3), a(v(2, 1), v(1, 0, 0, 2), nil, 1)),
		ct("groups", x(2, 4, 3, 3), x(4, 2, 3, 3), a(v(2, 2), v(1, 1, 1, 1), nil, 2)),
		ct("depthwise", x(2, 3, 3, 3), x(3, 1, 4, 4), a(v(2, 2), v(1, 1, 1, 1), nil, 3)),
		ct("dilated", x(1, 2, 4, 4), x(2, 2, 2, 2), a(nil, nil, v(2, 2), 1)),
		ct("output padding", x(1, 2, 3, 3), x(2, 2, 2, 2), a(v(3, 3), nil, nil, 1, ir.AInts("output_padding", 2, 1))),
		ct("same upper", x(1, 2, 3, 4), x(2, 2, 3, 3), a(v(2, 2), nil, nil, 1, same("SAME_UPPER"))),
		ct("output shape", x(1, 2, 3, 4), x(2, 2, 3, 3), a(v(2, 2), nil, nil, 1, ir.AInts("output_shape", 6, 8))),
		ct("pointwise", x(2, 3, 3, 2), x(3, 4, 1, 1), nil),
		ct("1D", x(1, 2, 5), x(2, 3, 4), a(v(2), v(1, 1), nil, 1)),
	}
}

func poolCases() []ruleCase {
	k := func(v ...int64) ir.Attr { return ir.AInts("kernel_shape", v...) }
	s := func(v ...int64) ir.Attr { return ir.AInts("strides", v...) }
	p := func(v ...int64) ir.Attr { return ir.AInts("pads", v...) }
	avg := func(name string, i input, a ...ir.Attr) ruleCase {
		return ruleCase{op: "AveragePool", name: name, in: []input{i}, attrs: a}
	}
	mx := func(name string, i input, a ...ir.Attr) ruleCase {
		return ruleCase{op: "MaxPool", name: name, in: []input{i}, attrs: a}
	}
	// A pooling behind an activation, which something else reads too where shared.
	after := func(act string, shared bool, a ...ir.Attr) ruleCase {
		c := mx(fmt.Sprintf("after %s, shared %v", act, shared), x(2, 2, 7, 7), a...)
		c.make = func(b *ir.Builder, in []*ir.Value) []*ir.Value {
			v := b.Op(act, in)
			y := b.Op("Reshape", []*ir.Value{b.Op("MaxPool", []*ir.Value{v}, a...), b.Int64s(-1)})
			if shared {
				y = b.Op("Concat", []*ir.Value{y, b.Op("Reshape", []*ir.Value{v, b.Int64s(-1)})}, ir.AInt("axis", 0))
			}
			return []*ir.Value{y}
		}
		return c
	}
	inc, ceil := ir.AInt("count_include_pad", 1), ir.AInt("ceil_mode", 1)
	rs := func(name string, i input, scales []float64, mode, coord, near string) ruleCase {
		at := []ir.Attr{ir.AString("mode", mode), ir.AString("coordinate_transformation_mode", coord)}
		if near != "" {
			at = append(at, ir.AString("nearest_mode", near))
		}
		return ruleCase{op: "Resize", name: name, in: []input{i, absent, num(scales...)}, attrs: at}
	}
	sz := func(name string, i input, sizes []int64, at ...ir.Attr) ruleCase {
		return ruleCase{op: "Resize", name: name, in: []input{i, absent, absent, ints(sizes...)}, attrs: at}
	}
	mode := func(m string) ir.Attr { return ir.AString("mode", m) }
	coord := func(m string) ir.Attr { return ir.AString("coordinate_transformation_mode", m) }
	return []ruleCase{
		avg("2x2", x(2, 3, 4, 6), k(2, 2), s(2, 2)),
		avg("3x3 overlapping", x(2, 2, 5, 5), k(3, 3), s(1, 1), p(1, 1, 1, 1)),
		avg("3x3 counting pads", x(2, 2, 5, 5), k(3, 3), s(2, 2), p(1, 1, 1, 1), inc),
		avg("asymmetric", x(1, 2, 5, 4), k(3, 2), s(2, 1), p(0, 1, 1, 0)),
		avg("left over", x(1, 2, 7, 7), k(2, 2), s(3, 3)),
		avg("ceil", x(1, 2, 6, 6), k(3, 3), s(2, 2), ceil),
		avg("same upper", x(1, 2, 5, 5), k(2, 2), s(2, 2), ir.AString("auto_pad", "SAME_UPPER")),
		avg("1D", x(1, 2, 7), k(3), s(2)),
		avg("3D", x(1, 2, 4, 4, 3), k(2, 2, 2), s(2, 1, 1)),
		mx("2x2", x(2, 3, 4, 6), k(2, 2), s(2, 2)),
		mx("3x3 overlapping", x(2, 2, 7, 7), k(3, 3), s(2, 2), p(1, 1, 1, 1)),
		mx("3x3 stride 1", x(1, 2, 5, 5), k(3, 3), p(1, 1, 1, 1)),
		mx("ceil", x(1, 2, 6, 6), k(3, 3), s(2, 2), ceil),
		mx("dilated", x(1, 2, 7, 7), k(2, 2), ir.AInts("dilations", 2, 2)),
		mx("same upper", x(1, 2, 5, 5), k(2, 2), s(2, 2), ir.AString("auto_pad", "SAME_UPPER")),
		mx("1D", x(1, 2, 7), k(3), s(2)),
		after("Relu", false, k(3, 3), s(2, 2), p(1, 1, 1, 1)),
		after("LeakyRelu", false, k(3, 3), s(2, 2), p(1, 1, 1, 1)),
		after("Sigmoid", false, k(3, 3), s(2, 2)),
		after("Tanh", false, k(2, 2), s(1, 2)),
		after("Relu", true, k(3, 3), s(2, 2)),
		{op: "MaxPool", name: "indices by column", nout: 2, in: []input{x(2, 2, 6, 5)}, attrs: []ir.Attr{k(3, 3), s(2, 1), ir.AInt("storage_order", 1)}},
		{op: "MaxPool", name: "with indices", nout: 2, in: []input{x(1, 2, 6, 6)}, attrs: []ir.Attr{k(3, 3), s(2, 2)}},
		rs("nearest 2x asymmetric", x(1, 2, 3, 4), []float64{1, 1, 2, 2}, "nearest", "asymmetric", "floor"),
		rs("nearest 2x half pixel", x(1, 2, 3, 4), []float64{1, 1, 2, 2}, "nearest", "half_pixel", ""),
		rs("nearest 3x2", x(1, 2, 3, 4), []float64{1, 1, 3, 2}, "nearest", "asymmetric", "floor"),
		rs("nearest 1.5x", x(1, 2, 4, 4), []float64{1, 1, 1.5, 1.5}, "nearest", "asymmetric", "floor"),
		rs("nearest down", x(1, 2, 6, 6), []float64{1, 1, 0.5, 0.5}, "nearest", "half_pixel", "round_prefer_ceil"),
		rs("linear 2x half pixel", x(1, 2, 3, 4), []float64{1, 1, 2, 2}, "linear", "half_pixel", ""),
		rs("linear 2x asymmetric", x(1, 2, 3, 4), []float64{1, 1, 2, 2}, "linear", "asymmetric", ""),
		rs("linear down", x(1, 2, 6, 8), []float64{1, 1, 0.5, 0.5}, "linear", "half_pixel", ""),
		sz("linear align corners", x(1, 2, 3, 4), []int64{1, 2, 5, 7}, mode("linear"), coord("align_corners")),
		sz("linear pytorch", x(1, 2, 3, 4), []int64{1, 2, 5, 7}, mode("linear"), coord("pytorch_half_pixel")),
		sz("nearest sizes", x(1, 2, 3, 4), []int64{1, 2, 7, 5}, mode("nearest"), coord("asymmetric"), ir.AString("nearest_mode", "floor")),
		sz("cubic", x(1, 2, 4, 5), []int64{1, 2, 8, 9}, mode("cubic"), coord("half_pixel")),
	}
}

func shapeCases() []ruleCase {
	c := func(op, name string, i []input, a ...ir.Attr) ruleCase {
		return ruleCase{op: op, name: name, in: i, attrs: a}
	}
	i := func(v ...input) []input { return v }
	mode := func(m string) ir.Attr { return ir.AString("mode", m) }
	bs := ir.AInt("blocksize", 2)
	return []ruleCase{
		c("Reshape", "", i(x(2, 3, 4), ints(6, -1))),
		c("Reshape", "zero", i(x(2, 3, 4), ints(0, 12))),
		c("Flatten", "", i(x(2, 3, 4))),
		c("Flatten", "axis 0", i(x(2, 3, 4)), ir.AInt("axis", 0)),
		c("Squeeze", "", i(x(1, 3, 1, 4), ints(0, 2))),
		c("Squeeze", "all", i(x(1, 3, 1, 4))),
		c("Unsqueeze", "", i(x(3, 4), ints(0, -1))),
		c("Transpose", "", i(x(2, 3, 4))),
		c("Transpose", "perm", i(x(2, 3, 4)), ir.AInts("perm", 1, 2, 0)),
		c("Concat", "", i(x(2, 3), x(2, 1), num(1, 2, 3, 4).shaped(2, 2)), ir.AInt("axis", 1)),
		c("Concat", "negative axis", i(x(2, 3), x(2, 1)), ir.AInt("axis", -1)),
		{op: "Split", name: "sizes", nout: 3, in: i(x(6, 2), ints(1, 2, 3))},
		{op: "Split", name: "even", nout: 2, in: i(x(2, 6)), attrs: []ir.Attr{ir.AInt("axis", -1)}},
		c("Slice", "plain", i(x(5, 6), ints(1, 2), ints(4, 6))),
		c("Slice", "negative", i(x(5, 6), ints(-4), ints(-1), ints(-1))),
		c("Slice", "steps", i(x(7, 6), ints(1, 0), ints(7, 6), ints(0, 1), ints(3, 2))),
		c("Slice", "backwards", i(x(7, 6), ints(-1, 4), ints(-100, 0), ints(0, 1), ints(-1, -2))),
		c("Slice", "beyond", i(x(5), ints(2), ints(1<<31-1))),
		c("Slice", "one of step 2", i(x(5, 3), ints(3), ints(5), ints(0), ints(2))),
		c("Pad", "constant", i(x(2, 3), ints(1, 0, 0, 2))),
		c("Pad", "value", i(x(2, 3), ints(1, 0, 0, 2), x())),
		c("Pad", "crop", i(x(4, 5), ints(-1, 2, 0, -2))),
		c("Pad", "reflect", i(x(4, 5), ints(1, 2, 3, 0)), mode("reflect")),
		c("Pad", "edge", i(x(3, 4), ints(2, 1, 1, 3)), mode("edge")),
		{op: "Pad", name: "axes", in: i(x(3, 4), ints(1, 2), absent, ints(1)), opset: 18},
		{op: "Pad", name: "wrap", in: i(x(3, 4), ints(1, 2, 0, 1)), attrs: []ir.Attr{mode("wrap")}, opset: 19},
		c("Expand", "", i(x(3, 1), ints(2, 3, 4))),
		c("Expand", "none", i(x(2, 3), ints(1, 3))),
		c("Tile", "", i(x(2, 3), ints(2, 3))),
		c("Tile", "one", i(x(2, 3), ints(1, 2))),
		c("DepthToSpace", "DCR", i(x(1, 8, 2, 3)), bs),
		c("DepthToSpace", "CRD", i(x(1, 8, 2, 3)), bs, mode("CRD")),
		c("SpaceToDepth", "", i(x(1, 2, 4, 6)), bs),
		c("Trilu", "upper", i(x(3, 4))),
		c("Trilu", "lower", i(x(2, 3, 3), ints(1).shaped()), ir.AInt("upper", 0)),
	}
}

func indexCases() []ruleCase {
	c := func(op, name string, i []input, a ...ir.Attr) ruleCase {
		return ruleCase{op: op, name: name, in: i, attrs: a}
	}
	i := func(v ...input) []input { return v }
	ax := func(a int64) ir.Attr { return ir.AInt("axis", a) }
	add := ir.AString("reduction", "add")
	return []ruleCase{
		c("Gather", "rows", i(x(4, 3), ints(2, 0, 2))),
		c("Gather", "one", i(x(4, 3), ints(-1).shaped()), ax(1)),
		c("Gather", "matrix", i(x(2, 4, 3), ints(0, 1, 3, 3, 2, 1).shaped(2, 3)), ax(1)),
		c("Gather", "permutation", i(x(4, 3), ints(3, 1, 0, 2))),
		c("Gather", "skewed", i(x(9, 2), ints(5, 5, 5, 5, 5, 5, 5, 5, 5, 5))),
		c("Gather", "late", i(x(4, 3), ints(2, 0, -2).late()), ax(0)),
		c("Gather", "late matrix", i(x(2, 4, 3), ints(2, 0, 2, 1).shaped(2, 2).late()), ax(1)),
		c("GatherElements", "", i(x(3, 4), ints(0, 1, 2, 0, 2, 2, 1, 0).shaped(2, 4))),
		c("GatherElements", "axis", i(x(3, 4), ints(0, 3, -1, 1, 1, 1).shaped(3, 2)), ax(1)),
		c("GatherND", "elements", i(x(3, 4), ints(0, 1, 2, 3, 0, 1).shaped(3, 2))),
		c("GatherND", "slices", i(x(3, 4), ints(2, -3).shaped(2, 1))),
		c("GatherND", "batch", i(x(2, 3, 4), ints(1, 0, 2, 3).shaped(2, 1, 2)), ir.AInt("batch_dims", 1)),
		c("GatherND", "late", i(x(3, 4), ints(0, -1, 2, 3, 0, 3).shaped(3, 2).late())),
		c("GatherND", "late batch", i(x(2, 3, 4), ints(1, 0, 2, 3).shaped(2, 1, 2).late()), ir.AInt("batch_dims", 1)),
		c("ScatterElements", "none", i(x(3, 4), ints(0, 1, 2, 0, 2, 2, 1, 1).shaped(2, 4), x(2, 4))),
		c("ScatterElements", "add", i(x(3, 4), ints(0, 1, 2, 0, 0, 2, 1, 1).shaped(2, 4), x(2, 4)), add),
		c("ScatterND", "none", i(x(4, 3), ints(2, 0).shaped(2, 1), x(2, 3))),
		c("ScatterND", "elements", i(x(4, 3), ints(2, 0, 1, 1).shaped(2, 2), x(2))),
		c("ScatterND", "add", i(x(4, 3), ints(2, 2).shaped(2, 1), x(2, 3)), add),
		{op: "TopK", name: "", nout: 2, in: i(x(3, 5), ints(2))},
		{op: "TopK", name: "smallest", nout: 2, in: i(x(5, 2), ints(3)), attrs: []ir.Attr{ax(0), ir.AInt("largest", 0)}},
	}
}
