package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// TestEqualSeedsEndWithTheSameBytes trains twice from an empty cache: long enough for the forms of operators to be measured, with other
// numbers of loaders, its images divided between two threads. The second run takes the forms that the first one measured.
func TestEqualSeedsEndWithTheSameBytes(t *testing.T) {
	lib := orttest.TestLibrary(t)
	dir := t.TempDir()
	command, model := program(t, dir)
	run := func(out string, args ...string) (said []byte) {
		t.Helper()
		c := command(append([]string{"train", model, "--data", "cubesat:160", "--eval-data", "cubesat:8:7", "--batch", "4", "--epochs", "9", "--threads", "2",
			"--augment", "light", "-o", out}, args...)...)
		c.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), ort.EnvLibrary+"="+lib.Path)
		said, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("train: %v\n%s", err, said)
		}
		return said
	}
	same := func(a, b, name string) bool {
		t.Helper()
		var raw [2][]byte
		for i, d := range []string{a, b} {
			var err error
			if raw[i], err = os.ReadFile(filepath.Join(d, name)); err != nil {
				t.Fatal(err)
			}
		}
		return bytes.Equal(raw[0], raw[1])
	}
	first, second, other := filepath.Join(dir, "first"), filepath.Join(dir, "second"), filepath.Join(dir, "other")
	if said := run(first, "--seed", "3", "--workers", "1"); !bytes.Contains(said, []byte("trained in 2 parts")) {
		t.Errorf("two threads train no parts of the images:\n%s", said)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "cache", "mqatc", "costs", "*.json")); len(found) != 1 {
		t.Fatalf("tables of costs: %v", found)
	}
	run(second, "--seed", "3", "--workers", "3")
	for _, name := range []string{"model.onnx", filepath.Join("run", formsFile)} {
		if !same(first, second, name) {
			t.Errorf("%s differs between runs of one seed", name)
		}
	}
	run(other, "--seed", "4")
	if same(first, other, "model.onnx") {
		t.Error("another seed ends with the same bytes")
	}
}
