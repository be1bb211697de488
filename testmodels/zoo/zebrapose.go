package zoo

import (
	"fmt"

	"mqatc/onnx/ir"
)

// buildZebraPose is the network of suyz526/ZebraPose. Input image [N,3,H,W], a crop of one object; outputs mask [N,1,H/2,W/2] and
// code [N,16,H/2,W/2], logits.
func buildZebraPose(n *net, h, w int) {
	r := resnet34
	r.module, r.strides, r.dilations = "resnet", [4]int{1, 2, 1, 1}, [4]int{1, 1, 2, 4}
	maps := n.resnet(r, n.input("image", 3, h, w))
	x := n.aspp("aspp", maps[4], n.width(256))
	x = n.doubling("aspp.upsample_1", x)
	x = n.concat("aspp", 1, list(x, maps[1]))
	x = n.doubling("aspp.upsample_2", x)
	x = n.concat("aspp", 1, list(x, maps[0]))
	x = n.conv("aspp.conv_1x1_4", x, conv{out: 17, gain: 1, bias: true})
	parts := n.ops("Split", "", 2, list(x, n.Int64s(1, 16)), ir.AInt("axis", 1))
	n.output("mask", parts[0])
	n.output("code", parts[1])
}

// aspp looks at a map with convolutions of several dilations and its mean.
func (n *net) aspp(module string, x *ir.Value, c int) *ir.Value {
	part := func(name string, x *ir.Value, s conv) *ir.Value {
		s.out, s.bias = c, true
		y := n.norm(module+".bn_"+name, n.conv(module+"."+name, x, s), norm{})
		return n.relu(module, y)
	}
	parts := list(part("conv_1x1_1", x, conv{}))
	for i, rate := range []int{6, 12, 18} {
		parts = append(parts, part(fmt.Sprintf("conv_3x3_%d", i+1), x, conv{kernel: 3, dilation: rate}))
	}
	mean := part("conv_1x1_2", n.call("GlobalAveragePool", module+".avg_pool", x), conv{})
	parts = append(parts, n.bilinear(module, mean, n.dim(x, 2), n.dim(x, 3), false))
	return part("conv_1x1_3", n.concat(module, 1, parts), conv{})
}

// doubling enlarges a map twice by a transposed convolution and two convolutions.
func (n *net) doubling(module string, x *ir.Value) *ir.Value {
	c := n.width(256)
	x = n.norm(child(module, 1), n.deconv(child(module, 0), x, c), norm{})
	x = n.relu(child(module, 2), x)
	for _, at := range []int{3, 6} {
		x = n.convNormRelu(module, at, x, conv{out: c, kernel: 3})
	}
	return x
}
