package op

import (
	"math"

	"mqatc/onnx/ir"
)

// partStrides are row-major strides of dims padded in front to rank; dimensions of size 1 get stride 0.
func partStrides(dims []int64, rank int) []int64 {
	out := make([]int64, rank)
	step := int64(1)
	for i := len(dims) - 1; i >= 0; i-- {
		if dims[i] != 1 {
			out[rank-len(dims)+i] = step
		}
		step *= dims[i]
	}
	return out
}

// broadcastDims is the common shape of dims; false when there is none.
func broadcastDims(all ...[]int64) ([]int64, bool) {
	var out ir.Shape = ir.StaticShape()
	for _, d := range all {
		var err error
		if out, err = broadcast(out, ir.StaticShape(d...)); err != nil {
			return nil, false
		}
	}
	return out.Static()
}

// offset is the position of element i of a tensor of shape dims in one with the given strides.
func offset(i int, dims, strides []int64) int {
	k := int64(i)
	o := int64(0)
	for d := len(dims) - 1; d >= 0; d-- {
		o += k % dims[d] * strides[d]
		k /= dims[d]
	}
	return int(o)
}

// zip combines the elements of broadcast parts; not of those that attribute axis aligns, as it did before opset 7.
func (e *evalCtx) zip(elem ir.DType, first int, onInt func([]num) num, onFloat func([]float64) float64) []*part {
	if e.node.Attr("axis") != nil {
		return nil
	}
	var ps []*part
	var shapes [][]int64
	for i := range e.node.Inputs() {
		p := e.in(i)
		if p == nil {
			return nil
		}
		ps = append(ps, p)
		shapes = append(shapes, p.dims)
	}
	dims, ok := broadcastDims(shapes...)
	if !ok || first >= len(ps) {
		return nil
	}
	if elem == ir.Undefined {
		elem = ps[first].elem
	}
	q := newPart(elem, dims)
	if q == nil {
		return nil
	}
	strides := make([][]int64, len(ps))
	for k, p := range ps {
		strides[k] = partStrides(p.dims, len(dims))
	}
	iv, fv := make([]num, len(ps)), make([]float64, len(ps))
	for i := 0; i < q.len(); i++ {
		ints := true
		for k, p := range ps {
			o := offset(i, dims, strides[k])
			if p.v != nil {
				iv[k] = p.v[o]
				fv[k] = math.NaN()
				if n, ok := iv[k].value(); ok {
					fv[k] = float64(n)
				}
			} else {
				ints = false
				iv[k], fv[k] = unknown, p.f[o]
			}
		}
		switch {
		case q.f != nil && onFloat != nil:
			q.f[i] = round(onFloat(fv), q.elem)
		case q.v != nil && (ints || onFloat == nil) && onInt != nil:
			q.v[i] = onInt(iv)
		case q.v != nil && onFloat != nil:
			if x := onFloat(fv); !math.IsNaN(x) {
				q.v[i] = known(int64(x))
			}
		}
	}
	return one(q)
}

func evalArith(onInt func(a, b num) num, onFloat func(a, b float64) float64) func(*evalCtx) []*part {
	return func(e *evalCtx) []*part {
		return e.zip(ir.Undefined, 0, func(v []num) num {
			out := v[0]
			for _, x := range v[1:] {
				out = onInt(out, x)
			}
			return out
		}, func(v []float64) float64 {
			out := v[0]
			for _, x := range v[1:] {
				out = onFloat(out, x)
			}
			return out
		})
	}
}

var (
	evalAdd = evalArith(add, func(a, b float64) float64 { return a + b })
	evalSub = evalArith(sub, func(a, b float64) float64 { return a - b })
	evalMul = evalArith(mul, func(a, b float64) float64 { return a * b })
	evalDiv = evalArith(divNum, func(a, b float64) float64 { return a / b })
	evalMin = evalArith(minNum, math.Min)
	evalMax = evalArith(maxNum, math.Max)
	evalPow = evalArith(powNum, math.Pow)
)

// divNum divides as ONNX does, towards zero; a symbol is a size, so that flooring it is the same.
func divNum(a, b num) num {
	m, ok := b.value()
	if !ok || m == 0 {
		if a.ok && a == b {
			return known(1)
		}
		return unknown
	}
	if n, ok := a.value(); ok {
		if n == math.MinInt64 {
			return unknown
		}
		return known(n / m)
	}
	if a.c < 0 {
		return unknown
	}
	return floorDiv(a, m)
}

func minNum(a, b num) num { return pick(a, b, func(x, y int64) bool { return x < y }, false) }

func maxNum(a, b num) num { return pick(a, b, func(x, y int64) bool { return x > y }, true) }

func pick(a, b num, first func(x, y int64) bool, larger bool) num {
	if !a.ok || !b.ok {
		return unknown
	}
	if a.k == b.k && a.atom == b.atom {
		if first(a.c, b.c) {
			return a
		}
		return b
	}
	if a.k == 0 {
		a, b = b, a
	}
	if b.k != 0 || !a.nonNegative() || a.c < b.c {
		return unknown
	}
	if larger {
		return a
	}
	return b
}

func powNum(a, b num) num {
	x, ok := a.value()
	n, ok2 := b.value()
	if !ok || !ok2 || n < 0 || n > 64 {
		return unknown
	}
	out := int64(1)
	for i := int64(0); i < n; i++ {
		if out, ok = mulInt(out, x); !ok {
			return unknown
		}
	}
	return known(out)
}

func evalMod(e *evalCtx) []*part {
	fmod := e.node.Int("fmod", 0) != 0
	return e.zip(ir.Undefined, 0, func(v []num) num {
		a, ok := v[0].value()
		b, ok2 := v[1].value()
		if !ok || !ok2 || b == 0 || b == -1 {
			return unknown
		}
		r := a % b
		if !fmod && r != 0 && (r < 0) != (b < 0) {
			r += b
		}
		return known(r)
	}, func(v []float64) float64 {
		r := math.Mod(v[0], v[1])
		if !fmod && r != 0 && (r < 0) != (v[1] < 0) {
			r += v[1]
		}
		return r
	})
}

func evalFloat(f func(float64) float64) func(*evalCtx) []*part {
	return func(e *evalCtx) []*part {
		return e.zip(ir.Undefined, 0, func([]num) num { return unknown }, func(v []float64) float64 { return f(v[0]) })
	}
}

var (
	evalFloor = evalFloat(math.Floor)
	evalCeil  = evalFloat(math.Ceil)
	evalRound = evalFloat(math.RoundToEven)
	evalSqrt  = evalFloat(math.Sqrt)
	evalExp   = evalFloat(math.Exp)
	evalLog   = evalFloat(math.Log)
	evalRecip = evalFloat(func(x float64) float64 { return 1 / x })
)

func evalNeg(e *evalCtx) []*part {
	return e.zip(ir.Undefined, 0, func(v []num) num { return sub(known(0), v[0]) }, func(v []float64) float64 { return -v[0] })
}

func evalRelu(e *evalCtx) []*part {
	return e.zip(ir.Undefined, 0, func(v []num) num { return maxNum(v[0], known(0)) }, func(v []float64) float64 { return math.Max(v[0], 0) })
}

func evalAbs(e *evalCtx) []*part {
	return e.zip(ir.Undefined, 0, func(v []num) num {
		if n, ok := v[0].value(); ok && n < 0 && n > math.MinInt64 {
			return known(-n)
		} else if ok {
			return v[0]
		}
		return unknown
	}, func(v []float64) float64 { return math.Abs(v[0]) })
}

func truth(b bool) num {
	if b {
		return known(1)
	}
	return known(0)
}

func evalCompare(test func(a, b float64) bool) func(*evalCtx) []*part {
	return func(e *evalCtx) []*part {
		return e.zip(ir.Bool, 0, nil, func(v []float64) float64 {
			if math.IsNaN(v[0]) || math.IsNaN(v[1]) {
				return math.NaN()
			}
			if test(v[0], v[1]) {
				return 1
			}
			return 0
		})
	}
}

var (
	evalLess    = evalCompare(func(a, b float64) bool { return a < b })
	evalGreater = evalCompare(func(a, b float64) bool { return a > b })
	evalLessEq  = evalCompare(func(a, b float64) bool { return a <= b })
	evalGrtEq   = evalCompare(func(a, b float64) bool { return a >= b })
)

// evalEqual also settles a size that can never be negative against a negative number, as Equal(shape, -1) asks.
func evalEqual(e *evalCtx) []*part {
	return e.zip(ir.Bool, 0, func(v []num) num {
		a, b := v[0], v[1]
		switch {
		case !a.ok || !b.ok:
			return unknown
		case a == b:
			return known(1)
		case a.k == b.k && a.atom == b.atom:
			return known(0)
		case a.nonNegative() && b.k == 0 && b.c < a.c, b.nonNegative() && a.k == 0 && a.c < b.c:
			return known(0)
		}
		return unknown
	}, func(v []float64) float64 {
		if math.IsNaN(v[0]) || math.IsNaN(v[1]) {
			return math.NaN()
		}
		if v[0] == v[1] {
			return 1
		}
		return 0
	})
}

func evalLogic(table func(a, b bool) bool) func(*evalCtx) []*part {
	return func(e *evalCtx) []*part {
		return e.zip(ir.Bool, 0, func(v []num) num {
			b := v[len(v)-1]
			if !v[0].isKnown() || !b.isKnown() {
				return unknown
			}
			return truth(table(v[0].c != 0, b.c != 0))
		}, nil)
	}
}

var (
	evalAnd = evalLogic(func(a, b bool) bool { return a && b })
	evalOr  = evalLogic(func(a, b bool) bool { return a || b })
	evalXor = evalLogic(func(a, b bool) bool { return a != b })
	evalNot = evalLogic(func(a, _ bool) bool { return !a })
)

func evalWhere(e *evalCtx) []*part {
	return e.zip(ir.Undefined, 1, func(v []num) num {
		switch c, ok := v[0].value(); {
		case ok && c != 0:
			return v[1]
		case ok:
			return v[2]
		case v[1] == v[2]:
			return v[1]
		}
		return unknown
	}, func(v []float64) float64 {
		switch {
		case math.IsNaN(v[0]):
			return math.NaN()
		case v[0] != 0:
			return v[1]
		}
		return v[2]
	})
}

func evalIdentity(e *evalCtx) []*part { return one(e.in(0)) }
