package zoo

import (
	"fmt"

	"mqatc/onnx/ir"
)

// efficientNorm is the epsilon of EfficientNet's and EfficientDet's normalizations.
var efficientNorm = norm{epsilon: 1e-3}

// siluGain keeps the size of activations through a convolution before SiLU.
const siluGain = 2.8

// efficientNetB0 returns the maps of strides 8, 16 and 32 (Tan and Le, ICML 2019), without the last convolution and the classifier.
func (n *net) efficientNetB0(module string, x *ir.Value) (taps []*ir.Value) {
	x = n.conv(module+"._conv_stem.conv", x, conv{out: n.width(32), kernel: 3, stride: 2, same: true, gain: 1})
	x = n.swish(module+"._swish", n.norm(module+"._bn0", x, efficientNorm))
	at := 0
	for _, s := range []struct {
		expand, kernel, stride, out, repeat int
		tap                                 bool
	}{{1, 3, 1, 16, 1, false}, {6, 3, 2, 24, 2, false}, {6, 5, 2, 40, 2, true}, {6, 3, 2, 80, 3, false}, {6, 5, 1, 112, 3, true},
		{6, 5, 2, 192, 4, false}, {6, 3, 1, 320, 1, true}} {
		for k := range s.repeat {
			stride := 1
			if k == 0 {
				stride = s.stride
			}
			x = n.inverted(fmt.Sprintf("%s._blocks.%d", module, at), x, s.expand, s.kernel, stride, n.width(s.out))
			at++
		}
		if s.tap {
			taps = append(taps, x)
		}
	}
	return taps
}

// inverted is an inverted residual block with squeeze and excitation.
func (n *net) inverted(module string, x *ir.Value, expand, kernel, stride, out int) *ir.Value {
	in := n.channels(x)
	wide := in * expand
	swish := module + "._swish"
	y := x
	if expand > 1 {
		y = n.conv(module+"._expand_conv.conv", y, conv{out: wide, gain: 1})
		y = n.swish(swish, n.norm(module+"._bn0", y, efficientNorm))
	}
	y = n.conv(module+"._depthwise_conv.conv", y, conv{out: wide, kernel: kernel, stride: stride, group: wide, same: true, gain: siluGain})
	y = n.swish(swish, n.norm(module+"._bn1", y, efficientNorm))
	s := n.conv(module+"._se_reduce.conv", n.call("GlobalAveragePool", module, y), conv{out: max(1, in/4), bias: true, gain: siluGain})
	s = n.conv(module+"._se_expand.conv", n.swish(swish, s), conv{out: wide, bias: true, gain: siluGain})
	y = n.call("Mul", module, n.call("Sigmoid", module, s), y)
	last, residual := efficientNorm, stride == 1 && in == out
	if residual {
		last.gamma = branchGamma
	}
	y = n.norm(module+"._bn2", n.conv(module+"._project_conv.conv", y, conv{out: out, gain: 4 * siluGain}), last)
	if residual {
		y = n.call("Add", module, y, x)
	}
	return y
}
