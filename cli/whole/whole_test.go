// Package whole takes networks through all commands, one after the other.
package whole

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"mqatc/cli"
	"mqatc/cli/clitest"
	"mqatc/compiler/plan"
	"mqatc/compiler/report"
	"mqatc/onnx/format"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func command(t *testing.T, args ...string) string {
	t.Helper()
	return clitest.Command(t, cli.Main, args...)
}

// TestEachNetworkGoesTheWholeWay takes the paper's networks, small, through sensitivity, plan, a few steps of training towards the float
// network, emission with its checks at every optimization level, and the result through inspect, partition and eval.
func TestEachNetworkGoesTheWholeWay(t *testing.T) {
	orttest.TestLibrary(t)
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	clitest.Images(t, images, 6)
	for _, name := range []string{"efficientdet", "fasterrcnn", "caspacenet", "wdr", "pyrapose", "gdrnet", "zebrapose"} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "gdrnet" {
				t.Skip("left out under -short")
			}
			t.Parallel()
			net, sens, out := filepath.Join(dir, name+".onnx"), filepath.Join(dir, name+".json"), filepath.Join(dir, name)
			read := func(text string, v any) {
				t.Helper()
				if err := json.Unmarshal([]byte(text), v); err != nil {
					t.Fatal(err)
				}
			}
			command(t, "zoo", name, "--size", "32", "--width", "0.0625", "-o", net)
			with := []string{"--data", images, "--loss", "distill", "--threads", "1", "--probes", "2", "--json"}
			var s plan.SensitivityFile
			read(command(t, append([]string{"sensitivity", net, "-o", sens}, with...)...), &s)
			var d plan.Document
			read(command(t, "plan", net, "--compress", "5x", "--sensitivity", sens, "--json"), &d)
			if d.Status != "optimal" || len(d.Bits) < 2 || d.Compress.Achieved < 5 {
				t.Errorf("plan: %s, widths %v, %.3f times smaller", d.Status, d.Bits, d.Compress.Achieved)
			}
			var r report.Report
			read(command(t, append([]string{"quantize", net, "--compress", "5x", "--sensitivity", sens, "--planner", "ilp", "--granularity", "module", "--placement", "all",
				"--equalize=false", "--epochs", "1", "--batch", "2", "--lr", "1e-4", "-o", out}, with...)...), &r)
			if len(r.Stages) != len(d.Bits) || r.Size.Achieved < 5 {
				t.Errorf("quantize: %d stages of %d, %.3f times smaller", len(r.Stages), len(d.Bits), r.Size.Achieved)
			}
			for _, stage := range r.Stages {
				if stage.Steps == 0 || stage.Bits != d.Bits[stage.Module] {
					t.Errorf("stage %+v, planned widths %v", stage, d.Bits)
				}
			}
			var asked, got []string
			for _, l := range s.Layers {
				asked = append(asked, l.Module+" "+l.Name)
			}
			for _, l := range r.Layers {
				got = append(got, l.Module+" "+l.Name)
			}
			if len(asked) == 0 || !slices.Equal(asked, got) {
				t.Errorf("layers measured\n%v\nlayers quantized\n%v", asked, got)
			}
			model := filepath.Join(out, "model.onnx")
			want := outputs(t, net)
			if have := outputs(t, model); !slices.Equal(have, want) {
				t.Errorf("outputs %v of the emitted network, %v of the float one", have, want)
			}
			for _, l := range r.Verify {
				if !l.OK || !slices.Contains(want, l.Output) {
					t.Errorf("verified: %+v", l)
				}
			}
			if len(r.Verify) != len(ort.OptLevels())*len(want) {
				t.Errorf("%d checks of %d outputs", len(r.Verify), len(want))
			}
			command(t, "inspect", model)
			command(t, "partition", model)
			var e struct{ Cosine float64 }
			if read(command(t, "eval", model, "--reference", net, "--data", images, "--json"), &e); !(e.Cosine > 0.9) {
				t.Errorf("eval: cosine %v", e.Cosine)
			}
		})
	}
}

// outputs are the names of a file's outputs.
func outputs(t *testing.T, path string) (names []string) {
	t.Helper()
	m, err := format.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range m.Graph.Outputs() {
		names = append(names, v.Name())
	}
	return names
}
