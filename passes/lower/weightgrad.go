package lower

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/passes/grad"
)

// Bounds of the columns of a weight gradient that are gathered together: the number of their indices, and their bytes. Beyond them
// they are gathered by rows of the kernel, or tap by tap, which takes less memory; products of smaller matrices are up to 1.4 times slower.
const (
	columnsBound = 1 << 20
	columnsBytes = 8 << 20
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
	if product(win.kernel) == 1 && win.dense() && win.pads[0] == 0 && win.pads[1] == 0 && dx[2] == d[2] && dx[3] == d[3] {
		return l.pointGrad(n, x, dy, dw)
	}
	c, taps, positions := dw[1], dw[2]*dw[3], d[2]*d[3]
	byTaps := l.frugal && grad.Together(d[0], positions, 4*positions*taps*c) == d[0]
	bound := int64(columnsBytes)
	if byTaps {
		bound = frugalBytes
	}
	// Taps that may be gathered together.
	var groups []int64
	for _, g := range []int64{taps, dw[3], 1} {
		fits := positions*g <= columnsBound && 4*d[0]*positions*g*c <= bound
		if !slices.Contains(groups, g) && (fits || g == 1) {
			groups = append(groups, g)
		}
	}
	var forms []string
	for _, left := range []string{planes, rows} {
		for _, g := range groups {
			forms = append(forms, fmt.Sprintf("%s x %d taps", left, g))
		}
	}
	var left string
	var each int64
	if _, err := fmt.Sscanf(l.choose(n, forms), "%s x %d taps", &left, &each); err != nil {
		return nil
	}
	p := int64(1) // parts of output channels
	if byTaps && each == taps && l.whole(c) {
		p = grad.Parts(dw[0], taps*c)
	}
	k := dw[0] / p
	var parts []*ir.Value
	for i := range p {
		m := l.leftOf(dy, left)
		if p > 1 {
			m = m.channels(l, i*k, (i+1)*k)
		}
		var pieces []*ir.Value
		for t := int64(0); t < taps; t += each {
			pieces = append(pieces, l.product(m, x, reach{win, dx[2:], d[2:], t, t + each}))
		}
		g := pieces[0]
		if len(pieces) > 1 {
			g = l.b.Op("Concat", pieces, ir.AInt("axis", 1))
		}
		parts = append(parts, l.toPlain(g, []int64{k, dw[1], dw[2], dw[3]}))
	}
	if p == 1 {
		return parts[0]
	}
	return l.b.Op("Concat", parts, ir.AInt("axis", 0))
}

// What a product of matrices reads: a value as [C, N*H*W], or as [N*H*W, C].
const (
	planes = "planes"
	rows   = "rows"
)

// side is the left side of a product: planes, or rows that are to be turned.
type side struct {
	v      *ir.Value
	planes bool
}

func (l *lowerer) leftOf(v *ir.Value, how string) side {
	if how == planes {
		return side{l.planes(v), true}
	}
	return side{l.matrix(v), false}
}

// channels are those of from..to-1.
func (m side) channels(l *lowerer, from, to int64) side {
	if m.planes {
		return side{l.slice(m.v, 0, from, to), true}
	}
	return side{l.slice(m.v, 1, from, to), false}
}

// positions are those of from..to-1.
func (m side) positions(l *lowerer, from, to int64) side {
	if m.planes {
		return side{l.slice(m.v, 1, from, to), true}
	}
	return side{l.slice(m.v, 0, from, to), false}
}

// times is the product with b, [positions, any], with c added where it is not nil.
func (m side) times(l *lowerer, b, c *ir.Value) *ir.Value {
	in := []*ir.Value{m.v, b}
	if c != nil {
		in = append(in, c)
	}
	switch {
	case !m.planes:
		return l.b.Op("Gemm", in, ir.AInt("transA", 1))
	case c != nil:
		return l.op("Gemm", in...)
	}
	return l.op("MatMul", in...)
}

// slice is v[from:to] along an axis.
func (l *lowerer) slice(v *ir.Value, axis, from, to int64) *ir.Value {
	return l.op("Slice", v, l.b.Int64s(from), l.b.Int64s(to), l.b.Int64s(axis))
}

// product is m times the columns of x that r lists; frugal, of some images after the others.
func (l *lowerer) product(m side, x *ir.Value, r reach) *ir.Value {
	src, idx := l.reached(x, r)
	d, _ := src.StaticDims()
	n, c, positions, taps := d[0], d[2], product(r.out), r.to-r.from
	columns := func(src *ir.Value, images int64) *ir.Value { // of [N, positions, taps, C]
		return l.reshape(l.b.Op("Gather", []*ir.Value{src, idx}, ir.AInt("axis", 1)), images*positions, taps*c)
	}
	if !l.frugal { // gradients that read the same columns share them
		return m.times(l, l.once(fmt.Sprint("columns ", x.Name(), r), func() *ir.Value { return columns(src, n) }), nil)
	}
	together := grad.Together(n, positions, 4*positions*taps*c)
	if together == n {
		return m.times(l, columns(src, n), nil)
	}
	var sum *ir.Value
	for i := int64(0); i < n; i += together {
		some := columns(l.slice(src, 0, i, i+together), together)
		sum = m.positions(l, i*positions, (i+together)*positions).times(l, some, sum)
	}
	return sum
}

// pointGrad is the gradient of a convolution with one tap: the positions of dy times those of x.
func (l *lowerer) pointGrad(n *ir.Node, x, dy *ir.Value, dw []int64) *ir.Value {
	var g *ir.Value
	switch l.choose(n, []string{planes + " x " + rows, planes + " x " + planes, rows + " x " + rows}) {
	case planes + " x " + rows:
		g = l.leftOf(dy, planes).times(l, l.matrix(x), nil)
	case planes + " x " + planes:
		g = l.b.Op("Gemm", []*ir.Value{l.planes(dy), l.planes(x)}, ir.AInt("transB", 1))
	case rows + " x " + rows:
		g = l.leftOf(dy, rows).times(l, l.matrix(x), nil)
	default:
		return nil
	}
	return l.reshape(g, dw...)
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
