package lower

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/passes/grad"
)

// Bounds of the columns of a weight gradient that are gathered together: the number of their indices, and their bytes. Beyond them
// they are gathered by rows of the kernel, or tap by tap, which takes less memory; products of smaller matrices are up to 1.4 times slower.
const (
	columnsBound = 1 << 20
	columnsBytes = 12 << 20
	frugalBytes  = 4 << 20 // with Machine.Frugal, where it cannot be done by images
)

// weightGrad lowers the gradient of a convolution by its weights: the rows that each tap meets, gathered, times the cotangent.
func weightGrad(l *lowerer, n *ir.Node) *ir.Value {
	x, dy := n.Input(0), n.Input(1)
	dx, okX := dims4(x)
	d, okD := dims4(dy)
	dw, okW := dims4(n.Output(0))
	if !okX || !okD || !okW {
		return nil
	}
	win := windowOf(n)
	switch group := n.Int("group", 1); {
	case group == 1:
	case dw[1] == 1 && dw[0] == group && l.whole(group):
		return l.depthwiseWeightGrad(x, dy, win, dx, d, dw)
	default:
		return nil
	}
	c, taps, positions := dw[1], dw[2]*dw[3], d[2]*d[3]
	if taps == 1 && win.dense() && win.pads[0] == 0 && win.pads[1] == 0 && dx[2] == d[2] && dx[3] == d[3] {
		return l.reshape(l.times(l.matrix(dy), l.matrix(x), nil), dw...)
	}
	together := l.frugal && grad.Together(d[0], positions, 4*positions*taps*c) == d[0]
	bound := int64(columnsBytes)
	if together {
		bound = frugalBytes
	}
	each := taps // taps gathered together
	for _, fewer := range []int64{dw[3], 1} {
		if positions*each > columnsBound || 4*d[0]*positions*each*c > bound {
			each = fewer
		}
	}
	p := int64(1) // parts of output channels
	if together && each == taps && l.whole(c) {
		p = grad.Parts(dw[0], taps*c)
	}
	k := dw[0] / p
	part := []int64{k, dw[1], dw[2], dw[3]}
	var parts []*ir.Value
	for i := range p {
		m := l.matrix(dy)
		if p > 1 {
			m = l.slice(m, 1, i*k, (i+1)*k)
		}
		var pieces []*ir.Value
		for t := int64(0); t < taps; t += each {
			pieces = append(pieces, l.product(m, x, reach{win, dx[2:], d[2:], t, t + each}))
		}
		g := pieces[0]
		if len(pieces) > 1 {
			g = l.b.Op("Concat", pieces, ir.AInt("axis", 1))
		}
		parts = append(parts, l.toPlain(g, part))
	}
	if p == 1 {
		return parts[0]
	}
	return l.b.Op("Concat", parts, ir.AInt("axis", 0))
}

// times is a' b, with c added where it is not nil.
func (l *lowerer) times(a, b, c *ir.Value) *ir.Value {
	in := []*ir.Value{a, b}
	if c != nil {
		in = append(in, c)
	}
	return l.b.Op("Gemm", in, ir.AInt("transA", 1))
}

// slice is v[from:to] along an axis.
func (l *lowerer) slice(v *ir.Value, axis, from, to int64) *ir.Value {
	return l.op("Slice", v, l.b.Int64s(from), l.b.Int64s(to), l.b.Int64s(axis))
}

// product is m' times the columns of x that r lists; frugal, of some images after the others.
func (l *lowerer) product(m, x *ir.Value, r reach) *ir.Value {
	src, idx := l.reached(x, r)
	d, _ := src.StaticDims()
	n, c, positions, taps := d[0], d[2], product(r.out), r.to-r.from
	together := n
	if l.frugal {
		together = grad.Together(n, positions, 4*positions*taps*c)
	}
	var sum *ir.Value
	for i := int64(0); i < n; i += together {
		a, b := m, src
		if together < n {
			a, b = l.slice(m, 0, i*positions, (i+together)*positions), l.slice(src, 0, i, i+together)
		}
		cols := l.b.Op("Gather", []*ir.Value{b, idx}, ir.AInt("axis", 1)) // [N, positions, taps, C]
		sum = l.times(a, l.reshape(cols, together*positions, taps*c), sum)
	}
	return sum
}

// reach says where the taps of each position lie among the rows of an image.
type reach struct {
	window
	in, out  []int64 // height and width
	from, to int64   // taps
}

// list is [positions, taps], an index after the last row for what lies outside.
func (r reach) list() (idx []int32, padded bool) {
	outside := int32(r.in[0] * r.in[1])
	idx = make([]int32, 0, r.out[0]*r.out[1]*(r.to-r.from))
	for y := range r.out[0] {
		for x := range r.out[1] {
			for t := r.from; t < r.to; t++ {
				yy := y*r.strides[0] + t/r.kernel[1]*r.dilations[0] - r.pads[0]
				xx := x*r.strides[1] + t%r.kernel[1]*r.dilations[1] - r.pads[1]
				if yy < 0 || yy >= r.in[0] || xx < 0 || xx >= r.in[1] {
					idx, padded = append(idx, outside), true
				} else {
					idx = append(idx, int32(yy*r.in[1]+xx))
				}
			}
		}
	}
	return idx, padded
}

// reached are the rows of x, with one of zeros where r needs it, and the constant of those that r lists, [positions, taps].
func (l *lowerer) reached(x *ir.Value, r reach) (src, idx *ir.Value) {
	src = l.rows(x)
	list, padded := r.list()
	idx = l.indices(fmt.Sprint("reach ", r), func() []int32 { return list }, r.out[0]*r.out[1], r.to-r.from)
	if padded {
		src = l.once("padded "+x.Name(), func() *ir.Value {
			d, _ := src.StaticDims()
			return l.b.Op("Concat", []*ir.Value{src, l.zeros(d[0], 1, d[2])}, ir.AInt("axis", 1))
		})
	}
	return src, idx
}

// depthwiseWeightGrad convolves each plane of x with the cotangent's as its kernel; blocked, cotangents are blocked weights already.
func (l *lowerer) depthwiseWeightGrad(x, dy *ir.Value, win window, dx, d, dw []int64) *ir.Value {
	planes, b := dx[0]*dx[1], l.block
	pads := append([]int64{}, win.pads...)
	sizes := make([]int64, 2)
	for i := range 2 {
		pads[2+i] = max(pads[2+i], 0)
		span := (d[2+i]-1)*win.strides[i] + 1
		sizes[i] = (dx[2+i]+pads[i]+pads[2+i]-span)/win.dilations[i] + 1
		if sizes[i] < dw[2+i] {
			return nil
		}
	}
	in := l.reshape(l.toBlocked(x), 1, planes, dx[2], dx[3])
	kernel := l.reshape(l.toBlocked(dy), planes, 1, d[2], d[3])
	y := l.nchwc("Conv", []int64{1, planes, sizes[0], sizes[1]}, []*ir.Value{in, kernel}, ir.AInts("kernel_shape", d[2], d[3]),
		ir.AInts("strides", win.dilations...), ir.AInts("dilations", win.strides...), ir.AInts("pads", pads...), ir.AInt("group", planes))
	y = l.reshape(y, dx[0], dx[1]/b, sizes[0], sizes[1]*b)
	if sizes[0] != dw[2] || sizes[1] != dw[3] {
		y = l.op("Slice", y, l.b.Int64s(0, 0), l.b.Int64s(dw[2], dw[3]*b), l.b.Int64s(2, 3))
	}
	y = l.b.Op("ReduceSum", []*ir.Value{l.reshape(y, dx[0], dx[1]*dw[2]*dw[3]), l.b.Int64s(0)}, ir.AInt("keepdims", 0))
	y = l.reshape(y, dx[1]/b, b, dw[2], dw[3])
	return l.reshape(l.nchwc("ReorderOutput", []int64{dx[1] / b, b, dw[2], dw[3]}, []*ir.Value{y}, ir.AInt("channels", b)), dw...)
}
