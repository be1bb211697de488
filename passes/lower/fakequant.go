package lower

import (
	"math"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// quantizer is fake quantization with a step size that is trained: y = s * Round(Clip(x / s)).
type quantizer struct {
	x, s, y       *ir.Value
	div, cut, rnd *ir.Node
	lo, hi        float64
}

// fakeQuantization has what the backward pass reads of quantizers computed from their inputs and outputs, which are kept in any case,
// instead of from values in between, and gives those of 8 bits for a whole tensor the operators QuantizeLinear and DequantizeLinear, which
// round and clip the same way.
func fakeQuantization(g *ir.Graph) error {
	b := ir.NewBuilder(g, Info.Name, op.InferNode)
	for _, n := range g.Nodes() {
		q := quantizerAt(n)
		if q == nil {
			continue
		}
		for _, f := range []func(*ir.Builder) error{q.sums, q.masks, q.linear} {
			if err := f(b); err != nil {
				return err
			}
			if err := b.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

func quantizerAt(n *ir.Node) *quantizer {
	if !n.Is("Mul") || n.Output(0).DType() != ir.Float32 {
		return nil
	}
	for i := range 2 {
		r := from(n.Input(i), "Round")
		if r == nil {
			continue
		}
		c := from(r.Input(0), "Clip")
		if c == nil {
			continue
		}
		d := from(c.Input(0), "Div")
		lo, okLo := number(c.Input(1))
		hi, okHi := number(c.Input(2))
		if d == nil || !okLo || !okHi || d.Input(1) != n.Input(1-i) || !same(d.Input(0), n.Output(0)) {
			continue
		}
		return &quantizer{d.Input(0), d.Input(1), n.Output(0), d, c, r, lo, hi}
	}
	return nil
}

// readers are the nodes of g that read v, but one.
func readers(v *ir.Value, but *ir.Node) (all []*ir.Node, ok bool) {
	for _, u := range v.Uses() {
		if u.Node.Graph() != but.Graph() {
			return nil, false
		}
		if u.Node != but && !slices.Contains(all, u.Node) {
			all = append(all, u.Node)
		}
	}
	return all, !v.IsOutput()
}

// sums: a sum of a * Round(x/s), or of a * x/s, is that of a * y, or a * x, over s.
func (q *quantizer) sums(b *ir.Builder) error {
	for _, v := range []struct {
		inner  *ir.Value
		reader *ir.Node
		outer  *ir.Value
	}{{q.rnd.Output(0), q.y.Producer(), q.y}, {q.div.Output(0), q.cut, q.x}} {
		list, ok := readers(v.inner, v.reader)
		if !ok {
			continue
		}
		for _, m := range list {
			sums, ok := readers(m.Output(0), m)
			if !m.Is("Mul") || !same(m.Input(0), m.Input(1)) || m.Input(0) == m.Input(1) || !ok || len(sums) == 0 ||
				slices.ContainsFunc(sums, func(n *ir.Node) bool { return !n.Is("ReduceSum") || !spreads(n.Output(0), q.s) }) {
				continue
			}
			i := slices.Index(m.Inputs(), v.inner)
			if err := b.G.SetInput(m, i, v.outer); err != nil {
				return err
			}
			for _, n := range sums {
				uses := slices.Clone(n.Output(0).Uses())
				b.Before, b.Site = n.Next(), n.Output(0).Name()
				part := b.Op("Div", []*ir.Value{n.Output(0), q.s})
				if err := b.Err(); err != nil {
					return err
				}
				for _, u := range uses {
					if err := b.G.SetInput(u.Node, u.Index, part); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// spreads reports whether v keeps its sizes when s is broadcast to it.
func spreads(v, s *ir.Value) bool {
	d, ok := v.StaticDims()
	e, okS := s.StaticDims()
	if !ok || !okS || v.IsOutput() || len(e) > len(d) {
		return false
	}
	for i, x := range e {
		if x != 1 && x != d[len(d)-len(e)+i] {
			return false
		}
	}
	return true
}

// masks: where x/s is within the bounds, asked of x.
func (q *quantizer) masks(b *ir.Builder) error {
	list, ok := readers(q.cut.Output(0), q.rnd)
	if !ok {
		return nil
	}
	if len(list) == 2 && q.lo == 0 { // step(c * (hi - c)), which is 0 for what is not clipped as well
		d, m := list[0], list[1]
		if d.Is("Mul") {
			d, m = m, d
		}
		hi, ok := number(d.Input(0))
		if !d.Is("Sub") || !m.Is("Mul") || !ok || hi != q.hi || !slices.Contains(m.Inputs(), d.Output(0)) || only(d.Output(0), "Mul") == nil {
			return nil
		}
		b.Before, b.Site = d, d.Output(0).Name()
		u := q.again(b)
		if err := b.Err(); err != nil {
			return err
		}
		if err := b.G.SetInput(m, slices.Index(m.Inputs(), q.cut.Output(0)), u); err != nil {
			return err
		}
		return b.G.SetInput(d, 1, u)
	}
	for _, n := range list {
		mid, okMid := number(n.Input(1))
		a := only(n.Output(0), "Abs")
		if !n.Is("Sub") || !okMid || mid != (q.lo+q.hi)/2 || a == nil {
			continue
		}
		h := only(a.Output(0), "HardSigmoid")
		if h == nil {
			continue
		}
		b.Before, b.Site = n, n.Output(0).Name()
		if q.lo < 0 && nonNegative(q.x) && product(dimsOf(q.s)) == 1 {
			below := b.Op("Sub", []*ir.Value{b.Op("Mul", []*ir.Value{q.s, b.Float(float32(q.hi))}), q.x})
			mask := b.Op("HardSigmoid", []*ir.Value{below}, ir.AFloat("alpha", maxSlope), ir.AFloat("beta", 0))
			if err := b.Err(); err != nil {
				return err
			}
			if err := b.G.ReplaceAllUses(h.Output(0), mask); err != nil {
				return err
			}
			for _, dead := range []*ir.Node{h, a, n} {
				if err := b.G.Remove(dead); err != nil {
					return err
				}
			}
			continue
		}
		u := q.again(b)
		if err := b.Err(); err != nil {
			return err
		}
		if err := b.G.SetInput(n, 0, u); err != nil {
			return err
		}
	}
	return nil
}

// again is x/s, which onnxruntime does not take for the one that is there.
func (q *quantizer) again(b *ir.Builder) *ir.Value {
	s := b.Op("Max", []*ir.Value{q.s, b.Float(math.SmallestNonzeroFloat32 * (1 << 23))})
	return b.Op("Div", []*ir.Value{q.x, s})
}

func dimsOf(v *ir.Value) []int64 {
	d, ok := v.StaticDims()
	if !ok {
		return []int64{0}
	}
	return d
}

// only is the node of the given operator that alone reads v.
func only(v *ir.Value, name string) *ir.Node {
	if len(v.Uses()) != 1 || v.IsOutput() || !v.Uses()[0].Node.Is(name) {
		return nil
	}
	return v.Uses()[0].Node
}

// nonNegative reports what is known from the operators that make v.
func nonNegative(v *ir.Value) bool {
	n := v.Producer()
	if n == nil || n.Domain != "" {
		return false
	}
	all := true
	switch n.Op {
	case "Relu", "Sigmoid", "HardSigmoid", "Softplus", "Exp", "Abs", "Sqrt", "Softmax":
		return true
	case "Clip":
		lo, ok := number(n.Input(1))
		return ok && lo >= 0
	case "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "Reshape", "Flatten", "Transpose", "Identity":
		return nonNegative(n.Input(0))
	case "Add", "Concat":
		for _, x := range n.Inputs() {
			all = all && nonNegative(x)
		}
		return all
	}
	return false
}

// linear: 8 bits of a whole tensor, where nothing in between is read any more.
func (q *quantizer) linear(b *ir.Builder) error {
	var zero *ir.Tensor
	var err error
	switch {
	case product(dimsOf(q.s)) != 1:
		return nil
	case q.lo == -128 && q.hi == 127:
		zero, err = ir.NewTensor(ir.Int8, nil, []byte{0})
	case q.lo == 0 && q.hi == 255:
		zero, err = ir.NewTensor(ir.Uint8, nil, []byte{0})
	default:
		return nil
	}
	if err != nil {
		return err
	}
	mul := q.y.Producer()
	for _, x := range []struct {
		v  *ir.Value
		by *ir.Node
	}{{q.div.Output(0), q.cut}, {q.cut.Output(0), q.rnd}, {q.rnd.Output(0), mul}} {
		if list, ok := readers(x.v, x.by); !ok || len(list) > 0 {
			return nil
		}
	}
	if q.y.IsOutput() {
		return nil
	}
	b.Before, b.Site = mul, q.y.Name()
	s := q.s
	if len(dimsOf(s)) > 1 {
		s = b.Op("Reshape", []*ir.Value{s, b.Int64s()})
	}
	z := b.Const(zero)
	codes := b.Op("QuantizeLinear", []*ir.Value{q.x, s, z})
	y := b.Op("DequantizeLinear", []*ir.Value{codes, s, z})
	if err := b.Err(); err != nil {
		return err
	}
	if err := b.G.ReplaceAllUses(q.y, y); err != nil {
		return err
	}
	for _, dead := range []*ir.Node{mul, q.rnd, q.cut, q.div} {
		if err := b.G.Remove(dead); err != nil {
			return err
		}
	}
	return nil
}
