package zoo

import (
	"fmt"
	"strings"

	"mqatc/onnx/ir"
)

// resnet describes a residual network without its classifier (He et al., CVPR 2016).
type resnet struct {
	module     string
	blocks     [4]int
	strides    [4]int
	dilations  [4]int
	bottleneck bool    // three convolutions a block, the stride in the first
	detectron  bool    // detectron2's names instead of torchvision's
	variance   float64 // of the input's pixels [1]
}

var (
	resnet34 = resnet{blocks: [4]int{3, 4, 6, 3}, strides: [4]int{1, 2, 2, 2}, dilations: [4]int{1, 1, 1, 1}}
	resnet50 = resnet{blocks: [4]int{3, 4, 6, 3}, strides: [4]int{1, 2, 2, 2}, dilations: [4]int{1, 1, 1, 1}, bottleneck: true}
)

// branchGamma keeps the sum of many residual branches near the size of its input.
const branchGamma = 0.25

// resnet adds the network and returns the map behind the stem and those behind the four layers.
func (n *net) resnet(r resnet, x *ir.Value) (maps [5]*ir.Value) {
	layer := func(i int) string { return fmt.Sprintf("%s.layer%d", r.module, i+1) }
	stem := r.module
	if r.detectron {
		layer = func(i int) string { return fmt.Sprintf("%s.res%d", r.module, i+2) }
		stem += ".stem"
	}
	y := n.conv(stem+".conv1", x, conv{out: n.width(64), kernel: 7, stride: 2})
	y = n.relu(r.activation(stem), n.norm(r.normOf(stem+".conv1"), y, norm{variance: 2 * max(r.variance, 0.5)}))
	maps[0] = y
	y = n.maxPool(r.pool(stem), y)
	for i := range r.blocks {
		for k := range r.blocks[i] {
			stride := 1
			if k == 0 {
				stride = r.strides[i]
			}
			y = n.residual(r, child(layer(i), k), y, n.width(64<<i), stride, r.dilations[i])
		}
		maps[1+i] = y
	}
	return maps
}

func (n *net) residual(r resnet, module string, x *ir.Value, c, stride, dilation int) *ir.Value {
	out := c
	convs := []conv{{out: c, kernel: 3, stride: stride, dilation: dilation}, {out: c, kernel: 3, dilation: dilation}}
	if r.bottleneck {
		out = 4 * c
		convs = []conv{{out: c, stride: stride}, {out: c, kernel: 3, dilation: dilation}, {out: out}}
	}
	y := x
	for i, s := range convs {
		name := fmt.Sprintf("%s.conv%d", module, i+1)
		o := norm{}
		if i == len(convs)-1 {
			o.gamma = branchGamma
		}
		y = n.norm(r.normOf(name), n.conv(name, y, s), o)
		if i < len(convs)-1 {
			y = n.relu(r.activation(module), y)
		}
	}
	short := x
	if stride != 1 || n.channels(x) != out {
		name := module + ".downsample.0"
		if r.detectron {
			name = module + ".shortcut"
		}
		short = n.norm(r.normOf(name), n.conv(name, x, conv{out: out, stride: stride, gain: 1}), norm{})
	}
	return n.relu(r.activation(module), n.call("Add", module, y, short))
}

// normOf is the name of the normalization behind a convolution.
func (r resnet) normOf(conv string) string {
	if r.detectron {
		return conv + ".norm"
	}
	if s, ok := strings.CutSuffix(conv, ".0"); ok {
		return s + ".1"
	}
	i := strings.LastIndex(conv, ".conv")
	return conv[:i] + ".bn" + conv[i+len(".conv"):]
}

// activation is the scope of a block's ReLUs: torchvision's are modules, detectron2's functions.
func (r resnet) activation(block string) string {
	if r.detectron {
		return block
	}
	return block + ".relu"
}

func (r resnet) pool(stem string) string {
	if r.detectron {
		return stem
	}
	return stem + ".maxpool"
}

func child(module string, i int) string { return fmt.Sprintf("%s.%d", module, i) }
