package rundir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResume(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	id := Identity{"seed": "1", "input": "abc"}
	d, resumed, err := Open(out, id, Options{Resume: true})
	if err != nil || resumed {
		t.Fatalf("resume with nothing to resume must start: %v %v", resumed, err)
	}
	calls := 0
	count := func() (int, error) { calls++; return 7, nil }
	if v, err := Once(d, "probe", count); v != 7 || err != nil {
		t.Fatal(v, err)
	}
	if _, _, err := Open(out, id, Options{Resume: true}); !errors.Is(err, ErrLocked) {
		t.Fatalf("second run in one folder: %v", err)
	}
	if err := d.Event("done", map[string]int{"n": 1}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if _, _, err := Open(out, id, Options{}); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("non-empty folder without resume: %v", err)
	}
	var m *MismatchError
	if _, _, err := Open(out, Identity{"seed": "2", "input": "abc"}, Options{Resume: true}); !errors.As(err, &m) || m.Key != "seed" {
		t.Fatalf("other seed: %v", err)
	}
	d, resumed, err = Open(out, id, Options{Resume: true})
	if err != nil || !resumed {
		t.Fatal(resumed, err)
	}
	defer d.Close()
	if v, err := Once(d, "probe", count); v != 7 || err != nil || calls != 1 {
		t.Fatalf("finished unit was repeated: %d %v, %d calls", v, err, calls)
	}
	raw, _ := os.ReadFile(filepath.Join(out, "run", "events.jsonl"))
	if !strings.Contains(string(raw), `"event":"done"`) {
		t.Fatalf("events: %s", raw)
	}
}

func TestForeignFolder(t *testing.T) {
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "thesis.tex"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(out, Identity{}, Options{Resume: true}); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("a stranger's folder was taken: %v", err)
	}
}

func TestUnitNames(t *testing.T) {
	d := &Dir{path: t.TempDir()}
	if err := d.Store("../evil", 1); err == nil {
		t.Fatal("a unit may not leave the folder")
	}
}
