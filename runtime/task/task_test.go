package task

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"mqatc/onnx/ir"
)

func TestTableRoundTrips(t *testing.T) {
	for _, name := range Names() {
		a, err := Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if a.About() == "" {
			t.Errorf("%s says nothing about itself", name)
		}
		m := ir.NewModel("m", 17)
		if err := a.Keep(m); err != nil {
			t.Fatal(err)
		}
		b, ok, err := Of(m)
		if !ok || err != nil {
			t.Fatalf("%s: %v %v", name, ok, err)
		}
		if d := cmp.Diff(a, b, cmpopts.IgnoreUnexported(Task{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.yaml")
	text := "task: cubesat\ninput: {order: bgr, scale: 1, mean: [1, 2, 3], std: [4, 5, 6], fit: letterbox, fill: 9, width: 128}\nwdr: {objects: [4], keypoints: {4: [[1, 2, 3]]}}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := Lookup(path)
	if err != nil {
		t.Fatal(err)
	}
	if a.Prep.Width != 128 || a.Prep.Order != "bgr" || a.WDR.AnchorScale != 3 || a.WDR.Keypoints[4][0][2] != 3 || a.Loss != LossWDR {
		t.Errorf("%+v %+v", a, a.WDR)
	}
	row, err := Lookup("cubesat")
	if err != nil || len(row.WDR.Objects) != 0 {
		t.Errorf("reading a file changed the table: %+v, %v", row.WDR, err)
	}
	if b, err := Parse([]byte("task: gdrnet\ninput: {others: {roi_extents: {values: [1, 2, 3]}}}")); err != nil || len(b.Prep.Others) != 2 {
		t.Errorf("other inputs: %+v, %v", b.Prep.Others, err)
	}
	if row, err := Lookup("gdrnet"); err != nil || len(row.Prep.Others["roi_extents"].Values) != 1 {
		t.Errorf("reading a file changed the table: %+v, %v", row.Prep, err)
	}
	if b, err := Parse([]byte(`{"task": "mine", "input": {"scale": 2}}`)); err != nil || b.Prep.Scale != 2 || b.Prep.Order != "rgb" || b.Loss != LossDistill {
		t.Errorf("JSON: %+v, %v", b, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, text := range []string{
		"task: x\ninput: {ordr: bgr}", "task: x\ninput: {order: gray}", "task: x\nloss: magic", "task: [", "task: ''",
		"task: x\ninput: {std: [0, 1, 1]}", "task: wdr\nwdr: {threshold: 2}", "task: x\ninput: {scale: .nan}",
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q was accepted", text)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: the message has several lines: %v", text, err)
		}
	}
	if _, err := Lookup("nope"); err == nil || !strings.Contains(err.Error(), "nanodet") {
		t.Errorf("unknown task: %v", err)
	}
	if _, err := Lookup("missing.yaml"); err == nil {
		t.Error("missing file accepted")
	}
}
