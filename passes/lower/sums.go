package lower

import (
	"mqatc/onnx/ir"
)

// microsoft is the domain of FusedMatMul.
const microsoft = "com.microsoft"

// sum lowers sums over everything, sums over everything but the first axis where products are summed, and sums over everything but
// the channels of a blocked value.
func sum(l *lowerer, n *ir.Node) *ir.Value {
	x := n.Input(0)
	d, okX := x.StaticDims()
	out, okOut := n.Output(0).StaticDims()
	if !okX || !okOut || x.DType() != ir.Float32 || len(d) == 0 || n.Input(1) == nil || n.Input(1).Init() == nil {
		return nil
	}
	axes, err := n.Input(1).Init().Ints()
	if err != nil || len(axes) == 0 {
		return nil
	}
	over, kept, axis := make([]bool, len(d)), 0, -1 // axis is the one that is kept, where it is one; those of size 1 are neither
	for _, a := range axes {
		over[(a+int64(len(d)))%int64(len(d))] = true
	}
	for i, o := range over {
		if !o && d[i] > 1 {
			kept, axis = kept+1, i
		}
	}
	blocked := len(d) == 4 && l.blocked[x] != nil && l.whole(d[1])
	switch {
	case kept == 0:
		if v := l.dot(x, d, false); v != nil {
			return l.reshape(v, out...)
		}
		if blocked {
			return l.b.Op("ReduceSum", []*ir.Value{l.blocked[x], n.Input(1)}, n.Attrs()...)
		}
	case kept == 1 && axis == 0 && !blocked:
		if v := l.dot(x, d, true); v != nil {
			return l.reshape(v, out...)
		}
	case kept == 1 && blocked && axis == 1:
		v := l.reshape(l.blocked[x], d[0], d[1]/l.block, d[2]*d[3], l.block)
		for _, axis := range []int64{2, 0} {
			v = l.b.Op("ReduceSum", []*ir.Value{v, l.b.Int64s(axis)}, ir.AInt("keepdims", 0))
		}
		return l.reshape(v, out...)
	}
	return nil
}

// dot sums the products that x consists of, without storing them: over everything, or for each index of the first axis. A product of
// matrices is threaded over its batch, so that a long sum is cut into pieces.
func (l *lowerer) dot(x *ir.Value, d []int64, first bool) *ir.Value {
	m := from(x, "Mul")
	if m == nil || len(x.Uses()) != 1 || x.IsOutput() || product(d) == 0 {
		return nil
	}
	a, b := m.Input(0), m.Input(1)
	if !same(a, x) || !same(b, x) {
		return nil
	}
	if l.blocked[a] != nil || l.blocked[b] != nil {
		if first || !l.whole(d[1]) {
			return nil
		}
		a, b = l.toBlocked(a), l.toBlocked(b)
	}
	n := product(d)
	pieces := d[0]
	if !first {
		pieces = 64
		for n%pieces != 0 {
			pieces /= 2
		}
	}
	l.fusedUsed = true
	v := l.b.Node(ir.NodeSpec{Op: "FusedMatMul", Domain: microsoft, Inputs: []*ir.Value{l.reshape(a, pieces, 1, n/pieces), l.reshape(b, pieces, 1, n/pieces)},
		Attrs: []ir.Attr{ir.AInt("transB", 1)}}, 1)[0]
	if first || pieces == 1 {
		return v
	}
	return l.b.Op("ReduceSum", []*ir.Value{v, l.b.Int64s(0, 1, 2)}, ir.AInt("keepdims", 0))
}
