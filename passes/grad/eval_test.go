package grad

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// arr is a tensor of the evaluator: integers and booleans are stored as float64 too.
type arr struct {
	shape []int64
	v     []float64
}

func newArr(shape ...int64) *arr {
	return &arr{append([]int64{}, shape...), make([]float64, product(shape))}
}

func (a *arr) ints() []int64 {
	out := make([]int64, len(a.v))
	for i, x := range a.v {
		out[i] = int64(math.Max(-1<<40, math.Min(1<<40, x)))
	}
	return out
}

func (a *arr) strides() []int64 {
	s := make([]int64, len(a.shape))
	f := int64(1)
	for i := len(s) - 1; i >= 0; i-- {
		s[i] = f
		f *= a.shape[i]
	}
	return s
}

// each calls f with every index of shape and its flat position.
func each(shape []int64, f func(at []int64, flat int64)) {
	at := make([]int64, len(shape))
	for k := int64(0); k < product(shape); k++ {
		unravel(k, shape, at)
		f(at, k)
	}
}

func dot(a, b []int64) int64 {
	s := int64(0)
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

// at reads a where it is broadcast to an index of higher or equal rank.
func (a *arr) at(idx []int64) float64 {
	f, s := int64(0), int64(1)
	for i := len(a.shape) - 1; i >= 0; i-- {
		k := idx[len(idx)-len(a.shape)+i]
		if a.shape[i] != 1 {
			f += k * s
		}
		s *= a.shape[i]
	}
	return a.v[f]
}

func broadcastShape(as ...*arr) []int64 {
	var out []int64
	for _, a := range as {
		for len(out) < len(a.shape) {
			out = append([]int64{1}, out...)
		}
		for i, d := range a.shape {
			if k := len(out) - len(a.shape) + i; d != 1 {
				out[k] = d
			}
		}
	}
	return out
}

// evaluator computes graphs in double precision. With ste, rounding is the identity, so that what a straight-through gradient
// declares is the true derivative.
type evaluator struct {
	vals map[*ir.Value]*arr
	ste  bool
}

func (e *evaluator) get(v *ir.Value) *arr {
	if v == nil {
		return nil
	}
	if a := e.vals[v]; a != nil {
		return a
	}
	if t := v.Init(); t != nil {
		f, err := t.Floats()
		if err != nil {
			return nil
		}
		a := &arr{t.Dims(), f}
		e.vals[v] = a
		return a
	}
	return nil
}

// run evaluates the nodes of g given its inputs.
func (e *evaluator) run(g *ir.Graph, feeds map[string]*arr) error { return e.runUntil(g, nil, feeds) }

// runUntil evaluates the nodes before last, and last.
func (e *evaluator) runUntil(g *ir.Graph, last *ir.Node, feeds map[string]*arr) error {
	e.vals = map[*ir.Value]*arr{}
	for _, v := range g.Inputs() {
		if a := feeds[v.Name()]; a != nil {
			e.vals[v] = a
		}
	}
	for n := g.First(); n != nil; n = n.Next() {
		if err := e.node(n); err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
		if n == last {
			break
		}
	}
	return nil
}

func (e *evaluator) node(n *ir.Node) error {
	var in []*arr
	for i, v := range n.Inputs() {
		a := e.get(v)
		if v != nil && a == nil {
			return fmt.Errorf("input %d (%s) has no value", i, v.Name())
		}
		in = append(in, a)
	}
	for len(in) < 8 {
		in = append(in, nil)
	}
	outs, err := e.eval(n, in)
	if err != nil {
		return err
	}
	for i, o := range n.Outputs() {
		if o.Name() == "" || i >= len(outs) {
			continue
		}
		if want, ok := o.StaticDims(); ok && !equal(want, outs[i].shape) {
			return fmt.Errorf("output %d has shape %v, inferred was %v", i, outs[i].shape, want)
		}
		e.vals[o] = outs[i]
	}
	return nil
}

func (e *evaluator) eval(n *ir.Node, in []*arr) ([]*arr, error) {
	one := func(a *arr, err error) ([]*arr, error) { return []*arr{a}, err }
	if f := unaryFunc(n, e.ste); f != nil {
		y := newArr(in[0].shape...)
		for i, x := range in[0].v {
			y.v[i] = f(x)
		}
		return one(y, nil)
	}
	if f := binaryFunc(n); f != nil {
		used := in[:len(n.Inputs())]
		y := newArr(broadcastShape(used...)...)
		if len(used) == 2 && equal(used[0].shape, used[1].shape) && n.Op != "Mean" {
			for k := range y.v {
				y.v[k] = f(used[0].v[k], used[1].v[k])
			}
			return one(y, nil)
		}
		each(y.shape, func(at []int64, k int64) {
			acc := used[0].at(at)
			for _, a := range used[1:] {
				acc = f(acc, a.at(at))
			}
			if n.Op == "Mean" {
				acc /= float64(len(used))
			}
			y.v[k] = acc
		})
		return one(y, nil)
	}
	if f := reduceFunc(n.Op); f != nil {
		return one(reduceArr(n, in, f))
	}
	if f := arrOps[n.Op]; f != nil && n.Domain == "" {
		return f(e, n, in)
	}
	if n.Domain == Domain {
		return evalOpaque(n, in), nil
	}
	switch n.Op {
	case "If":
		return e.evalIf(n, in)
	case "Loop":
		return e.evalLoop(n, in)
	case "Scan":
		return e.evalScan(n, in)
	}
	if r, _ := ruleOf(n); r.parts != nil {
		return e.evalParts(n, r)
	}
	return nil, fmt.Errorf("the test evaluator has no %s", n.Op)
}

func unaryFunc(n *ir.Node, ste bool) func(float64) float64 {
	alpha := func(def float32) float64 { return float64(n.Float("alpha", def)) }
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	softplus := func(x float64) float64 { return math.Log1p(math.Exp(-math.Abs(x))) + math.Max(x, 0) }
	hard := func(a, b float64) func(float64) float64 {
		return func(x float64) float64 { return math.Max(0, math.Min(1, a*x+b)) }
	}
	simple := map[string]func(float64) float64{
		"Neg": func(x float64) float64 { return -x }, "Abs": math.Abs, "Sqrt": math.Sqrt, "Exp": math.Exp, "Log": math.Log,
		"Reciprocal": func(x float64) float64 { return 1 / x }, "Erf": math.Erf, "Sin": math.Sin, "Cos": math.Cos, "Tan": math.Tan,
		"Asin": math.Asin, "Acos": math.Acos, "Atan": math.Atan, "Sinh": math.Sinh, "Cosh": math.Cosh, "Asinh": math.Asinh,
		"Acosh": math.Acosh, "Atanh": math.Atanh, "Relu": func(x float64) float64 { return math.Max(x, 0) }, "Sigmoid": sigmoid,
		"Tanh": math.Tanh, "Softplus": softplus, "Softsign": func(x float64) float64 { return x / (1 + math.Abs(x)) },
		"Mish": func(x float64) float64 { return x * math.Tanh(softplus(x)) }, "Identity": func(x float64) float64 { return x },
		"Not": func(x float64) float64 { return 1 - x }, "Dropout": func(x float64) float64 { return x },
		"HardSwish": func(x float64) float64 { return x * hard(1.0/6, 0.5)(x) }, "Floor": math.Floor, "Ceil": math.Ceil,
		"Sign": func(x float64) float64 {
			switch {
			case x > 0:
				return 1
			case x < 0:
				return -1
			}
			return 0
		},
	}
	if f := simple[n.Op]; f != nil {
		return f
	}
	switch n.Op {
	case "Round":
		if ste {
			return func(x float64) float64 { return x }
		}
		return math.RoundToEven
	case "Cast", "CastLike":
		to := ir.DType(n.Int("to", int64(ir.Float32)))
		return func(x float64) float64 {
			switch {
			case to == ir.Bool && x != 0:
				return 1
			case to.IsFloat() || ste:
				return x
			}
			return math.Trunc(x)
		}
	case "Shrink":
		return func(x float64) float64 {
			b := float64(n.Float("bias", 0))
			switch l := float64(n.Float("lambd", 0.5)); {
			case x > l:
				return x - b
			case x < -l:
				return x + b
			}
			return 0
		}
	case "Swish", "QuickGelu":
		a := alpha(map[string]float32{"Swish": 1, "QuickGelu": 1.702}[n.Op])
		return func(x float64) float64 { return x * sigmoid(a*x) }
	case "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu":
		return kinked(n)
	case "HardSigmoid":
		return hard(alpha(0.2), float64(n.Float("beta", 0.5)))
	case "Gelu":
		if n.Str("approximate", "none") == "tanh" {
			return func(x float64) float64 {
				return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
			}
		}
		return func(x float64) float64 { return 0.5 * x * (1 + math.Erf(x/math.Sqrt2)) }
	}
	return nil
}

func kinked(n *ir.Node) func(float64) float64 {
	a := float64(n.Float("alpha", map[string]float32{"LeakyRelu": 0.01, "Selu": 1.6732632}[n.Op]))
	if n.Attr("alpha") == nil && n.Op != "LeakyRelu" && n.Op != "Selu" {
		a = 1
	}
	gamma := float64(n.Float("gamma", 1.050701))
	return func(x float64) float64 {
		switch {
		case n.Op == "ThresholdedRelu" && x <= a:
			return 0
		case n.Op == "Selu" && x > 0:
			return gamma * x
		case x > 0 || n.Op == "ThresholdedRelu":
			return x
		case n.Op == "LeakyRelu":
			return a * x
		case n.Op == "Celu":
			return a * math.Expm1(x/a)
		case n.Op == "Selu":
			return gamma * a * math.Expm1(x)
		}
		return a * math.Expm1(x)
	}
}

func binaryFunc(n *ir.Node) func(a, b float64) float64 {
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	integer := n.Input(0) != nil && n.Input(0).DType() == ir.Int64
	switch n.Op {
	case "Add", "Sum", "Mean":
		return func(a, b float64) float64 { return a + b }
	case "Sub":
		return func(a, b float64) float64 { return a - b }
	case "Mul":
		return func(a, b float64) float64 { return a * b }
	case "Div":
		return func(a, b float64) float64 {
			if integer {
				return math.Trunc(a / b)
			}
			return a / b
		}
	case "Pow":
		return math.Pow
	case "Min":
		return math.Min
	case "Max":
		return math.Max
	case "Mod":
		if n.Int("fmod", 0) != 0 {
			return math.Mod
		}
		return func(a, b float64) float64 { return a - b*math.Floor(a/b) }
	case "And":
		return func(a, b float64) float64 { return is(a != 0 && b != 0) }
	case "PRelu":
		return func(a, b float64) float64 {
			if a < 0 {
				return a * b
			}
			return a
		}
	case "Equal":
		return func(a, b float64) float64 { return is(a == b) }
	case "Greater":
		return func(a, b float64) float64 { return is(a > b) }
	case "Less":
		return func(a, b float64) float64 { return is(a < b) }
	}
	return nil
}

func reduceFunc(op string) func(xs []float64) float64 {
	fold := func(init float64, f func(a, x float64) float64, end func(float64) float64) func([]float64) float64 {
		return func(xs []float64) float64 {
			a := init
			for _, x := range xs {
				a = f(a, x)
			}
			return end(a)
		}
	}
	id := func(x float64) float64 { return x }
	add := func(a, x float64) float64 { return a + x }
	switch op {
	case "ReduceSum":
		return fold(0, add, id)
	case "ReduceMean", "GlobalAveragePool":
		return func(xs []float64) float64 { return fold(0, add, id)(xs) / float64(len(xs)) }
	case "ReduceMax", "GlobalMaxPool":
		return fold(math.Inf(-1), math.Max, id)
	case "ReduceMin":
		return fold(math.Inf(1), math.Min, id)
	case "ReduceProd":
		return fold(1, func(a, x float64) float64 { return a * x }, id)
	case "ReduceL1":
		return fold(0, func(a, x float64) float64 { return a + math.Abs(x) }, id)
	case "ReduceL2":
		return fold(0, func(a, x float64) float64 { return a + x*x }, math.Sqrt)
	case "ReduceSumSquare":
		return fold(0, func(a, x float64) float64 { return a + x*x }, id)
	case "ReduceLogSum":
		return fold(0, add, math.Log)
	case "ReduceLogSumExp":
		return fold(0, func(a, x float64) float64 { return a + math.Exp(x) }, math.Log)
	}
	return nil
}

func reduceArr(n *ir.Node, in []*arr, f func([]float64) float64) (*arr, error) {
	x := in[0]
	axes := n.Ints("axes")
	if in[1] != nil {
		axes = in[1].ints()
	}
	if len(axes) == 0 && n.Int("noop_with_empty_axes", 0) == 0 {
		axes = seq(0, len(x.shape))
	}
	if n.Op == "GlobalAveragePool" || n.Op == "GlobalMaxPool" {
		axes = seq(2, len(x.shape))
	}
	kept := append([]int64{}, x.shape...)
	gone := map[int]bool{}
	for _, a := range axes {
		if a < 0 {
			a += int64(len(x.shape))
		}
		kept[a], gone[int(a)] = 1, true
	}
	y := newArr(kept...)
	groups := make([][]float64, len(y.v))
	ys := y.strides()
	each(x.shape, func(at []int64, k int64) {
		p := int64(0)
		for i := range at {
			if !gone[i] {
				p += at[i] * ys[i]
			}
		}
		groups[p] = append(groups[p], x.v[k])
	})
	for p, g := range groups {
		y.v[p] = f(g)
	}
	if n.Int("keepdims", 1) == 0 {
		var s []int64
		for i, d := range kept {
			if !gone[i] {
				s = append(s, d)
			}
		}
		y.shape = s
	}
	return y, nil
}
