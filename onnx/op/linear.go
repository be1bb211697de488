package op

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"mqatc/onnx/ir"
)

// linearTable lists matrix products.
var linearTable = []Schema{
	{Name: "MatMul", Versions: []int64{1, 9, 13}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferMatMul},
	{Name: "Gemm", Versions: []int64{1, 6, 7, 9, 11, 13}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferGemm, Attrs: []AttrSpec{
		floatAttr("alpha", 1.0), floatAttr("beta", 1.0), intAttr("transA", 0), intAttr("transB", 0),
	}},
	{Name: "MatMulInteger", Versions: []int64{10}, MinIn: 2, MaxIn: 4, MinOut: 1, MaxOut: 1, Infer: inferMatMulInteger},
	{Name: "QLinearMatMul", Versions: []int64{10, 21}, MinIn: 8, MaxIn: 8, MinOut: 1, MaxOut: 1, Infer: inferQLinearMatMul},
	{Name: "Einsum", Versions: []int64{12, 28}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: 1, Infer: inferEinsum, Attrs: []AttrSpec{
		required(ir.AttrString, "equation"),
	}},
	{Name: "Det", Versions: []int64{11, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferDet},
}

func inferMatMul(c *Ctx) error {
	if err := c.sameElem(0, 1); err != nil {
		return err
	}
	s, err := matMulShape(c.Shape(0), c.Shape(1))
	if err != nil {
		return err
	}
	c.Out(0, c.elemOf(0, 1), s)
	return nil
}

func inferMatMulInteger(c *Ctx) error {
	s, err := matMulShape(c.Shape(0), c.Shape(1))
	if err != nil {
		return err
	}
	c.Out(0, ir.Int32, s)
	return nil
}

func inferQLinearMatMul(c *Ctx) error {
	s, err := matMulShape(c.Shape(0), c.Shape(3))
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(7), s)
	return nil
}

// matMulShape is the shape of a stack of matrix products as numpy.matmul defines it.
func matMulShape(a, b ir.Shape) (ir.Shape, error) {
	if a == nil || b == nil {
		return nil, nil
	}
	if len(a) == 0 || len(b) == 0 {
		return nil, fmt.Errorf("scalars %v, %v cannot be multiplied as matrices", a, b)
	}
	rowVec, colVec := len(a) == 1, len(b) == 1
	if rowVec {
		a = ir.Shape{ir.D(1), a[0]}
	}
	if colVec {
		b = ir.Shape{b[0], ir.D(1)}
	}
	m, k := a[len(a)-2], a[len(a)-1]
	k2, n := b[len(b)-2], b[len(b)-1]
	if _, err := meet(k, k2); err != nil {
		return nil, fmt.Errorf("matrices %v and %v: inner %w", a, b, err)
	}
	out, err := broadcast(a[:len(a)-2], b[:len(b)-2])
	if err != nil {
		return nil, err
	}
	out = out.Clone()
	if !rowVec {
		out = append(out, m)
	}
	if !colVec {
		out = append(out, n)
	}
	return out, nil
}

func inferGemm(c *Ctx) error {
	if err := c.sameElem(0, 1, 2); err != nil {
		return err
	}
	elem := c.elemOf(0, 1)
	a, b := c.Shape(0), c.Shape(1)
	for i := 0; i < 2; i++ {
		if err := c.needRank(i, 2, 2); err != nil {
			return err
		}
	}
	if a == nil {
		a = unknownShape(2)
	}
	if b == nil {
		b = unknownShape(2)
	}
	m, k := a[0], a[1]
	if c.Node.Int("transA", 0) != 0 {
		m, k = k, m
	}
	k2, n := b[0], b[1]
	if c.Node.Int("transB", 0) != 0 {
		k2, n = n, k2
	}
	if _, err := meet(k, k2); err != nil {
		return fmt.Errorf("inner %w", err)
	}
	out := ir.Shape{m, n}
	if s := c.Shape(2); s != nil {
		r, err := broadcast(out, s)
		if err != nil {
			return err
		}
		if len(r) != 2 || m.Known() && r[0].Known() && r[0].Size != m.Size || n.Known() && r[1].Known() && r[1].Size != n.Size {
			return fmt.Errorf("input 2 %v does not broadcast onto %v", s, out)
		}
	}
	c.Out(0, elem, out)
	return nil
}

// inferEinsum reads the equation: one letter per axis, "..." for broadcast axes; without "->" the letters seen once, sorted.
func inferEinsum(c *Ctx) error {
	if err := c.sameElem(c.allInputs()...); err != nil {
		return err
	}
	eq := strings.ReplaceAll(c.Node.Str("equation", ""), " ", "")
	left, right, explicit := strings.Cut(eq, "->")
	terms := strings.Split(left, ",")
	if len(terms) != c.NumIn() {
		return fmt.Errorf("equation %q has %d terms for %d inputs", eq, len(terms), c.NumIn())
	}
	dim := map[rune]ir.Dim{}
	count := map[rune]int{}
	ell, ellKnown := ir.StaticShape(), true
	for i, t := range terms {
		s := c.Shape(i)
		head, tail, dots := strings.Cut(t, "...")
		letters := head + tail
		for _, r := range letters {
			if !unicode.IsLetter(r) {
				return fmt.Errorf("equation %q: %q is no letter", eq, r)
			}
			count[r]++
		}
		n, nh := len([]rune(letters)), len([]rune(head))
		if s == nil {
			ellKnown = ellKnown && !dots
			continue
		}
		if len(s) < n || !dots && len(s) != n {
			return fmt.Errorf("equation %q: term %q does not fit shape %v", eq, t, s)
		}
		mid := s[nh : nh+len(s)-n]
		var err error
		if ell, err = broadcast(ell, mid); err != nil {
			return fmt.Errorf("equation %q: %w", eq, err)
		}
		rest := append(append(ir.Shape{}, s[:nh]...), s[nh+len(mid):]...)
		for k, r := range []rune(letters) {
			d, ok := dim[r]
			if !ok {
				dim[r] = rest[k]
				continue
			}
			if dim[r], err = broadcastDim(d, rest[k]); err != nil {
				return fmt.Errorf("equation %q: letter %q: %w", eq, r, err)
			}
		}
	}
	if !explicit {
		right = ""
		if strings.Contains(left, "...") {
			right = "..."
		}
		var once []rune
		for r, n := range count {
			if n == 1 {
				once = append(once, r)
			}
		}
		slices.Sort(once)
		right += string(once)
	}
	head, tail, dots := strings.Cut(right, "...")
	if dots && !ellKnown {
		c.Out(0, c.elemOf(c.allInputs()...), nil)
		return nil
	}
	out := ir.Shape{}
	put := func(s string) error {
		for _, r := range s {
			if count[r] == 0 {
				return fmt.Errorf("equation %q: result letter %q stands in no term", eq, r)
			}
			d, ok := dim[r]
			if !ok {
				d = ir.UnknownDim()
			}
			out = append(out, d)
		}
		return nil
	}
	if err := put(head); err != nil {
		return err
	}
	if dots {
		out = append(out, ell...)
	}
	if err := put(tail); err != nil {
		return err
	}
	if len(out) > maxRank {
		return fmt.Errorf("equation %q: result has %d axes", eq, len(out))
	}
	c.Out(0, c.elemOf(c.allInputs()...), out)
	return nil
}

func inferDet(c *Ctx) error {
	s := c.Shape(0)
	if err := c.needRank(0, 2, maxRank); err != nil {
		return err
	}
	if s != nil {
		if _, err := meet(s[len(s)-1], s[len(s)-2]); err != nil {
			return fmt.Errorf("matrices %v are not square", s)
		}
		s = s[:len(s)-2]
	}
	c.Out(0, c.Elem(0), s)
	return nil
}
