package lower_test

import (
	"math"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/lower"
	"mqatc/runtime/ort/orttest"
)

func (b *builder) convTranspose(name string, x *ir.Value, l layer, more ...ir.Attr) *ir.Value {
	d, _ := x.StaticDims()
	w := b.init(name+".weight", 1/math.Sqrt(float64(d[1]/l.group*l.kh*l.kw)), d[1], l.k/l.group, l.kh, l.kw)
	y := b.Op("ConvTranspose", []*ir.Value{x, w, b.init(name+".bias", 0.1, l.k)}, append(more, ir.AInts("kernel_shape", l.kh, l.kw), ir.AInt("group", l.group),
		ir.AInts("strides", l.stride[:]...), ir.AInts("dilations", l.dilation[:]...), ir.AInts("pads", l.pads[:]...))...)
	switch l.act {
	case "":
		return y
	case "Clip":
		return b.Op("Clip", []*ir.Value{y, b.Float(0), b.Float(6)})
	}
	return b.Op(l.act, []*ir.Value{y})
}

// Transposed convolutions of every kind: the gradient by the input is a convolution and lowered as such, the operator itself where it can be.
func TestTransposedConvolutions(t *testing.T) {
	orttest.TestLibrary(t)
	for _, c := range []struct {
		name    string
		c, h, w int64
		l       layer
		more    []ir.Attr
		lowered int // blocked convolutions in the step beside the first layer's
	}{
		{"2x2 with strides", 16, 5, 6, layer{24, 2, 2, 1, two, one, [4]int64{}, "Relu"}, nil, 1},
		{"4x4 with strides", 16, 5, 4, layer{16, 4, 4, 1, two, one, [4]int64{1, 1, 1, 1}, "LeakyRelu"}, nil, 1},
		{"3x3 with strides and output padding", 16, 5, 4, layer{32, 3, 3, 1, two, one, [4]int64{1, 1, 1, 1}, "Clip"}, []ir.Attr{ir.AInts("output_padding", 1, 1)}, 1},
		{"strides of one dimension", 16, 5, 6, layer{16, 3, 4, 1, [2]int64{1, 2}, one, [4]int64{1, 1, 1, 1}, ""}, nil, 1},
		{"strides of three", 16, 4, 4, layer{16, 5, 3, 1, [2]int64{3, 3}, one, [4]int64{1, 0, 1, 0}, "Relu"}, nil, 1},
		{"no strides", 16, 7, 6, layer{24, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, "Sigmoid"}, nil, 2},
		{"dilations", 16, 7, 6, layer{16, 3, 3, 1, one, two, [4]int64{2, 2, 2, 2}, "Relu"}, nil, 2},
		{"channels that fill no block", 20, 6, 5, layer{13, 2, 2, 1, two, one, [4]int64{}, "Relu"}, nil, 1},
		{"one output channel", 16, 6, 5, layer{1, 2, 2, 1, two, one, [4]int64{}, "Sigmoid"}, nil, 1},
		{"depthwise", 16, 5, 6, layer{16, 4, 4, 16, two, one, [4]int64{1, 1, 1, 1}, "Relu"}, nil, 3},
		{"no strides, channels that fill no block", 20, 6, 5, layer{13, 3, 2, 1, one, one, [4]int64{1, 0, 1, 1}, "Relu"}, nil, 2},
		{"no strides, few channels", 16, 6, 5, layer{3, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, "Relu"}, nil, 1},
		{"depthwise without strides", 16, 6, 5, layer{16, 3, 3, 16, one, one, [4]int64{1, 1, 1, 1}, "Clip"}, nil, 3},
		{"pointwise with strides", 16, 5, 6, layer{16, 1, 1, 1, two, one, [4]int64{}, ""}, nil, 1},
		{"dilations with strides", 16, 6, 6, layer{16, 3, 3, 1, two, two, [4]int64{2, 2, 2, 2}, ""}, nil, 1},
		{"groups", 32, 5, 5, layer{32, 3, 3, 2, one, one, [4]int64{1, 1, 1, 1}, "Relu"}, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, x := newBuilder(t, 3, 2, 3, c.h, c.w)
			x = b.conv("first", x, layer{c.c, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, "Tanh"})
			m := b.compare(b.convTranspose("second", x, c.l, c.more...))
			if n := count(m, lower.Domain, "Conv") - 1; n != c.lowered {
				t.Errorf("%d blocked convolutions beside the first, want %d", n, c.lowered)
			}
		})
	}
}
