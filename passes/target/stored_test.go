package target

import (
	"math"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/passes/quant"
	"mqatc/runtime/ort"
)

// The stored tensors must give back the codes' values, and the model must load with its weights beside it.
func TestStoredTensors(t *testing.T) {
	run := newRunner(t)
	for _, r := range []struct {
		target, quantizer string
		bits              int
	}{{"onnxruntime", "lsq", 4}, {"onnxruntime", "inq", 2}, {"weights", "ptq", 8}, {"weights", "inq-pow2", 5}, {"tensorrt", "lsq", 3}} {
		m := layers(t, 23)
		tg, err := Find(r.target)
		if err != nil {
			t.Fatal(err)
		}
		spec, on, _ := allWeights(m, r.bits, r.quantizer)
		in := feeds(t, m, 2, 3)
		c := compile(t, tg, m, spec, on, run, in, quant.MSE)
		path := filepath.Join(t.TempDir(), "model.onnx")
		if _, err := format.Save(c.out.Model, path, format.SaveOptions{ExternalFile: "weights.bin", External: c.out.External}); err != nil {
			t.Fatal(err)
		}
		s, err := ort.NewSessionFile(path, ort.SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		loaded, err := format.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := StoredTensors(loaded)
		if err != nil {
			t.Fatal(err)
		}
		by := map[string]Stored{}
		for _, x := range stored {
			by[x.Name] = x
		}
		for _, code := range c.codes {
			x, ok := by[code.Name]
			if !ok {
				t.Fatalf("%s: %q is not listed", r.target, code.Name)
			}
			q, err := loaded.Graph.Value(x.Name).Init().Ints()
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range code.Values() {
				got := float32(q[i])
				if x.Codebook != nil {
					got = x.Codebook[q[i]]
				}
				got *= x.Scales[min(code.Channel(i), len(x.Scales)-1)]
				if math.Abs(float64(got-want)) > 1e-6*math.Abs(float64(want)) || x.Axis != code.Axis {
					t.Fatalf("%s %s: %q element %d is stored as %g along axis %d, want %g along %d", r.target, r.quantizer, x.Name, i, got, x.Axis, want, code.Axis)
				}
			}
		}
		if b, ok := by["stem.bias"]; !ok || (r.target == "onnxruntime") != (len(b.Scales) > 0) {
			t.Errorf("%s: bias %+v", r.target, b)
		}
	}
}
