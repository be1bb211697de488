package lower_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/lower"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// forms takes the form of each site at a place, the last where there are fewer, and compares what the networks of all forms compute.
type forms struct {
	t    *testing.T
	at   int
	seen map[string]int
}

func (f *forms) Cheapest(s lower.Site) (string, error) {
	var first []float64
	rng := rand.New(rand.NewPCG(3, 4))
	feeds := map[string]*ir.Tensor{}
	for _, form := range s.Forms {
		m, err := s.Model(form)
		if err != nil {
			return "", err
		}
		session, err := ort.Load(m, ort.SessionOptions{Threads: 1})
		if err != nil {
			return "", err
		}
		for _, v := range m.Graph.Inputs() {
			if feeds[v.Name()] == nil {
				d, _ := v.StaticDims()
				n, _ := ir.NumElements(d)
				x := make([]float32, n)
				for i := range x {
					x[i] = float32(rng.NormFloat64())
				}
				if feeds[v.Name()], err = ir.FromFloat32s(x, d...); err != nil {
					return "", err
				}
			}
		}
		out, err := session.Run(feeds, nil)
		session.Close()
		if err != nil {
			return "", err
		}
		y, err := out[m.Graph.Outputs()[0].Name()].Floats()
		if err != nil {
			return "", err
		}
		if first == nil {
			first = y
		}
		if len(y) != len(first) {
			f.t.Errorf("%s: %d values in the form %s, %d in %s", s.Key, len(y), form, len(first), s.Forms[0])
			continue
		}
		off, all := 0.0, 0.0
		for i := range y {
			off, all = off+(y[i]-first[i])*(y[i]-first[i]), all+first[i]*first[i]
		}
		if !(off <= 1e-9*all) {
			f.t.Errorf("%s: form %s differs by %g of the norm from %s", s.Key, form, math.Sqrt(off/all), s.Forms[0])
		}
	}
	form := s.Forms[min(f.at, len(s.Forms)-1)]
	f.seen[strings.Fields(s.Key)[0]+" "+form]++
	return form, nil
}

// TestForms: all forms of a node compute the same, alone and within a step, and every form is met.
func TestForms(t *testing.T) {
	orttest.TestLibrary(t)
	seen := map[string]int{}
	for at := range 6 {
		for _, c := range convolutions {
			b, x := newBuilder(t, 1, 2, 3, c.h, c.w)
			b.costs = &forms{t, at, seen}
			x = b.conv("first", x, layer{c.c, 3, 3, 1, one, one, [4]int64{1, 1, 1, 1}, "Tanh"})
			b.compare(b.conv("second", x, c.l))
		}
	}
	for _, want := range []string{"Conv blocked", "Conv standard", "ConvInputGrad blocked", "ConvInputGrad phases", "ConvInputGrad stretched", "ConvInputGrad spread",
		"ConvInputGrad standard", "ConvWeightGrad planes x planes", "ConvWeightGrad planes x rows", "ConvWeightGrad rows x rows",
		"ConvWeightGrad planes x 9 taps", "ConvWeightGrad planes x 3 taps", "ConvWeightGrad rows x 1 taps"} {
		if seen[want] == 0 {
			t.Errorf("%s was not met", want)
		}
	}
}

type failing struct{ form string }

func (f failing) Cheapest(lower.Site) (string, error) {
	if f.form == "" {
		return "", errors.New("no table")
	}
	return f.form, nil
}

// TestCostsThatFail: an error of the costs, or a form that a node does not have, ends the pass with an error.
func TestCostsThatFail(t *testing.T) {
	for form, want := range map[string]string{"": "no table", "upside down": "upside down"} {
		m := ir.NewModel("net", 17)
		x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, 16, 8, 8)))
		if err != nil {
			t.Fatal(err)
		}
		b := &builder{ir.NewBuilder(m.Graph, "", nil), t, rand.New(rand.NewPCG(1, 7)), m, nil, nil}
		w := b.init("w", 1, 16, 16, 3, 3)
		y := b.Node(ir.NodeSpec{Op: "Conv", Inputs: []*ir.Value{x, w}, Attrs: []ir.Attr{ir.AInts("pads", 1, 1, 1, 1)}}, 1)[0]
		y.Type = ir.TensorType(ir.Float32, ir.StaticShape(1, 16, 8, 8))
		if err := m.Graph.AddOutput(y); err != nil {
			t.Fatal(err)
		}
		if err := lower.Run(m, lower.Machine{Block: 8, Costs: failing{form}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("form %q: error %v", form, err)
		}
	}
}
