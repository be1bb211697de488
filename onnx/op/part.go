package op

import (
	"math"

	"mqatc/onnx/ir"
)

// maxPart bounds the number of elements of an evaluated tensor, maxDepth the length of a chain of producers.
const (
	maxPart  = 4096
	maxDepth = 200
)

// part is a small tensor of which not every element need be known. Integers and bools are in v, floats in f (NaN: unknown).
type part struct {
	elem ir.DType
	dims []int64
	v    []num
	f    []float64
}

func (p *part) len() int {
	if p.v != nil {
		return len(p.v)
	}
	return len(p.f)
}

func (p *part) ints() ([]int64, bool) {
	if p.v == nil {
		return nil, false
	}
	out := make([]int64, len(p.v))
	for i, x := range p.v {
		n, ok := x.value()
		if !ok {
			return nil, false
		}
		out[i] = n
	}
	return out, true
}

func (p *part) floats() ([]float64, bool) {
	if v, ok := p.ints(); ok {
		out := make([]float64, len(v))
		for i, x := range v {
			out[i] = float64(x)
		}
		return out, true
	}
	if p.f == nil {
		return nil, false
	}
	for _, x := range p.f {
		if math.IsNaN(x) {
			return nil, false
		}
	}
	return p.f, true
}

func isInteger(d ir.DType) bool {
	switch d {
	case ir.Bool, ir.Int64, ir.Int32, ir.Int16, ir.Int8, ir.Uint8, ir.Uint16, ir.Uint32, ir.Uint64, ir.Int4, ir.Uint4, ir.Int2, ir.Uint2:
		return true
	}
	return false
}

// newPart is a part of n unknown elements; nil when it would be too large or of a type that is not evaluated.
func newPart(elem ir.DType, dims []int64) *part {
	n, err := ir.NumElements(dims)
	if err != nil || n > maxPart || len(dims) > maxRank {
		return nil
	}
	p := &part{elem: elem, dims: append([]int64{}, dims...)}
	switch {
	case isInteger(elem):
		p.v = make([]num, n)
	case elem.IsFloat():
		p.f = make([]float64, n)
		for i := range p.f {
			p.f[i] = math.NaN()
		}
	default:
		return nil
	}
	return p
}

func fromTensor(t *ir.Tensor) *part {
	if t == nil {
		return nil
	}
	p := newPart(t.DType(), t.Dims())
	if p == nil {
		return nil
	}
	if p.f != nil {
		f, err := t.Floats()
		if err != nil {
			return nil
		}
		copy(p.f, f)
		return p
	}
	v, err := t.Ints()
	if err != nil {
		return nil
	}
	for i, x := range v {
		p.v[i] = known(x)
	}
	return p
}

func vector(elem ir.DType, v ...num) *part {
	return &part{elem: elem, dims: []int64{int64(len(v))}, v: append([]num{}, v...)}
}

func scalar(elem ir.DType, v num) *part { return &part{elem: elem, dims: []int64{}, v: []num{v}} }

// view is the same elements under other dims; nil when their number differs.
func (p *part) view(dims []int64) *part {
	n, err := ir.NumElements(dims)
	if err != nil || n != int64(p.len()) || len(dims) > maxRank {
		return nil
	}
	q := *p
	q.dims = append([]int64{}, dims...)
	return &q
}

// take gathers elements of p by index into a part of shape dims.
func (p *part) take(dims []int64, index func(i int) int) *part {
	q := newPart(p.elem, dims)
	if q == nil {
		return nil
	}
	for i := 0; i < q.len(); i++ {
		k := index(i)
		if k < 0 || k >= p.len() {
			return nil
		}
		if q.v != nil {
			q.v[i] = p.v[k]
		} else {
			q.f[i] = p.f[k]
		}
	}
	return q
}

// part evaluates v; nil when nothing is known of its elements or when it is too large.
func (r *run) part(v *ir.Value) *part {
	if v == nil {
		return nil
	}
	if v.Init() != nil {
		return fromTensor(v.Init())
	}
	if p, ok := r.parts[v]; ok {
		return p
	}
	n := v.Producer()
	if n == nil {
		return nil
	}
	s := r.lookup(n.Domain, n.Op)
	if s == nil || s.eval == nil || r.depth >= maxDepth || len(n.Inputs()) < s.MinIn || r.local[keyOf(n)] != nil {
		return nil
	}
	r.depth++
	outs := s.eval(&evalCtx{n, r})
	r.depth--
	if r.parts == nil {
		r.parts = map[*ir.Value]*part{}
	}
	for i, o := range n.Outputs() {
		r.parts[o] = nil
		if i < len(outs) {
			r.parts[o] = outs[i]
		}
	}
	return r.parts[v]
}

// evalCtx is the node that is being evaluated.
type evalCtx struct {
	node *ir.Node
	run  *run
}

func (e *evalCtx) in(i int) *part { return e.run.part(e.node.Input(i)) }

func (e *evalCtx) has(i int) bool { return e.node.Input(i) != nil }

// ints is input i if all of it is known.
func (e *evalCtx) ints(i int) ([]int64, bool) {
	p := e.in(i)
	if p == nil {
		return nil, false
	}
	return p.ints()
}

func one(p *part) []*part { return []*part{p} }
