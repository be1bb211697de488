package target

import (
	"fmt"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/quant"
)

// emittedBias is what a stored bias of an emitted model is worth.
func emittedBias(t *testing.T, m *ir.Model, name string) []float32 {
	t.Helper()
	stored, err := StoredTensors(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stored {
		if s.Name != name {
			continue
		}
		f, err := m.Graph.Value(name).Init().Floats()
		if err != nil {
			t.Fatal(err)
		}
		out := make([]float32, len(f))
		for i, x := range f {
			out[i] = float32(x)
			if len(s.Scales) > 0 {
				out[i] *= s.Scales[min(i, len(s.Scales)-1)]
			}
		}
		return out
	}
	t.Fatalf("%q is not listed", name)
	return nil
}

// Beside the codes each channel takes 4 bytes, 2 of them a scale and 2 a bias, where there are enough channels for that to pay.
func TestBytesPerChannel(t *testing.T) {
	run := newRunner(t)
	for _, r := range []struct {
		target  string
		float   bool
		k       int64
		channel int64
	}{{"onnxruntime", false, 48, 4}, {"onnxruntime", true, 48, 4}, {"weights", true, 48, 4}, {"onnxruntime", false, 31, 8}, {"tensorrt", false, 48, 8}} {
		tg, err := Find(r.target)
		if err != nil {
			t.Fatal(err)
		}
		if r.float {
			tg.Activation = ir.Undefined
		}
		m := chain(t, r.k)
		spec, on, _ := allWeights(m, 8, "lsq")
		in := feeds(t, m, 2, 5)
		c := compile(t, tg, m, spec, on, run, in, quant.MSE)
		loaded := reload(t, c.out.Model)
		if _, err := tg.Verify(run, c.fake, c.out, loaded, in); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
		got, err := Payload(loaded)
		if err != nil {
			t.Fatal(err)
		}
		codes := r.k*4*9 + 2*r.k*r.k*9 + 3*r.k
		// conv3 has three channels, too few in any case.
		if want := codes + 3*r.k*r.channel + 3*8; got != want {
			t.Errorf("%+v: payload %d bytes, want %d", r, got, want)
		}
	}
}

// The bias that is described must be the one that the fake-quantized model adds, to the bit.
func TestStoredBiasesAreThoseAdded(t *testing.T) {
	for _, perTensor := range []bool{false, true} {
		t.Run(fmt.Sprint("per tensor ", perTensor), func(t *testing.T) { storedBiases(t, perTensor) })
	}
}

func storedBiases(t *testing.T, perTensor bool) {
	run := newRunner(t)
	tg, err := Find("onnxruntime")
	if err != nil {
		t.Fatal(err)
	}
	m := layers(t, 41)
	spec, on, _ := allWeights(m, 8, "lsq")
	for name, ws := range spec {
		ws.PerTensor = perTensor
		spec[name] = ws
	}
	in := feeds(t, m, 2, 5)
	c := compile(t, tg, m, spec, on, run, in, quant.MSE)
	loaded := reload(t, c.out.Model)
	if _, err := tg.Verify(run, c.fake, c.out, loaded, in); err != nil {
		t.Error(err)
	}
	for _, b := range c.report.Biases {
		fake, err := c.fake.Clone()
		if err != nil {
			t.Fatal(err)
		}
		if err := fake.Graph.SetOutputs(fake.Graph.Value(b.Output)); err != nil {
			t.Fatal(err)
		}
		out, err := outputsOf(run, fake, DisableAll, in[:1])
		if err != nil {
			t.Fatal(err)
		}
		want, err := out[0][b.Output].Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range emittedBias(t, loaded, b.Bias) {
			if x != want[i] {
				t.Fatalf("bias %q, element %d: stored %g, added %g", b.Bias, i, x, want[i])
			}
		}
	}
	if len(c.report.Halves) == 0 {
		t.Error("no bias is added in float")
	}
	for _, name := range c.report.Halves {
		want, err := c.fake.Graph.Value(name).Init().Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range emittedBias(t, loaded, name) {
			if x != want[i] || loaded.Graph.Value(name).Init().DType() != ir.Float16 {
				t.Fatalf("bias %q, element %d: stored %g, added %g", name, i, x, want[i])
			}
		}
	}
}
