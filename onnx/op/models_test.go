package op_test

import (
	"math/rand/v2"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// openDims gives the sizes of inputs that a file leaves open.
var openDims = map[string]map[string][]int64{"ch_PP-OCRv4_det_infer": {"x": {1, 3, 64, 96}}}

// checkRun makes every value of m an output, runs it and compares the shapes and element types with the inferred ones.
// The share of values whose shape was inferred in full is returned.
func checkRun(t *testing.T, m *ir.Model, feeds map[string]*ir.Tensor) (full, all int) {
	t.Helper()
	inferred := map[string]ir.Type{}
	for n := m.Graph.First(); n != nil; n = n.Next() {
		for _, o := range n.Outputs() {
			if o.Name() == "" || o.Type.Kind != ir.KindTensor && o.Type.Kind != ir.KindUnknown {
				continue
			}
			inferred[o.Name()] = o.Type
			if !o.IsOutput() {
				o.Type.Shape = nil
				if err := m.Graph.AddOutput(o); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	data, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(data, ort.SessionOptions{OptLevel: ort.DisableAll, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range out {
		want := inferred[name]
		all++
		if _, ok := want.Shape.Static(); ok {
			full++
		}
		if want.Kind != ir.KindTensor || want.Elem != x.DType() {
			t.Errorf("%s: inferred %v, is %v", name, want, x.Type())
			continue
		}
		if want.Shape == nil {
			continue
		}
		if len(want.Shape) != len(x.Dims()) {
			t.Errorf("%s: inferred %v, is %v", name, want, x.Type())
			continue
		}
		for i, d := range want.Shape {
			if d.Known() && d.Size != x.Dims()[i] {
				t.Errorf("%s: inferred %v, is %v", name, want, x.Type())
				break
			}
		}
	}
	return full, all
}

func randomFeeds(t *testing.T, m *ir.Model) map[string]*ir.Tensor {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	feeds := map[string]*ir.Tensor{}
	for _, v := range m.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		dims, ok := v.StaticDims()
		if !ok {
			t.Fatalf("input %s has shape %v", v.Name(), v.Shape())
		}
		n, err := ir.NumElements(dims)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = r.Float32()
		}
		if feeds[v.Name()], err = ir.FromFloat32s(x, dims...); err != nil {
			t.Fatal(err)
		}
	}
	return feeds
}

func TestSharedModelsMatchOnnxruntime(t *testing.T) {
	orttest.TestLibrary(t)
	for _, name := range sharedModels {
		t.Run(name, func(t *testing.T) {
			m := sharedModel(t, name)
			op.ClearTypes(m.Graph)
			if err := op.InferModel(m, openDims[name]); err != nil {
				t.Fatal(err)
			}
			full, all := checkRun(t, m, randomFeeds(t, m))
			if full != all {
				t.Errorf("%d of %d values have a complete shape", full, all)
			}
		})
	}
}

func TestSharedModelsAgreeWithTheirFiles(t *testing.T) {
	for _, name := range sharedModels {
		t.Run(name, func(t *testing.T) {
			m := sharedModel(t, name)
			if err := op.InferModel(m, openDims[name]); err != nil {
				t.Fatal(err)
			}
			for n := m.Graph.First(); n != nil; n = n.Next() {
				for _, o := range n.Outputs() {
					if _, ok := o.StaticDims(); !ok {
						t.Errorf("%v: %s is %v", n, o.Name(), o.Type)
					}
				}
			}
		})
	}
}
