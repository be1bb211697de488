package partition_test

import (
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/partition"
)

// TestBottleneckOfAnEncoder has pairs of convolutions at every stride, down and up: the deepest pair looks like those behind the merges
// but is all that the encoder has at its stride.
func TestBottleneckOfAnEncoder(t *testing.T) {
	n, x := newNet(t)
	pair := func(x *ir.Value, c int64) *ir.Value { return n.conv(n.conv(x, c, 3, 1), c, 3, 1) }
	down := func(x *ir.Value) *ir.Value {
		return n.b.Op("MaxPool", []*ir.Value{x}, ir.AInts("kernel_shape", 2, 2), ir.AInts("strides", 2, 2))
	}
	n.part = partition.Backbone
	c1 := pair(x, 8)
	c2 := pair(down(c1), 12)
	c3 := pair(down(c2), 16)
	n.part = partition.Decoder
	y := pair(n.concat(n.up(c3), c2), 12)
	y = pair(n.concat(n.up(y), c1), 8)
	n.outputs(n.conv(y, 5, 1, 1))
	n.check()
}

// TestTowersBehindADecoder enlarges without taps and has a tower for each output.
func TestTowersBehindADecoder(t *testing.T) {
	n, x := newNet(t)
	_, _, c5 := n.backbone(x)
	n.part = partition.Decoder
	y := n.conv(n.up(n.conv(n.up(c5), 8, 3, 1)), 8, 3, 1)
	n.part = partition.Head
	n.outputs(n.conv(n.conv(y, 6, 3, 1), 2, 1, 1), n.conv(n.conv(y, 6, 3, 1), 4, 1, 1))
	n.check()
}

// TestActivationsThatGate aggregates paths with SiLU, whose product merges nothing, and reads each level with one layer.
func TestActivationsThatGate(t *testing.T) {
	n, x := newNet(t)
	c3, c4, c5 := n.backbone(x)
	n.part = partition.FPN
	silu := func(x *ir.Value, out, k, stride int64) *ir.Value {
		y := n.apply(x, n.weight(out, x.Shape()[1].Size, k, k), stride, 1)
		return n.op("Mul", y, n.op("Sigmoid", y))
	}
	unit := func(x *ir.Value, out int64) *ir.Value { return silu(silu(x, out, 1, 1), out, 3, 1) }
	r5 := silu(c5, 16, 1, 1)
	r4 := silu(unit(n.concat(n.up(r5), c4), 16), 8, 1, 1)
	p3 := unit(n.concat(n.up(r4), c3), 8)
	p4 := unit(n.concat(silu(p3, 8, 3, 2), r4), 16)
	p5 := unit(n.concat(silu(p4, 16, 3, 2), r5), 16)
	n.part = partition.Head
	for _, p := range []*ir.Value{p3, p4, p5} {
		n.outputs(n.apply(p, n.weight(9, p.Shape()[1].Size, 1, 1), 1, 1))
	}
	n.check()
}
