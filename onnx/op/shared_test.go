package op_test

import (
	"os"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
)

var sharedModels = []string{
	"blazepose_landmark_lite", "ch_PP-OCRv4_det_infer", "nanodet_m_416", "objectron_cup", "ultraface-version-RFB-320", "yunet_n_320_320",
}

// sharedModel loads a real network, or skips the test.
func sharedModel(t testing.TB, name string) *ir.Model {
	t.Helper()
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		wd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for d := wd; d != filepath.Dir(d); d = filepath.Dir(d) {
			if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
				dir = filepath.Join(d, "..", "shared")
				break
			}
		}
	}
	path := filepath.Join(dir, "models", name+".onnx")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs the network %s (set MQATC_SHARED to the folder that holds models/)", path)
	}
	m, err := format.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
