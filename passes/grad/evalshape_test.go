package grad

import (
	"fmt"
	"math"
	"sort"

	"mqatc/onnx/ir"
)

// arrOps are the evaluator's operators that are neither elementwise nor reductions.
var arrOps = map[string]func(e *evaluator, n *ir.Node, in []*arr) ([]*arr, error){
	"Constant": evalConstant, "Range": evalRange, "Shape": evalShape, "Size": evalShape, "Reshape": evalReshape, "Flatten": evalReshape,
	"Squeeze": evalReshape, "Unsqueeze": evalReshape, "Transpose": evalTranspose, "Concat": evalConcat, "Split": evalSplit,
	"Slice": evalSlice, "Pad": evalPad, "Expand": evalExpand, "Tile": evalTile, "DepthToSpace": evalReshape,
	"SpaceToDepth": evalReshape, "Trilu": evalTrilu, "Where": evalWhere, "Clip": evalClip, "NonZero": evalNonZero,
	"Gather": evalGather, "GatherElements": evalGatherElements, "GatherND": evalGatherND, "ScatterElements": evalScatterElements,
	"ScatterND": evalScatterND, "TopK": evalTopK, "CumSum": evalCumSum, "Resize": evalResize,
	"QuantizeLinear": evalQuantize, "DequantizeLinear": evalQuantize,
	"Softmax": evalSoftmax, "LogSoftmax": evalSoftmax, "BatchNormalization": evalNorm, "InstanceNormalization": evalNorm,
	"LayerNormalization": evalNorm, "GroupNormalization": evalNorm, "LpNormalization": evalLpNorm,
	"Conv": evalConv, "ConvTranspose": evalConvTranspose, "AveragePool": evalPool, "MaxPool": evalPool,
	"SoftmaxCrossEntropyLoss": evalLoss, "NegativeLogLikelihoodLoss": evalLoss, "OneHot": evalOneHot,
	"MatMul": evalMatMul, "Gemm": evalGemm, "Einsum": evalEinsum, "MaxUnpool": evalMaxUnpool, "ReverseSequence": evalReverseSequence,
	"RNN": evalRecurrent, "GRU": evalRecurrent, "LSTM": evalRecurrent, "LRN": evalLRN,
}

func evalConstant(_ *evaluator, n *ir.Node, _ []*arr) ([]*arr, error) {
	t := constTensor(n.Output(0))
	f, err := t.Floats()
	return []*arr{{t.Dims(), f}}, err
}

func evalRange(_ *evaluator, _ *ir.Node, in []*arr) ([]*arr, error) {
	from, to, step := in[0].v[0], in[1].v[0], in[2].v[0]
	y := newArr(max(int64(math.Ceil((to-from)/step)), 0))
	for i := range y.v {
		y.v[i] = from + float64(i)*step
	}
	return []*arr{y}, nil
}

func evalShape(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	if n.Op == "Size" {
		return []*arr{{nil, []float64{float64(len(in[0].v))}}}, nil
	}
	y := newArr(int64(len(in[0].shape)))
	for i, d := range in[0].shape {
		y.v[i] = float64(d)
	}
	return []*arr{y}, nil
}

func evalReshape(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	var s []int64
	switch n.Op {
	case "Reshape":
		s = in[1].ints()
		rest, open := int64(len(x.v)), -1
		for i, d := range s {
			if d == 0 && n.Int("allowzero", 0) == 0 {
				s[i] = x.shape[i]
			}
			if d == -1 {
				open = i
			} else if s[i] != 0 {
				rest /= s[i]
			}
		}
		if open >= 0 {
			s[open] = rest
		}
	case "Flatten":
		a := n.Int("axis", 1)
		if a < 0 {
			a += int64(len(x.shape))
		}
		s = []int64{product(x.shape[:a]), product(x.shape[a:])}
	case "Squeeze":
		drop := map[int64]bool{}
		if in[1] != nil {
			for _, a := range in[1].ints() {
				drop[(a+int64(len(x.shape)))%int64(len(x.shape))] = true
			}
		}
		for i, d := range x.shape {
			if !(drop[int64(i)] || (in[1] == nil && d == 1)) {
				s = append(s, d)
			}
		}
	case "Unsqueeze":
		r := int64(len(x.shape) + len(in[1].v))
		put := map[int64]bool{}
		for _, a := range in[1].ints() {
			put[(a+r)%r] = true
		}
		k := 0
		for i := int64(0); i < r; i++ {
			if put[i] {
				s = append(s, 1)
				continue
			}
			s = append(s, x.shape[k])
			k++
		}
	default:
		return evalBlocks(n, x)
	}
	if product(s) != int64(len(x.v)) {
		return nil, fmt.Errorf("%v to %v", x.shape, s)
	}
	return []*arr{{s, x.v}}, nil
}

func evalBlocks(n *ir.Node, x *arr) ([]*arr, error) {
	b := n.Int("blocksize", 0)
	d := x.shape
	if n.Op == "DepthToSpace" {
		y := newArr(d[0], d[1]/b/b, d[2]*b, d[3]*b)
		cc := d[1] / b / b
		each(y.shape, func(at []int64, k int64) {
			by, bx := at[2]%b, at[3]%b
			ch := (by*b+bx)*cc + at[1]
			if n.Str("mode", "DCR") == "CRD" {
				ch = (at[1]*b+by)*b + bx
			}
			y.v[k] = x.at([]int64{at[0], ch, at[2] / b, at[3] / b})
		})
		return []*arr{y}, nil
	}
	y := newArr(d[0], d[1]*b*b, d[2]/b, d[3]/b)
	each(y.shape, func(at []int64, k int64) {
		ch, blk := at[1]%d[1], at[1]/d[1]
		y.v[k] = x.at([]int64{at[0], ch, at[2]*b + blk/b, at[3]*b + blk%b})
	})
	return []*arr{y}, nil
}

func transposed(x *arr, perm []int64) *arr {
	s := make([]int64, len(perm))
	for i, p := range perm {
		s[i] = x.shape[p]
	}
	y := newArr(s...)
	src := make([]int64, len(perm))
	each(s, func(at []int64, k int64) {
		for i, p := range perm {
			src[p] = at[i]
		}
		y.v[k] = x.at(src)
	})
	return y
}

func evalTranspose(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	perm := n.Ints("perm")
	if perm == nil {
		for i := len(in[0].shape) - 1; i >= 0; i-- {
			perm = append(perm, int64(i))
		}
	}
	return []*arr{transposed(in[0], perm)}, nil
}

func posAxis(a int64, x *arr) int64 {
	if a < 0 {
		a += int64(len(x.shape))
	}
	return a
}

func evalConcat(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	in = in[:len(n.Inputs())]
	axis := posAxis(n.Int("axis", 0), in[0])
	s := append([]int64{}, in[0].shape...)
	s[axis] = 0
	for _, x := range in {
		s[axis] += x.shape[axis]
	}
	y := newArr(s...)
	off := int64(0)
	ys := y.strides()
	for _, x := range in {
		each(x.shape, func(at []int64, k int64) { y.v[dot(at, ys)+off*ys[axis]] = x.v[k] })
		off += x.shape[axis]
	}
	return []*arr{y}, nil
}

func evalSplit(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	axis := posAxis(n.Int("axis", 0), x)
	parts := int64(len(n.Outputs()))
	sizes := repeat((x.shape[axis]+parts-1)/parts, int(parts))
	if in[1] != nil {
		sizes = in[1].ints()
	}
	var out []*arr
	off := int64(0)
	for _, m := range sizes {
		s := append([]int64{}, x.shape...)
		s[axis] = min(m, x.shape[axis]-off)
		y := newArr(s...)
		xs := x.strides()
		each(s, func(at []int64, k int64) { y.v[k] = x.v[dot(at, xs)+off*xs[axis]] })
		out = append(out, y)
		off += m
	}
	return out, nil
}

func evalSlice(_ *evaluator, _ *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	starts, ends := in[1].ints(), in[2].ints()
	axes, steps := seq(0, len(starts)), repeat(1, len(starts))
	if in[3] != nil {
		axes = in[3].ints()
	}
	if in[4] != nil {
		steps = in[4].ints()
	}
	s := append([]int64{}, x.shape...)
	from, by := repeat(0, len(s)), repeat(1, len(s))
	for k, a := range axes {
		a = posAxis(a, x)
		d, st, en, step := x.shape[a], starts[k], ends[k], steps[k]
		if st < 0 {
			st += d
		}
		if en < 0 {
			en += d
		}
		m := int64(0)
		if step > 0 {
			st, en = min(max(st, 0), d), min(max(en, 0), d)
			for p := st; p < en; p += step {
				m++
			}
		} else {
			st, en = min(max(st, 0), d-1), min(max(en, -1), d-1)
			for p := st; p > en; p += step {
				m++
			}
		}
		s[a], from[a], by[a] = m, st, step
	}
	y := newArr(s...)
	src := make([]int64, len(s))
	each(s, func(at []int64, k int64) {
		for i := range at {
			src[i] = from[i] + at[i]*by[i]
		}
		y.v[k] = x.at(src)
	})
	return []*arr{y}, nil
}

func evalPad(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	r := len(x.shape)
	pads, axes := in[1].ints(), seq(0, r)
	if in[3] != nil {
		axes = in[3].ints()
	}
	lo, s := repeat(0, r), append([]int64{}, x.shape...)
	for k, a := range axes {
		a = posAxis(a, x)
		lo[a] = pads[k]
		s[a] += pads[k] + pads[len(axes)+k]
	}
	fillv := 0.0
	if in[2] != nil {
		fillv = in[2].v[0]
	}
	y := newArr(s...)
	src := make([]int64, r)
	mode := n.Str("mode", "constant")
	each(s, func(at []int64, k int64) {
		inside := true
		for i := range at {
			src[i] = at[i] - lo[i]
			d := x.shape[i]
			switch mode {
			case "constant":
				inside = inside && src[i] >= 0 && src[i] < d
			case "edge":
				src[i] = min(max(src[i], 0), d-1)
			case "wrap":
				src[i] = (src[i] + d) % d
			case "reflect":
				if src[i] < 0 {
					src[i] = -src[i]
				}
				if src[i] >= d {
					src[i] = 2*(d-1) - src[i]
				}
			}
		}
		y.v[k] = fillv
		if inside {
			y.v[k] = x.at(src)
		}
	})
	return []*arr{y}, nil
}

func evalExpand(_ *evaluator, _ *ir.Node, in []*arr) ([]*arr, error) {
	y := newArr(broadcastShape(in[0], &arr{shape: in[1].ints()})...)
	each(y.shape, func(at []int64, k int64) { y.v[k] = in[0].at(at) })
	return []*arr{y}, nil
}

func evalTile(_ *evaluator, _ *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	s := append([]int64{}, x.shape...)
	for i, r := range in[1].ints() {
		s[i] *= r
	}
	y := newArr(s...)
	src := make([]int64, len(s))
	each(s, func(at []int64, k int64) {
		for i := range at {
			src[i] = at[i] % x.shape[i]
		}
		y.v[k] = x.at(src)
	})
	return []*arr{y}, nil
}

func evalTrilu(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	d := int64(0)
	if in[1] != nil {
		d = int64(in[1].v[0])
	}
	y := newArr(in[0].shape...)
	r := len(y.shape)
	each(y.shape, func(at []int64, k int64) {
		off := at[r-1] - at[r-2]
		if (n.Int("upper", 1) != 0 && off >= d) || (n.Int("upper", 1) == 0 && off <= d) {
			y.v[k] = in[0].v[k]
		}
	})
	return []*arr{y}, nil
}

func evalWhere(_ *evaluator, _ *ir.Node, in []*arr) ([]*arr, error) {
	y := newArr(broadcastShape(in[:3]...)...)
	each(y.shape, func(at []int64, k int64) {
		y.v[k] = in[2].at(at)
		if in[0].at(at) != 0 {
			y.v[k] = in[1].at(at)
		}
	})
	return []*arr{y}, nil
}

func evalClip(_ *evaluator, _ *ir.Node, in []*arr) ([]*arr, error) {
	y := newArr(in[0].shape...)
	for k, x := range in[0].v {
		if in[1] != nil {
			x = math.Max(x, in[1].v[0])
		}
		if in[2] != nil {
			x = math.Min(x, in[2].v[0])
		}
		y.v[k] = x
	}
	return []*arr{y}, nil
}

func evalNonZero(_ *evaluator, _ *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	var hits [][]int64
	each(x.shape, func(at []int64, k int64) {
		if x.v[k] != 0 {
			hits = append(hits, append([]int64{}, at...))
		}
	})
	y := newArr(int64(len(x.shape)), int64(len(hits)))
	for j, h := range hits {
		for i := range h {
			y.v[i*len(hits)+j] = float64(h[i])
		}
	}
	return []*arr{y}, nil
}

func evalTopK(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x, m := in[0], in[1].ints()[0]
	axis := posAxis(n.Int("axis", -1), x)
	s := append([]int64{}, x.shape...)
	s[axis] = m
	y, idx := newArr(s...), newArr(s...)
	line := append([]int64{}, x.shape...)
	line[axis] = 1
	xs, ys := x.strides(), y.strides()
	each(line, func(at []int64, _ int64) {
		order := seq(0, int(x.shape[axis]))
		val := func(i int64) float64 { return x.v[dot(at, xs)+i*xs[axis]] }
		sort.SliceStable(order, func(a, b int) bool {
			if n.Int("largest", 1) != 0 {
				return val(order[a]) > val(order[b])
			}
			return val(order[a]) < val(order[b])
		})
		for i := int64(0); i < m; i++ {
			y.v[dot(at, ys)+i*ys[axis]] = val(order[i])
			idx.v[dot(at, ys)+i*ys[axis]] = float64(order[i])
		}
	})
	return []*arr{y, idx}, nil
}

func evalCumSum(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	x := in[0]
	axis := posAxis(in[1].ints()[0], x)
	y := newArr(x.shape...)
	xs := x.strides()
	each(x.shape, func(at []int64, k int64) {
		for j := int64(0); j < x.shape[axis]; j++ {
			before := j < at[axis]
			if n.Int("reverse", 0) != 0 {
				before = j > at[axis]
			}
			if before || (j == at[axis] && n.Int("exclusive", 0) == 0) {
				y.v[k] += x.v[k+(j-at[axis])*xs[axis]]
			}
		}
	})
	return []*arr{y}, nil
}
