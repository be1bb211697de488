package prep

import "math"

// weightBits is the precision of interpolation weights. OpenCV's linear resize of 8-bit images uses 11 bits as well, so that the
// results agree within one grey level.
const weightBits = 11

type tap struct {
	a, b   int // offsets of the two neighbours
	wa, wb int32
}

// taps are the neighbours and weights along one side: half-pixel centres, no smoothing when the image shrinks, border repeated.
func taps(from, to, stride int) []tap {
	out := make([]tap, to)
	scale := float64(from) / float64(to)
	for i := range out {
		x := (float64(i)+0.5)*scale - 0.5
		lo := int(math.Floor(x))
		f := x - float64(lo)
		a, b := min(max(lo, 0), from-1), min(max(lo+1, 0), from-1)
		wb := int32(math.RoundToEven(f * (1 << weightBits)))
		out[i] = tap{a * stride, b * stride, 1<<weightBits - wb, wb}
	}
	return out
}

// bilinear resizes an RGB image as OpenCV's INTER_LINEAR does.
func bilinear(src []uint8, w, h, nw, nh int) []uint8 {
	if w == nw && h == nh {
		return src
	}
	xs, ys := taps(w, nw, 3), taps(h, nh, 3*w)
	out := make([]uint8, 3*nw*nh)
	rows := map[int][]int32{}
	row := func(at int) []int32 {
		if r := rows[at]; r != nil {
			return r
		}
		r := make([]int32, 3*nw)
		in := src[at:]
		for i, t := range xs {
			for c := range 3 {
				r[3*i+c] = int32(in[t.a+c])*t.wa + int32(in[t.b+c])*t.wb
			}
		}
		rows[at] = r
		return r
	}
	const half = 1 << (2*weightBits - 1)
	for y, t := range ys {
		if y > 0 {
			for at := range rows {
				if at < t.a {
					delete(rows, at)
				}
			}
		}
		ra, rb := row(t.a), row(t.b)
		o := out[3*y*nw:][:3*nw]
		for i := range o {
			o[i] = uint8((int64(ra[i])*int64(t.wa) + int64(rb[i])*int64(t.wb) + half) >> (2 * weightBits))
		}
	}
	return out
}
