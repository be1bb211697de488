package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

func inferReshape(c *Ctx) error {
	target := c.nums(1)
	if a := c.Node.Attr("shape"); a != nil {
		target = nil
		for _, d := range a.Ints {
			target = append(target, known(d))
		}
	}
	if target == nil {
		c.Out(0, c.Elem(0), c.rankFrom(1))
		return nil
	}
	s, err := reshaped(c.Shape(0), target, c.Node.Int("allowzero", 0) != 0)
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(0), s)
	return nil
}

func reshaped(in ir.Shape, target []num, allowZero bool) (ir.Shape, error) {
	if len(target) > maxRank {
		return nil, fmt.Errorf("target shape has %d axes", len(target))
	}
	out := make([]num, len(target))
	free, copied := -1, make([]bool, len(target))
	for i, t := range target {
		n, ok := t.value()
		switch {
		case !ok:
			out[i] = t
		case n == -1:
			if free >= 0 {
				return nil, fmt.Errorf("target shape %v has two -1", target)
			}
			free = i
		case n < -1:
			return nil, fmt.Errorf("target shape %v is negative", target)
		case n == 0 && !allowZero:
			if in != nil {
				if i >= len(in) {
					return nil, fmt.Errorf("target shape %v copies axis %d of %v", target, i, in)
				}
				out[i], copied[i] = fromDim(in[i]), true
			}
		default:
			out[i] = t
		}
	}
	if in == nil {
		return dims(out), nil
	}
	total, rest := cancel(in, out, copied, free)
	if free < 0 {
		if a, ok := total.value(); ok {
			if b, ok := rest.value(); ok && a != b {
				return nil, fmt.Errorf("cannot reshape %v to %v: the numbers of elements differ", in, target)
			}
		}
		return dims(out), nil
	}
	n, err := quotient(total, rest)
	if err != nil {
		return nil, fmt.Errorf("cannot reshape %v to %v: %w", in, target, err)
	}
	out[free] = n
	return dims(out), nil
}

// cancel multiplies the dimensions of in, and those of out but for the free one, leaving out what stands on both sides: copied
// dimensions and equal symbols.
func cancel(in ir.Shape, out []num, copied []bool, free int) (total, rest num) {
	gone := append(make([]bool, 0, len(in)), copied[:min(len(copied), len(in))]...)
	gone = append(gone, make([]bool, len(in)-len(gone))...)
	total, rest = known(1), known(1)
	for i, x := range out {
		if i == free || copied[i] {
			continue
		}
		at := -1
		for k, d := range in {
			if !gone[k] && x.k > 0 && fromDim(d) == x {
				at = k
				break
			}
		}
		if at >= 0 {
			gone[at] = true
			continue
		}
		rest = mul(rest, x)
	}
	for k, d := range in {
		if !gone[k] {
			total = mul(total, fromDim(d))
		}
	}
	return total, rest
}

// quotient is the exact quotient of two sizes as far as it can be told.
func quotient(a, b num) (num, error) {
	if !a.ok || !b.ok {
		return unknown, nil
	}
	if m, ok := b.value(); ok {
		if m == 0 {
			return unknown, nil
		}
		if n, ok := a.value(); ok && n%m != 0 {
			return unknown, fmt.Errorf("%d elements do not divide by %d", n, m)
		}
		if a.k%m == 0 && a.c%m == 0 {
			return linear(a.k/m, a.atom, a.c/m, true), nil
		}
		return floorDiv(a, m), nil
	}
	if a.atom == b.atom && a.c == 0 && b.c == 0 && a.k%b.k == 0 {
		return known(a.k / b.k), nil
	}
	if a == b {
		return known(1), nil
	}
	return unknown, nil
}

// evalSameData serves Reshape, Squeeze, Unsqueeze and Flatten: the elements stay in order, the inferred shape counts.
func evalSameData(e *evalCtx) []*part {
	p := e.in(0)
	o := e.node.Output(0)
	if p == nil || o == nil {
		return nil
	}
	d, ok := o.StaticDims()
	if !ok {
		return nil
	}
	return one(p.view(d))
}

func inferFlatten(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), unknownShape(2))
		return nil
	}
	a := c.Node.Int("axis", 1)
	if a < int64(-len(x)) || a > int64(len(x)) {
		return fmt.Errorf("axis %d is out of range for %v", a, x)
	}
	if a < 0 {
		a += int64(len(x))
	}
	c.Out(0, c.Elem(0), dims([]num{product(nums(x[:a])), product(nums(x[a:]))}))
	return nil
}
