package partition_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/partition"
)

// net builds a network whose weights are called w1, w2, ... and notes to which module each belongs.
type net struct {
	t     *testing.T
	m     *ir.Model
	b     *ir.Builder
	truth map[string]string
	part  string // module of the layers that are made
	n     int
}

func newNet(t *testing.T) (*net, *ir.Value) {
	t.Helper()
	m := ir.NewModel("net", 17)
	x, err := m.Graph.AddInput("image", ir.TensorType(ir.Float32, ir.StaticShape(1, 3, 128, 128)))
	if err != nil {
		t.Fatal(err)
	}
	return &net{t: t, m: m, b: ir.NewBuilder(m.Graph, "", op.InferNode), truth: map[string]string{}}, x
}

func (n *net) constant(x *ir.Tensor, err error) *ir.Value {
	n.t.Helper()
	n.n++
	if err == nil {
		var v *ir.Value
		if v, err = n.m.Graph.AddInitializer(fmt.Sprintf("w%d", n.n), x); err == nil {
			return v
		}
	}
	n.t.Fatal(err)
	return nil
}

func (n *net) weight(dims ...int64) *ir.Value {
	n.t.Helper()
	size, err := ir.NumElements(dims)
	if err != nil {
		n.t.Fatal(err)
	}
	w := n.constant(ir.FromFloat32s(make([]float32, size), dims...))
	n.truth[w.Name()] = n.part
	return w
}

func (n *net) apply(x, w *ir.Value, stride, dilation int64) *ir.Value {
	d := w.Init().Dims()
	p := dilation * (d[2] / 2)
	return n.b.Op("Conv", []*ir.Value{x, w}, ir.AInts("strides", stride, stride), ir.AInts("pads", p, p, p, p), ir.AInts("dilations", dilation, dilation))
}

func (n *net) conv(x *ir.Value, out, k, stride int64) *ir.Value {
	n.t.Helper()
	if n.b.Err() != nil {
		n.t.Fatal(n.b.Err())
	}
	return n.op("Relu", n.apply(x, n.weight(out, x.Shape()[1].Size, k, k), stride, 1))
}

func (n *net) op(name string, in ...*ir.Value) *ir.Value { return n.b.Op(name, in) }

func (n *net) concat(in ...*ir.Value) *ir.Value { return n.b.Op("Concat", in, ir.AInt("axis", 1)) }

func (n *net) up(x *ir.Value) *ir.Value {
	return n.op("Resize", x, nil, n.constant(ir.FromFloat32s([]float32{1, 1, 2, 2}, 4)))
}

func (n *net) block(x *ir.Value) *ir.Value {
	c := x.Shape()[1].Size
	return n.op("Add", x, n.conv(n.conv(x, c, 3, 1), c, 3, 1))
}

// backbone ends at strides 8, 16 and 32.
func (n *net) backbone(x *ir.Value) (c3, c4, c5 *ir.Value) {
	n.part = partition.Backbone
	x = n.conv(n.conv(x, 4, 3, 2), 8, 3, 2)
	c3 = n.block(n.block(n.conv(x, 16, 3, 2)))
	c4 = n.block(n.block(n.conv(c3, 24, 3, 2)))
	c5 = n.block(n.block(n.conv(c4, 32, 3, 2)))
	return c3, c4, c5
}

func (n *net) pyramid(c3, c4, c5 *ir.Value) []*ir.Value {
	n.part = partition.FPN
	p5 := n.apply(c5, n.weight(12, 32, 1, 1), 1, 1)
	p4 := n.op("Add", n.apply(c4, n.weight(12, 24, 1, 1), 1, 1), n.up(p5))
	p3 := n.op("Add", n.apply(c3, n.weight(12, 16, 1, 1), 1, 1), n.up(p4))
	var out []*ir.Value
	for _, p := range []*ir.Value{p3, p4, p5} {
		out = append(out, n.apply(p, n.weight(12, 12, 3, 3), 1, 1))
	}
	return out
}

func (n *net) outputs(vs ...*ir.Value) {
	n.t.Helper()
	if n.b.Err() != nil {
		n.t.Fatal(n.b.Err())
	}
	for _, v := range vs {
		if err := n.m.Graph.AddOutput(v); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *net) check() {
	n.t.Helper()
	p, err := partition.Find(n.m, partition.Options{})
	if err != nil {
		n.t.Fatal(err)
	}
	left := len(n.truth)
	for _, m := range p.Modules {
		for _, v := range m.Initializers {
			if n.truth[v.Name()] != m.Name {
				n.t.Errorf("%s of %s is in %s", v.Name(), n.truth[v.Name()], m.Name)
			}
			left--
		}
	}
	if left != 0 {
		n.t.Errorf("%d weights are in no module", left)
	}
}

func TestContextModuleAndOneWayDecoder(t *testing.T) {
	n, x := newNet(t)
	c3, c4, c5 := n.backbone(x)
	n.part = partition.Decoder
	y := n.concat(n.conv(c5, 8, 1, 1), n.op("Relu", n.apply(c5, n.weight(8, 32, 3, 3), 1, 2)), n.op("Resize",
		n.conv(n.op("GlobalAveragePool", c5), 8, 1, 1), nil, n.constant(ir.FromFloat32s([]float32{1, 1, 4, 4}, 4))))
	y = n.conv(n.concat(n.up(n.conv(y, 8, 1, 1)), c4), 8, 3, 1)
	y = n.conv(n.concat(n.up(y), c3), 8, 3, 1)
	n.outputs(n.conv(y, 5, 1, 1))
	n.check()
}

// TestContextThatScales has the head of LR-ASPP: the mean of the deepest map scales a convolution of it, which is enlarged and added to one
// of a finer map. The squeeze-and-excitation block before it scales its own input and belongs to the backbone.
func TestContextThatScales(t *testing.T) {
	for _, tap := range []bool{true, false} {
		n, x := newNet(t)
		c3, _, c5 := n.backbone(x)
		mean := func(x *ir.Value, c int64) *ir.Value {
			return n.op("Sigmoid", n.apply(n.op("GlobalAveragePool", x), n.weight(c, x.Shape()[1].Size, 1, 1), 1, 1))
		}
		c5 = n.conv(n.op("Mul", c5, mean(c5, 32)), 32, 1, 1)
		n.part = partition.Decoder
		if !tap {
			n.part = partition.Head
		}
		y := n.op("Mul", n.conv(c5, 8, 1, 1), mean(c5, 8))
		if tap {
			y = n.op("Add", n.apply(n.up(n.up(y)), n.weight(5, 8, 1, 1), 1, 1), n.apply(c3, n.weight(5, 16, 1, 1), 1, 1))
		} else {
			y = n.apply(y, n.weight(5, 8, 1, 1), 1, 1)
		}
		n.outputs(y)
		n.check()
	}
}

// TestValuesThatBranchesRead passes the levels of a pyramid, and a tap, through the branches of an If, as exports of two-stage detectors do.
func TestValuesThatBranchesRead(t *testing.T) {
	n, x := newNet(t)
	through := func(v *ir.Value) *ir.Value {
		var attrs []ir.Attr
		for _, name := range []string{"then_branch", "else_branch"} {
			s := ir.NewSubgraph(name, n.m.Graph)
			node, err := s.Append(ir.NodeSpec{Op: "Identity", Inputs: []*ir.Value{v}, Outputs: []string{name + v.Name()}})
			if err == nil {
				err = s.AddOutput(node.Output(0))
			}
			if err != nil {
				t.Fatal(err)
			}
			attrs = append(attrs, ir.AGraph(name, s))
		}
		return n.b.Op("If", []*ir.Value{n.constant(ir.FromBools([]bool{true}))}, attrs...)
	}
	c3, c4, c5 := n.backbone(x)
	levels := n.pyramid(c3, through(c4), c5)
	n.part = partition.Head
	tower, last := n.weight(12, 12, 3, 3), n.weight(5, 12, 3, 3)
	for _, l := range levels {
		n.outputs(n.apply(n.op("Relu", n.apply(through(l), tower, 1, 1)), last, 1, 1))
	}
	n.check()
}

func TestDownUpAndDownAgain(t *testing.T) {
	n, x := newNet(t)
	_, _, c5 := n.backbone(x)
	n.part = partition.Rotation
	y := n.conv(n.up(n.conv(n.up(c5), 8, 3, 1)), 8, 3, 1)
	dense := n.conv(y, 6, 1, 1)
	n.part = partition.PnP
	z := n.b.Op("Flatten", []*ir.Value{n.conv(n.conv(dense, 8, 3, 2), 8, 3, 2)}, ir.AInt("axis", 1))
	n.outputs(dense, n.op("MatMul", z, n.weight(8*4*4, 7)))
	n.check()
}

func TestLevelsWithoutSharedWeights(t *testing.T) {
	n, x := newNet(t)
	c3, c4, c5 := n.backbone(x)
	n.part = partition.FPN
	unit := func(x *ir.Value, out int64) *ir.Value { return n.conv(n.conv(x, out, 1, 1), out, 3, 1) }
	r5 := n.conv(c5, 16, 1, 1)
	r4 := n.conv(unit(n.concat(n.up(r5), c4), 16), 8, 1, 1)
	p3 := unit(n.concat(n.up(r4), c3), 8)
	p4 := unit(n.concat(n.conv(p3, 8, 3, 2), r4), 16)
	p5 := unit(n.concat(n.conv(p4, 16, 3, 2), r5), 16)
	n.part = partition.Head
	for _, p := range []*ir.Value{p3, p4, p5} {
		y := n.conv(p, 8, 1, 1)
		n.outputs(n.conv(n.conv(y, 8, 3, 1), 4, 1, 1), n.conv(n.conv(y, 8, 3, 1), 2, 1, 1))
	}
	n.check()
}

// TestTwoPyramidsWithTheSameExtraLevels shares the extra level between pyramids, at one stride, and the head between levels.
func TestTwoPyramidsWithTheSameExtraLevels(t *testing.T) {
	n, x := newNet(t)
	c3, c4, c5 := n.backbone(x)
	a, b := n.pyramid(c3, c4, c5), n.pyramid(c3, c4, c5)
	extra := n.weight(12, 32, 3, 3)
	a, b = append(a, n.apply(c5, extra, 2, 1)), append(b, n.apply(c5, extra, 2, 1))
	n.part = partition.Head
	tower, last := n.weight(12, 12, 3, 3), n.weight(5, 12, 3, 3)
	for i := range a {
		n.outputs(n.apply(n.op("Relu", n.apply(n.op("Sub", a[i], b[i]), tower, 1, 1)), last, 1, 1))
	}
	n.check()
}

// proposals adds a first stage that reads maps of one width, and cuts regions out of the first of them.
func (n *net) proposals(levels ...*ir.Value) *ir.Value {
	n.part = partition.RPN
	c := levels[0].Shape()[1].Size
	tower, score, box := n.weight(12, c, 3, 3), n.weight(1, 12, 1, 1), n.weight(4, 12, 1, 1)
	var scores, boxes []*ir.Value
	for _, l := range levels {
		y := n.op("Relu", n.apply(l, tower, 1, 1))
		flat := func(v *ir.Value, k int64) *ir.Value {
			return n.op("Reshape", v, n.constant(ir.FromInt64s([]int64{1, k, -1}, 3)))
		}
		scores, boxes = append(scores, flat(n.apply(y, score, 1, 1), 1)), append(boxes, flat(n.apply(y, box, 1, 1), 4))
	}
	join := func(vs []*ir.Value) *ir.Value { return n.b.Op("Concat", vs, ir.AInt("axis", 2)) }
	all := n.b.Op("Transpose", []*ir.Value{join(boxes)}, ir.AInts("perm", 0, 2, 1))
	kept := n.op("NonMaxSuppression", all, join(scores), n.constant(ir.FromInt64s([]int64{100}, 1)))
	index := n.b.Op("Gather", []*ir.Value{kept, n.constant(ir.FromInt64s([]int64{2}))}, ir.AInt("axis", 1))
	rois := n.b.Op("Gather", []*ir.Value{n.op("Squeeze", all, n.constant(ir.FromInt64s([]int64{0}, 1))), index}, ir.AInt("axis", 0))
	batch := n.b.Op("Gather", []*ir.Value{kept, n.constant(ir.FromInt64s([]int64{0}))}, ir.AInt("axis", 1))
	return n.b.Op("RoiAlign", []*ir.Value{levels[0], rois, batch}, ir.AInt("output_height", 4), ir.AInt("output_width", 4))
}

// TestTwoStages resizes the image before the network, and puts RoIAlign between the proposals and the second stage.
func TestTwoStages(t *testing.T) {
	n, x := newNet(t)
	y := n.proposals(n.pyramid(n.backbone(n.up(x)))...)
	n.part = partition.RoI
	y = n.b.Op("Flatten", []*ir.Value{y}, ir.AInt("axis", 1))
	n.outputs(n.op("MatMul", n.op("Relu", n.op("MatMul", y, n.weight(12*16, 16))), n.weight(16, 5)))
	n.check()
}

// TestTwoStagesWithoutPyramid has both stages on the backbone's last map, and convolutions in the second.
func TestTwoStagesWithoutPyramid(t *testing.T) {
	n, x := newNet(t)
	_, _, c5 := n.backbone(x)
	y := n.proposals(c5)
	n.part = partition.RoI
	y = n.b.Op("Flatten", []*ir.Value{n.op("GlobalAveragePool", n.block(n.conv(y, 16, 3, 2)))}, ir.AInt("axis", 1))
	n.outputs(n.op("MatMul", y, n.weight(16, 5)), n.op("MatMul", y, n.weight(16, 20)))
	n.check()
}

func TestHeadBehindTheLastResidualBlock(t *testing.T) {
	n, x := newNet(t)
	_, _, c5 := n.backbone(x)
	n.part = partition.Head
	n.outputs(n.up(n.conv(n.conv(c5, 8, 3, 1), 5, 1, 1)))
	n.check()
}

func TestNoModularStructure(t *testing.T) {
	n, x := newNet(t)
	y := n.conv(n.conv(n.conv(x, 4, 3, 2), 8, 3, 2), 8, 3, 1)
	y = n.op("Mul", y, n.op("Sigmoid", n.conv(n.op("GlobalAveragePool", y), 8, 1, 1)))
	n.outputs(n.op("MatMul", n.b.Op("Flatten", []*ir.Value{n.op("GlobalAveragePool", y)}, ir.AInt("axis", 1)), n.weight(8, 5)))
	p, err := partition.Find(n.m, partition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range p.Modules {
		names = append(names, m.Name)
	}
	if !slices.Equal(names, []string{"stage1", "stage2", "stage3"}) || !strings.Contains(p.Note, "no modular structure") {
		t.Errorf("modules %v, note %q", names, p.Note)
	}
}

// TestPyramidInsideTheAuthorsBackbone has names as torchvision's detectors have: the label of the backbone holds the pyramid too.
func TestPyramidInsideTheAuthorsBackbone(t *testing.T) {
	for _, c := range []struct {
		prefix map[string]string
		names  []string
	}{
		{map[string]string{partition.Backbone: "net.backbone.body", partition.FPN: "net.backbone.fpn", partition.Head: "net.head.cls"},
			[]string{"backbone", "fpn", "head"}},
		{map[string]string{partition.Backbone: "net.backbone.body", partition.FPN: "net.rot_head.x", partition.Head: "net.third.x"},
			[]string{"backbone", "rot_head", "third"}},
	} {
		n, x := newNet(t)
		levels := n.pyramid(n.backbone(x))
		n.part = partition.Head
		tower, last := n.weight(12, 12, 3, 3), n.weight(5, 12, 3, 3)
		for _, l := range levels {
			n.outputs(n.apply(n.op("Relu", n.apply(l, tower, 1, 1)), last, 1, 1))
		}
		truth := map[string]string{}
		for w, part := range n.truth {
			name := c.prefix[part] + "." + w + ".weight"
			if err := n.m.Graph.Rename(n.m.Graph.Value(w), name); err != nil {
				t.Fatal(err)
			}
			truth[name] = part
		}
		p, err := partition.Find(n.m, partition.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range p.Modules {
			names = append(names, m.Name)
			for _, v := range m.Initializers {
				if truth[v.Name()] != m.Role {
					t.Errorf("%s of %s is in %s", v.Name(), truth[v.Name()], m.Role)
				}
			}
		}
		if p.Method != "names" || !slices.Equal(names, c.names) {
			t.Errorf("by %s: modules %v, want %v by names", p.Method, names, c.names)
		}
	}
}

// TestPartsOfAWrapper has most of the network inside a module whose name says nothing.
func TestPartsOfAWrapper(t *testing.T) {
	n, x := newNet(t)
	_, _, c5 := n.backbone(x)
	n.part = partition.Decoder
	y := n.conv(n.up(n.conv(n.up(c5), 8, 3, 1)), 8, 3, 1)
	n.outputs(n.apply(y, n.weight(5, 8, 1, 1), 1, 1))
	truth := map[string]string{}
	for w, part := range n.truth {
		name := map[string]string{partition.Backbone: "net.first", partition.Decoder: "net.second"}[part] + "." + w + ".weight"
		if n.m.Graph.Value(w).Init().Dims()[0] == 5 {
			name = "final." + w + ".weight"
		}
		if err := n.m.Graph.Rename(n.m.Graph.Value(w), name); err != nil {
			t.Fatal(err)
		}
		truth[name] = part
	}
	p, err := partition.Find(n.m, partition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.Modules {
		for _, v := range m.Initializers {
			if truth[v.Name()] != m.Role {
				t.Errorf("%s of %s is in %s", v.Name(), truth[v.Name()], m.Role)
			}
		}
	}
	if p.Method != "names" {
		t.Errorf("by %s", p.Method)
	}
}
