package lower

import (
	"slices"

	"mqatc/onnx/ir"
)

// tail is what a transposed convolution does after its sums.
type tail struct {
	bias  *ir.Value // [C]; nil without
	attrs []ir.Attr // of an activation that the blocked convolution computes
}

// biased are a blocked convolution's inputs with the bias filled up to c channels: of p parts the one of channels from..to-1.
func (l *lowerer) biased(t tail, c, p, from, to int64, in ...*ir.Value) []*ir.Value {
	switch {
	case t.bias == nil:
		return in
	case p == 1:
		return append(in, l.padChannels(t.bias, 0, c))
	}
	return append(in, l.slice(l.padChannels(t.bias, 0, c), 0, from, to))
}

// inputGrad lowers the gradient of a convolution by its input.
func inputGrad(l *lowerer, n *ir.Node) *ir.Value { return l.transposed(n, windowOf(n), tail{}) }

// convTranspose lowers a ConvTranspose of two dimensions, which is the gradient of a convolution by its input, where it has no strides or
// is depthwise: with strides onnxruntime's own is as fast for kernels as large as the strides and faster for larger ones. Channels that fill
// less than a block would mostly be zeros.
func convTranspose(l *lowerer, n *ir.Node) *ir.Value {
	d, okX := dims4(n.Input(0))
	dw, okW := dims4(n.Input(1))
	dx, okY := dims4(n.Output(0))
	if auto := n.Str("auto_pad", "NOTSET"); !okX || !okW || !okY || auto != "NOTSET" || len(n.Ints("output_shape")) > 0 {
		return nil
	}
	win := window{n.Ints("kernel_shape"), n.Ints("strides"), n.Ints("dilations"), make([]int64, 4)}
	if len(win.kernel) == 0 {
		win.kernel = dw[2:]
	}
	if len(win.strides) == 0 {
		win.strides = []int64{1, 1}
	}
	if len(win.dilations) == 0 {
		win.dilations = []int64{1, 1}
	}
	if n.Int("group", 1) == 1 && (!win.dense() || min(dw[0], dw[1]) < l.block) {
		return nil
	}
	copy(win.pads, n.Ints("pads"))
	for i := range 2 {
		win.pads[2+i] = (d[2+i]-1)*win.strides[i] + (win.kernel[i]-1)*win.dilations[i] + 1 - win.pads[i] - dx[2+i]
	}
	t := tail{bias: n.Input(2)}
	if t.bias != nil {
		if bd, ok := t.bias.StaticDims(); !ok || len(bd) != 1 {
			return nil
		}
	}
	act := activation(n)
	if act != nil {
		t.attrs = fusedAttrs(act)
	}
	return l.fuse(act, l.transposed(n, win, t))
}

// transposed is the transpose of a convolution of geometry win, of n's first input with its second, the weights [K, C/group, kh, kw], in
// the sizes of n's output; nil where no blocked form fits. t goes with what has no strides or is depthwise.
func (l *lowerer) transposed(n *ir.Node, win window, t tail) *ir.Value {
	dy, w := n.Input(0), n.Input(1)
	d, okD := dims4(dy)
	dw, okW := dims4(w)
	dx, okX := dims4(n.Output(0))
	if !okD || !okW || !okX {
		return nil
	}
	group := n.Int("group", 1)
	if group > 1 {
		if dw[1] != 1 || dw[0] != group || !l.whole(group) {
			return nil
		}
		return l.depthwiseInputGrad(dy, w, win, d, dx, t)
	}
	point := product(win.kernel) == 1 && win.pads[0] == 0 && win.pads[1] == 0
	pads := win.flipped()
	var forms []string
	switch {
	case win.dense() && pads != nil:
		forms = []string{blocked}
	case point:
		forms = []string{spread}
	default:
		if win.dilations[0] == 1 && win.dilations[1] == 1 {
			if _, _, _, _, pads := win.residues(d, dx); pads != nil {
				forms = append(forms, phases)
			}
		}
		if _, _, ok := win.stretched(d, dx); ok && !win.dense() {
			forms = append(forms, stretch)
		}
	}
	if len(forms) == 0 {
		return nil
	}
	forms = append(forms, standard)
	if images := product(dw) * d[2] * d[3]; !point && !win.dense() && dw[0] >= 64 && images >= standardWork {
		slices.Reverse(forms)
	}
	switch l.choose(n, forms) {
	case blocked:
		return l.turnedConv(dy, w, win, pads, dx, t)
	case spread:
		one := window{win.kernel, []int64{1, 1}, win.dilations, []int64{0, 0, 0, 0}}
		y := l.turnedConv(dy, w, one, one.pads, []int64{d[0], dx[1], d[2], d[3]}, tail{})
		return l.spread(y, win.strides, dx)
	case phases:
		return l.phases(dy, w, win, d, dx)
	case stretch:
		wide, pads, _ := win.stretched(d, dx)
		x := l.spread(l.toBlocked(dy), win.strides, wide)
		l.blocked[x] = x
		return l.turnedConv(x, w, win, pads, dx, tail{})
	}
	return nil
}
