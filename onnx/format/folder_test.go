package format_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
)

func TestAFolderAppearsWholeOrNotAtAll(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b")
	broken := errors.New("broken")
	fill := func(end error) func(string) error {
		return func(tmp string) error {
			if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
				t.Error("the folder is there before it is whole")
			}
			return errors.Join(os.WriteFile(filepath.Join(tmp, "x"), []byte("1"), 0o644), end)
		}
	}
	if err := format.WriteFolder(dir, fill(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := format.WriteFolder(dir, fill(nil)); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "x")); err != nil || string(raw) != "1" {
		t.Errorf("%q, %v", raw, err)
	}
	if err := format.WriteFolder(dir, func(string) error { t.Error("wrote over a folder"); return nil }); err == nil {
		t.Error("took a folder that is not empty")
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
		t.Errorf("beside the folder: %v, %v", left, err)
	}
}
