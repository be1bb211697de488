package format_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/owulveryck/onnx-go/backend/testbackend"
	_ "github.com/owulveryck/onnx-go/backend/testbackend/onnx"
	"gorgonia.org/tensor"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// conformanceCases are ONNX's own operator tests as onnx-go holds them.
func conformanceCases() []*testbackend.TestCase {
	var out []*testbackend.TestCase
	for _, make := range testbackend.GetAllRegisteredTests() {
		out = append(out, make())
	}
	slices.SortFunc(out, func(a, b *testbackend.TestCase) int { return strings.Compare(a.Title, b.Title) })
	return out
}

func product(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}

func fromGorgonia(x tensor.Tensor) (*ir.Tensor, error) {
	var dims []int64
	for _, d := range x.Shape() {
		dims = append(dims, int64(d))
	}
	switch v := x.Data().(type) {
	case []float32:
		return ir.FromFloat32s(v, dims...)
	case []float64:
		return ir.FromFloat64s(v, dims...)
	case []int64:
		return ir.FromInt64s(v, dims...)
	case []int32:
		return ir.FromInt32s(v, dims...)
	case []int8:
		return ir.FromInt8s(v, dims...)
	case []uint8:
		return ir.FromUint8s(v, dims...)
	case []bool:
		return ir.FromBools(v, dims...)
	}
	return nil, nil
}

// Every conformance model loads and survives a round trip; those that onnxruntime runs give the same bits at opset 17.
func TestConformanceModels(t *testing.T) {
	orttest.TestLibrary(t)
	cases := conformanceCases()
	if len(cases) < 300 {
		t.Fatalf("only %d cases", len(cases))
	}
	ran, outputs, known := 0, 0, 0
	for _, c := range cases {
		m, err := format.Parse(c.ModelB, "")
		if err != nil {
			t.Errorf("%s: %v", c.Title, err)
			continue
		}
		checkParse(t, c.ModelB)
		shaped, err := format.Parse(c.ModelB, "")
		if err != nil {
			t.Fatal(err)
		}
		op.ClearTypes(shaped.Graph)
		if err := op.InferModel(shaped, nil); err != nil {
			t.Errorf("%s: %v", c.Title, err)
			continue
		}
		for i, o := range shaped.Graph.Outputs() {
			d, static := o.StaticDims()
			if i >= len(c.ExpectedOutput) || c.ExpectedOutput[i] == nil {
				continue
			}
			outputs++
			want := c.ExpectedOutput[i].Shape()
			if !static {
				continue
			}
			known++
			n := 1 // onnx-go records single numbers as vectors
			for _, k := range want {
				n *= k
			}
			same := len(d) == len(want) || len(d) == 0 && n == 1 || len(want) == 0 && product(d) == 1
			for k := range d {
				same = same && (k >= len(want) || d[k] == int64(want[k]))
			}
			if !same {
				t.Errorf("%s: output %s is inferred as %v, recorded as %v", c.Title, o.Name(), d, want)
			}
		}
		feeds := map[string]*ir.Tensor{}
		for i, v := range m.Graph.Inputs() {
			if i < len(c.Input) {
				if x, err := fromGorgonia(c.Input[i]); err == nil && x != nil && x.DType() == v.DType() {
					feeds[v.Name()] = x
				}
			}
		}
		if len(feeds) != len(m.Graph.Inputs()) || m.Opset("") < 7 {
			continue
		}
		want, err := ort.Evaluator{}.Run(marshal(t, m), feeds)
		if err != nil || strings.HasPrefix(m.Graph.First().Op, "Random") {
			continue
		}
		if err := format.Upgrade(m, 17); err != nil {
			t.Logf("%s: %v", c.Title, err)
			continue
		}
		got, err := ort.Evaluator{}.Run(marshal(t, m), feeds)
		if err != nil {
			t.Errorf("%s: at opset 17: %v", c.Title, err)
			continue
		}
		for name, w := range want {
			if !bytes.Equal(got[name].Raw(), w.Raw()) {
				t.Errorf("%s: output %s changed with opset 17", c.Title, name)
			}
		}
		ran++
	}
	t.Logf("%d models, %d of them run at both opsets; %d of %d recorded outputs have the shape inferred", len(cases), ran, known, outputs)
	if ran < 200 {
		t.Errorf("only %d models ran", ran)
	}
}
