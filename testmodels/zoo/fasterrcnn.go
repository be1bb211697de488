package zoo

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// Settings of detectron2's configuration faster_rcnn_R_50_FPN_1x.
const (
	rcnnClasses   = 80
	rcnnAnchors   = 3
	rcnnBefore    = 1000 // proposals of each level before suppression
	rcnnProposals = 1000 // after it
	rcnnOverlap   = 0.7
	rcnnPool      = 7
)

// buildFasterRCNN is the network of facebookresearch/detectron2 with ResNet-50 and FPN, for one image. Input image [1,3,H,W], BGR
// 0..255 less the mean; outputs proposals [1000,4] as x1 y1 x2 y2, scores [1000,81], probabilities with the background last, and
// deltas [1000,320]. Fewer proposals are filled up with the first one.
func buildFasterRCNN(n *net, h, w int) {
	n.batch = ir.D(1)
	r := resnet50
	r.module, r.detectron, r.variance = "backbone", true, imageNetVar
	maps := n.resnet(r, n.input("image", 3, h, w))
	levels := n.fpn2("fpn", maps[1:])
	boxes := n.proposals("rpn", levels, h, w)
	x := n.pooled("roi_heads", levels[:4], boxes)
	x = n.op("Flatten", "roi_heads.box_head", list(x), ir.AInt("axis", 1))
	for i := range 2 {
		x = n.relu("roi_heads.box_head", n.linear(fmt.Sprintf("roi_heads.box_head.fc%d", i+1), x, n.width(1024), 2))
	}
	scores := n.linear("roi_heads.box_predictor.cls_score", x, rcnnClasses+1, 0.1)
	deltas := n.linear("roi_heads.box_predictor.bbox_pred", x, 4*rcnnClasses, 0.01)
	n.output("proposals", boxes)
	n.output("scores", n.op("Softmax", "roi_heads", list(scores), ir.AInt("axis", 1)))
	n.output("deltas", deltas)
}

// fpn2 is a pyramid over four maps, P2 to P5, with every other pixel of P5 as P6.
func (n *net) fpn2(module string, maps []*ir.Value) []*ir.Value {
	width := n.width(256)
	levels := make([]*ir.Value, 5)
	var inner *ir.Value
	for k := 3; k >= 0; k-- {
		lateral := n.conv(fmt.Sprintf("%s.fpn_lateral%d", module, k+2), maps[k], conv{out: width, gain: 1, bias: true})
		if inner != nil {
			lateral = n.call("Add", module, lateral, n.nearest(module, inner, lateral))
		}
		inner = lateral
		levels[k] = n.conv(fmt.Sprintf("%s.fpn_output%d", module, k+2), inner, conv{out: width, kernel: 3, gain: 1, bias: true})
	}
	levels[4] = n.op("MaxPool", module+".top_block", list(levels[3]), ir.AInts("kernel_shape", 1, 1), ir.AInts("strides", 2, 2))
	return levels
}

// proposals runs the region proposal network, whose weights the levels share, and keeps the best boxes [1000,4].
func (n *net) proposals(module string, levels []*ir.Value, h, w int) *ir.Value {
	var boxes, scores, offsets []*ir.Value
	for k, p := range levels {
		t := n.relu(module+".head", n.conv(module+".head.conv", p, conv{out: n.width(256), kernel: 3, bias: true}))
		score := n.conv(module+".head.objectness_logits", t, conv{out: rcnnAnchors, deviation: 0.01, bias: true})
		delta := n.conv(module+".head.anchor_deltas", t, conv{out: 4 * rcnnAnchors, deviation: 0.001, bias: true})
		height, width := n.dim(p, 2), n.dim(p, 3)
		total := height * width * rcnnAnchors
		score = n.op("Transpose", module, list(score), ir.AInts("perm", 0, 2, 3, 1))
		score = n.call("Reshape", module, score, n.Int64s(int64(total)))
		delta = n.call("Reshape", module, delta, n.Int64s(rcnnAnchors, 4, int64(height), int64(width)))
		delta = n.op("Transpose", module, list(delta), ir.AInts("perm", 2, 3, 0, 1))
		delta = n.call("Reshape", module, delta, n.Int64s(int64(total), 4))
		kept := min(rcnnBefore, total)
		best := n.ops("TopK", module, 2, list(score, n.Int64s(int64(kept))), ir.AInt("axis", 0))
		gather := func(v *ir.Value) *ir.Value { return n.op("Gather", module, list(v, best[1]), ir.AInt("axis", 0)) }
		anchors := n.Floats(rcnnGrid(height, width, 4<<k, 32<<k), int64(total), 4)
		boxes = append(boxes, n.decode(module, gather(anchors), gather(delta), h, w))
		scores = append(scores, best[0])
		offsets = append(offsets, n.Floats(repeated(float32(k*2*max(h, w)), kept), int64(kept), 1))
	}
	all, score := n.concat(module, 0, boxes), n.concat(module, 0, scores)
	apart := n.call("Add", module, all, n.concat(module, 0, offsets))
	picked := n.call("NonMaxSuppression", module, n.call("Unsqueeze", module, apart, n.Int64s(0)), n.call("Unsqueeze", module, score, n.Int64s(0, 1)),
		n.Int64s(rcnnProposals), n.Float(rcnnOverlap))
	picked = n.op("Gather", module, list(picked, n.Const(ir.ScalarInt64(2))), ir.AInt("axis", 1))
	picked = n.concat(module, 0, list(picked, n.Int64s(make([]int64, rcnnProposals)...)))
	picked = n.call("Slice", module, picked, n.Int64s(0), n.Int64s(rcnnProposals), n.Int64s(0))
	picked = n.call("Reshape", module, picked, n.Int64s(rcnnProposals))
	return n.op("Gather", module, list(all, picked), ir.AInt("axis", 0))
}

func repeated(x float32, count int) []float32 {
	v := make([]float32, count)
	for i := range v {
		v[i] = x
	}
	return v
}

// rcnnGrid is the anchors x1 y1 x2 y2 of a level, cell by cell: an area of side squared in the shapes 2:1, 1:1 and 1:2.
func rcnnGrid(h, w, stride, side int) []float32 {
	var v []float32
	for y := range h {
		for x := range w {
			for _, ratio := range []float64{0.5, 1, 2} {
				bw := float64(side) / math.Sqrt(ratio)
				bh := bw * ratio
				cx, cy := float64(x*stride), float64(y*stride)
				v = append(v, float32(cx-bw/2), float32(cy-bh/2), float32(cx+bw/2), float32(cy+bh/2))
			}
		}
	}
	return v
}

// decode moves boxes by deltas of centre and log size, and cuts them to the image.
func (n *net) decode(module string, anchors, deltas *ir.Value, h, w int) *ir.Value {
	pair := func(v *ir.Value) (a, b *ir.Value) {
		p := n.ops("Split", module, 2, list(v, n.Int64s(2, 2)), ir.AInt("axis", 1))
		return p[0], p[1]
	}
	op := func(kind string, a, b *ir.Value) *ir.Value { return n.call(kind, module, a, b) }
	from, to := pair(anchors)
	shift, grow := pair(deltas)
	size := op("Sub", to, from)
	half := n.Float(0.5)
	centre := op("Add", op("Add", from, op("Mul", size, half)), op("Mul", shift, size))
	grow = op("Min", grow, n.Float(float32(math.Log(1000.0/16))))
	size = op("Mul", op("Mul", size, n.call("Exp", module, grow)), half)
	box := n.concat(module, 1, list(op("Sub", centre, size), op("Add", centre, size)))
	box = op("Max", box, n.Float(0))
	return op("Min", box, n.Floats([]float32{float32(w), float32(h), float32(w), float32(h)}, 4))
}

// pooled cuts a box's features out of the level that its size asks for.
func (n *net) pooled(module string, levels []*ir.Value, boxes *ir.Value) *ir.Value {
	p := n.ops("Split", module, 2, list(boxes, n.Int64s(2, 2)), ir.AInt("axis", 1))
	size := n.call("Sub", module, p[1], p[0])
	sides := n.ops("Split", module, 2, list(size, n.Int64s(1, 1)), ir.AInt("axis", 1))
	area := n.call("Sqrt", module, n.call("Mul", module, sides[0], sides[1]))
	level := n.call("Add", module, n.call("Div", module, area, n.Float(224)), n.Float(1e-8))
	level = n.call("Div", module, n.call("Log", module, level), n.Float(math.Ln2))
	level = n.call("Floor", module, n.call("Add", module, level, n.Float(4)))
	level = n.call("Clip", module, level, n.Float(2), n.Float(5))
	image := n.Int64s(make([]int64, rcnnProposals)...)
	var out *ir.Value
	for k, l := range levels {
		mine := n.call("Equal", module, level, n.Float(float32(k+2)))
		only := n.call("Mul", module, boxes, n.op("Cast", module, list(mine), ir.AInt("to", int64(ir.Float32))))
		roi := n.op("RoiAlign", module, list(l, only, image), ir.AString("coordinate_transformation_mode", "half_pixel"), ir.AString("mode", "avg"),
			ir.AInt("output_height", rcnnPool), ir.AInt("output_width", rcnnPool), ir.AInt("sampling_ratio", 0), ir.AFloat("spatial_scale", 1/float32(int(4)<<k)))
		if out != nil {
			roi = n.call("Where", module, n.call("Reshape", module, mine, n.Int64s(0, 1, 1, 1)), roi, out)
		}
		out = roi
	}
	return out
}
