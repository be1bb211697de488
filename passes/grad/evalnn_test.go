package grad

import (
	"fmt"
	"math"
	"strings"

	"mqatc/onnx/ir"
)

func evalGather(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, idx := in[0], in[1]
	axis := posAxis(n.Int("axis", 0), x)
	s := append(append(append([]int64{}, x.shape[:axis]...), idx.shape...), x.shape[axis+1:]...)
	y := newArr(s...)
	r := int64(len(idx.shape))
	each(s, func(at []int64, k int64) {
		j := int64(idx.at(at[axis : axis+r]))
		if j < 0 {
			j += x.shape[axis]
		}
		src := append(append(append([]int64{}, at[:axis]...), j), at[axis+r:]...)
		y.v[k] = x.at(src)
	})
	return []*arr{y}, nil
}

func evalGatherElements(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, idx := in[0], in[1]
	axis := posAxis(n.Int("axis", 0), x)
	y := newArr(idx.shape...)
	each(idx.shape, func(at []int64, k int64) {
		src := append([]int64{}, at...)
		src[axis] = (int64(idx.v[k]) + x.shape[axis]) % x.shape[axis]
		y.v[k] = x.at(src)
	})
	return []*arr{y}, nil
}

func evalScatterElements(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, idx, up := in[0], in[1], in[2]
	axis := posAxis(n.Int("axis", 0), x)
	y := &arr{x.shape, append([]float64{}, x.v...)}
	xs := x.strides()
	each(idx.shape, func(at []int64, k int64) {
		dst := append([]int64{}, at...)
		dst[axis] = (int64(idx.v[k]) + x.shape[axis]) % x.shape[axis]
		p := dot(dst, xs)
		if n.Str("reduction", "none") == "add" {
			y.v[p] += up.v[k]
		} else {
			y.v[p] = up.v[k]
		}
	})
	return []*arr{y}, nil
}

// eachTuple calls f with, for every index tuple, its number and the flat position of the slice it selects, and the slice's length.
func eachTuple(x, idx *arr, b int, f func(t, pos, size int64)) {
	q := idx.shape[len(idx.shape)-1]
	lead := idx.shape[:len(idx.shape)-1]
	xs := x.strides()
	size := product(x.shape[b+int(q):])
	each(lead, func(at []int64, t int64) {
		pos := int64(0)
		for i := 0; i < b; i++ {
			pos += at[i] * xs[i]
		}
		for i := int64(0); i < q; i++ {
			j := int64(idx.v[t*q+i])
			d := x.shape[int64(b)+i]
			pos += (j + d) % d * xs[int64(b)+i]
		}
		f(t, pos, size)
	})
}

func evalGatherND(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, idx := in[0], in[1]
	b := int(n.Int("batch_dims", 0))
	q := int(idx.shape[len(idx.shape)-1])
	y := newArr(append(append([]int64{}, idx.shape[:len(idx.shape)-1]...), x.shape[b+q:]...)...)
	eachTuple(x, idx, b, func(t, pos, size int64) { copy(y.v[t*size:], x.v[pos:pos+size]) })
	return []*arr{y}, nil
}

func evalScatterND(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, idx, up := in[0], in[1], in[2]
	y := &arr{x.shape, append([]float64{}, x.v...)}
	eachTuple(x, idx, 0, func(t, pos, size int64) {
		for i := int64(0); i < size; i++ {
			if n.Str("reduction", "none") == "add" {
				y.v[pos+i] += up.v[t*size+i]
			} else {
				y.v[pos+i] = up.v[t*size+i]
			}
		}
	})
	return []*arr{y}, nil
}

// evalResize samples the input at the coordinates the operator defines, all dimensions at once.
func evalResize(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	r := len(x.shape)
	s, scale := append([]int64{}, x.shape...), make([]float64, r)
	for i := range scale {
		scale[i] = 1
	}
	if len(n.Inputs()) > 3 {
		s = in[3].ints()
		for i := range s {
			scale[i] = float64(s[i]) / float64(x.shape[i])
		}
	} else {
		for i := range s {
			scale[i] = in[2].v[i]
			s[i] = int64(math.Floor(float64(x.shape[i]) * scale[i]))
		}
	}
	y := newArr(s...)
	each(s, func(at []int64, k int64) {
		pos := make([]float64, r)
		for i, a := range at {
			o, d, z := float64(a), float64(x.shape[i]), float64(s[i])
			switch n.Str("coordinate_transformation_mode", "half_pixel") {
			case "half_pixel":
				pos[i] = (o+0.5)/scale[i] - 0.5
			case "pytorch_half_pixel":
				pos[i] = (o+0.5)/scale[i] - 0.5
				if z <= 1 {
					pos[i] = 0
				}
			case "align_corners":
				if z > 1 {
					pos[i] = o * (d - 1) / (z - 1)
				}
			case "asymmetric":
				pos[i] = o / scale[i]
			case "half_pixel_symmetric":
				pos[i] = d/2*(1-z/(scale[i]*d)) + (o+0.5)/scale[i] - 0.5
			}
		}
		y.v[k] = sampleAt(n, x, s, pos, 0, nil)
	})
	return []*arr{y}, nil
}

func sampleAt(n *ir.Node, x *arr, out []int64, pos []float64, axis int, idx []int64) float64 {
	if axis == len(pos) {
		return x.at(idx)
	}
	d := x.shape[axis]
	rest := func(i int64) float64 {
		return sampleAt(n, x, out, pos, axis+1, append(append([]int64{}, idx...), min(max(i, 0), d-1)))
	}
	p := pos[axis]
	if d == out[axis] {
		return rest(int64(math.Round(p)))
	}
	lo := math.Floor(p)
	switch n.Str("mode", "nearest") {
	case "linear":
		return (1-(p-lo))*rest(int64(lo)) + (p-lo)*rest(int64(lo)+1)
	case "cubic":
		a := float64(n.Float("cubic_coeff_a", -0.75))
		sum := 0.0
		for k := -1.0; k <= 2; k++ {
			t := math.Abs(p - lo - k)
			w := a*t*t*t - 5*a*t*t + 8*a*t - 4*a
			if t <= 1 {
				w = (a+2)*t*t*t - (a+3)*t*t + 1
			}
			sum += w * rest(int64(lo+k))
		}
		return sum
	}
	switch n.Str("nearest_mode", "round_prefer_floor") {
	case "floor":
		p = lo
	case "ceil":
		p = math.Ceil(p)
	case "round_prefer_ceil":
		p = math.Floor(p + 0.5)
	default:
		p = math.Ceil(p - 0.5)
	}
	return rest(int64(p))
}

func evalQuantize(e *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	axis := posAxis(n.Int("axis", 1), x)
	param := func(p *arr, at []int64) float64 {
		if p == nil {
			return 0
		}
		if len(p.v) == 1 {
			return p.v[0]
		}
		return p.v[at[axis]]
	}
	lo, hi := -128.0, 127.0
	if t := n.Output(0).DType(); t == ir.Uint8 {
		lo, hi = 0, 255
	}
	y := newArr(x.shape...)
	each(x.shape, func(at []int64, k int64) {
		s, z := param(in[1], at), param(in[2], at)
		switch {
		case n.Op == "DequantizeLinear":
			y.v[k] = (x.v[k] - z) * s
		case e.ste:
			y.v[k] = math.Max(lo-0.5, math.Min(hi+0.5, x.v[k]/s+z))
		default:
			y.v[k] = math.Max(lo, math.Min(hi, math.RoundToEven(x.v[k]/s)+z))
		}
	})
	return []*arr{y}, nil
}

// groupsOf calls f with the flat positions of every set of elements that differ only along axes.
func groupsOf(x *arr, axes []int64, f func(pos []int64)) {
	outer := append([]int64{}, x.shape...)
	inner := repeat(1, len(x.shape))
	for _, a := range axes {
		inner[a], outer[a] = x.shape[a], 1
	}
	xs := x.strides()
	each(outer, func(at []int64, _ int64) {
		var pos []int64
		base := dot(at, xs)
		each(inner, func(in []int64, _ int64) { pos = append(pos, base+dot(in, xs)) })
		f(pos)
	})
}

func evalSoftmax(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	y := newArr(x.shape...)
	groupsOf(x, []int64{posAxis(n.Int("axis", -1), x)}, func(pos []int64) {
		sum := 0.0
		for _, p := range pos {
			sum += math.Exp(x.v[p])
		}
		for _, p := range pos {
			y.v[p] = math.Exp(x.v[p]) / sum
			if n.Op == "LogSoftmax" {
				y.v[p] = x.v[p] - math.Log(sum)
			}
		}
	})
	return []*arr{y}, nil
}

func evalLpNorm(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	y := newArr(x.shape...)
	p := float64(n.Int("p", 2))
	groupsOf(x, []int64{posAxis(n.Int("axis", -1), x)}, func(pos []int64) {
		sum := 0.0
		for _, k := range pos {
			sum += math.Pow(math.Abs(x.v[k]), p)
		}
		for _, k := range pos {
			y.v[k] = x.v[k] / math.Pow(sum, 1/p)
		}
	})
	return []*arr{y}, nil
}

func evalNorm(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	eps := float64(n.Float("epsilon", 1e-5))
	r := len(x.shape)
	xhat := newArr(x.shape...)
	standardize := func(x, y *arr, axes []int64) {
		groupsOf(x, axes, func(pos []int64) {
			m, v := 0.0, 0.0
			for _, p := range pos {
				m += x.v[p] / float64(len(pos))
			}
			for _, p := range pos {
				v += (x.v[p] - m) * (x.v[p] - m) / float64(len(pos))
			}
			for _, p := range pos {
				y.v[p] = (x.v[p] - m) / math.Sqrt(v+eps)
			}
		})
	}
	switch n.Op {
	case "LayerNormalization":
		standardize(x, xhat, seq(int(posAxis(n.Int("axis", -1), x)), r))
		y := newArr(x.shape...)
		each(x.shape, func(at []int64, k int64) {
			y.v[k] = xhat.v[k] * in[1].at(at)
			if in[2] != nil {
				y.v[k] += in[2].at(at)
			}
		})
		return []*arr{y}, nil
	case "InstanceNormalization":
		standardize(x, xhat, seq(2, r))
	case "GroupNormalization":
		g := n.Int("num_groups", 1)
		flat := []int64{x.shape[0], g, product(x.shape[1:]) / g}
		standardize(&arr{flat, x.v}, &arr{flat, xhat.v}, []int64{2})
	default:
		if n.Int("training_mode", 0) != 0 {
			standardize(x, xhat, append([]int64{0}, seq(2, r)...))
		} else {
			each(x.shape, func(at []int64, k int64) {
				xhat.v[k] = (x.v[k] - in[3].v[at[1]]) / math.Sqrt(in[4].v[at[1]]+eps)
			})
		}
	}
	y := newArr(x.shape...)
	each(x.shape, func(at []int64, k int64) {
		ch := at[1]
		if int64(len(in[1].v)) != x.shape[1] {
			ch = ch * int64(len(in[1].v)) / x.shape[1]
		}
		y.v[k] = xhat.v[k]*in[1].v[ch] + in[2].v[ch]
	})
	if n.Op == "BatchNormalization" && n.Int("training_mode", 0) != 0 {
		return []*arr{y, in[3], in[4]}, nil
	}
	return []*arr{y}, nil
}

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
	each(y.shape, func(at []int64, f int64) {
		for j := int64(0); j < k; j++ {
			ia := append(append([]int64{}, at[:r]...), at[r], j)
			ib := append(append([]int64{}, at[:r]...), j, at[r+1])
			y.v[f] += a2.at(ia) * b2.at(ib)
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
