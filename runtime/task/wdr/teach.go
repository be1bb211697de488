package wdr

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/runtime/task/distill"
)

// Teach is the graph of a loss towards the float network's answers, from a network's outputs, the float network's, OUTPUT.teacher,
// and some of the targets of Loss, to `loss`.
//
// Classification is the Kullback-Leibler divergence from the float network's probabilities, summed over cells and divided by the
// number of positives, times Alpha. For keypoints it is the distance between both image points at the keypoint's depth, in diameters,
// under the same SmoothL1, means and weights of cells as in Loss. Both vanish, with their gradients, where the networks agree: what
// is left of the labels' loss at a converged network does not disturb.
func Teach(l *Layout, c Config) (*ir.Model, error) {
	m, b := newLoss("wdr-distill")
	in := b.batched
	C, K, L := int64(l.Classes), int64(l.Keypoints), int64(l.Cells)
	var cls, reg [2]*ir.Value
	for i, suffix := range []string{"", distill.Teacher} {
		var cs, rs []*ir.Value
		for _, lv := range l.Levels {
			h, w := int64(lv.H), int64(lv.W)
			cs = append(cs, b.op("Reshape", in(lv.Cls+suffix, C, h, w), b.Int64s(0, C, h*w)))
			rs = append(rs, b.op("Reshape", in(lv.Reg+suffix, C*2*K, h, w), b.Int64s(0, C, 2, K, h*w)))
		}
		cls[i], reg[i] = b.concat(cs, 2), b.concat(rs, 4)
	}
	size := make([]float32, L)
	for i, at := range l.cells(c) {
		size[i] = float32(at.anchor)
	}
	z, inv := in(targetZ, 1, 1, K, L), in(targetFocal, 1, 2, 1, 1)
	weight, pos := in(targetWeight, C, L), in(targetPositive, C, L)
	eps := b.input(TargetEps, ir.StaticShape(1))

	pixels := b.op("Mul", b.op("Sub", reg[0], reg[1]), b.Floats(size, 1, 1, 1, 1, L))
	apart := b.smooth(b.op("Mul", b.op("Mul", pixels, inv), z), eps)
	mean := b.weighted(b.sum(apart, 0, 2, 3), weight)
	space := b.op("Mul", mean, b.op("Div", b.Float(float32(10/float64(3*K))), eps))
	kl := b.op("Div", b.divergence(cls[1], cls[0]), b.atLeastOne(b.sum(pos, 0, 0, 1, 2)))
	loss := b.op("Add", b.times(kl, c.ClsScale*c.Alpha), b.times(space, c.RegScale))
	out := b.Node(ir.NodeSpec{Op: "Identity", Inputs: []*ir.Value{loss}, Outputs: []string{"loss"}}, 1)[0]
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("wdr: distillation: %w", err)
	}
	return m, m.Graph.SetOutputs(out)
}

// divergence is the sum of q*log(q/p) + (1-q)*log((1-q)/(1-p)) of the probabilities q and p behind two logits.
func (b *lossBuilder) divergence(from, to *ir.Value) *ir.Value {
	both := func(logits *ir.Value) (p, not *ir.Value) {
		p = b.op("Clip", b.op("Sigmoid", logits), b.Float(1e-6), b.Float(1-1e-6))
		return p, b.op("Sub", b.Float(1), p)
	}
	q, notQ := both(from)
	p, notP := both(to)
	part := func(q, p *ir.Value) *ir.Value { return b.op("Mul", q, b.op("Sub", b.op("Log", q), b.op("Log", p))) }
	return b.sum(b.op("Add", part(q, p), part(notQ, notP)), 0, 0, 1, 2)
}

// weighted is the mean of what [N,C,L] holds, by weights; a sum of weights below one counts as one.
func (b *lossBuilder) weighted(v, weight *ir.Value) *ir.Value {
	return b.op("Div", b.sum(b.op("Mul", v, weight), 0, 0, 1, 2), b.atLeastOne(b.sum(weight, 0, 0, 1, 2)))
}
