package memory

import (
	"cmp"
	"slices"
)

// packing bounds the pairs of spans that pack looks at.
const packing = 100_000_000

// pack gives spans that are in use at the same time places that do not overlap, and returns the end of the last. Of some orders in
// which to place them it takes the one that needs least.
func pack(spans []*span, places int) int64 {
	length := func(s *span) int64 { return int64(s.last - s.first + 1) }
	least, _ := live(spans, places)
	var best int64 = -1
	var at []int64
	var order []*span
	try := func(todo []*span) {
		if end := place(todo); best < 0 || end < best {
			best, at, order = end, at[:0], slices.Clone(todo)
			for _, s := range spans {
				at = append(at, s.at)
			}
		}
	}
	for _, first := range []func(x, y *span) int{
		func(x, y *span) int { return cmp.Compare(y.bytes, x.bytes) },
		func(x, y *span) int { return cmp.Compare(y.bytes*length(y), x.bytes*length(x)) },
		func(x, y *span) int { return cmp.Compare(length(y), length(x)) },
		func(x, y *span) int { return cmp.Compare(x.first, y.first) },
		func(x, y *span) int { return cmp.Compare(y.last, x.last) },
	} {
		todo := slices.Clone(spans)
		slices.SortStableFunc(todo, func(x, y *span) int {
			return cmp.Or(first(x, y), cmp.Compare(y.bytes, x.bytes), cmp.Compare(x.first, y.first))
		})
		try(todo)
	}
	todo := slices.Clone(order)
	for range packing / (len(spans)*len(spans) + 1) {
		if best <= least {
			break
		}
		place(todo)
		var end int64
		high := 0
		for i, s := range todo {
			if s.at+s.bytes > end {
				high, end = i, s.at+s.bytes
			}
		}
		if high == 0 {
			break
		}
		s := todo[high]
		todo = slices.Insert(slices.Delete(todo, high, high+1), 0, s)
		try(todo)
	}
	for i, s := range spans {
		s.at = at[i]
	}
	return max(best, 0)
}

// place gives spans, one after the other, the lowest place that is free.
func place(todo []*span) int64 {
	var done []*span // by place
	var end int64
	for _, s := range todo {
		at := int64(0)
		for _, d := range done {
			if d.first > s.last || d.last < s.first {
				continue
			}
			if d.at >= at+s.bytes {
				break
			}
			at = max(at, d.at+d.bytes)
		}
		s.at = at
		i, _ := slices.BinarySearchFunc(done, s, func(x, y *span) int { return cmp.Compare(x.at, y.at) })
		done = slices.Insert(done, i, s)
		end = max(end, at+s.bytes)
	}
	return end
}

// live is the most that spans take at a time, and where.
func live(spans []*span, places int) (most int64, at int) {
	change := make([]int64, places+1)
	for _, s := range spans {
		change[s.first] += s.bytes
		change[s.last+1] -= s.bytes
	}
	var now int64
	for i, c := range change {
		if now += c; now > most {
			most, at = now, i
		}
	}
	return most, at
}
