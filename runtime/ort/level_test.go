package ort

import "testing"

// TestLevelFor leaves out the optimizations for large graphs alone, and only where their work is known and small for their size.
func TestLevelFor(t *testing.T) {
	for _, c := range []struct {
		nodes int
		macs  float64
		want  OptLevel
	}{
		{manyNodes + 1, 1e9, DisableAll},
		{manyNodes, 1e9, All},
		{manyNodes + 1, 0, All},
		{manyNodes + 1, macsPerNode * (manyNodes + 1), All},
		{4 * manyNodes, macsPerNode * (manyNodes + 1), DisableAll},
	} {
		if got := LevelFor(c.nodes, c.macs); got != c.want {
			t.Errorf("%d nodes, %g multiply-accumulates: %v, want %v", c.nodes, c.macs, got, c.want)
		}
	}
}
