package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mqatc/cli/clitest"
	"mqatc/compiler/report"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/ort/orttest"
)

// TestQuantizeFromImagesAlone takes a network through partition, sensitivity, plan, training, emission and verification with images
// and no labels, and its result through eval.
func TestQuantizeFromImagesAlone(t *testing.T) {
	orttest.TestLibrary(t)
	dir := t.TempDir()
	images, net, out := filepath.Join(dir, "images"), filepath.Join(dir, "net.onnx"), filepath.Join(dir, "out")
	clitest.Images(t, images, 20)
	run := func(want int, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := Main(append([]string{"mqatc"}, args...), &stdout, &stderr); code != want {
			t.Fatalf("%v: exit %d, want %d\n%s", args, code, want, stderr.String())
		}
		return stdout.String()
	}
	run(0, "zoo", "cubesat", "--size", "64", "--width", "0.25", "-o", net)
	doc := run(0, "quantize", "--compress", "4x", "--data", images, "--task", "image", "--epochs", "2", "--probes", "8", "--threads", "1",
		"--json", net, "-o", out)
	var r report.Report
	if err := json.Unmarshal([]byte(doc), &r); err != nil {
		t.Fatalf("--json printed no document: %v", err)
	}
	if r.Size.Achieved < 4 || r.Loss != "distill" || len(r.Probes) != 0 || len(r.Stages) != 3 {
		t.Errorf("%.2f times smaller by loss %s with %d probes and %d stages", r.Size.Achieved, r.Loss, len(r.Probes), len(r.Stages))
	}
	if len(r.Agreement) != 6 || len(r.Verify) == 0 {
		t.Errorf("%d outputs compared, %d verified", len(r.Agreement), len(r.Verify))
	}
	m, err := format.Load(filepath.Join(out, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for n := m.Graph.First(); n != nil; n = n.Next() {
		for _, o := range n.Outputs() {
			if !o.IsOutput() && o.Type.Kind == ir.KindTensor {
				t.Fatalf("the file holds the type of %q, which any reader can infer", o.Name())
			}
		}
	}
	for _, name := range []string{"model.onnx", "weights.bin", "weights.json", "weights.h", "report.html", "report.json", "run/events.jsonl"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	eval := run(0, "eval", filepath.Join(out, "model.onnx"), "--reference", net, "--data", images, "--json")
	var a struct{ Cosine float64 }
	if err := json.Unmarshal([]byte(eval), &a); err != nil || a.Cosine < 0.5 {
		t.Errorf("eval: cosine %v, %v", a.Cosine, err)
	}
	run(1, "quantize", net, "--data", images, "-o", out)
	run(3, "quantize", net, "--compress", "200x", "--data", images, "--task", "image", "--sensitivity", "weights", "-o", filepath.Join(dir, "none"))
}

// TestWidthsByLayer gives layers widths of their own, and leaves few activations float or none.
func TestWidthsByLayer(t *testing.T) {
	orttest.TestLibrary(t)
	dir := t.TempDir()
	images, net := filepath.Join(dir, "images"), filepath.Join(dir, "net.onnx")
	clitest.Images(t, images, 20)
	run := func(args ...string) (r report.Report) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := Main(append([]string{"mqatc"}, args...), &stdout, &stderr); code != 0 {
			t.Fatalf("%v: exit %d\n%s", args, code, stderr.String())
		}
		if stdout.Len() > 0 {
			if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	run("zoo", "cubesat", "--size", "64", "--width", "0.25", "-o", net)
	common := []string{"quantize", net, "--method", "ptq", "--sensitivity", "weights", "--data", images, "--task", "image", "--threads", "1", "--json"}
	r := run(append(common, "--compress", "4.5x", "--granularity", "layer", "-o", filepath.Join(dir, "layers"))...)
	last := r.Methods[len(r.Methods)-1]
	if r.Size.Achieved < 4.5 || !strings.Contains(last.WidthText(), "/") {
		t.Errorf("%.3f times smaller with %s: no module has two widths", r.Size.Achieved, last.WidthText())
	}
	widths := map[int]bool{}
	raw, err := os.ReadFile(filepath.Join(dir, "layers", "weights.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Tensors []struct {
			Module string
			Bits   int
			Shape  []int64
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	for _, x := range d.Tensors {
		if len(x.Shape) == 4 && x.Module == "backbone" {
			widths[x.Bits] = true
		}
	}
	if len(widths) < 2 {
		t.Errorf("the backbone's weights are stored at widths %v", widths)
	}
	if r.FloatShare > 0.1 {
		t.Errorf("%.3f of the work runs in float", r.FloatShare)
	}
	m := run(append(common, "--compress", "4.5x", "--granularity", "module", "--placement", "all", "-o", filepath.Join(dir, "modules"))...)
	last = m.Methods[len(m.Methods)-1]
	if strings.Contains(last.WidthText(), "/") || len(m.Float) > 0 {
		t.Errorf("%s, float %v: asked for one width a module and no float activation", last.WidthText(), m.Float)
	}
}
