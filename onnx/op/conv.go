package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// convTable lists convolutions.
var convTable = []Schema{
	{Name: "Conv", Versions: []int64{1, 11, 22}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferConv, Attrs: []AttrSpec{
		strAttr("auto_pad", "NOTSET"), optional(ir.AttrInts, "dilations"), intAttr("group", 1), optional(ir.AttrInts, "kernel_shape"),
		optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"),
	}},
	{Name: "ConvTranspose", Versions: []int64{1, 11, 22}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferConvTranspose, Attrs: []AttrSpec{
		strAttr("auto_pad", "NOTSET"), optional(ir.AttrInts, "dilations"), intAttr("group", 1), optional(ir.AttrInts, "kernel_shape"),
		optional(ir.AttrInts, "output_padding"), optional(ir.AttrInts, "output_shape"), optional(ir.AttrInts, "pads"),
		optional(ir.AttrInts, "strides"),
	}},
	{Name: "ConvInteger", Versions: []int64{10}, MinIn: 2, MaxIn: 4, MinOut: 1, MaxOut: 1, Infer: inferConvInteger, Attrs: []AttrSpec{
		strAttr("auto_pad", "NOTSET"), optional(ir.AttrInts, "dilations"), intAttr("group", 1), optional(ir.AttrInts, "kernel_shape"),
		optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"),
	}},
	{Name: "QLinearConv", Versions: []int64{10}, MinIn: 8, MaxIn: 9, MinOut: 1, MaxOut: 1, Infer: inferQLinearConv, Attrs: []AttrSpec{
		strAttr("auto_pad", "NOTSET"), optional(ir.AttrInts, "dilations"), intAttr("group", 1), optional(ir.AttrInts, "kernel_shape"),
		optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"),
	}},
	{Name: "DeformConv", Versions: []int64{19, 22}, MinIn: 3, MaxIn: 5, MinOut: 1, MaxOut: 1, Infer: inferDeformConv, Attrs: []AttrSpec{
		optional(ir.AttrInts, "dilations"), intAttr("group", 1), optional(ir.AttrInts, "kernel_shape"), intAttr("offset_group", 1),
		optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"),
	}},
	{Name: "Col2Im", Versions: []int64{18}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferCol2Im, Attrs: []AttrSpec{
		optional(ir.AttrInts, "dilations"), optional(ir.AttrInts, "pads"), optional(ir.AttrInts, "strides"),
	}},
}

// window is the geometry of a sliding window: one entry per spatial axis.
type window struct {
	kernel            []num
	strides, dilation []int64
	begin, end        []int64
	autoPad           string
	ceil              bool
}

// readWindow reads the attributes of a convolution or pool over `spatial` axes. kernel is used where kernel_shape is absent.
func (c *Ctx) readWindow(spatial int, kernel []num) (*window, error) {
	w := &window{kernel: kernel, autoPad: c.Node.Str("auto_pad", "NOTSET"), ceil: c.Node.Int("ceil_mode", 0) != 0}
	var err error
	if ks := c.Node.Attr("kernel_shape"); ks != nil {
		if len(ks.Ints) != spatial {
			return nil, fmt.Errorf("kernel_shape %v has %d entries, the input has %d spatial axes", ks.Ints, len(ks.Ints), spatial)
		}
		w.kernel = make([]num, spatial)
		for i, k := range ks.Ints {
			if k <= 0 {
				return nil, fmt.Errorf("kernel_shape %v is not positive", ks.Ints)
			}
			if i < len(kernel) && kernel[i].isKnown() && kernel[i].c != k {
				return nil, fmt.Errorf("kernel_shape %v contradicts the weight's shape %v", ks.Ints, c.Shape(1))
			}
			w.kernel[i] = known(k)
		}
	}
	if w.strides, err = c.positive("strides", spatial); err != nil {
		return nil, err
	}
	if w.dilation, err = c.positive("dilations", spatial); err != nil {
		return nil, err
	}
	pads := c.Node.Ints("pads")
	if len(pads) == 0 {
		pads = make([]int64, 2*spatial)
	}
	if len(pads) != 2*spatial {
		return nil, fmt.Errorf("pads %v has %d entries, %d spatial axes need %d", pads, len(pads), spatial, 2*spatial)
	}
	for _, p := range pads {
		if p < 0 {
			return nil, fmt.Errorf("pads %v are negative", pads)
		}
	}
	w.begin, w.end = pads[:spatial], pads[spatial:]
	switch w.autoPad {
	case "NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER":
	default:
		return nil, fmt.Errorf("auto_pad %q is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER", w.autoPad)
	}
	return w, nil
}

// positive reads a list attribute with one positive entry per spatial axis, 1 each by default.
func (c *Ctx) positive(name string, spatial int) ([]int64, error) {
	v := c.Node.Ints(name)
	if len(v) == 0 {
		v = make([]int64, spatial)
		for i := range v {
			v[i] = 1
		}
	}
	if len(v) != spatial {
		return nil, fmt.Errorf("%s %v has %d entries, the input has %d spatial axes", name, v, len(v), spatial)
	}
	for _, x := range v {
		if x <= 0 {
			return nil, fmt.Errorf("%s %v is not positive", name, v)
		}
	}
	return v, nil
}

// extent is the size of the dilated kernel along axis i.
func (w *window) extent(i int) num {
	return add(mul(sub(w.kernel[i], known(1)), known(w.dilation[i])), known(1))
}

// out is the number of window positions along axis i of an input of size d. An input smaller than the window is an error.
func (w *window) out(i int, d ir.Dim) (ir.Dim, error) {
	in, k, s := fromDim(d), w.extent(i), w.strides[i]
	if w.autoPad == "SAME_UPPER" || w.autoPad == "SAME_LOWER" {
		return ceilDiv(in, s).dim(), nil
	}
	if !k.ok {
		return ir.UnknownDim(), nil
	}
	total := in
	if w.autoPad != "VALID" {
		total = add(add(in, known(w.begin[i])), known(w.end[i]))
	}
	room := sub(total, k)
	if n, ok := room.value(); ok && n < 0 {
		return d, fmt.Errorf("window of %v does not fit spatial size %v with padding %d and %d", k, d, w.begin[i], w.end[i])
	}
	if !w.ceil {
		return add(floorDiv(room, s), known(1)).dim(), nil
	}
	n := add(ceilDiv(room, s), known(1))
	if v, ok := n.value(); ok && in.isKnown() {
		begin := w.begin[i]
		if w.autoPad == "VALID" {
			begin = 0
		}
		if last, fits := mulInt(v-1, s); fits && last >= in.c+begin {
			n = known(v - 1)
		}
	}
	return n.dim(), nil
}

// spatialOut appends the window positions of every spatial axis of in (batch and channels first) to lead.
func (w *window) spatialOut(lead ir.Shape, in ir.Shape) (ir.Shape, error) {
	for i, d := range in[2:] {
		o, err := w.out(i, d)
		if err != nil {
			return nil, err
		}
		lead = append(lead, o)
	}
	return lead, nil
}

func inferConv(c *Ctx) error {
	if err := c.sameElem(0, 1, 2); err != nil {
		return err
	}
	return convShape(c, 0, 1, 2, c.elemOf(0, 1))
}

func inferConvInteger(c *Ctx) error { return convShape(c, 0, 1, -1, ir.Int32) }

func inferQLinearConv(c *Ctx) error { return convShape(c, 0, 3, 8, c.Elem(7)) }

// convShape infers a convolution of input xi with weight wi and bias bi (-1: none).
func convShape(c *Ctx, xi, wi, bi int, elem ir.DType) error {
	x, w := c.Shape(xi), c.Shape(wi)
	rank := max(len(x), len(w))
	if rank == 0 {
		c.Out(0, elem, nil)
		return nil
	}
	if x == nil {
		x = unknownShape(rank)
	}
	if w == nil {
		w = unknownShape(rank)
	}
	if len(x) != len(w) || rank < 3 {
		return fmt.Errorf("input %v and weight %v do not have equal rank of 3 or more", c.Shape(xi), c.Shape(wi))
	}
	group := c.Node.Int("group", 1)
	if group <= 0 {
		return fmt.Errorf("group %d is not positive", group)
	}
	if w[0].Known() && w[0].Size%group != 0 {
		return fmt.Errorf("%d output channels do not divide into %d groups", w[0].Size, group)
	}
	if want := mul(fromDim(w[1]), known(group)); want.isKnown() && x[1].Known() && want.c != x[1].Size {
		return fmt.Errorf("input %v has %v channels, weight %v in %d groups takes %v", c.Shape(xi), x[1], c.Shape(wi), group, want)
	}
	if err := c.biasLen(bi, w[0]); err != nil {
		return err
	}
	var kernel []num
	for _, d := range w[2:] {
		kernel = append(kernel, fromDim(d))
	}
	win, err := c.readWindow(rank-2, kernel)
	if err != nil {
		return err
	}
	out, err := win.spatialOut(ir.Shape{x[0], w[0]}, x)
	if err != nil {
		return err
	}
	c.Out(0, elem, out)
	return nil
}

// biasLen reports a bias in input i that is not a vector of n elements.
func (c *Ctx) biasLen(i int, n ir.Dim) error {
	if i < 0 {
		return nil
	}
	b := c.Shape(i)
	if b == nil {
		return nil
	}
	if len(b) != 1 || b[0].Known() && n.Known() && b[0].Size != n.Size {
		return fmt.Errorf("input %d has shape %v, a vector of %v is needed", i, b, n)
	}
	return nil
}

func inferConvTranspose(c *Ctx) error {
	if err := c.sameElem(0, 1, 2); err != nil {
		return err
	}
	x, w := c.Shape(0), c.Shape(1)
	rank := max(len(x), len(w))
	elem := c.elemOf(0, 1)
	if rank == 0 {
		c.Out(0, elem, nil)
		return nil
	}
	if x == nil {
		x = unknownShape(rank)
	}
	if w == nil {
		w = unknownShape(rank)
	}
	if len(x) != len(w) || rank < 3 {
		return fmt.Errorf("input %v and weight %v do not have equal rank of 3 or more", c.Shape(0), c.Shape(1))
	}
	group := c.Node.Int("group", 1)
	if group <= 0 {
		return fmt.Errorf("group %d is not positive", group)
	}
	if x[1].Known() && w[0].Known() && (x[1].Size != w[0].Size || w[0].Size%group != 0) {
		return fmt.Errorf("input %v has %v channels, weight %v in %d groups takes %v", x, x[1], w, group, w[0])
	}
	channels := mul(fromDim(w[1]), known(group)).dim()
	if err := c.biasLen(2, channels); err != nil {
		return err
	}
	var kernel []num
	for _, d := range w[2:] {
		kernel = append(kernel, fromDim(d))
	}
	win, err := c.readWindow(rank-2, kernel)
	if err != nil {
		return err
	}
	spatial, err := c.transposedOut(win, x[2:])
	if err != nil {
		return err
	}
	c.Out(0, elem, append(ir.Shape{x[0], channels}, spatial...))
	return nil
}

func (c *Ctx) transposedOut(w *window, in ir.Shape) (ir.Shape, error) {
	out := make(ir.Shape, len(in))
	if size := c.Node.Ints("output_shape"); len(size) > 0 {
		if len(size) > len(in) {
			size = size[len(size)-len(in):]
		}
		if len(size) != len(in) {
			return nil, fmt.Errorf("output_shape %v has %d entries, the input has %d spatial axes", size, len(size), len(in))
		}
		for i, n := range size {
			if n < 0 {
				return nil, fmt.Errorf("output_shape %v is negative", size)
			}
			out[i] = ir.D(n)
		}
		return out, nil
	}
	extra := c.Node.Ints("output_padding")
	if len(extra) != 0 && len(extra) != len(in) {
		return nil, fmt.Errorf("output_padding %v has %d entries, the input has %d spatial axes", extra, len(extra), len(in))
	}
	for i, d := range in {
		s := known(w.strides[i])
		if w.autoPad == "SAME_UPPER" || w.autoPad == "SAME_LOWER" {
			out[i] = mul(fromDim(d), s).dim()
			continue
		}
		n := add(mul(sub(fromDim(d), known(1)), s), w.extent(i))
		if len(extra) > 0 {
			if extra[i] < 0 {
				return nil, fmt.Errorf("output_padding %v is negative", extra)
			}
			n = add(n, known(extra[i]))
		}
		if w.autoPad != "VALID" {
			n = sub(sub(n, known(w.begin[i])), known(w.end[i]))
		}
		if v, ok := n.value(); ok && v < 0 {
			return nil, fmt.Errorf("padding %d and %d leaves spatial size %d", w.begin[i], w.end[i], v)
		}
		out[i] = n.dim()
	}
	return out, nil
}

func inferDeformConv(c *Ctx) error { return convShape(c, 0, 1, 3, c.elemOf(0, 1)) }

func inferCol2Im(c *Ctx) error {
	x := c.Shape(0)
	if err := c.needRank(0, 3, 3); err != nil {
		return err
	}
	spatial := c.nums(1)
	if spatial == nil {
		if r := c.rankFrom(1); r != nil {
			c.Out(0, c.Elem(0), append(unknownShape(2), r...))
			return nil
		}
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	out := unknownShape(2)
	if x != nil {
		out[0] = x[0]
		if b, ok := c.Ints(2); ok {
			n, err := ir.NumElements(b)
			if err != nil || n == 0 {
				return fmt.Errorf("block shape %v is not positive", b)
			}
			out[1] = floorDiv(fromDim(x[1]), n).dim()
		}
	}
	for _, s := range spatial {
		out = append(out, s.dim())
	}
	c.Out(0, c.Elem(0), out)
	return nil
}
