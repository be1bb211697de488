// Package onnxtest gives the tests of several packages the ONNX backend test models and their recorded tensors.
package onnxtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
)

// debianDir is where Debian's libonnx-testdata puts the models.
const debianDir = "/usr/share/libonnx-testdata/data"

// Case is one model with recorded inputs and outputs.
type Case struct {
	Folder string // node, simple, pytorch-operator, ...
	Name   string
	Path   string // of model.onnx
}

// Cases lists all models FOLDER/NAME/model.onnx below the folder that MQATC_ONNX_TESTDATA names, or else Debian's; it skips the
// test where there is none.
func Cases(t testing.TB) []Case {
	t.Helper()
	dir := os.Getenv("MQATC_ONNX_TESTDATA")
	if dir == "" {
		dir = debianDir
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("needs the ONNX backend models (Debian: libonnx-testdata; or set MQATC_ONNX_TESTDATA): no */*/model.onnx in %s", dir)
	}
	var out []Case
	for _, f := range files {
		at := filepath.Dir(f)
		out = append(out, Case{Folder: filepath.Base(filepath.Dir(at)), Name: filepath.Base(at), Path: f})
	}
	return out
}

// Feeds are the recorded tensors of g's inputs, by name; initializers among the inputs have none. complete reports whether
// every other input has one: sequences and optional values are not read.
func (c Case) Feeds(g *ir.Graph) (feeds map[string]*ir.Tensor, complete bool) {
	var in []*ir.Value
	for _, v := range g.Inputs() {
		if !v.IsInitializer() {
			in = append(in, v)
		}
	}
	return c.recorded("input", in)
}

// Results are the recorded tensors of g's outputs, by name.
func (c Case) Results(g *ir.Graph) map[string]*ir.Tensor {
	out, _ := c.recorded("output", g.Outputs())
	return out
}

func (c Case) recorded(kind string, values []*ir.Value) (map[string]*ir.Tensor, bool) {
	out := map[string]*ir.Tensor{}
	for i, v := range values {
		if v.Type.Kind != ir.KindTensor {
			continue
		}
		file := filepath.Join(filepath.Dir(c.Path), "test_data_set_0", fmt.Sprintf("%s_%d.pb", kind, i))
		if x := readTensor(file); x != nil {
			out[v.Name()] = asDeclared(x, v.DType())
		}
	}
	return out, len(out) == len(values)
}

// asDeclared reads the bits of a bfloat16 that was recorded as a uint16, NumPy having no such type.
func asDeclared(x *ir.Tensor, d ir.DType) *ir.Tensor {
	if d != ir.BFloat16 || x.DType() != ir.Uint16 {
		return x
	}
	if y, err := ir.NewTensor(d, x.Dims(), x.Raw()); err == nil {
		return y
	}
	return x
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
