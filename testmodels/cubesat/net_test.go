package cubesat

import (
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func TestNetworkParameters(t *testing.T) {
	m, err := Network(1, 96, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, v := range m.Graph.Initializers() {
		if module, _, ok := strings.Cut(v.Name(), "."); ok {
			got[module] += v.Init().Len()
		}
	}
	want := map[string]int64{"backbone": 666056, "fpn": 134528, "head": 157524}
	for module, n := range want {
		if got[module] != n {
			t.Errorf("%s has %d parameters, want %d", module, got[module], n)
		}
	}
}

func TestNetworkRuns(t *testing.T) {
	orttest.TestLibrary(t)
	m, err := Network(1, 64, 0.25)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, n := range []int64{1, 3} {
		x, err := ir.FromFloat32s(make([]float32, n*3*64*64), n, 3, 64, 64)
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Run(map[string]*ir.Tensor{"image": x}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := out["reg_16"].Dims(); d[0] != n || d[1] != 16 || d[2] != 4 || d[3] != 4 {
			t.Errorf("reg_16 is %v", d)
		}
		if len(out) != 6 {
			t.Errorf("%d outputs", len(out))
		}
	}
}

func TestNetworkRefusals(t *testing.T) {
	for _, c := range []struct {
		size  int
		width float64
	}{{100, 1}, {0, 1}, {96, 0}, {96, 1e9}} {
		if _, err := Network(1, c.size, c.width); err == nil {
			t.Errorf("size %d width %v accepted", c.size, c.width)
		}
	}
}
