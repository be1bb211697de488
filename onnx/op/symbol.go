package op

import (
	"math"
	"strconv"
	"strings"

	"mqatc/onnx/ir"
)

// maxSymbol bounds the length of an expression in bytes; a longer one becomes unknown.
const maxSymbol = 160

// num is an integer that is known, or k*atom+c for an atom that stands for a size >= 0, or unknown. The zero num is unknown.
type num struct {
	ok   bool
	k    int64 // 0 for a known number
	c    int64
	atom string
}

var unknown = num{}

func known(n int64) num { return num{ok: true, c: n} }

func (a num) isKnown() bool { return a.ok && a.k == 0 }

// value is the number, and whether it is known.
func (a num) value() (int64, bool) { return a.c, a.isKnown() }

// nonNegative reports whether the atom of a symbolic size cannot be below zero, so that the size is c at least.
func (a num) nonNegative() bool {
	return a.k > 0 && a.c >= 0 && !strings.Contains(a.atom, "//") && !strings.Contains(a.atom, " - ")
}

// fromDim reads a dimension; expressions as this package writes them are taken apart again.
func fromDim(d ir.Dim) num {
	if d.Known() {
		return known(d.Size)
	}
	if d.Symbol == "" {
		return unknown
	}
	return parseNum(d.Symbol)
}

func parseNum(s string) num {
	atom, k, c := s, int64(1), int64(0)
	if i := strings.LastIndexAny(atom, "+-"); i > 1 && atom[i-1] == ' ' && i+2 < len(atom) && atom[i+1] == ' ' {
		if v, err := strconv.ParseInt(atom[i+2:], 10, 62); err == nil {
			c = v
			if atom[i] == '-' {
				c = -v
			}
			atom = atom[:i-1]
		}
	}
	if i := strings.IndexByte(atom, '*'); i > 0 {
		if v, err := strconv.ParseInt(atom[:i], 10, 62); err == nil && v > 1 {
			k, atom = v, atom[i+1:]
		}
	}
	if !closed(atom) {
		return num{ok: true, k: 1, atom: s}
	}
	return num{ok: true, k: k, c: c, atom: atom}
}

// closed reports whether s is one identifier or one bracketed expression, so that k*s+c reads unambiguously.
func closed(s string) bool {
	depth := 0
	for i, r := range s {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
			if depth < 0 || depth == 0 && i != len(s)-1 {
				return false
			}
		case depth == 0 && strings.ContainsRune(" +-*/,", r):
			return false
		}
	}
	return depth == 0 && s != ""
}

// dim is the dimension of size a; unknown when a is negative.
func (a num) dim() ir.Dim {
	switch {
	case !a.ok:
		return ir.UnknownDim()
	case a.k == 0 && a.c >= 0:
		return ir.D(a.c)
	case a.k == 0:
		return ir.UnknownDim()
	}
	return ir.Sym(a.String())
}

func (a num) String() string {
	if !a.ok {
		return "?"
	}
	if a.k == 0 {
		return strconv.FormatInt(a.c, 10)
	}
	s := a.atom
	if (a.k != 1 || a.c != 0) && !closed(s) {
		s = "(" + s + ")"
	}
	if a.k != 1 {
		s = strconv.FormatInt(a.k, 10) + "*" + s
	}
	if a.c > 0 {
		s += " + " + strconv.FormatInt(a.c, 10)
	} else if a.c < 0 {
		s += " - " + strconv.FormatInt(-a.c, 10)
	}
	return s
}

func symbolic(atom string) num {
	if len(atom) > maxSymbol {
		return unknown
	}
	return num{ok: true, k: 1, atom: atom}
}

func linear(k int64, atom string, c int64, ok bool) num {
	switch {
	case !ok || k < 0 || c == math.MinInt64:
		return unknown
	case k == 0:
		return known(c)
	}
	return num{ok: true, k: k, c: c, atom: atom}
}

func add(a, b num) num {
	if !a.ok || !b.ok {
		return unknown
	}
	c, ok := addInt(a.c, b.c)
	switch {
	case b.k == 0:
		return linear(a.k, a.atom, c, ok)
	case a.k == 0:
		return linear(b.k, b.atom, c, ok)
	case a.atom == b.atom:
		k, ok2 := addInt(a.k, b.k)
		return linear(k, a.atom, c, ok && ok2)
	}
	x, y := num{ok: true, k: a.k, atom: a.atom}.String(), num{ok: true, k: b.k, atom: b.atom}.String()
	if y < x {
		x, y = y, x
	}
	s := symbolic("(" + x + " + " + y + ")")
	s.c = c
	if !ok {
		return unknown
	}
	return s
}

func sub(a, b num) num {
	if !a.ok || !b.ok {
		return unknown
	}
	c, ok := subInt(a.c, b.c)
	switch {
	case b.k == 0:
		return linear(a.k, a.atom, c, ok)
	case a.atom == b.atom:
		return linear(a.k-b.k, a.atom, c, ok)
	}
	return unknown
}

func mul(a, b num) num {
	if a.isKnown() {
		a, b = b, a
	}
	if b.isKnown() && b.c == 0 {
		return known(0)
	}
	if !a.ok || !b.ok {
		return unknown
	}
	if b.k == 0 {
		k, ok := mulInt(a.k, b.c)
		c, ok2 := mulInt(a.c, b.c)
		return linear(k, a.atom, c, ok && ok2)
	}
	if a.c != 0 || b.c != 0 {
		x, y := "("+a.String()+")", "("+b.String()+")"
		return symbolic("(" + min(x, y) + "*" + max(x, y) + ")")
	}
	k, ok := mulInt(a.k, b.k)
	s := symbolic("(" + min(a.atom, b.atom) + "*" + max(a.atom, b.atom) + ")")
	return linear(k, s.atom, 0, ok && s.ok)
}

// floorDiv rounds towards minus infinity.
func floorDiv(a num, m int64) num {
	switch {
	case !a.ok || m <= 0:
		return unknown
	case m == 1:
		return a
	case a.k%m == 0:
		return linear(a.k/m, a.atom, floorInt(a.c, m), true)
	}
	return symbolic("((" + a.String() + ")//" + strconv.FormatInt(m, 10) + ")")
}

func floorInt(a, m int64) int64 {
	q := a / m
	if a%m != 0 && (a < 0) != (m < 0) {
		q--
	}
	return q
}

// ceilDiv rounds towards plus infinity.
func ceilDiv(a num, m int64) num {
	if m <= 0 {
		return unknown
	}
	return floorDiv(add(a, known(m-1)), m)
}

func addInt(a, b int64) (int64, bool) {
	c := a + b
	return c, (c > a) == (b > 0)
}

func subInt(a, b int64) (int64, bool) {
	c := a - b
	return c, (c < a) == (b > 0)
}

func mulInt(a, b int64) (int64, bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	c := a * b
	if (a == -1 && b == math.MinInt64) || (b == -1 && a == math.MinInt64) || c/b != a {
		return 0, false
	}
	return c, true
}
