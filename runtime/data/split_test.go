package data

import (
	"slices"
	"testing"
)

func TestHoldOut(t *testing.T) {
	for _, c := range []struct{ n, train, held int }{{1, 1, 1}, {2, 1, 1}, {9, 8, 1}, {10, 9, 1}, {128, 116, 12}} {
		train, held := HoldOut(c.n)
		if len(train) != c.train || len(held) != c.held {
			t.Errorf("%d: %d and %d", c.n, len(train), len(held))
		}
		if c.n > 1 {
			all := slices.Sorted(slices.Values(append(slices.Clone(train), held...)))
			for i, v := range all {
				if i != v {
					t.Fatalf("%d: %v and %v are no division", c.n, train, held)
				}
			}
		}
	}
}
