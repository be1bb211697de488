package grad

import (
	"math"

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
		y.v[p] = reduced(n, y.v[p], up.v[k])
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
			y.v[pos+i] = reduced(n, y.v[pos+i], up.v[t*size+i])
		}
	})
	return []*arr{y}, nil
}

// reduced is what a scatter makes of an element and an update.
func reduced(n *ir.Node, old, up float64) float64 {
	switch n.Str("reduction", "none") {
	case "add":
		return old + up
	case "mul":
		return old * up
	case "max":
		return math.Max(old, up)
	case "min":
		return math.Min(old, up)
	}
	return up
}
