package op_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/onnx/pb"
)

// TestConformance infers the ONNX backend node cases, whose folder (that of libonnx-testdata, or of the onnx package's
// generate-data) MQATC_ONNX_TESTDATA names, and compares with the declared types and the recorded results. Small inputs become
// constants, so that sizes that depend on values are inferred too.
func TestConformance(t *testing.T) {
	dir := os.Getenv("MQATC_ONNX_TESTDATA")
	if dir == "" {
		t.Skip("needs the ONNX backend cases (set MQATC_ONNX_TESTDATA to the folder that holds node/)")
	}
	files, err := filepath.Glob(filepath.Join(dir, "node", "*", "model.onnx"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no node/*/model.onnx in %s: %v", dir, err)
	}
	var full, all, unknownOps int
	for _, path := range files {
		m, err := format.Load(path)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(filepath.Dir(path)), err)
			continue
		}
		if name := missingOperator(m.Graph); name != "" {
			unknownOps++
			t.Logf("no row for %s", name)
			continue
		}
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			f, a := conform(t, m, filepath.Join(filepath.Dir(path), "test_data_set_0"))
			full, all = full+f, all+a
		})
	}
	t.Logf("%d cases, %d of them with operators without a row; %d of %d outputs have a complete shape", len(files), unknownOps, full, all)
	if all > 100 && full*100 < all*85 {
		t.Errorf("only %d of %d outputs have a complete shape", full, all)
	}
}

func missingOperator(g *ir.Graph) string {
	for n := g.First(); n != nil; n = n.Next() {
		if op.Lookup(n.Domain, n.Op) == nil {
			return n.Op
		}
		for _, s := range n.Subgraphs() {
			if name := missingOperator(s); name != "" {
				return name
			}
		}
	}
	return ""
}

func conform(t *testing.T, m *ir.Model, data string) (full, all int) {
	t.Helper()
	for i, v := range append([]*ir.Value(nil), m.Graph.Inputs()...) {
		x := readTensor(filepath.Join(data, fmt.Sprintf("input_%d.pb", i)))
		if x == nil || x.Len() > 4096 || v.Type.Kind != ir.KindTensor {
			continue
		}
		if err := m.Graph.InitializerFromInput(v, x); err != nil {
			t.Fatal(err)
		}
	}
	op.ClearTypes(m.Graph)
	if err := op.InferModel(m, nil); err != nil {
		t.Error(err)
		return 0, 0
	}
	for i, o := range m.Graph.Outputs() {
		x := readTensor(filepath.Join(data, fmt.Sprintf("output_%d.pb", i)))
		if x == nil {
			continue
		}
		all++
		if o.Type.Kind == ir.KindUnknown {
			continue
		}
		if o.Type.Kind != ir.KindTensor || o.Type.Elem != x.DType() {
			t.Errorf("output %s: inferred %v, recorded %v", o.Name(), o.Type, x.Type())
			continue
		}
		if o.Shape() == nil {
			continue
		}
		if len(o.Shape()) != len(x.Dims()) {
			t.Errorf("output %s: inferred %v, recorded %v", o.Name(), o.Type, x.Type())
			continue
		}
		for k, d := range o.Shape() {
			if d.Known() && d.Size != x.Dims()[k] {
				t.Errorf("output %s: inferred %v, recorded %v", o.Name(), o.Type, x.Type())
				break
			}
		}
		if v, ok := op.ConstFloats(o); ok {
			want, err := x.Floats()
			if err == nil && len(v) == len(want) {
				for k := range v {
					if d := v[k] - want[k]; d > 1e-5*(1+want[k]*want[k]) || -d > 1e-5*(1+want[k]*want[k]) {
						t.Errorf("output %s: element %d evaluates to %v, recorded %v", o.Name(), k, v[k], want[k])
						break
					}
				}
			}
		}
		if _, ok := o.StaticDims(); ok {
			full++
		} else {
			t.Logf("output %s: inferred %v, recorded %v", o.Name(), o.Type, x.Type())
		}
	}
	return full, all
}

// readTensor reads a TensorProto file; nil when there is none, or it holds something else.
func readTensor(path string) *ir.Tensor {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	p := new(pb.TensorProto)
	if p.Unmarshal(data) != nil {
		return nil
	}
	name, version := "x", int64(8)
	p.Name = &name
	model := &pb.ModelProto{IrVersion: &version, Graph: &pb.GraphProto{
		Initializer: []*pb.TensorProto{p}, Output: []*pb.ValueInfoProto{{Name: &name}}}}
	raw, err := model.Marshal()
	if err != nil {
		return nil
	}
	m, err := format.Parse(raw, "")
	if err != nil {
		return nil
	}
	return m.Graph.Initializers()[0].Init()
}
