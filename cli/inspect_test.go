package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
)

// A large model is told about without being read: its digest is left out unless asked for.
func TestInspectOfALargeModel(t *testing.T) {
	m := ir.NewModel("large", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(17, 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	w, err := ir.FromFloat32s(make([]float32, 17<<20), 17, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	v, err := m.Graph.AddInitializer("w", w)
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Graph.Append(ir.NodeSpec{Op: "Add", Inputs: []*ir.Value{x, v}, Outputs: []string{"y"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.AddOutput(n.Output(0)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.onnx")
	if _, err := format.Save(m, path, format.SaveOptions{ExternalFile: "m.data"}); err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, f := range []string{path, filepath.Join(filepath.Dir(path), "m.data")} {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	for _, digest := range []bool{false, true} {
		args := []string{"mqatc", "inspect", path, "--json"}
		if digest {
			args = append(args, "--digest")
		}
		var out, errs bytes.Buffer
		if code := Main(args, &out, &errs); code != 0 {
			t.Fatalf("exit %d: %s", code, errs.String())
		}
		var d inspection
		if err := json.Unmarshal(out.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		if d.Bytes != size || (len(d.SHA256) == 64) != digest {
			t.Errorf("digest %v: %d bytes of %d, sha256 %q", digest, d.Bytes, size, d.SHA256)
		}
	}
}
