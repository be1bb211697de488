package mqat

import "testing"

func TestUsualEpochs(t *testing.T) {
	for _, c := range []struct {
		macs, images int64
		stages       int
		want         float64
	}{
		{578e6, 116, 3, 4},      // NanoDet
		{1295e6, 116, 3, 2},     // PP-OCR
		{1e6, 100, 3, 16},       // small networks stop at the most
		{1e9, 100_000, 2, .005}, // large data: a part of an epoch
		{0, 100, 3, 16},         // sizes that are not known
	} {
		if got := usualEpochs(c.macs, c.images, c.stages); got != c.want {
			t.Errorf("%d multiply-accumulates, %d images, %d stages: %g epochs, want %g", c.macs, c.images, c.stages, got, c.want)
		}
	}
}

func TestUsualProbes(t *testing.T) {
	for macs, want := range map[int64]int{0: 32, 578e6: 32, 1295e6: 15, 1e12: 8} {
		if got := usualProbes(macs); got != want {
			t.Errorf("%d multiply-accumulates: %d probes, want %d", macs, got, want)
		}
	}
}
