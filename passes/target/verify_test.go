package target

import (
	"testing"

	"mqatc/onnx/ir"
)

// scripted plays a runtime whose models compute 1 and, at one level, something beside it.
type scripted struct {
	fake       *ir.Model
	fakeError  float32
	otherError float32
}

type scriptedSession float32

func (s scriptedSession) Run(map[string]*ir.Tensor, []string) (map[string]*ir.Tensor, error) {
	t, err := ir.FromFloat32s([]float32{1, 1 + float32(s)}, 2)
	return map[string]*ir.Tensor{"y": t}, err
}

func (scriptedSession) Close() error { return nil }

func (s scripted) Open(m *ir.Model, level Level) (Session, error) {
	switch {
	case level != All:
		return scriptedSession(0), nil
	case m == s.fake:
		return scriptedSession(s.fakeError), nil
	}
	return scriptedSession(s.otherError), nil
}

func (s scripted) Optimized(m *ir.Model, _ Level) (*ir.Model, error) { return m, nil }

// Float kernels of different levels may be as far apart as the network itself makes them, and no further.
func TestLevelsOfFloatNetworks(t *testing.T) {
	build := func() *ir.Model {
		n := newNet(t, 1, 17)
		n.output(n.op("Relu", []*ir.Value{n.input(2)}), "y")
		return n.m
	}
	tg, err := Find("weights")
	if err != nil {
		t.Fatal(err)
	}
	in := []map[string]*ir.Tensor{{}}
	for _, c := range []struct {
		fake, emitted float32
		ok            bool
	}{{0, 5e-5, true}, {0, 2e-4, false}, {1.5e-4, 2e-4, true}, {1.5e-4, 4e-4, false}, {0.02, 0.02, false}} {
		fake := build()
		_, err := tg.Verify(scripted{fake, c.fake, c.emitted}, fake, &Emitted{}, build(), in)
		if (err == nil) != c.ok {
			t.Errorf("the network %g from itself and %g as emitted: %v", c.fake, c.emitted, err)
		}
	}
}
