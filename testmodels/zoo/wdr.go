package zoo

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// buildWDR is the network of cvlab-epfl/wide-depth-range-pose for one object. Input image [N,3,H,W]; outputs by stride s of 8, 16, 32,
// 64 and 128: cls_s [N,1,h,w], logits, and reg_s [N,16,h,w], offsets of eight corners, first all x.
func buildWDR(n *net, h, w int) {
	taps := n.darknet53("backbone", n.input("image", 3, h, w))
	n.poseHead("head", n.fpn("fpn", "fpn", taps))
}

// darknet53 returns the maps of strides 8, 16 and 32.
func (n *net) darknet53(module string, x *ir.Value) (taps []*ir.Value) {
	features := module + ".features"
	unit := func(name string, x *ir.Value, c conv, o norm) *ir.Value {
		c.gain = 2 / (1 + 0.1*0.1)
		y := n.norm(name+".bn", n.conv(name+".conv", x, c), o)
		return n.leaky(name+".activ", y)
	}
	y := unit(features+".init_block", x, conv{out: n.width(32), kernel: 3}, norm{})
	for i, units := range []int{2, 3, 9, 9, 5} {
		c := n.width(64 << i)
		stage := fmt.Sprintf("%s.stage%d", features, i+1)
		y = unit(stage+".unit1", y, conv{out: c, kernel: 3, stride: 2}, norm{})
		for k := 2; k <= units; k++ {
			name := fmt.Sprintf("%s.unit%d", stage, k)
			b := unit(name+".conv1", y, conv{out: c / 2}, norm{})
			b = unit(name+".conv2", b, conv{out: c, kernel: 3}, norm{gamma: branchGamma})
			y = n.call("Add", name, b, y)
		}
		if i >= 2 {
			taps = append(taps, y)
		}
	}
	return taps
}

// fpn is a pyramid of five levels over three maps; P6 and P7 take their weights from the module top, which may be another pyramid's.
func (n *net) fpn(module, top string, taps []*ir.Value) []*ir.Value {
	width := n.width(256)
	levels := make([]*ir.Value, 5)
	var inner *ir.Value
	for k := len(taps) - 1; k >= 0; k-- {
		lateral := n.conv(child(module+".inner_convs", k+2), taps[k], conv{out: width, gain: 1, bias: true})
		if inner != nil {
			lateral = n.call("Add", module, lateral, n.nearest(module, inner, lateral))
		}
		inner = lateral
		levels[k] = n.conv(child(module+".out_convs", k+2), inner, conv{out: width, kernel: 3, gain: 1, bias: true})
	}
	extra := conv{out: width, kernel: 3, stride: 2, gain: 1, bias: true}
	levels[3] = n.borrowed(module+".top_blocks.p6", top+".top_blocks.p6", taps[2], extra)
	levels[4] = n.borrowed(module+".top_blocks.p7", top+".top_blocks.p7", n.relu(module+".top_blocks", levels[3]), extra)
	return levels
}

// borrowed is a convolution of a module with another's weights.
func (n *net) borrowed(module, from string, x *ir.Value, c conv) *ir.Value {
	for _, p := range []string{".weight", ".bias"} {
		if v := n.params[from+p]; v != nil {
			n.params[module+p] = v
		}
	}
	return n.conv(module, x, c)
}

// poseHead reads all levels with the same weights, but for one scale of the offsets at each level.
func (n *net) poseHead(module string, levels []*ir.Value) {
	width := n.width(256)
	tower := func(name string, x *ir.Value) *ir.Value {
		for i := range 4 {
			x = n.conv(child(name, 3*i), x, conv{out: width, kernel: 3, bias: true})
			x = n.groupNorm(child(name, 3*i+1), x)
			x = n.relu(child(name, 3*i+2), x)
		}
		return x
	}
	for k, p := range levels {
		cls := n.conv(module+".cls_logits", tower(module+".cls_tower", p), conv{out: 1, kernel: 3, deviation: 0.01, bias: true, start: -math.Log(99)})
		reg := n.conv(module+".pose_pred", tower(module+".pose_tower", p), conv{out: 16, kernel: 3, deviation: 0.01, bias: true})
		scale := child(module+".scales", k)
		reg = n.call("Mul", scale, reg, n.param(scale+".scale", filled(1), 1))
		n.output(fmt.Sprintf("cls_%d", 8<<k), cls)
		n.output(fmt.Sprintf("reg_%d", 8<<k), reg)
	}
}
