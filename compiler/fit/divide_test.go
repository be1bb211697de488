package fit

import "testing"

func TestPartsOf(t *testing.T) {
	for _, c := range [][3]int{{1, 8, 1}, {2, 8, 2}, {3, 8, 2}, {4, 8, 4}, {64, 8, 4}, {4, 6, 2}, {4, 7, 1}, {8, 1, 1}, {8, 4, 4}} {
		if n := PartsOf(c[0], c[1]); n != c[2] {
			t.Errorf("%d threads, %d images: %d parts, want %d", c[0], c[1], n, c[2])
		}
	}
	if n := PartsOf(0, 4); n < 1 || n > mostParts {
		t.Errorf("as many threads as processors: %d parts", n)
	}
}
