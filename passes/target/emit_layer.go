package target

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
	"mqatc/passes/quant"
)

// maxBias bounds integer biases: a quarter of int32 stays for the products.
const maxBias = 1 << 30

// layers lists the layers meant to run in integers and gives them integer biases.
func (e *emitter) layers() error {
	var nodes []*ir.Node
	for _, n := range e.g.Nodes() {
		if e.integer[n] {
			nodes = append(nodes, n)
		}
	}
	// A weight may serve several layers: its scales must stand before the first bias is rounded to one of them.
	for _, n := range nodes {
		l, err := readInteger(n)
		if err != nil {
			return err
		}
		if err := e.fitBias(n, l); err != nil {
			return fmt.Errorf("bias of %v: %w", n, err)
		}
	}
	for _, n := range nodes {
		l, err := readInteger(n)
		if err != nil {
			return err
		}
		if err := e.bias(n, l); err != nil {
			return fmt.Errorf("bias of %v: %w", n, err)
		}
		e.out.Integer = append(e.out.Integer, IntegerLayer{Node: n.Name, Weight: l.weight.Name(), Output: n.Output(0).Name(), Op: n.Op})
	}
	return nil
}

// integerLayer is a layer between dequantizers as it stands in the graph.
type integerLayer struct {
	xScale      float32
	xScaleValue *ir.Value
	xZero       int64
	xType       ir.DType
	weight      *ir.Value
	weightInts  []int64
	wScale      *ir.Value
	scales      []float32
	axis        int // of the scales in the weight; -1 for one
}

// readInteger reads the quantization of a layer's data and weight inputs.
func readInteger(n *ir.Node) (*integerLayer, error) {
	x, w := dequantizer(n.Input(0)), dequantizer(n.Input(1))
	if x == nil {
		return nil, fmt.Errorf("%v: its input %q comes from no DequantizeLinear", n, name(n.Input(0)))
	}
	if w == nil {
		return nil, fmt.Errorf("%v: its weight %q comes from no DequantizeLinear", n, name(n.Input(1)))
	}
	l := &integerLayer{xType: ir.Uint8, axis: -1}
	s, err := constFloats(x.Input(1))
	if err != nil || len(s) != 1 {
		return nil, fmt.Errorf("%v: the scale of its input must be one constant", n)
	}
	l.xScale, l.xScaleValue = s[0], x.Input(1)
	if z := x.Input(2); z != nil {
		if z.Init() == nil {
			return nil, fmt.Errorf("%v: the zero point of its input must be constant", n)
		}
		v, err := z.Init().Ints()
		if err != nil || len(v) != 1 {
			return nil, fmt.Errorf("%v: the zero point of its input must be one constant", n)
		}
		l.xZero, l.xType = v[0], z.Init().DType()
	}
	l.weight = w.Input(0)
	if p := l.weight.Producer(); p != nil && p.Is("Cast") {
		l.weight = p.Input(0)
	}
	if l.weight == nil || l.weight.Init() == nil {
		return nil, fmt.Errorf("%v: its weight is not constant", n)
	}
	if l.weightInts, err = l.weight.Init().Ints(); err != nil {
		return nil, fmt.Errorf("%v: weight: %w", n, err)
	}
	l.wScale = w.Input(1)
	if l.scales, err = constFloats(l.wScale); err != nil || len(l.scales) == 0 {
		return nil, fmt.Errorf("%v: the scales of its weight must be constant", n)
	}
	if len(constant(l.wScale).Init().Dims()) > 0 {
		l.axis = int(w.Int("axis", 1))
	}
	return l, nil
}

func dequantizer(v *ir.Value) *ir.Node {
	if v == nil || v.Producer() == nil || !v.Producer().Is("DequantizeLinear") {
		return nil
	}
	return v.Producer()
}

// constant is the initializer that v is, or that a Cast widens to v from 16 bits; nil where there is none.
func constant(v *ir.Value) *ir.Value {
	if v != nil && v.Init() != nil {
		return v
	}
	c := producer(v, "Cast")
	if c == nil || c.Int("to", 0) != int64(ir.Float32) || c.Input(0) == nil || c.Input(0).Init() == nil {
		return nil
	}
	if d := c.Input(0).Init().DType(); d != ir.Float16 && d != ir.BFloat16 {
		return nil
	}
	return c.Input(0)
}

func constFloats(v *ir.Value) ([]float32, error) {
	c := constant(v)
	if c == nil {
		return nil, fmt.Errorf("no constant")
	}
	if c == v {
		return v.Init().Float32s()
	}
	f, err := c.Init().Floats()
	out := make([]float32, len(f))
	for i, x := range f {
		out[i] = float32(x)
	}
	return out, err
}

func name(v *ir.Value) string {
	if v == nil {
		return ""
	}
	return v.Name()
}

// bias stores the bias of a layer as integers at the scale of the accumulator, s_x*s_w. Where a channel's weights are so small beside
// its bias that the bias would not fit, the channel's scale is raised by a power of two and its codes are rounded anew.
func (e *emitter) bias(n *ir.Node, l *integerLayer) error {
	b, err := e.roundable(n, l)
	if err != nil || b == nil {
		return err
	}
	bv := e.biasOf(n)
	narrow := e.t.Narrow && e.biases[n.Output(0).Name()].Narrow
	scale := make([]float32, len(l.scales))
	for c, s := range l.scales {
		scale[c] = l.xScale * s
	}
	q := make([]int32, len(b))
	for c, x := range b {
		s := scale[min(c, len(scale)-1)]
		v := math.RoundToEven(float64(x / s)) // in float32, as the fake-quantized model rounds it
		if narrow {
			v = float64(quant.Narrowed(float32(v)))
		}
		if !(math.Abs(v) <= 2*maxBias-1) {
			return fmt.Errorf("channel %d: %g at scale %g does not fit int32", c, x, s)
		}
		q[c] = int32(v)
	}
	axis := -1
	if l.axis >= 0 {
		axis = 0
	}
	e.b.Before, e.b.Site = n, bv.Name()
	iv, wide, err := e.integerBias(bv.Name(), q, narrow)
	if err != nil {
		return err
	}
	// The scale is a product in the graph, which the runtime folds: a vector of its own would be half of what a bias takes.
	s := e.b.Op("Mul", []*ir.Value{l.wScale, l.xScaleValue})
	out := e.dequantize(wide, s, axis)
	if err := e.b.Err(); err != nil {
		return err
	}
	rounded := n.Input(2).Producer()
	if err := e.g.SetInput(n, 2, out); err != nil {
		return err
	}
	if rounded != nil {
		if err := removeDead(e.g, rounded); err != nil {
			return err
		}
	}
	if !bv.Used() && !bv.IsInput() {
		stored := bv.Name()
		if err := e.g.RemoveInitializer(bv); err != nil {
			return err
		}
		return e.g.Rename(iv, stored)
	}
	return nil
}

// biasOf is the float bias of a layer meant to run in integers, behind its rounding.
func (e *emitter) biasOf(n *ir.Node) *ir.Value {
	if b, ok := e.biases[n.Output(0).Name()]; ok {
		return e.g.Value(b.Bias)
	}
	return n.Input(2)
}

// roundable returns the biases of a layer that takes them as integers, nil where the runtime computes it in float.
func (e *emitter) roundable(n *ir.Node, l *integerLayer) ([]float32, error) {
	bv := e.biasOf(n)
	if !e.t.IntegerBias || bv == nil {
		return nil, nil
	}
	b, err := constFloats(bv)
	if err != nil || len(bv.Init().Dims()) != 1 || (l.axis >= 0 && len(b) != len(l.scales)) {
		return nil, err
	}
	return b, nil
}

// fitBias raises weight scales until every bias fits.
func (e *emitter) fitBias(n *ir.Node, l *integerLayer) error {
	b, err := e.roundable(n, l)
	if err != nil || b == nil {
		return err
	}
	shift := make([]int, len(l.scales))
	any := false
	for c, x := range b {
		k := min(c, len(shift)-1)
		for math.Abs(float64(x)) > maxBias*float64(l.xScale)*math.Ldexp(float64(l.scales[k]), shift[k]) && shift[k] < 200 {
			shift[k]++
			any = true
		}
	}
	if !any {
		return nil
	}
	dims := l.weight.Init().Dims()
	inner := 1
	for _, d := range dims[l.axis+1:] {
		inner *= int(d)
	}
	q := append([]int64(nil), l.weightInts...)
	for i, x := range q {
		c := 0
		if l.axis >= 0 {
			c = i / inner % len(shift)
		}
		if shift[c] > 0 {
			q[i] = int64(math.RoundToEven(math.Ldexp(float64(x), -shift[c])))
		}
	}
	scales := append([]float32(nil), l.scales...)
	for c := range scales {
		scales[c] = float32(math.Ldexp(float64(scales[c]), shift[c]))
	}
	t, err := ir.PackInts(l.weight.Init().DType(), q, dims...)
	if err != nil {
		return err
	}
	sv := constant(l.wScale)
	st, err := ir.FromFloat32s(scales, sv.Init().Dims()...)
	if sv != l.wScale {
		st, err = packExactly(sv.Init().DType(), scales, sv.Init().Dims()...)
	}
	if err != nil {
		return err
	}
	if err := e.g.SetInit(l.weight, t); err != nil {
		return err
	}
	if err := e.g.SetInit(sv, st); err != nil {
		return err
	}
	l.weightInts, l.scales = q, scales
	return nil
}
