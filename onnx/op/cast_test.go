package op_test

import (
	"math"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

func TestCastRounds(t *testing.T) {
	for _, c := range []struct {
		x    float64
		to   ir.DType
		want float64
	}{
		{0.1, ir.Float32, 0.10000000149011612},
		{0.1, ir.Float16, 0.0999755859375},
		{1 + 0x1p-11 + 0x1p-40, ir.Float16, 1 + 0x1p-10}, // rounded once, not by way of float
		{1 + 0x1p-11, ir.Float16, 1},
		{65519, ir.Float16, 65504},
		{-65520, ir.Float16, math.Inf(-1)},
		{0x1p-25, ir.Float16, 0},
		{0x1.8p-25, ir.Float16, 0x1p-24},
		{1 + 0x1p-8, ir.BFloat16, 1},
		{1 + 0x1.8p-8, ir.BFloat16, 1 + 0x1p-7},
		{-0.2, ir.BFloat16, -0.2001953125},
		{0x1.fdp127, ir.BFloat16, 0x1.fcp127},
		{3.4e38, ir.BFloat16, math.Inf(1)},
		{0x1p-133, ir.BFloat16, 0x1p-133},
		{0x1p-134, ir.BFloat16, 0},
		{math.Inf(1), ir.BFloat16, math.Inf(1)},
	} {
		_, b, _ := graphOf(t)
		x, err := ir.FromFloat64s([]float64{c.x})
		if err != nil {
			t.Fatal(err)
		}
		y := b.Op("Cast", vals(b.Const(x)), ir.AInt("to", int64(c.to)))
		like := b.Op("CastLike", vals(b.Const(x), y))
		if b.Err() != nil {
			t.Fatal(b.Err())
		}
		for _, v := range vals(y, like) {
			if got, ok := op.ConstFloats(v); !ok || len(got) != 1 || got[0] != c.want {
				t.Errorf("%v as %v is %v, want %v", c.x, c.to, got, c.want)
			}
		}
	}
}
