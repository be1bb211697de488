package zoo

import (
	"math"

	"mqatc/onnx/ir"
)

const (
	pyraClasses = 13
	pyraAnchors = 9
	imageNetVar = 60 * 60 // of pixels 0..255 less their mean
)

// buildPyraPose is the network of sThalham/PyraPose for the 13 objects of LineMOD. Input image [N,3,H,W], BGR 0..255 less the mean;
// outputs, over the cells of strides 8, 16 and 32 and nine anchors at each: box3d [N,cells,16], cls [N,cells,13]; and mask
// [N,H/8*W/8,13] at stride 8.
func buildPyraPose(n *net, h, w int) {
	r := resnet50
	r.module, r.variance = "backbone", imageNetVar
	maps := n.resnet(r, n.input("image", 3, h, w))
	levels := n.pfpn("pfpn", maps[2:])
	box := func(p *ir.Value) *ir.Value { return n.submodel("box3d", p, 512, pyraAnchors, 16) }
	cls := func(p *ir.Value) *ir.Value {
		return n.call("Sigmoid", "cls", n.submodel("cls", p, 256, pyraAnchors, pyraClasses))
	}
	var boxes, classes []*ir.Value
	for _, p := range levels {
		boxes, classes = append(boxes, box(p)), append(classes, cls(p))
	}
	mask := n.call("Sigmoid", "mask", n.submodel("mask", levels[0], 256, 1, pyraClasses))
	n.output("box3d", n.concat("", 1, boxes))
	n.output("cls", n.concat("", 1, classes))
	n.output("mask", mask)
}

// pfpn goes down the scales and up again, with a skip from each reduced map.
func (n *net) pfpn(module string, taps []*ir.Value) []*ir.Value {
	width := n.width(256)
	c := func(name string, x *ir.Value, kernel, stride int) *ir.Value {
		return n.conv(module+"."+name, x, conv{out: width, kernel: kernel, stride: stride, gain: 1, bias: true})
	}
	add := func(a, b *ir.Value) *ir.Value { return n.call("Add", module, a, b) }
	c3, c4, c5 := c("c3_reduced", taps[0], 1, 1), c("c4_reduced", taps[1], 1, 1), c("c5_reduced", taps[2], 1, 1)
	mid4 := c("p4_mid", add(n.nearest(module, c5, c4), c4), 3, 1)
	mid3 := c("p3_mid", add(n.nearest(module, c4, c3), c3), 3, 1)
	down3, down4 := c("p3_down", mid3, 3, 2), c("p4_down", mid4, 3, 2)
	return list(c("p3", add(mid3, c3), 3, 1), c("p4", add(add(down3, mid4), c4), 3, 1), c("p5", add(down4, c5), 3, 1))
}

// submodel is four convolutions and one to anchors of some values, which the levels share.
func (n *net) submodel(module string, x *ir.Value, width, anchors, values int) *ir.Value {
	for i := range 4 {
		x = n.relu(child(module, 2*i+1), n.conv(child(module, 2*i), x, conv{out: n.width(width), kernel: 3, bias: true}))
	}
	last := conv{out: anchors * values, kernel: 3, deviation: 0.01, bias: true}
	if module != "box3d" {
		last.start = -math.Log(99)
	}
	return n.cells(module, n.conv(child(module, 8), x, last), values)
}
