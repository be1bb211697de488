package wdr

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Names of the loss's targets; N is the batch, C the classes, K the keypoints, L the cells.
const (
	targetPositive = "wdr_positive" // [N,C,L] 1 where a cell is a positive example of a class
	targetNegative = "wdr_negative" // [N,C,L]
	targetWeight   = "wdr_weight"   // [N,C,L] weight of a cell in the object-space loss
	targetXY       = "wdr_xy"       // [N,1,2,K,L] keypoints of the object at a cell in the camera frame, in diameters
	targetZ        = "wdr_z"        // [N,1,1,K,L]
	targetFocal    = "wdr_focal"    // [N,1,2,1,1] 1/fx, 1/fy in network pixels
	targetCenter   = "wdr_center"   // [N,1,2,1,1] -cx/fx, -cy/fy
	TargetEps      = "wdr_eps"      // [1] of Config.Eps
)

// Loss is the graph from a network's outputs and the targets to `loss`.
//
// Classification is the focal loss (Lin et al. 2017, gamma 2) divided by the number of positives. For a keypoint X in the camera
// frame and the ray b through its predicted image point the residual is (b (b.X)/(b.b) - X)/diameter; the object-space loss is
// 10/eps * SmoothL1(eps * residual), the mean over 3K coordinates and the weighted mean over cells (equation 5 of the paper, with
// sums made means).
func Loss(l *Layout, c Config) (*ir.Model, error) {
	m, b := newLoss("wdr")
	in := b.batched
	C, K, L := int64(l.Classes), int64(l.Keypoints), int64(l.Cells)
	var cls, reg []*ir.Value
	for _, lv := range l.Levels {
		h, w := int64(lv.H), int64(lv.W)
		cls = append(cls, b.op("Reshape", in(lv.Cls, C, h, w), b.Int64s(0, C, h*w)))
		reg = append(reg, b.op("Reshape", in(lv.Reg, C*2*K, h, w), b.Int64s(0, C, 2, K, h*w)))
	}
	focal := b.focal(b.concat(cls, 2), in(targetPositive, C, L), in(targetNegative, C, L), c)
	space := b.space(l, c, b.concat(reg, 4), in)
	loss := b.op("Add", b.times(focal, c.ClsScale), b.times(space, c.RegScale))
	out := b.Node(ir.NodeSpec{Op: "Identity", Inputs: []*ir.Value{loss}, Outputs: []string{"loss"}}, 1)[0]
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("wdr: loss: %w", err)
	}
	return m, m.Graph.SetOutputs(out)
}

type lossBuilder struct {
	*ir.Builder
	g *ir.Graph
}

func newLoss(name string) (*ir.Model, *lossBuilder) {
	m := ir.NewModel(name, 17)
	return m, &lossBuilder{ir.NewBuilder(m.Graph, "loss", op.InferNode), m.Graph}
}

// batched adds an input of dims with a free batch before them.
func (b *lossBuilder) batched(name string, dims ...int64) *ir.Value {
	s := ir.Shape{ir.Sym("N")}
	for _, d := range dims {
		s = append(s, ir.D(d))
	}
	return b.input(name, s)
}

func (b *lossBuilder) input(name string, s ir.Shape) *ir.Value {
	v, err := b.g.AddInput(name, ir.TensorType(ir.Float32, s))
	if err != nil {
		return b.Fail(err)
	}
	return v
}

func (b *lossBuilder) op(name string, in ...*ir.Value) *ir.Value { return b.Op(name, in) }

func (b *lossBuilder) times(v *ir.Value, f float64) *ir.Value {
	if f == 1 {
		return v
	}
	return b.op("Mul", v, b.Float(float32(f)))
}

func (b *lossBuilder) plus(v *ir.Value, f float64) *ir.Value {
	return b.op("Add", v, b.Float(float32(f)))
}

func (b *lossBuilder) concat(vs []*ir.Value, axis int64) *ir.Value {
	if len(vs) == 1 {
		return vs[0]
	}
	return b.Op("Concat", vs, ir.AInt("axis", axis))
}

func (b *lossBuilder) sum(v *ir.Value, keep int64, axes ...int64) *ir.Value {
	return b.Op("ReduceSum", []*ir.Value{v, b.Int64s(axes...)}, ir.AInt("keepdims", keep))
}

// atLeastOne bounds a divisor from below.
func (b *lossBuilder) atLeastOne(v *ir.Value) *ir.Value { return b.op("Max", v, b.Float(1)) }

func (b *lossBuilder) focal(logits, pos, neg *ir.Value, c Config) *ir.Value {
	p := b.op("Clip", b.op("Sigmoid", logits), b.Float(1e-6), b.Float(1-1e-6))
	q := b.op("Sub", b.Float(1), p)
	hit := b.op("Mul", b.op("Mul", b.op("Mul", q, q), b.op("Log", p)), pos)
	miss := b.op("Mul", b.op("Mul", b.op("Mul", p, p), b.op("Log", q)), neg)
	all := b.op("Add", b.times(hit, -c.Alpha), b.times(miss, c.Alpha-1))
	return b.op("Div", b.sum(all, 0, 0, 1, 2), b.atLeastOne(b.sum(pos, 0, 0, 1, 2)))
}

func (b *lossBuilder) space(l *Layout, c Config, reg *ir.Value, in func(string, ...int64) *ir.Value) *ir.Value {
	C, K, L := int64(l.Classes), int64(l.Keypoints), int64(l.Cells)
	size, center := make([]float32, L), make([]float32, 2*L)
	for i, at := range l.cells(c) {
		size[i], center[i], center[int(L)+i] = float32(at.anchor), float32(at.x), float32(at.y)
	}
	xy, z := in(targetXY, 1, 2, K, L), in(targetZ, 1, 1, K, L)
	inv, off := in(targetFocal, 1, 2, 1, 1), in(targetCenter, 1, 2, 1, 1)
	weight := in(targetWeight, C, L)
	eps := b.input(TargetEps, ir.StaticShape(1))

	pixel := b.op("Add", b.op("Mul", reg, b.Floats(size, 1, 1, 1, 1, L)), b.Floats(center, 1, 1, 2, 1, L))
	ray := b.op("Add", b.op("Mul", pixel, inv), off)
	dot := b.op("Add", b.sum(b.op("Mul", ray, xy), 1, 2), z)
	foot := b.op("Div", dot, b.plus(b.sum(b.op("Mul", ray, ray), 1, 2), 1))
	side := b.smooth(b.op("Sub", b.op("Mul", foot, ray), xy), eps)
	along := b.smooth(b.op("Sub", foot, z), eps)
	cell := b.op("Add", b.sum(side, 0, 2, 3), b.sum(along, 0, 2, 3))
	mean := b.weighted(cell, weight)
	scale := b.op("Div", b.Float(float32(10/float64(3*K))), eps)
	return b.op("Mul", mean, scale)
}

// smooth is SmoothL1(eps*e): half the square up to 1, linear beyond.
func (b *lossBuilder) smooth(e, eps *ir.Value) *ir.Value {
	a := b.op("Abs", b.op("Mul", e, eps))
	m := b.op("Min", a, b.Float(1))
	return b.op("Mul", m, b.op("Sub", a, b.times(m, 0.5)))
}
