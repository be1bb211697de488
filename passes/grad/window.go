package grad

import "mqatc/onnx/ir"

// window is the geometry of a convolution or a pool over the spatial dimensions.
type window struct {
	kernel, strides, dilations []int64
	lo                         []int64 // padding before
	hi                         []int64 // padding after; nil when it follows from the sizes (auto_pad)
	in, out                    []int64 // spatial sizes on the large and the small side; nil when not static
}

// window reads the attributes of the node. big is the value on the side the window slides over (the input of Conv, the output of
// ConvTranspose), small the one with an element per position.
func (c *call) window(big, small *ir.Value, kernel []int64) (w window, ok bool) {
	rank := c.rank(big) - 2
	if rank < 1 || c.Err() != nil {
		c.fail("input of rank %d", rank+2)
		return w, false
	}
	if kernel == nil {
		kernel = c.n.Ints("kernel_shape")
	}
	w = window{kernel: kernel, strides: c.n.Ints("strides"), dilations: c.n.Ints("dilations")}
	if len(w.strides) == 0 {
		w.strides = repeat(1, rank)
	}
	if len(w.dilations) == 0 {
		w.dilations = repeat(1, rank)
	}
	db, okB := big.StaticDims()
	ds, okS := small.StaticDims()
	if okB && okS && len(ds) == len(db) {
		w.in, w.out = db[2:], ds[2:]
	}
	if len(w.kernel) != rank || len(w.strides) != rank || len(w.dilations) != rank {
		c.fail("kernel %v, strides %v and dilations %v for %d spatial dimensions", w.kernel, w.strides, w.dilations, rank)
		return w, false
	}
	auto := c.n.Str("auto_pad", "NOTSET")
	if out := c.n.Ints("output_shape"); len(out) > 0 && auto == "NOTSET" {
		auto = "SAME_LOWER"
	}
	switch auto {
	case "NOTSET", "":
		pads := c.n.Ints("pads")
		if len(pads) == 0 {
			pads = repeat(0, 2*rank)
		}
		if len(pads) != 2*rank {
			c.fail("%d pads for %d spatial dimensions", len(pads), rank)
			return w, false
		}
		w.lo, w.hi = pads[:rank], pads[rank:]
	case "VALID":
		w.lo, w.hi = repeat(0, rank), repeat(0, rank)
	case "SAME_UPPER", "SAME_LOWER":
		if w.in == nil {
			c.fail("auto_pad %s needs static sizes", auto)
			return w, false
		}
		c.samePads(&w, auto == "SAME_UPPER")
	default:
		c.fail("auto_pad %q", auto)
		return w, false
	}
	return w, c.Err() == nil
}

func (c *call) samePads(w *window, upper bool) {
	w.lo = make([]int64, len(w.kernel))
	opad := c.n.Ints("output_padding")
	for i := range w.lo {
		total := w.span(i) - w.in[i]
		if i < len(opad) {
			total += opad[i]
		}
		total = max(total, 0)
		w.lo[i] = total / 2
		if !upper {
			w.lo[i] = total - total/2
		}
	}
}

// extent is the size of the dilated kernel along dimension i.
func (w *window) extent(i int) int64 { return (w.kernel[i]-1)*w.dilations[i] + 1 }

// span is the size all windows cover together along dimension i.
func (w *window) span(i int) int64 { return (w.out[i]-1)*w.strides[i] + w.extent(i) }

// trailing is by how much the windows reach past the end of the large side, negative where they fall short of it.
func (w *window) trailing(i int) int64 { return w.span(i) - w.lo[i] - w.in[i] }

// pointwise reports whether each window is one element and nothing is padded.
func (w *window) pointwise() bool {
	return product(w.kernel) == 1 && allZero(w.lo) && (w.hi == nil || allZero(w.hi))
}

// dense reports whether all strides are 1.
func (w *window) dense() bool { return product(w.strides) == 1 }

// attrs are the attributes common to Conv and ConvTranspose, without pads.
func (w *window) attrs(group int64) []ir.Attr {
	a := []ir.Attr{ir.AInts("kernel_shape", w.kernel...), ir.AInts("strides", w.strides...), ir.AInts("dilations", w.dilations...)}
	if group != 1 {
		a = append(a, ir.AInt("group", group))
	}
	return a
}

// adjoint carries d, on the small side, through the windows with weights wt [C_small, C_big/group, kernel...] to the shape of
// big: a ConvTranspose whose pads crop exactly the padding.
func (c *call) adjoint(d, wt, big *ir.Value, w window, group int64) *ir.Value {
	rank := len(w.kernel)
	at := w.attrs(group)
	if w.in == nil {
		return c.adjointLate(d, wt, big, w, at)
	}
	hi, extra := make([]int64, rank), make([]int64, rank)
	late := make([]int64, rank)
	for i := range hi {
		t := w.trailing(i)
		hi[i], extra[i] = max(t, 0), max(-t, 0)
		if extra[i] >= max(w.strides[i], w.dilations[i]) {
			late[i], extra[i] = extra[i], 0
		}
	}
	at = append(at, ir.AInts("pads", append(append([]int64{}, w.lo...), hi...)...))
	if !allZero(extra) {
		at = append(at, ir.AInts("output_padding", extra...))
	}
	y := c.Op("ConvTranspose", []*ir.Value{d, wt}, at...)
	return c.pad(y, repeat(0, rank+2), append([]int64{0, 0}, late...))
}

// adjointLate is adjoint where the sizes are known only when the graph runs: a little too large, then cut.
func (c *call) adjointLate(d, wt, big *ir.Value, w window, at []ir.Attr) *ir.Value {
	rank := len(w.kernel)
	extra := make([]int64, rank)
	for i := range extra {
		extra[i] = w.strides[i] - 1
	}
	at = append(at, ir.AInts("pads", append(append([]int64{}, w.lo...), w.hi...)...))
	if allZero(extra) {
		return c.Op("ConvTranspose", []*ir.Value{d, wt}, at...)
	}
	at = append(at, ir.AInts("output_padding", extra...))
	y := c.Op("ConvTranspose", []*ir.Value{d, wt}, at...)
	end := c.op("Slice", c.op("Shape", big), c.Int64s(2), c.Int64s(int64(rank+2)), c.Int64s(0))
	return c.op("Slice", y, c.Int64s(repeat(0, rank)...), end, c.Int64s(seq(2, rank+2)...))
}
