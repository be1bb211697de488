package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPageTellsEverything(t *testing.T) {
	r := &Report{
		Model: "net<script>.onnx", Method: "mqat", Metric: "ADD-0.1d", Partition: "structure", Flow: []string{"fpn", "head"},
		Modules:  []Module{{Name: "fpn", Bits: 2, Bytes: 100}, {Name: "head", Bits: 8, Bytes: 900}},
		Methods:  []Method{{Name: "float", Metric: 0.9, Bytes: 4000, Achieved: 1}, {Name: "mqat", Metric: 0.91, Bytes: 1000, Achieved: 4, Bits: map[string]int{"fpn": 2, "head": 8}}},
		Stages:   []Stage{{Module: "fpn", Bits: 2, Before: .1, After: .05, Steps: 7, Kept: false}, {Module: "head", Bits: 8, Before: .1, After: .1}},
		Layers:   []Layer{{Name: "a", Module: "fpn", N: 10, Lambda: 3}, {Name: "b", Module: "head", N: 10, Lambda: 0}},
		Frontier: []Point{{Bytes: 1000, Cost: 2}, {Bytes: 500, Cost: 9}},
		Size:     Size{PayloadAfter: 1000},
		Curves:   map[string]Curve{"fpn": {3, 2, 1}},
		Verify:   []Level{{Level: "all", Output: "y", OK: false}},
	}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	s := string(raw)
	for _, want := range []string{"ADD-0.1d", "fpn → head", "training discarded", "not trained<", "differs", "fpn 2, head 8", "0.9100", "&lt;script&gt;"} {
		if !strings.Contains(s, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(s, "<svg"); n != 3 {
		t.Errorf("%d plots, want 3", n)
	}
	if strings.Contains(s, "<script>") {
		t.Error("a model's name got into the page unescaped")
	}
}

func TestEmptyReport(t *testing.T) {
	if err := (&Report{}).Write(t.TempDir()); err != nil {
		t.Fatal(err)
	}
}
