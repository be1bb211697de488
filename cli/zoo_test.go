package cli

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	"mqatc/compiler/plan"
	"mqatc/compiler/report"
	"mqatc/runtime/ort/orttest"
	"mqatc/testmodels/zoo"
)

// TestEachNetworkGoesTheWholeWay takes every network of the zoo, small, through sensitivity, plan, a few steps of training towards the
// float network, emission with its checks at every optimization level, and the result through inspect, partition and eval.
func TestEachNetworkGoesTheWholeWay(t *testing.T) {
	orttest.TestLibrary(t)
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	writeImages(t, images, 6)
	for _, a := range zoo.Table {
		t.Run(a.Name, func(t *testing.T) {
			if testing.Short() && a.Name != "gdrnet" && a.Name != "zebrapose" {
				t.Skip("left out under -short")
			}
			net, sens, out := filepath.Join(dir, a.Name+".onnx"), filepath.Join(dir, a.Name+".json"), filepath.Join(dir, a.Name)
			run := func(args ...string) []byte {
				t.Helper()
				var stdout, stderr bytes.Buffer
				if code := Main(append([]string{"mqatc"}, args...), &stdout, &stderr); code != 0 {
					t.Fatalf("%v: exit %d\n%s", args, code, stderr.String())
				}
				return stdout.Bytes()
			}
			read := func(raw []byte, v any) {
				t.Helper()
				if err := json.Unmarshal(raw, v); err != nil {
					t.Fatal(err)
				}
			}
			run("zoo", a.Name, "--size", "32", "--width", "0.0625", "-o", net)
			with := []string{"--data", images, "--loss", "distill", "--threads", "1", "--probes", "2"}
			run(append([]string{"sensitivity", net, "-o", sens}, with...)...)
			var d plan.Document
			read(run("plan", net, "--compress", "2.5x", "--sensitivity", sens, "--json"), &d)
			if d.Status != "optimal" || len(d.Bits) < 2 || d.Compress.Achieved < 2.5 {
				t.Errorf("plan: %s, widths %v, %.3f times smaller", d.Status, d.Bits, d.Compress.Achieved)
			}
			var r report.Report
			read(run(append([]string{"quantize", net, "--compress", "2.5x", "--sensitivity", sens, "--planner", "ilp", "--granularity", "module", "--placement", "all",
				"--equalize=false", "--epochs", "1", "--batch", "3", "--json", "-o", out}, with...)...), &r)
			if len(r.Stages) != len(d.Bits) || r.Size.Achieved < 2.5 || len(r.Verify) == 0 {
				t.Errorf("quantize: %d stages of %d, %.3f times smaller, %d outputs verified", len(r.Stages), len(d.Bits), r.Size.Achieved, len(r.Verify))
			}
			for _, s := range r.Stages {
				if s.Steps == 0 {
					t.Errorf("module %s was not trained", s.Module)
				}
			}
			model := filepath.Join(out, "model.onnx")
			run("inspect", model)
			run("partition", model)
			var e struct{ Cosine float64 }
			if read(run("eval", model, "--reference", net, "--data", images, "--task", a.Task, "--json"), &e); !(e.Cosine > 0.5) {
				t.Errorf("eval: cosine %v", e.Cosine)
			}
		})
	}
}
