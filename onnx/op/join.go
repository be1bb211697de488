package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

func inferConcat(c *Ctx) error { return concatShape(c, c.allInputs()) }

// concatShape joins the inputs in.
func concatShape(c *Ctx, in []int) error {
	if err := c.sameElem(in...); err != nil {
		return err
	}
	elem := c.elemOf(in...)
	rank := -1
	for _, i := range in {
		if s := c.Shape(i); s != nil {
			rank = len(s)
			break
		}
	}
	if rank < 0 {
		c.Out(0, elem, nil)
		return nil
	}
	a, err := axis(c.Node.Int("axis", 0), rank)
	if err != nil {
		return err
	}
	out := unknownShape(rank)
	sum := known(0)
	for _, i := range in {
		s := c.Shape(i)
		if s == nil {
			sum = unknown
			continue
		}
		if len(s) != rank {
			return fmt.Errorf("inputs have ranks %d and %d", rank, len(s))
		}
		for k, d := range s {
			if k == a {
				sum = add(sum, fromDim(d))
				continue
			}
			if out[k], err = meet(out[k], d); err != nil {
				return fmt.Errorf("axis %d: %w", k, err)
			}
		}
	}
	out[a] = sum.dim()
	c.Out(0, elem, out)
	return nil
}

func evalConcat(e *evalCtx) []*part {
	var ps []*part
	for i := range e.node.Inputs() {
		p := e.in(i)
		if p == nil || len(p.dims) != 1 {
			return nil
		}
		ps = append(ps, p)
	}
	return one(joinParts(ps))
}

// joinParts concatenates vectors of one element type; nil when there are none or too many elements.
func joinParts(ps []*part) *part {
	n := 0
	for _, p := range ps {
		if p == nil || p.elem != ps[0].elem {
			return nil
		}
		n += p.len()
	}
	if len(ps) == 0 {
		return nil
	}
	all := newPart(ps[0].elem, []int64{int64(n)})
	if all == nil {
		return nil
	}
	at := 0
	for _, p := range ps {
		copy(all.v[min(at, len(all.v)):], p.v)
		copy(all.f[min(at, len(all.f)):], p.f)
		at += p.len()
	}
	return all
}

func inferSplit(c *Ctx) error {
	x := c.Shape(0)
	n := c.NumOut()
	if x == nil {
		for i := 0; i < n; i++ {
			c.Out(i, c.Elem(0), nil)
		}
		return nil
	}
	a, err := axis(c.Node.Int("axis", 0), len(x))
	if err != nil {
		return err
	}
	sizes, err := c.splitSizes(x[a])
	if err != nil {
		return err
	}
	for i := 0; i < n; i++ {
		s := x.Clone()
		s[a] = sizes[i].dim()
		c.Out(i, c.Elem(0), s)
	}
	return nil
}

// splitSizes are the sizes of the parts of an axis of size d, one per output.
func (c *Ctx) splitSizes(d ir.Dim) ([]num, error) {
	n := c.NumOut()
	out := make([]num, n)
	var given []num
	if a := c.Node.Attr("split"); a != nil && len(a.Ints) > 0 {
		for _, s := range a.Ints {
			given = append(given, known(s))
		}
	} else if c.Has(1) {
		given = c.nums(1)
		if given == nil {
			return out, nil
		}
	}
	if given != nil {
		if len(given) != n {
			return nil, fmt.Errorf("%d split sizes for %d outputs", len(given), n)
		}
		sum := known(0)
		for _, s := range given {
			if v, ok := s.value(); ok && v < 0 {
				return nil, fmt.Errorf("split sizes %v are negative", given)
			}
			sum = add(sum, s)
		}
		if v, ok := sum.value(); ok && d.Known() && v != d.Size {
			return nil, fmt.Errorf("split sizes %v do not add up to %v", given, d)
		}
		return given, nil
	}
	if a := c.Node.Attr("num_outputs"); a != nil && a.I != int64(n) {
		return nil, fmt.Errorf("num_outputs is %d, the node has %d outputs", a.I, n)
	}
	size := ceilDiv(fromDim(d), int64(n))
	left := fromDim(d)
	for i := range out {
		out[i] = size
		if v, ok := left.value(); ok {
			out[i] = known(min(size.c, v))
			left = known(v - out[i].c)
		}
	}
	return out, nil
}

func evalSplit(e *evalCtx) []*part {
	p := e.in(0)
	if p == nil || len(p.dims) != 1 {
		return nil
	}
	var outs []*part
	at := 0
	for i := range e.node.Outputs() {
		o := e.node.Outputs()[i]
		d, ok := o.StaticDims()
		if !ok || len(d) != 1 || int64(at)+d[0] > int64(p.len()) {
			return nil
		}
		from := at
		outs = append(outs, p.take(d, func(k int) int { return from + k }))
		at += int(d[0])
	}
	return outs
}
