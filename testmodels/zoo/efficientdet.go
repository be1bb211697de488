package zoo

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

const (
	efficientClasses = 90
	efficientAnchors = 9
)

// buildEfficientDet is EfficientDet-D0 as in zylo117/Yet-Another-EfficientDet-Pytorch. Input image [N,3,H,W]; outputs over the cells of
// strides 8 to 128 and nine anchors at each: regression [N,cells,4] and classification [N,cells,90], probabilities.
func buildEfficientDet(n *net, h, w int) {
	c := n.width(64)
	taps := n.efficientNetB0("backbone_net.model", n.input("image", 3, h, w))
	levels := n.bifpnEntry("bifpn.0", taps, c)
	again := [2]*ir.Value{}
	for k := range 3 {
		cell := fmt.Sprintf("bifpn.%d", k)
		again = [2]*ir.Value{levels[1], levels[2]}
		if k == 0 {
			again = [2]*ir.Value{n.reduced(cell+".p4_down_channel_2", taps[1], c), n.reduced(cell+".p5_down_channel_2", taps[2], c)}
		}
		levels = n.bifpnCell(cell, levels, again)
	}
	n.output("regression", n.levelHeads("regressor", levels, 4, 0))
	n.output("classification", n.call("Sigmoid", "classifier", n.levelHeads("classifier", levels, efficientClasses, -math.Log(99))))
}

// bifpnEntry brings three maps to one width and adds two coarser levels.
func (n *net) bifpnEntry(cell string, taps []*ir.Value, c int) []*ir.Value {
	p6 := n.samePool(cell+".p5_to_p6.2", n.reduced(cell+".p5_to_p6", taps[2], c))
	p7 := n.samePool(cell+".p6_to_p7.0", p6)
	return list(n.reduced(cell+".p3_down_channel", taps[0], c), n.reduced(cell+".p4_down_channel", taps[1], c),
		n.reduced(cell+".p5_down_channel", taps[2], c), p6, p7)
}

func (n *net) reduced(module string, x *ir.Value, c int) *ir.Value {
	return n.norm(child(module, 1), n.conv(child(module, 0)+".conv", x, conv{out: c, gain: 1, bias: true}), efficientNorm)
}

// samePool pools by kernel 3 and stride 2; the border counts as zeros.
func (n *net) samePool(module string, x *ir.Value) *ir.Value {
	p := n.samePads(x, 3, 2)
	x = n.op("Pad", module, list(x, n.Int64s(0, 0, p[0], p[1], 0, 0, p[2], p[3])), ir.AString("mode", "constant"))
	return n.op("MaxPool", module+".pool", list(x), ir.AInts("kernel_shape", 3, 3), ir.AInts("strides", 2, 2))
}

// bifpnCell mixes five levels downwards and upwards; again are the maps of strides 16 and 32 that the way up reads.
func (n *net) bifpnCell(cell string, in []*ir.Value, again [2]*ir.Value) []*ir.Value {
	down := make([]*ir.Value, 5)
	down[4] = in[4]
	for k := 3; k >= 0; k-- {
		up := n.nearest(fmt.Sprintf("%s.p%d_upsample", cell, k+3), down[k+1], in[k])
		down[k] = n.fused(cell, fmt.Sprintf("p%d_w1", k+3), fmt.Sprintf("conv%d_up", k+3), in[k], up)
	}
	out := make([]*ir.Value, 5)
	out[0] = down[0]
	for k := 1; k < 5; k++ {
		lower := n.samePool(fmt.Sprintf("%s.p%d_downsample", cell, k+3), out[k-1])
		parts := list(in[k], down[k], lower)
		switch k {
		case 1, 2:
			parts[0] = again[k-1]
		case 4:
			parts = list(in[k], lower)
		}
		out[k] = n.fused(cell, fmt.Sprintf("p%d_w2", k+3), fmt.Sprintf("conv%d_down", k+3), parts...)
	}
	return out
}

// fused adds maps by learned positive shares and convolves the sum.
func (n *net) fused(cell, shares, module string, maps ...*ir.Value) *ir.Value {
	w := n.param(cell+"."+shares, filled(1), int64(len(maps)))
	w = n.call("Relu", cell+"."+shares+"_relu", w)
	total := n.op("ReduceSum", cell, list(w, n.Int64s(0)), ir.AInt("keepdims", 0))
	w = n.call("Div", cell, w, n.call("Add", cell, total, n.Float(1e-4)))
	var sum *ir.Value
	for i, m := range maps {
		share := n.op("Gather", cell, list(w, n.Const(ir.ScalarInt64(int64(i)))), ir.AInt("axis", 0))
		m = n.call("Mul", cell, share, m)
		if sum != nil {
			m = n.call("Add", cell, sum, m)
		}
		sum = m
	}
	module = cell + "." + module
	y := n.separable(module, n.swish(cell+".swish", sum), conv{out: n.channels(sum), gain: siluGain * float64(len(maps))})
	return n.norm(module+".bn", y, efficientNorm)
}

// separable is a convolution of each channel for itself and one of single pixels.
func (n *net) separable(module string, x *ir.Value, c conv) *ir.Value {
	in := n.channels(x)
	x = n.conv(module+".depthwise_conv.conv", x, conv{out: in, kernel: 3, group: in, same: true, gain: 1})
	c.bias = true
	return n.conv(module+".pointwise_conv.conv", x, c)
}

// levelHeads is a head whose convolutions the levels share and whose normalizations they do not.
func (n *net) levelHeads(module string, levels []*ir.Value, values int, start float64) *ir.Value {
	var all []*ir.Value
	for l, x := range levels {
		for i := range 3 {
			x = n.separable(fmt.Sprintf("%s.conv_list.%d", module, i), x, conv{out: n.channels(x), gain: siluGain})
			x = n.swish(module+".swish", n.norm(fmt.Sprintf("%s.bn_list.%d.%d", module, l, i), x, efficientNorm))
		}
		x = n.separable(module+".header", x, conv{out: efficientAnchors * values, deviation: 0.01, start: start})
		all = append(all, n.cells(module, x, values))
	}
	return n.concat(module, 1, all)
}
