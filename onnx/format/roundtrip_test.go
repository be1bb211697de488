package format_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
)

func load(t testing.TB, path string) *ir.Model {
	t.Helper()
	m, err := format.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	return m
}

func marshal(t testing.TB, m *ir.Model) []byte {
	t.Helper()
	data, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSharedModelsRoundTrip(t *testing.T) {
	for _, name := range sharedModels {
		t.Run(name, func(t *testing.T) {
			m := load(t, sharedModel(t, name))
			first := marshal(t, m)
			again, err := format.Parse(first, "")
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, marshal(t, again)) {
				t.Fatal("load, save, load changed the bytes")
			}
			path := filepath.Join(t.TempDir(), "out.onnx")
			if _, err := format.Save(m, path, format.SaveOptions{}); err != nil {
				t.Fatal(err)
			}
			file, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(file, first) {
				t.Fatalf("Save streams other bytes than Marshal makes: %v", err)
			}
		})
	}
}
