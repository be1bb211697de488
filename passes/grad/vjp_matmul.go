package grad

import (
	"strings"

	"mqatc/onnx/ir"
)

// vjpMatMul: dA = dY B^T, dB = A^T dY. A matrix shared by a batch becomes one Gemm over all rows.
func vjpMatMul(c *call, i int) *ir.Value {
	a, b, dy := c.in(0), c.in(1), c.dy()
	ra, rb := c.rank(a), c.rank(b)
	if ra == 0 || rb == 0 {
		return c.fail("operands of rank %d and %d", ra, rb)
	}
	if ra == 1 {
		a = c.op("Unsqueeze", a, c.Int64s(0))
		dy = c.op("Unsqueeze", dy, c.Int64s(int64(max(rb-2, 0))))
	}
	if rb == 1 {
		b = c.op("Unsqueeze", b, c.Int64s(1))
		dy = c.op("Unsqueeze", dy, c.Int64s(int64(c.rank(dy))))
	}
	var g *ir.Value
	switch {
	case c.rank(b) == 2 && c.rank(a) > 2:
		g = c.rowsTimes(i, a, b, dy)
	case i == 0:
		g = c.op("MatMul", dy, c.swapLast(b))
	default:
		g = c.op("MatMul", c.swapLast(a), dy)
	}
	if (i == 0 && ra == 1) || (i == 1 && rb == 1) {
		axis := int64(c.rank(g) - 1)
		if i == 0 {
			axis--
		}
		return c.op("Squeeze", g, c.Int64s(axis))
	}
	return g
}

// rowsTimes is vjpMatMul for A [..., m, k] and B [k, n].
func (c *call) rowsTimes(i int, a, b, dy *ir.Value) *ir.Value {
	db, ok := b.StaticDims()
	if !ok {
		if i == 1 {
			return c.op("MatMul", c.swapLast(a), dy)
		}
		return c.op("MatMul", dy, c.swapLast(b))
	}
	k, n := db[0], db[1]
	rows := int64(-1)
	if d, ok := a.StaticDims(); ok {
		rows = product(d[:len(d)-1])
	}
	flat := c.reshape(dy, rows, n)
	if i == 1 {
		return c.Op("Gemm", []*ir.Value{c.reshape(a, rows, k), flat}, ir.AInt("transA", 1))
	}
	return c.like(c.Op("Gemm", []*ir.Value{flat, b}, ir.AInt("transB", 1)), a)
}

func (c *call) swapLast(v *ir.Value) *ir.Value {
	r := c.rank(v)
	if r < 2 {
		return v
	}
	p := seq(0, r)
	p[r-1], p[r-2] = p[r-2], p[r-1]
	return c.transpose(v, p...)
}

// vjpGemm: Y = alpha A' B' + beta C with A', B' transposed where transA, transB say so.
func vjpGemm(c *call, i int) *ir.Value {
	a, b, dy := c.in(0), c.in(1), c.dy()
	ta, tb := c.n.Int("transA", 0) != 0, c.n.Int("transB", 0) != 0
	gemm := func(x, y *ir.Value, tx, ty bool) *ir.Value {
		var at []ir.Attr
		if alpha := c.n.Float("alpha", 1); alpha != 1 {
			at = append(at, ir.AFloat("alpha", alpha))
		}
		if tx {
			at = append(at, ir.AInt("transA", 1))
		}
		if ty {
			at = append(at, ir.AInt("transB", 1))
		}
		return c.Op("Gemm", []*ir.Value{x, y}, at...)
	}
	switch {
	case i == 2:
		return c.scale(dy, float64(c.n.Float("beta", 1)))
	case i == 0 && !ta:
		return gemm(dy, b, false, !tb)
	case i == 0:
		return gemm(b, dy, tb, true)
	case !tb:
		return gemm(a, dy, !ta, false)
	}
	return gemm(dy, a, true, ta)
}

// vjpEinsum: the operand's letters are the result, the output and the other operands the terms; a letter that stands in the
// operand alone is summed over, so the cotangent is repeated along it. An ellipsis stands for letters that no term has. A letter twice in one term, and an
// ellipsis that broadcasts, have no rule.
func vjpEinsum(c *call, i int) *ir.Value {
	eq := strings.ReplaceAll(c.n.Str("equation", ""), " ", "")
	lhs, rhs, explicit := strings.Cut(eq, "->")
	terms := strings.Split(lhs, ",")
	if len(terms) != len(c.n.Inputs()) {
		return c.fail("equation %q", eq)
	}
	dots, ok := c.ellipsis(terms)
	if !ok {
		return c.fail("equation %q with an ellipsis that broadcasts", eq)
	}
	if !explicit {
		rhs = implicitOutput(strings.ReplaceAll(lhs, "...", ""))
		if strings.Contains(lhs, "...") {
			rhs = "..." + rhs
		}
	}
	for k := range terms {
		terms[k] = strings.Replace(terms[k], "...", dots, 1)
	}
	rhs = strings.Replace(rhs, "...", dots, 1)
	for _, t := range append(append([]string{}, terms...), rhs) {
		for k, l := range t {
			if strings.ContainsRune(t[k+1:], l) {
				return c.fail("equation %q with a letter twice in %q", eq, t)
			}
		}
	}
	in := []*ir.Value{c.dy()}
	from := []string{rhs}
	for k, t := range terms {
		if k != i {
			in, from = append(in, c.in(k)), append(from, t)
		}
	}
	all := strings.Join(from, ",")
	var to string
	var alone []int64
	for k, l := range terms[i] {
		if strings.ContainsRune(all, l) {
			to += string(l)
		} else {
			alone = append(alone, int64(k))
		}
	}
	g := c.Op("Einsum", in, ir.AString("equation", all+"->"+to))
	if len(alone) > 0 {
		g = c.expand(c.op("Unsqueeze", g, c.Int64s(alone...)), c.in(i))
	}
	return g
}

// ellipsis gives letters for the dimensions that the ellipsis in terms stands for, which must be the same in all.
func (c *call) ellipsis(terms []string) (letters string, ok bool) {
	var dims []int64
	found := false
	for k, t := range terms {
		if !strings.Contains(t, "...") {
			continue
		}
		d := c.dims(c.in(k))
		first := strings.Index(t, "...")
		n := len(d) - (len(t) - 3)
		if c.Err() != nil || n < 0 || found && !equal(dims, d[first:first+n]) {
			return "", false
		}
		dims, found = d[first:first+n], true
	}
	all := strings.Join(terms, "")
	for l := byte('A'); l <= 'Z' && len(letters) < len(dims); l++ {
		if strings.IndexByte(all, l) < 0 {
			letters += string(l)
		}
	}
	return letters, len(letters) == len(dims)
}

// implicitOutput lists the letters that stand once in lhs, in alphabetical order with capitals first.
func implicitOutput(lhs string) string {
	var out []byte
	for l := byte('A'); l <= 'z'; l++ {
		if strings.Count(lhs, string(l)) == 1 && l != ',' {
			out = append(out, l)
		}
	}
	return string(out)
}

// det expands the determinants of [..., M, M] for M up to 4.
func det(c *call) *ir.Value {
	x := c.in(0)
	rank := c.rank(x)
	if rank < 2 {
		return c.fail("input of shape %v", x.Shape())
	}
	row, column := int64(rank-2), int64(rank-1)
	m := c.along(x, column)
	if c.Err() == nil && (m < 1 || m > 4) {
		return c.fail("determinants of size %d: 1 to 4 have a gradient", m)
	}
	var rows [][]*ir.Value
	for _, r := range c.split(x, row, m) {
		rows = append(rows, c.split(r, column, m))
	}
	if c.Err() != nil {
		return nil
	}
	return c.op("Squeeze", c.expanded(rows), c.Int64s(row, column))
}

// expanded is the determinant of a square of values, by its first row.
func (c *call) expanded(rows [][]*ir.Value) *ir.Value {
	sum := rows[0][0]
	if len(rows) == 1 {
		return sum
	}
	for k, v := range rows[0] {
		var rest [][]*ir.Value
		for _, r := range rows[1:] {
			rest = append(rest, append(append([]*ir.Value{}, r[:k]...), r[k+1:]...))
		}
		term := c.mul(v, c.expanded(rest))
		switch {
		case k == 0:
			sum = term
		case k%2 == 1:
			sum = c.sub(sum, term)
		default:
			sum = c.add(sum, term)
		}
	}
	return sum
}
