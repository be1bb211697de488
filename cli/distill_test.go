package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"mqatc/compiler/report"
	"mqatc/runtime/ort/orttest"
)

// writeImages fills a folder with images of random rectangles.
func writeImages(t *testing.T, dir string, n int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(4, 2))
	for i := range n {
		img := image.NewRGBA(image.Rect(0, 0, 80, 60))
		for range 12 {
			c := color.RGBA{uint8(r.IntN(256)), uint8(r.IntN(256)), uint8(r.IntN(256)), 255}
			x, y := r.IntN(80), r.IntN(60)
			for py := y; py < min(y+25, 60); py++ {
				for px := x; px < min(x+25, 80); px++ {
					img.Set(px, py, c)
				}
			}
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.png", i)), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestQuantizeFromImagesAlone takes a network through partition, sensitivity, plan, training, emission and verification with images
// and no labels, and its result through eval.
func TestQuantizeFromImagesAlone(t *testing.T) {
	orttest.TestLibrary(t)
	dir := t.TempDir()
	images, net, out := filepath.Join(dir, "images"), filepath.Join(dir, "net.onnx"), filepath.Join(dir, "out")
	writeImages(t, images, 20)
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
