package partition_test

import (
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/partition"
)

// TestSqueezesInThePyramid has a squeeze-and-excitation block in each lateral and each smoothing unit, the deepest ones included, trained
// factors between backbone and laterals, and a head that reads all levels as one map.
func TestSqueezesInThePyramid(t *testing.T) {
	n, x := newNet(t)
	squeezed := func(x *ir.Value, out, k int64) *ir.Value {
		y := n.apply(x, n.weight(out, x.Shape()[1].Size, k, k), 1, 1)
		s := n.op("GlobalAveragePool", y)
		s = n.op("HardSigmoid", n.apply(n.op("Relu", n.apply(s, n.weight(out/4, out, 1, 1), 1, 1)), n.weight(out, out/4, 1, 1), 1, 1))
		return n.op("Add", y, n.op("Mul", y, s))
	}
	taps := make([]*ir.Value, 3)
	taps[0], taps[1], taps[2] = n.backbone(x)
	taps[2] = n.op("Mul", n.conv(taps[2], 32, 3, 1), n.weight(1, 32, 1, 1))
	n.part = partition.FPN
	var levels, parts []*ir.Value
	for _, c := range taps {
		levels = append(levels, squeezed(c, 12, 1))
	}
	for k := 1; k >= 0; k-- {
		levels[k] = n.op("Add", levels[k], n.up(levels[k+1]))
	}
	for k, l := range levels {
		y := squeezed(l, 8, 3)
		for range k {
			y = n.up(y)
		}
		parts = append(parts, y)
	}
	y := n.concat(parts...)
	n.part = partition.Head
	y = n.conv(y, 8, 3, 1)
	y = n.op("Relu", n.b.Op("ConvTranspose", []*ir.Value{y, n.weight(8, 8, 2, 2)}, ir.AInts("strides", 2, 2)))
	n.outputs(n.b.Op("ConvTranspose", []*ir.Value{y, n.weight(8, 1, 2, 2)}, ir.AInts("strides", 2, 2)))
	n.check()
}

// TestDeepestLateralBehindATap has units between some merges only, so that the deepest lateral is one without; a head reads its tap.
func TestDeepestLateralBehindATap(t *testing.T) {
	n, x := newNet(t)
	c3, c4, c5 := n.backbone(x)
	n.part = partition.FPN
	unit := func(x *ir.Value) *ir.Value { return n.conv(n.conv(x, 12, 3, 1), 12, 1, 1) }
	y := n.op("Add", n.up(unit(c5)), unit(c4))
	y = n.op("Add", n.up(unit(y)), unit(c3))
	n.part = partition.Head
	n.outputs(n.conv(y, 5, 1, 1), n.conv(n.conv(c5, 16, 3, 2), 7, 3, 2))
	n.check()
}
