package grad

import (
	"fmt"
	"math"
	"strings"

	"mqatc/onnx/ir"
)

// sliding reads the window attributes of a Conv or pool, resolving auto_pad from the output size, which the caller knows.
func sliding(n *ir.Node, in, kernel, out []int64) (s, d, lo []int64) {
	r := len(kernel)
	s, d, lo = n.Ints("strides"), n.Ints("dilations"), repeat(0, r)
	if s == nil {
		s = repeat(1, r)
	}
	if d == nil {
		d = repeat(1, r)
	}
	if p := n.Ints("pads"); p != nil {
		lo = p[:r]
	}
	a := n.Str("auto_pad", "NOTSET")
	if n.Ints("output_shape") != nil {
		a = "SAME_LOWER"
	}
	if strings.HasPrefix(a, "SAME") {
		for i := range lo {
			total := max((out[i]-1)*s[i]+(kernel[i]-1)*d[i]+1-in[i], 0)
			lo[i] = total / 2
			if a == "SAME_LOWER" {
				lo[i] = total - total/2
			}
		}
	}
	return s, d, lo
}

func evalConv(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, w := in[0], in[1]
	out, ok := n.Output(0).StaticDims()
	if !ok {
		return nil, fmt.Errorf("no static shape")
	}
	s, d, lo := sliding(n, x.shape[2:], w.shape[2:], out[2:])
	group := n.Int("group", 1)
	y := newArr(out...)
	per := w.shape[1]
	if len(out) == 4 {
		conv2D(y, x, w, in[2], s, d, lo, group)
		return []*arr{y}, nil
	}
	each(out, func(at []int64, k int64) {
		g := at[1] / (w.shape[0] / group)
		sum := 0.0
		if in[2] != nil {
			sum = in[2].v[at[1]]
		}
		each(w.shape[1:], func(t []int64, _ int64) {
			src := []int64{at[0], g*per + t[0]}
			for i := range s {
				p := at[2+i]*s[i] + t[1+i]*d[i] - lo[i]
				if p < 0 || p >= x.shape[2+i] {
					return
				}
				src = append(src, p)
			}
			sum += x.at(src) * w.at(append([]int64{at[1]}, t...))
		})
		y.v[k] = sum
	})
	return []*arr{y}, nil
}

// conv2D is evalConv for images, row by row.
func conv2D(y, x, w, b *arr, s, d, lo []int64, group int64) {
	oh, ow, h, wd := y.shape[2], y.shape[3], x.shape[2], x.shape[3]
	per, outs := w.shape[1], w.shape[0]
	each([]int64{y.shape[0], outs, oh}, func(at []int64, row int64) {
		to := y.v[row*ow : (row+1)*ow]
		if b != nil {
			for i := range to {
				to[i] = b.v[at[1]]
			}
		}
		for c := range per {
			plane := (at[0]*x.shape[1] + at[1]/(outs/group)*per + c) * h * wd
			for ky := range w.shape[2] {
				py := at[2]*s[0] + ky*d[0] - lo[0]
				if py < 0 || py >= h {
					continue
				}
				from := x.v[plane+py*wd : plane+(py+1)*wd]
				for kx := range w.shape[3] {
					f := w.v[((at[1]*per+c)*w.shape[2]+ky)*w.shape[3]+kx]
					for i := range ow {
						if px := i*s[1] + kx*d[1] - lo[1]; px >= 0 && px < wd {
							to[i] += f * from[px]
						}
					}
				}
			}
		}
	})
}

func evalConvTranspose(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, w := in[0], in[1]
	out, ok := n.Output(0).StaticDims()
	if !ok {
		return nil, fmt.Errorf("no static shape")
	}
	s, d, lo := sliding(n, out[2:], w.shape[2:], x.shape[2:])
	group := n.Int("group", 1)
	y := newArr(out...)
	ys := y.strides()
	perIn, perOut := x.shape[1]/group, w.shape[1]
	each(x.shape, func(at []int64, k int64) {
		g := at[1] / perIn
		each(w.shape[1:], func(t []int64, _ int64) {
			dst := []int64{at[0], g*perOut + t[0]}
			for i := range s {
				p := at[2+i]*s[i] + t[1+i]*d[i] - lo[i]
				if p < 0 || p >= out[2+i] {
					return
				}
				dst = append(dst, p)
			}
			y.v[dot(dst, ys)] += x.v[k] * w.at(append([]int64{at[1]}, t...))
		})
	})
	if in[2] != nil {
		each(out, func(at []int64, k int64) { y.v[k] += in[2].v[at[1]] })
	}
	return []*arr{y}, nil
}

func evalPool(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	out, ok := n.Output(0).StaticDims()
	if !ok {
		return nil, fmt.Errorf("no static shape")
	}
	kernel := n.Ints("kernel_shape")
	s, d, lo := sliding(n, x.shape[2:], kernel, out[2:])
	hi := repeat(0, len(kernel))
	if p := n.Ints("pads"); p != nil {
		hi = p[len(kernel):]
	}
	y, idx := newArr(out...), newArr(out...)
	xs := x.strides()
	each(out, func(at []int64, k int64) {
		sum, count, best := 0.0, 0, math.Inf(-1)
		each(kernel, func(t []int64, _ int64) {
			src := []int64{at[0], at[1]}
			inside := true
			for i := range kernel {
				p := at[2+i]*s[i] + t[i]*d[i] - lo[i]
				if p < -lo[i] || p >= x.shape[2+i]+hi[i] {
					return
				}
				inside = inside && p >= 0 && p < x.shape[2+i]
				src = append(src, p)
			}
			if inside {
				v := x.at(src)
				sum += v
				if v > best {
					best, idx.v[k] = v, float64(dot(src, xs))
				}
			}
			if inside || n.Int("count_include_pad", 0) != 0 {
				count++
			}
		})
		y.v[k] = best
		if n.Op == "AveragePool" {
			y.v[k] = sum / float64(count)
		}
	})
	return []*arr{y, idx}, nil
}

func evalMatMul(_ *evaluator, _ *ir.Node, in []*arr) ([]*arr, error) {
	a, b := in[0], in[1]
	as, bs := a.shape, b.shape
	if len(as) == 1 {
		as = []int64{1, as[0]}
	}
	if len(bs) == 1 {
		bs = []int64{bs[0], 1}
	}
	a2, b2 := &arr{as, a.v}, &arr{bs, b.v}
	m, k, q := as[len(as)-2], as[len(as)-1], bs[len(bs)-1]
	batch := broadcastShape(&arr{shape: as[:len(as)-2]}, &arr{shape: bs[:len(bs)-2]})
	y := newArr(append(append([]int64{}, batch...), m, q)...)
	r := len(batch)
	first := func(x *arr, at []int64) int64 { // position of the matrix of x that batch index at selects
		p, f := int64(0), x.shape[len(x.shape)-1]*x.shape[len(x.shape)-2]
		for i := len(x.shape) - 3; i >= 0; i-- {
			if x.shape[i] > 1 {
				p += at[r-(len(x.shape)-2)+i] * f
			}
			f *= x.shape[i]
		}
		return p
	}
	each(batch, func(at []int64, f int64) {
		pa, pb := first(a2, at), first(b2, at)
		for i := range m {
			row := y.v[(f*m+i)*q : (f*m+i+1)*q]
			for j := range k {
				x := a2.v[pa+i*k+j]
				for c, w := range b2.v[pb+j*q : pb+(j+1)*q] {
					row[c] += x * w
				}
			}
		}
	})
	s := append([]int64{}, batch...)
	if len(a.shape) > 1 {
		s = append(s, m)
	}
	if len(b.shape) > 1 {
		s = append(s, q)
	}
	y.shape = s
	return []*arr{y}, nil
}

func evalGemm(e *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	a, b := in[0], in[1]
	if n.Int("transA", 0) != 0 {
		a = transposed(a, []int64{1, 0})
	}
	if n.Int("transB", 0) != 0 {
		b = transposed(b, []int64{1, 0})
	}
	ys, _ := evalMatMul(e, n, []*arr{a, b})
	y := ys[0]
	each(y.shape, func(at []int64, k int64) {
		y.v[k] *= float64(n.Float("alpha", 1))
		if in[2] != nil {
			y.v[k] += float64(n.Float("beta", 1)) * in[2].at(at)
		}
	})
	return ys, nil
}

func evalEinsum(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	eq := n.Str("equation", "")
	lhs, rhs, explicit := strings.Cut(eq, "->")
	if !explicit {
		rhs = implicitOutput(lhs)
	}
	if strings.Contains(eq, "...") { // one dimension
		lhs, rhs = strings.ReplaceAll(lhs, "...", "Z"), strings.ReplaceAll(rhs, "...", "Z")
	}
	terms := strings.Split(lhs, ",")
	size := map[byte]int64{}
	var letters []byte
	for k, t := range terms {
		for i := range t {
			if size[t[i]] == 0 {
				letters = append(letters, t[i])
			}
			size[t[i]] = in[k].shape[i]
		}
	}
	var all, out []int64
	for _, l := range letters {
		all = append(all, size[l])
	}
	for i := range rhs {
		out = append(out, size[rhs[i]])
	}
	y := newArr(out...)
	pick := func(t string, at []int64) []int64 {
		var r []int64
		for i := range t {
			r = append(r, at[strings.IndexByte(string(letters), t[i])])
		}
		return r
	}
	each(all, func(at []int64, _ int64) {
		p := 1.0
		for k, t := range terms {
			p *= in[k].at(pick(t, at))
		}
		y.v[dot(pick(rhs, at), y.strides())] += p
	})
	return []*arr{y}, nil
}
