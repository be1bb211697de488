package quant

import (
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
)

func marshal(t *testing.T, m *ir.Model) []byte {
	t.Helper()
	data, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
