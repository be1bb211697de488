package ort_test

import (
	"testing"

	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func TestInfo(t *testing.T) {
	l := orttest.TestLibrary(t)
	inf, err := ort.Info()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", inf)
	if inf.Library.Path != l.Path || inf.Version == "" || inf.Build == "" || len(inf.SHA256) != 64 {
		t.Errorf("incomplete: %+v", inf)
	}
	if inf.MaxOpset < 25 || inf.MaxOpset > 60 || inf.MaxIR < 11 || inf.MaxIR > 40 {
		t.Errorf("opset %d, IR %d", inf.MaxOpset, inf.MaxIR)
	}
	cpu := false
	for _, p := range inf.Providers {
		cpu = cpu || p == "CPUExecutionProvider"
	}
	if !cpu {
		t.Errorf("providers %v", inf.Providers)
	}
}
