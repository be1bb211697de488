package cli

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"mqatc/compiler/plan"
	"mqatc/compiler/report"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/ort/orttest"
	"mqatc/testmodels/zoo"
)

// A network without names computes what the one with names does, and a modules file divides as what it was written from.
func TestZooWithoutNamesAndByModulesFile(t *testing.T) {
	orttest.TestLibrary(t)
	for _, a := range zoo.Table {
		t.Run(a.Name, func(t *testing.T) {
			tmp := t.TempDir()
			named, nameless := filepath.Join(tmp, "named.onnx"), filepath.Join(tmp, "nameless.onnx")
			args := []string{"zoo", a.Name, "--size", "64", "--width", "0.0625", "-o"}
			command(t, append(slices.Clone(args), named)...)
			command(t, append(slices.Clone(args), nameless, "--anonymous")...)
			var outs [2][]*ir.Tensor
			for i, path := range []string{named, nameless} {
				m, err := format.Load(path)
				if err != nil {
					t.Fatal(err)
				}
				r := rand.New(rand.NewPCG(1, 2))
				feeds := map[string]*ir.Tensor{}
				for _, v := range m.Graph.Inputs() {
					feeds[v.Name()] = randomInput(t, r, v)
				}
				got := runFile(t, path, feeds)
				for _, o := range m.Graph.Outputs() {
					outs[i] = append(outs[i], got[o.Name()])
				}
			}
			for i, x := range outs[0] {
				if y := outs[1][i]; !slices.Equal(x.Dims(), y.Dims()) || !bytes.Equal(x.Raw(), y.Raw()) {
					t.Errorf("output %d differs", i)
				}
			}
			file := filepath.Join(tmp, "modules.yaml")
			var docs [2]partitionDoc
			for i, out := range []string{command(t, "partition", named, "-o", file, "--json"), command(t, "partition", named, "--modules", file, "--json")} {
				if err := json.Unmarshal([]byte(out), &docs[i]); err != nil {
					t.Fatal(err)
				}
				docs[i].Method = ""
			}
			x, err := json.Marshal(docs[0])
			if err != nil {
				t.Fatal(err)
			}
			if y, err := json.Marshal(docs[1]); err != nil || !bytes.Equal(x, y) {
				t.Errorf("%v: by file\n%s\nfound\n%s", err, y, x)
			}
		})
	}
}

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
				"--equalize=false", "--epochs", "2", "--batch", "2", "--json", "-o", out}, with...)...), &r)
			if len(r.Stages) != len(d.Bits) || r.Size.Achieved < 2.5 || len(r.Verify) == 0 {
				t.Errorf("quantize: %d stages of %d, %.3f times smaller, %d outputs verified", len(r.Stages), len(d.Bits), r.Size.Achieved, len(r.Verify))
			}
			steps := 0
			for _, s := range r.Stages {
				steps += s.Steps
			}
			if steps < len(r.Stages) {
				t.Errorf("%d steps in %d stages", steps, len(r.Stages))
			}
			model := filepath.Join(out, "model.onnx")
			run("inspect", model)
			run("partition", model)
			var e struct{ Cosine float64 }
			if read(run("eval", model, "--reference", net, "--data", images, "--json"), &e); !(e.Cosine > 0.5) {
				t.Errorf("eval: cosine %v", e.Cosine)
			}
		})
	}
}
