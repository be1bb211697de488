package zoo

import (
	"fmt"

	"mqatc/onnx/ir"
)

// GDR-Net's dense outputs: mask, three coordinates, regions with their background.
const (
	gdrCoordinates = 3
	gdrRegions     = 65
)

// buildGDRNet is the network of THU-DA-6D-Pose-Group/GDR-Net. Inputs roi_img [N,3,H,W], a crop of one object; roi_coord_2d
// [N,2,H/4,W/4], where the crop's pixels lie in the image; roi_extents [N,3], the object's size. Outputs mask [N,1,H/4,W/4], coor_x,
// coor_y and coor_z likewise, region [N,65,H/4,W/4], logits, rot [N,3,3] and trans [N,3].
func buildGDRNet(n *net, h, w int) {
	r := resnet34
	r.module = "backbone"
	maps := n.resnet(r, n.input("roi_img", 3, h, w))
	dense := n.rotationHead("rot_head_net", maps[4])
	coordinates := n.input("roi_coord_2d", 2, n.dim(dense, 2), n.dim(dense, 3))
	extents := n.input("roi_extents", 3)
	parts := n.ops("Split", "", 5, list(dense, n.Int64s(1, 1, 1, 1, gdrRegions)), ir.AInt("axis", 1))
	xyz := n.concat("", 1, parts[1:4])
	regions := n.op("Softmax", "", list(n.call("Slice", "", parts[4], n.Int64s(1), n.Int64s(gdrRegions), n.Int64s(1))), ir.AInt("axis", 1))
	rot6, trans := n.convPnP("pnp_net", xyz, coordinates, extents, regions)
	for i, name := range []string{"mask", "coor_x", "coor_y", "coor_z", "region"} {
		n.output(name, parts[i])
	}
	n.output("rot", n.ortho6d(rot6))
	n.output("trans", trans)
}

// rotationHead is a transposed convolution and three pairs of convolutions, enlarged twice between them.
func (n *net) rotationHead(module string, x *ir.Value) *ir.Value {
	features := module + ".features"
	c := n.width(256)
	x = n.norm(child(features, 1), n.deconv(child(features, 0), x, c), norm{})
	x = n.relu(child(features, 2), x)
	at := 3
	for pair := range 3 {
		if pair > 0 {
			x = n.bilinear(child(features, at), x, 2*n.dim(x, 2), 2*n.dim(x, 3), true)
			at++
		}
		for range 2 {
			x = n.convNormRelu(features, at, x, conv{out: c, kernel: 3})
			at += 3
		}
	}
	return n.conv(child(features, at), x, conv{out: 1 + gdrCoordinates + gdrRegions, gain: 1, bias: true})
}

// convPnP regresses a pose from dense correspondences: six numbers of the rotation and the translation.
func (n *net) convPnP(module string, xyz, coordinates, extents, regions *ir.Value) (rot, trans *ir.Value) {
	size := n.call("Reshape", module, extents, n.Int64s(0, 3, 1, 1))
	xyz = n.call("Mul", module, n.call("Sub", module, xyz, n.Float(0.5)), size)
	x := n.concat(module, 1, list(xyz, coordinates, regions))
	features := module + ".features"
	for i := range 3 {
		x = n.conv(child(features, 3*i), x, conv{out: n.width(128), kernel: 3, stride: 2})
		x = n.relu(child(features, 3*i+2), n.groupNorm(child(features, 3*i+1), x))
	}
	x = n.op("Flatten", module, list(x), ir.AInt("axis", 1))
	for i, c := range []int{1024, 256} {
		x = n.leaky(module+".act", n.linear(fmt.Sprintf("%s.fc%d", module, i+1), x, n.width(c), 2))
	}
	return n.linear(module+".fc_r", x, 6, 1), n.linear(module+".fc_t", x, 3, 1)
}

// ortho6d makes a rotation from two columns by Gram and Schmidt.
func (n *net) ortho6d(six *ir.Value) *ir.Value {
	halves := n.ops("Split", "", 2, list(six, n.Int64s(3, 3)), ir.AInt("axis", 1))
	unit := func(v *ir.Value) *ir.Value {
		length := n.op("ReduceL2", "", list(v), ir.AInts("axes", 1), ir.AInt("keepdims", 1))
		return n.call("Div", "", v, n.call("Max", "", length, n.Float(1e-8)))
	}
	turn := func(v *ir.Value, order ...int64) *ir.Value {
		return n.op("Gather", "", list(v, n.Int64s(order...)), ir.AInt("axis", 1))
	}
	cross := func(a, b *ir.Value) *ir.Value {
		plus := n.call("Mul", "", turn(a, 1, 2, 0), turn(b, 2, 0, 1))
		return n.call("Sub", "", plus, n.call("Mul", "", turn(a, 2, 0, 1), turn(b, 1, 2, 0)))
	}
	x := unit(halves[0])
	z := unit(cross(x, halves[1]))
	var columns []*ir.Value
	for _, v := range list(x, cross(z, x), z) {
		columns = append(columns, n.call("Unsqueeze", "", v, n.Int64s(2)))
	}
	return n.concat("", 2, columns)
}
