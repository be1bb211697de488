package lower

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
)

// phase says which taps of a kernel meet each residue of the output position, along one dimension: output s*q+r reads input q+j
// with the tap at[r][j-first], -1 for none.
type phase struct {
	first, size int64
	at          [][]int64
}

// phasesOf: output y meets tap t at input i where s*i + t = y + pad.
func phasesOf(kernel, stride, pad int64) phase {
	p := phase{first: 1 << 30}
	last := int64(-1 << 30)
	type hit struct{ r, j, t int64 }
	var hits []hit
	for r := range stride {
		for t := range kernel {
			if at := r + pad - t; ((at%stride)+stride)%stride == 0 {
				j := at / stride
				hits = append(hits, hit{r, j, t})
				p.first, last = min(p.first, j), max(last, j)
			}
		}
	}
	p.size = last - p.first + 1
	for range stride {
		row := make([]int64, p.size)
		for i := range row {
			row[i] = -1
		}
		p.at = append(p.at, row)
	}
	for _, h := range hits {
		p.at[h.r][h.j-p.first] = h.t
	}
	return p
}

// residues are the taps by residue of the position in either dimension, the number of positions of each residue, and the pads of the
// convolution that computes them; pads are nil where one would be negative.
func (w window) residues(d, dx []int64) (py, px phase, qy, qx int64, pads []int64) {
	py, px = phasesOf(w.kernel[0], w.strides[0], w.pads[0]), phasesOf(w.kernel[1], w.strides[1], w.pads[1])
	qy, qx = (dx[2]+w.strides[0]-1)/w.strides[0], (dx[3]+w.strides[1]-1)/w.strides[1]
	// Output q reads q+first .. q+first+size-1.
	pads = []int64{-py.first, -px.first, qy - 1 + py.first + py.size - d[2], qx - 1 + px.first + px.size - d[3]}
	if slices.Min(pads) < 0 {
		return py, px, qy, qx, nil
	}
	return py, px, qy, qx, pads
}

// phases is the gradient by the input of a convolution with strides: one convolution whose output channels are those of each
// residue of the position, interleaved afterwards.
func (l *lowerer) phases(dy, w *ir.Value, win window, d, dx []int64) *ir.Value {
	dw, _ := w.StaticDims()
	py, px, qy, qx, pads := win.residues(d, dx)
	kp, cp, b := l.up(dw[0]), l.up(dw[1]), l.block
	s := win.strides[0] * win.strides[1]
	size := py.size * px.size
	tiles := l.tiles(l.filled(w, kp, cp))
	rows, _ := tiles.StaticDims()
	src := l.b.Op("Concat", []*ir.Value{tiles, l.zeros(1, rows[1])}, ir.AInt("axis", 0))
	idx := l.indices(fmt.Sprint("phases ", win, kp, cp), func() []int32 {
		return phaseTiles(phaseTaps(py, px, dw[3]), int(s), int(cp/b), int(kp/b), int(dw[2]*dw[3]))
	}, s*cp/b*kp/b*size)
	weights := l.reshape(l.b.Op("Gather", []*ir.Value{src, idx}, ir.AInt("axis", 0)), s*cp, kp, py.size, px.size)
	y := l.nchwc("Conv", []int64{d[0], s * cp, qy, qx}, []*ir.Value{l.toBlocked(dy), weights}, ir.AInts("kernel_shape", py.size, px.size),
		ir.AInts("strides", 1, 1), ir.AInts("dilations", 1, 1), ir.AInts("pads", pads...), ir.AInt("group", 1))
	// By way of [N, H, W, C], where whole rows of channels move.
	y = l.nchwc("ReorderOutput", []int64{d[0], qy, qx, s * cp}, []*ir.Value{y}, ir.AInt("channels", s*cp), ir.AInt("channels_last", 1))
	y = l.transpose(l.reshape(y, d[0], qy, qx, win.strides[0], win.strides[1]*cp), 0, 1, 3, 2, 4)
	y = l.reshape(y, d[0], qy*win.strides[0], qx*win.strides[1], cp)
	y = l.nchwc("ReorderInput", []int64{d[0], cp, qy * win.strides[0], qx * win.strides[1]}, []*ir.Value{y}, ir.AInt("channels_last", 1))
	return l.fit(y, dx)
}

// phaseTaps lists, for each pair of residues, the tap at each place of the smaller kernel, -1 for none.
func phaseTaps(py, px phase, width int64) []int32 {
	var out []int32
	for _, ry := range py.at {
		for _, rx := range px.at {
			for _, a := range ry {
				for _, b := range rx {
					if a < 0 || b < 0 {
						out = append(out, -1)
					} else {
						out = append(out, int32(a*width+b))
					}
				}
			}
		}
	}
	return out
}

// phaseTiles lists the tile, of those [k, c, n], at each place of the weights [residues, c, k, places]; the one after the last is zero.
func phaseTiles(taps []int32, residues, c, k, n int) []int32 {
	places := len(taps) / residues
	out := make([]int32, 0, residues*c*k*places)
	for r := range residues {
		for i := range c {
			for o := range k {
				for _, t := range taps[r*places : (r+1)*places] {
					if t < 0 {
						t = int32(k * c * n)
					} else {
						t += int32((o*c + i) * n)
					}
					out = append(out, t)
				}
			}
		}
	}
	return out
}
