package op

import (
	"math"

	"mqatc/onnx/ir"
)

func evalCast(e *evalCtx) []*part {
	return castPart(e.in(0), ir.DType(e.node.Int("to", 0)))
}

func evalCastLike(e *evalCtx) []*part {
	if v := e.node.Input(1); v != nil {
		return castPart(e.in(0), v.DType())
	}
	return nil
}

func castPart(p *part, to ir.DType) []*part {
	if p == nil {
		return nil
	}
	q := newPart(to, p.dims)
	if q == nil {
		return nil
	}
	for i := 0; i < q.len(); i++ {
		switch {
		case q.v != nil && p.v != nil:
			q.v[i] = castInt(p.v[i], to)
		case q.v != nil:
			if x := p.f[i]; !math.IsNaN(x) && math.Abs(x) < 1<<62 {
				q.v[i] = castInt(known(int64(x)), to)
			}
			if to == ir.Bool && !math.IsNaN(p.f[i]) {
				q.v[i] = truth(p.f[i] != 0)
			}
		case p.v != nil:
			if n, ok := p.v[i].value(); ok {
				q.f[i] = round(float64(n), to)
			}
		default:
			q.f[i] = round(p.f[i], to)
		}
	}
	return one(q)
}

// round is x in the precision of a floating-point type: to nearest, halves to even, infinite beyond the largest number.
func round(x float64, d ir.DType) float64 {
	switch d {
	case ir.Float32:
		return float64(float32(x))
	case ir.Float16:
		return roundTo(x, 11, -13, 65504)
	case ir.BFloat16:
		return roundTo(x, 8, -125, 0xff*0x1p120)
	}
	return x
}

// roundTo keeps digits significant bits of x. Numbers whose exponent, as math.Frexp gives it, is below minExp are subnormal.
func roundTo(x float64, digits, minExp int, largest float64) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return x
	}
	_, exp := math.Frexp(x)
	step := math.Ldexp(1, max(exp, minExp)-digits)
	y := math.RoundToEven(x/step) * step
	if math.Abs(y) > largest {
		return math.Inf(int(math.Copysign(1, x)))
	}
	return y
}

// castInt keeps what fits; other values depend on the machine that converts.
func castInt(a num, to ir.DType) num {
	n, ok := a.value()
	if to == ir.Bool {
		if !ok {
			return unknown
		}
		return truth(n != 0)
	}
	if ok && to != ir.Int64 && to != ir.Uint64 {
		lo, hi := int64(0), int64(1)<<to.Bits()-1
		switch to {
		case ir.Int32, ir.Int16, ir.Int8, ir.Int4, ir.Int2:
			lo, hi = -(int64(1) << (to.Bits() - 1)), int64(1)<<(to.Bits()-1)-1
		}
		if n < lo || n > hi {
			return unknown
		}
	}
	return a
}
