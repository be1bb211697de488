package lower

import (
	"slices"

	"mqatc/onnx/ir"
	"mqatc/passes/grad"
)

// conv lowers a convolution of two dimensions. Few input channels are read as they are; in groups, whole blocks go together or each
// channel stands alone.
func conv(l *lowerer, n *ir.Node) *ir.Value {
	x, w := n.Input(0), n.Input(1)
	_, okX := dims4(x)
	dw, okW := dims4(w)
	dy, okY := dims4(n.Output(0))
	if !okX || !okW || !okY {
		return nil
	}
	group, k, c := n.Int("group", 1), dw[0], dw[1]
	attrs := []ir.Attr{ir.AInts("kernel_shape", dw[2], dw[3]), ir.AInt("group", group)}
	for _, a := range n.Attrs() {
		if a.Name != "kernel_shape" && a.Name != "group" {
			attrs = append(attrs, a)
		}
	}
	var in, weights *ir.Value
	kp := l.up(k)
	if group > 1 && !(c == 1 && k == group && l.whole(k)) && !(l.whole(c) && l.whole(k/group)) {
		return nil
	}
	bias := n.Input(2)
	if bias != nil {
		if d, ok := bias.StaticDims(); !ok || len(d) != 1 {
			return nil
		}
	}
	forms := []string{blocked, standard}
	if group == 1 && dy[0]*dy[2]*dy[3] <= fewPositions && product(dw) >= manyWeights {
		slices.Reverse(forms)
	}
	if l.choose(n, forms) != blocked {
		return nil
	}
	act := activation(n)
	if act != nil {
		attrs = append(attrs, fusedAttrs(act)...)
	}
	p := int64(1)
	switch {
	case group > 1 && c == 1:
		in, weights = l.toBlocked(x), l.depthwise(w, false)
	case group > 1:
		in, weights = l.toBlocked(x), l.forward(w, true)
	case c < l.block:
		in, weights = x, l.forward(l.filled(w, kp, c), false)
	default:
		in, w = l.toBlocked(x), l.filled(w, kp, l.up(c))
		if p = l.parts(kp, w); p == 1 {
			weights = l.forward(w, true)
		}
	}
	return l.fuse(act, l.joined(p, kp, func(from, to int64) *ir.Value {
		part := weights
		if p > 1 {
			part = l.forward(l.slice(w, 0, from, to), true)
		}
		return l.nchwc("Conv", []int64{dy[0], to - from, dy[2], dy[3]}, l.biased(tail{bias: bias}, kp, p, from, to, in, part), attrs...)
	}))
}

// fuse notes that v, a convolution's blocked output, is what act gives; nil is no activation.
func (l *lowerer) fuse(act *ir.Node, v *ir.Value) *ir.Value {
	if act != nil && v != nil {
		l.fused[act] = true
		l.blocked[act.Output(0)] = v
	}
	return v
}

// Convolutions of so few positions, images together, and so many weights spend more time on the layout of weights than blocked kernels save.
const (
	fewPositions = 128
	manyWeights  = 1 << 16
)

// parts is in how many parts of whole blocks of its channels w is given a blocked layout.
func (l *lowerer) parts(channels int64, w *ir.Value) int64 {
	d, _ := w.StaticDims()
	p := int64(1)
	for l.frugal && 4*product(d) > grad.FrugalWeights*p && channels%(2*p*l.block) == 0 {
		p *= 2
	}
	return p
}

// joined joins p blocked values of equal numbers of channels, each made by of from the first of its channels and the one after its last.
func (l *lowerer) joined(p, channels int64, of func(from, to int64) *ir.Value) *ir.Value {
	var all []*ir.Value
	for i := range p {
		all = append(all, of(i*channels/p, (i+1)*channels/p))
	}
	if p == 1 {
		return all[0]
	}
	return l.b.Op("Concat", all, ir.AInt("axis", 1))
}

// activation is the only reader of a convolution, where it is one that a blocked convolution computes on its way.
func activation(n *ir.Node) *ir.Node {
	out := n.Output(0)
	if len(out.Uses()) != 1 || out.IsOutput() {
		return nil
	}
	a := out.Uses()[0].Node
	if a.Graph() != n.Graph() || a.Domain != "" || len(a.Outputs()) != 1 {
		return nil
	}
	switch a.Op {
	case "Relu", "LeakyRelu", "Sigmoid", "Tanh":
		return a
	case "Clip":
		_, lo := number(a.Input(1))
		_, hi := number(a.Input(2))
		if lo && hi {
			return a
		}
	}
	return nil
}

func fusedAttrs(a *ir.Node) []ir.Attr {
	out := []ir.Attr{ir.AString("activation", a.Op)}
	switch a.Op {
	case "LeakyRelu":
		out = append(out, ir.AFloats("activation_params", a.Float("alpha", 0.01)))
	case "Clip":
		lo, _ := number(a.Input(1))
		hi, _ := number(a.Input(2))
		out = append(out, ir.AFloats("activation_params", float32(lo), float32(hi)))
	}
	return out
}

// window is the geometry of a gradient's convolution.
type window struct{ kernel, strides, dilations, pads []int64 }

func windowOf(n *ir.Node) window {
	return window{n.Ints("kernel_shape"), n.Ints("strides"), n.Ints("dilations"), n.Ints("pads")}
}

func (w window) dense() bool { return w.strides[0] == 1 && w.strides[1] == 1 }

// Forms of a convolution and of its gradient by the input: the gradient is the convolution of the cotangent with the kernel turned
// round, where there are strides one convolution for all residues of the position, or after zeros were put between elements.
const (
	blocked = "blocked"
	phases  = "phases"
	stretch = "stretched"
	spread  = "spread" // of kernels of one tap: zeros are put between the elements of the result
)

// standardWork is the number of multiplications of an image from which on ConvTranspose is faster than blocked forms with strides.
const standardWork = 4e6

// flipped are the pads of the convolution with the kernel turned round; nil where one would be negative.
func (w window) flipped() []int64 {
	out := make([]int64, 4)
	for i := range 2 {
		reach := (w.kernel[i] - 1) * w.dilations[i]
		out[i], out[2+i] = reach-w.pads[i], reach-w.pads[2+i]
		if out[i] < 0 || out[2+i] < 0 {
			return nil
		}
	}
	return out
}

// turnedConv is the convolution of dy with w turned round, blocked, of C filled up.
func (l *lowerer) turnedConv(dy, w *ir.Value, win window, pads, dx []int64, t tail) *ir.Value {
	dw, _ := w.StaticDims()
	in, kp := dy, dw[0]
	if kp >= l.block || l.blocked[dy] != nil {
		in, kp = l.toBlocked(dy), l.up(kp)
	}
	cp := l.up(dw[1])
	w = l.filled(w, kp, cp)
	p := l.parts(cp, w)
	return l.joined(p, cp, func(from, to int64) *ir.Value {
		part := w
		if p > 1 {
			part = l.slice(w, 1, from, to)
		}
		return l.nchwc("Conv", []int64{dx[0], to - from, dx[2], dx[3]}, l.biased(t, cp, p, from, to, in, l.backward(part)), append(slices.Clone(t.attrs),
			ir.AInts("kernel_shape", win.kernel...), ir.AInts("strides", 1, 1), ir.AInts("dilations", win.dilations...), ir.AInts("pads", pads...), ir.AInt("group", 1))...)
	})
}

// spread puts zeros between the elements of a blocked value: those stand at multiples of the strides in sizes dx.
func (l *lowerer) spread(v *ir.Value, strides, dx []int64) *ir.Value {
	d, _ := v.StaticDims()
	n, h, w, b := d[0]*d[1]/l.block, d[2], d[3], l.block
	x := l.reshape(v, n*h*w, b)
	if strides[1] > 1 { // a product with [1 0] is several times faster than Pad on short rows
		x = l.op("MatMul", x, l.wider(strides[1]))
	}
	x = l.reshape(x, n*h, w*strides[1]*b)
	if strides[0] > 1 {
		x = l.op("Pad", x, l.b.Int64s(0, 0, 0, (strides[0]-1)*w*strides[1]*b), l.b.Float(0))
	}
	x = l.reshape(x, d[0], d[1], h*strides[0], w*strides[1])
	return l.fit(x, dx)
}

// wider is the matrix [B, times*B] that puts zeros after each row of B elements.
func (l *lowerer) wider(times int64) *ir.Value {
	x := make([]float32, l.block*times*l.block)
	for i := range l.block {
		x[i*times*l.block+i] = 1
	}
	return l.b.Floats(x, l.block, times*l.block)
}

// fit cuts or fills the ends of a blocked value to the height and width of dx.
func (l *lowerer) fit(v *ir.Value, dx []int64) *ir.Value {
	d, _ := v.StaticDims()
	if d[2] == dx[2] && d[3] == dx[3] {
		return v
	}
	n, b := d[0]*d[1]/l.block, l.block
	x := l.reshape(v, n, d[2], d[3], b)
	if d[2] > dx[2] || d[3] > dx[3] {
		h, w := min(d[2], dx[2]), min(d[3], dx[3])
		x = l.op("Slice", x, l.b.Int64s(0, 0), l.b.Int64s(h, w), l.b.Int64s(1, 2), l.b.Int64s(1, 1))
	}
	if h, w := max(dx[2]-d[2], 0), max(dx[3]-d[3], 0); h+w > 0 {
		x = l.op("Pad", x, l.b.Int64s(0, 0, 0, 0, 0, h, w, 0), l.b.Float(0))
	}
	return l.reshape(x, d[0], d[1], dx[2], dx[3])
}

// stretched are the sizes of a cotangent of sizes d with zeros between its elements, and the pads of the convolution over it; ok is
// false where one would be negative.
func (w window) stretched(d, dx []int64) (wide, pads []int64, ok bool) {
	pads = make([]int64, 4)
	wide = []int64{d[0], d[1], (d[2]-1)*w.strides[0] + 1, (d[3]-1)*w.strides[1] + 1}
	for i := range 2 {
		reach := (w.kernel[i] - 1) * w.dilations[i]
		pads[i] = reach - w.pads[i]
		pads[2+i] = dx[2+i] + reach - wide[2+i] - pads[i]
		if pads[i] < 0 || pads[2+i] < 0 {
			return nil, nil, false
		}
		// The zeros at the end that spread leaves take the place of padding.
		more := min(pads[2+i], w.strides[i]-1)
		wide[2+i] += more
		pads[2+i] -= more
	}
	return wide, pads, true
}

// depthwiseInputGrad convolves with the kernel turned round, after zeros between the elements where there are strides.
func (l *lowerer) depthwiseInputGrad(dy, w *ir.Value, win window, d, dx []int64, t tail) *ir.Value {
	wide, pads, ok := win.stretched(d, dx)
	if !ok {
		return nil
	}
	x := l.toBlocked(dy)
	if !win.dense() {
		x = l.spread(x, win.strides, wide)
	}
	return l.nchwc("Conv", dx, l.biased(t, dx[1], 1, 0, dx[1], x, l.depthwise(w, true)), append(slices.Clone(t.attrs), ir.AInts("kernel_shape", win.kernel...),
		ir.AInts("strides", 1, 1), ir.AInts("dilations", win.dilations...), ir.AInts("pads", pads...), ir.AInt("group", dx[1]))...)
}
