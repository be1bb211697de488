package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"mqatc/runtime/ort/orttest"
)

// program builds mqatc into dir, and writes a small network beside it.
func program(t *testing.T, dir string) (command func(args ...string) *exec.Cmd, model string) {
	t.Helper()
	bin, model := filepath.Join(dir, "mqatc"), filepath.Join(dir, "net.onnx")
	if out, err := exec.Command("go", "build", "-o", bin, "mqatc/cli/mqatc").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	command = func(args ...string) *exec.Cmd { return exec.Command(bin, args...) }
	if out, err := command("zoo", "cubesat", "--size", "64", "--width", "0.25", "-o", model).CombinedOutput(); err != nil {
		t.Fatalf("zoo: %v\n%s", err, out)
	}
	return command, model
}

// TestKilledRunEndsWithTheSameBytes kills quantize without warning in the middle of its stages, resumes it, and compares what it
// leaves with an undisturbed run.
func TestKilledRunEndsWithTheSameBytes(t *testing.T) {
	orttest.TestLibrary(t)
	dir := t.TempDir()
	command, model := program(t, dir)
	for _, quantizer := range []string{"lsq", "inq"} {
		t.Run(quantizer, func(t *testing.T) {
			args := func(out string, more ...string) []string {
				return append([]string{"quantize", model, "--compress", "5x", "--data", "cubesat:120", "--eval-data", "cubesat:12:7", "--epochs", "1",
					"--probes", "8", "--probe=false", "--quantizer", quantizer, "--threads", "1", "-o", out}, more...)
			}
			whole, cut := filepath.Join(dir, quantizer+"-whole"), filepath.Join(dir, quantizer+"-cut")
			if out, err := command(args(whole)...).CombinedOutput(); err != nil {
				t.Fatalf("undisturbed run: %v\n%s", err, out)
			}
			run := command(args(cut)...)
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			for i := 0; i < 600; i++ {
				if found, _ := filepath.Glob(filepath.Join(cut, "run", "units", "train-stage-*.json")); len(found) > 0 {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond)
			if err := run.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = run.Wait()
			if _, err := os.Stat(filepath.Join(cut, "model.onnx")); err == nil {
				t.Fatal("the run had ended before it was killed")
			}
			if out, err := command(args(cut, "--seed", "2", "--resume")...).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("seed")) {
				t.Fatalf("resumed under another seed: %v\n%s", err, out)
			}
			if out, err := command(args(cut, "--resume")...).CombinedOutput(); err != nil {
				t.Fatalf("resumed run: %v\n%s", err, out)
			}
			for _, name := range []string{"model.onnx", "weights.bin", "weights.json", "weights.h"} {
				a, err := os.ReadFile(filepath.Join(whole, name))
				if err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(filepath.Join(cut, name))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(a, b) {
					t.Errorf("%s differs after a kill", name)
				}
			}
		})
	}
}
