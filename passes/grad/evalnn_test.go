package grad

import (
	"math"

	"mqatc/onnx/ir"
)

// evalResize samples the input at the coordinates the operator defines, all dimensions at once.
func evalResize(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	r := len(x.shape)
	if n.Int("antialias", 0) != 0 || n.Str("keep_aspect_ratio_policy", "stretch") != "stretch" || n.Str("coordinate_transformation_mode", "") == "tf_crop_and_resize" {
		return resizedByMatrices(n, x)
	}
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
		sum, whole := 0.0, 0.0
		for k := -1.0; k <= 2; k++ {
			if at := int64(lo + k); (at < 0 || at >= d) && n.Int("exclude_outside", 0) != 0 {
				continue
			}
			t := math.Abs(p - lo - k)
			w := a*t*t*t - 5*a*t*t + 8*a*t - 4*a
			if t <= 1 {
				w = (a+2)*t*t*t - (a+3)*t*t + 1
			}
			sum += w * rest(int64(lo+k))
			whole += w
		}
		return sum / whole
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
		return append([]*arr{y}, runningStatistics(n, in)...), nil
	}
	return []*arr{y}, nil
}

func runningStatistics(n *ir.Node, in []*arr) []*arr {
	x, m := in[0], float64(n.Float("momentum", 0.9))
	mean, variance := newArr(in[3].shape...), newArr(in[4].shape...)
	share := float64(x.shape[1]) / float64(len(x.v))
	each(x.shape, func(at []int64, k int64) { mean.v[at[1]] += x.v[k] * share })
	each(x.shape, func(at []int64, k int64) {
		variance.v[at[1]] += (x.v[k] - mean.v[at[1]]) * (x.v[k] - mean.v[at[1]]) * share
	})
	for k := range mean.v {
		mean.v[k] = m*in[3].v[k] + (1-m)*mean.v[k]
		variance.v[k] = m*in[4].v[k] + (1-m)*variance.v[k]
	}
	return []*arr{mean, variance}
}

func evalLoss(e *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	logp := in[0]
	if n.Op == "SoftmaxCrossEntropyLoss" {
		ys, err := evalSoftmax(e, logSoftmax, in)
		if err != nil {
			return nil, err
		}
		logp = ys[0]
	}
	each1 := newArr(in[1].shape...)
	total := 0.0
	each(in[1].shape, func(at []int64, k int64) {
		l := int64(in[1].v[k])
		if a := n.Attr("ignore_index"); a != nil && l == a.I {
			return
		}
		w := 1.0
		if in[2] != nil {
			w = in[2].v[l]
		}
		total += w
		each1.v[k] = -w * logp.at(append([]int64{at[0], l}, at[1:]...))
	})
	red := n.Str("reduction", "mean")
	if red == "none" {
		return []*arr{each1, logp}, nil
	}
	y := newArr()
	for _, v := range each1.v {
		y.v[0] += v
	}
	if red == "mean" {
		y.v[0] /= total
	}
	return []*arr{y, logp}, nil
}

var logSoftmax = func() *ir.Node {
	n, err := ir.NewGraph("g").Append(ir.NodeSpec{Op: "LogSoftmax", Attrs: []ir.Attr{ir.AInt("axis", 1)}})
	if err != nil {
		return nil
	}
	return n
}()

func evalOneHot(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	axis := int(n.Int("axis", -1))
	if axis < 0 {
		axis += len(in[0].shape) + 1
	}
	s := append(append(append([]int64{}, in[0].shape[:axis]...), int64(in[1].v[0])), in[0].shape[axis:]...)
	y := newArr(s...)
	each(s, func(at []int64, k int64) {
		l := in[0].at(append(append([]int64{}, at[:axis]...), at[axis+1:]...))
		y.v[k] = in[2].v[0]
		if int64(l) == at[axis] {
			y.v[k] = in[2].v[1]
		}
	})
	return []*arr{y}, nil
}

func evalLRN(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, y := in[0], newArr(in[0].shape...)
	size := n.Int("size", 0)
	alpha, beta, bias := float64(n.Float("alpha", 1e-4)), float64(n.Float("beta", 0.75)), float64(n.Float("bias", 1))
	each(x.shape, func(at []int64, k int64) {
		sum := 0.0
		other := append([]int64{}, at...)
		for c := max(0, at[1]-(size-1)/2); c <= min(x.shape[1]-1, at[1]+size/2); c++ {
			other[1] = c
			sum += x.at(other) * x.at(other)
		}
		y.v[k] = x.v[k] / math.Pow(bias+alpha/float64(size)*sum, beta)
	})
	return []*arr{y}, nil
}
