package memory

import (
	"cmp"
	"slices"

	"mqatc/onnx/ir"
)

// join lets what a Concat reads stand where the Concat writes it, piece after piece, where that does not raise the memory in use
// meanwhile. onnxruntime then copies each piece onto itself.
func (a *arrangement) join(order []*ir.Node) {
	use := make([]int64, a.places)
	for _, s := range a.spans {
		for i := s.first; i <= s.last; i++ {
			use[i] += s.bytes
		}
	}
	gone := map[*span]bool{}
	for i, n := range order {
		parts := a.pieces(n, i)
		slices.SortStableFunc(parts, func(x, y piece) int { return cmp.Compare(x.s.first, y.s.first) })
		for ; len(parts) > 0; parts = parts[1:] { // without those that are there early
			if a.joined(n, i, parts, use) {
				for _, p := range parts {
					gone[p.s] = true
				}
				break
			}
		}
	}
	a.spans = slices.DeleteFunc(a.spans, func(s *span) bool { return gone[s] })
}

// piece is a span that nobody needs after the Concat that copies it to byte at of its output.
type piece struct {
	s  *span
	at int64
}

// pieces are those of n, at place i, that may stand in its output.
func (a *arrangement) pieces(n *ir.Node, i int) []piece {
	if n.Op != "Concat" || n.Domain != "" || a.of[n.Output(0)] == nil {
		return nil
	}
	d := shape(n.Output(0))
	axis := n.Int("axis", 0)
	if axis < 0 {
		axis += int64(len(d))
	}
	if axis < 0 || axis >= int64(len(d)) || product(d[:axis]) != 1 {
		return nil
	}
	var out []piece
	at := int64(0)
	seen := map[*span]int{}
	for _, x := range n.Inputs() {
		size := Size(x)
		if size == 0 {
			return nil
		}
		s := a.of[a.origin(x)]
		if s != nil {
			seen[s]++
		}
		if s != nil && s.last == i && at%alignment == 0 && Size(a.origin(x)) == size {
			out = append(out, piece{s, at})
		}
		at += size
	}
	return slices.DeleteFunc(out, func(p piece) bool { return seen[p.s] > 1 })
}

// joined puts the pieces into the output of n, at place i, and says whether it did.
func (a *arrangement) joined(n *ir.Node, i int, parts []piece, use []int64) bool {
	whole := a.of[n.Output(0)]
	first := i
	for _, p := range parts {
		first = min(first, p.s.first)
	}
	change := make([]int64, i+1-first)
	for k := first; k < i; k++ {
		change[k-first] += whole.bytes
	}
	for _, p := range parts {
		for k := p.s.first; k <= i; k++ {
			change[k-first] -= p.s.bytes
		}
	}
	var before, after int64
	for k, c := range change {
		before, after = max(before, use[first+k]), max(after, use[first+k]+c)
	}
	if after > before {
		return false
	}
	for k, c := range change {
		use[first+k] += c
	}
	whole.first = first
	for _, p := range parts {
		for k, name := range p.s.names {
			whole.names, whole.parts = append(whole.names, name), append(whole.parts, p.at+p.s.parts[k])
		}
		for v, s := range a.of {
			if s == p.s {
				a.of[v] = whole
			}
		}
	}
	return true
}
