package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mqatc/cli/clitest"
	"mqatc/compiler/report"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/data/npy"
	"mqatc/runtime/ort/orttest"
)

// must runs mqatc and returns its standard output.
func must(t *testing.T, want int, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := Main(append([]string{"mqatc"}, args...), &stdout, &stderr); code != want {
		t.Fatalf("%v: exit %d, want %d\n%s", args, code, want, stderr.String())
	}
	if want != 0 {
		return stderr.String()
	}
	return stdout.String()
}

// writeTarget puts the array of every image of a folder that writeImages filled.
func writeTarget(t *testing.T, images, name string, n int, shape []int64, value func(image, i int) float32) {
	t.Helper()
	dir := filepath.Join(images, "targets", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob(filepath.Join(images, "*.png"))
	if err != nil || len(list) < n {
		t.Fatalf("%d images, %v", len(list), err)
	}
	size := int64(1)
	for _, d := range shape {
		size *= d
	}
	for k, image := range list[:n] {
		v := make([]float32, size)
		for i := range v {
			v[i] = value(k, i)
		}
		var b bytes.Buffer
		if err := npy.Write(&b, shape, v); err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(filepath.Base(image), ".png") + ".npy"
		if err := os.WriteFile(filepath.Join(dir, base), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// writeLoss makes a loss file: the mean square of box - want plus that of score - score.teacher.
func writeLoss(t *testing.T, path, box, score string, elements int64) {
	t.Helper()
	m := ir.NewModel("mine", 21)
	m.IRVersion = 10
	b := ir.NewBuilder(m.Graph, "test", nil)
	in := func(name string, s ir.Shape) *ir.Value {
		v, err := m.Graph.AddInput(name, ir.TensorType(ir.Float32, s))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	square := func(y, want *ir.Value) *ir.Value {
		d := b.Op("Sub", []*ir.Value{y, want})
		return b.Op("ReduceMean", []*ir.Value{b.Op("Mul", []*ir.Value{d, d})}, ir.AInt("keepdims", 0))
	}
	y := in(box, ir.Shape{ir.Sym("N"), ir.D(elements)})
	// The size of the target is left open: it comes from the arrays.
	first := square(y, in("want", ir.Shape{ir.Sym("N"), ir.Sym("K")}))
	z := in(score, ir.Shape{ir.Sym("N"), ir.D(1)})
	second := square(z, in(score+".teacher", ir.Shape{ir.Sym("N"), ir.D(1)}))
	out := b.Node(ir.NodeSpec{Op: "Add", Inputs: []*ir.Value{first, second}, Outputs: []string{"loss"}}, 1)[0]
	out.Type = ir.TensorType(ir.Float32, ir.Shape{})
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.SetOutputs(out); err != nil {
		t.Fatal(err)
	}
	if _, err := format.Save(m, path, format.SaveOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestOwnLossOnObjectron trains Objectron's keypoints on a loss and targets of one's own: quantize by a config file with a
// sensitivity file, the held-out loss deciding, and train.
func TestOwnLossOnObjectron(t *testing.T) {
	shared := os.Getenv("MQATC_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	net := filepath.Join(shared, "models", "objectron_cup.onnx")
	if _, err := os.Stat(net); err != nil {
		t.Skipf("needs the network %s (set MQATC_SHARED to the folder that holds models/)", net)
	}
	if testing.Short() {
		t.Skip("takes a minute: runs without -short")
	}
	orttest.TestLibrary(t)
	dir := t.TempDir()
	images, own, config := filepath.Join(dir, "images"), filepath.Join(dir, "own.onnx"), filepath.Join(dir, "mqat.yaml")
	clitest.Images(t, images, 10)
	writeLoss(t, own, "Identity_1", "Identity", 18)
	said := must(t, 1, "quantize", net, "--data", images, "--loss", own, "--task", "objectron_cup", "-o", filepath.Join(dir, "none"))
	if !strings.Contains(said, `no source of input "want"`) || !strings.Contains(said, "targets/T/NAME.npy") {
		t.Errorf("a loss without its target: %s", said)
	}
	writeTarget(t, images, "want", 9, []int64{18}, func(image, i int) float32 { return float32(100 + i) })
	said = must(t, 1, "quantize", net, "--data", images, "--loss", own, "--task", "objectron_cup", "--metric", "loss", "-o", filepath.Join(dir, "none"))
	if !strings.Contains(said, `image 009.png has no file`) {
		t.Errorf("a target without its file: %s", said)
	}
	writeTarget(t, images, "want", 10, []int64{1, 18}, func(image, i int) float32 { return float32(100 + i) })

	file := filepath.Join(dir, "s.json")
	must(t, 0, "sensitivity", net, "--data", images, "--task", "objectron_cup", "--loss", own, "--probes", "2", "--bits", "4,8", "-o", file, "--json")
	text := "loss: " + own + "\nmetric: loss\nsensitivity: " + file + "\ntask: objectron_cup\nepochs: 0.2\nbatch: 4\nbits: 4,8\nplanner: ilp\nprobe: false\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	doc := must(t, 0, "quantize", net, "--config", config, "--data", images, "--compress", "3x", "-o", out, "--json")
	var r report.Report
	if err := json.Unmarshal([]byte(doc), &r); err != nil {
		t.Fatal(err)
	}
	if r.Loss != "own.onnx" || r.Metric != "loss" || !r.LowerIsBetter || r.Size.Achieved < 3 {
		t.Errorf("loss %s, metric %s (less is better: %v), %.2f times smaller", r.Loss, r.Metric, r.LowerIsBetter, r.Size.Achieved)
	}
	for _, m := range r.Methods {
		if !(m.Metric > 0) {
			t.Errorf("%s has the loss %v", m.Name, m.Metric)
		}
	}
	if !slices.ContainsFunc(r.Layers, func(l report.Layer) bool { return l.Lambda > 0 }) {
		t.Errorf("the report has %d sensitivities", len(r.Layers))
	}
	// What a run depends on includes the content of both files.
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(raw, ' '), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, 1, "quantize", net, "--config", config, "--data", images, "--compress", "3x", "-o", out, "--resume")
}

// TestNamedLosses trains the outputs of a network on targets from files.
func TestNamedLosses(t *testing.T) {
	orttest.TestLibrary(t)
	dir := t.TempDir()
	images, net := filepath.Join(dir, "images"), filepath.Join(dir, "net.onnx")
	clitest.Images(t, images, 8)
	must(t, 0, "zoo", "cubesat", "--size", "32", "--width", "0.1", "-o", net)
	m, err := format.Load(net)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range m.Graph.Outputs() {
		dims := []int64{}
		for _, d := range o.Shape()[1:] {
			dims = append(dims, d.Size)
		}
		writeTarget(t, images, o.Name()+".target", 8, dims, func(image, i int) float32 { return float32((image + i) % 2) })
	}
	for _, name := range []string{"smooth-l1", "focal"} {
		doc := must(t, 0, "quantize", "--loss", name, "--metric", "loss", "--data", images, "--task", "image", net, "--epochs", "4", "--sensitivity", "weights",
			"--planner", "ilp", "--probe=false", "--json", "-o", filepath.Join(dir, name))
		var r report.Report
		if err := json.Unmarshal([]byte(doc), &r); err != nil {
			t.Fatal(err)
		}
		last := r.Stages[len(r.Stages)-1]
		if r.Loss != name || !(last.LossTo < last.LossFrom) || !(last.Before > 0) || last.After > last.Before {
			t.Errorf("%s: %+v", name, r.Stages)
		}
	}
	var d trained
	doc := must(t, 0, "train", net, "--data", images, "--task", "image", "--loss", "smooth-l1", "--batch", "4", "--epochs", "30", "-o", filepath.Join(dir, "train"), "--json")
	if err := json.Unmarshal([]byte(doc), &d); err != nil || !(d.LossTo < 0.8*d.LossFrom) {
		t.Errorf("training on smooth-l1 went from %v to %v: %v", d.LossFrom, d.LossTo, err)
	}
	said := must(t, 1, "quantize", "--loss", "cross-entropy", "--data", images, "--task", "image", net, "-o", filepath.Join(dir, "ce"))
	if !strings.Contains(said, "cross-entropy") {
		t.Errorf("classes for a network with an output of one class: %s", said)
	}
}
