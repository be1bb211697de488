package mqat

import (
	"testing"

	"mqatc/onnx/op"
	"mqatc/onnx/text"
)

func TestUsualEpochs(t *testing.T) {
	for _, c := range []struct {
		work, images int64
		stages       int
		want         float64
	}{
		{3687e6, 116, 3, 4},       // NanoDet
		{2234e6, 116, 3, 6},       // BlazePose
		{11009e6, 116, 3, 1},      // PP-OCR
		{1e6, 100, 3, 16},         // small networks stop at the most
		{1e10, 100_000, 2, .0026}, // large data: a part of an epoch
		{0, 100, 3, 16},           // sizes that are not known
	} {
		if got := usualEpochs(c.work, c.images, c.stages); got != c.want {
			t.Errorf("work %d, %d images, %d stages: %g epochs, want %g", c.work, c.images, c.stages, got, c.want)
		}
	}
}

func TestUsualProbes(t *testing.T) {
	for work, want := range map[int64]int{0: 32, 3687e6: 32, 11009e6: 10, 1e12: 8} {
		if got := usualProbes(work); got != want {
			t.Errorf("work %d: %d probes, want %d", work, got, want)
		}
	}
}

func TestWork(t *testing.T) {
	m, err := text.Parse("net.onnxtxt", []byte(`<ir_version: 10, opset_import: ["": 21]>
g (float[N,3,8,8] x, float[5,3,3,3] w) => (float[N,5,8,8] y) {
  c = Conv<pads: ints = [1, 1, 1, 1]>(x, w)
  s = Shape(c)
  y = Reshape(c, s)
}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.InferModel(m, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := work(m), int64(5*8*8*27+valueWork*2*5*8*8); got != want {
		t.Errorf("work %d, want %d", got, want)
	}
}
