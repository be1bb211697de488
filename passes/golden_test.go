package passes_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"mqatc/onnx/op"
	"mqatc/onnx/text"
	"mqatc/passes"
	"mqatc/passes/clean"
	"mqatc/passes/fold"
	"mqatc/passes/pass"
)

var update = flag.Bool("update", false, "write the outcomes into testdata/*.txtar")

// golden are the passes that testdata may name, with the parameters the tests use.
var golden = map[string]func() pass.Pass{
	"clean": clean.New,
	"fold":  fold.New,
}

// TestGolden runs each testdata/*.txtar: "passes: NAME..." in the comment names the passes, in.onnxtxt is what goes in, out.onnxtxt
// what must come out. The model is run before and after too, and must give the same results.
func TestGolden(t *testing.T) {
	e := env(t)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := passes.Pipeline{Env: e}
			for _, line := range strings.Split(string(ar.Comment), "\n") {
				if list, ok := strings.CutPrefix(line, "passes:"); ok {
					for _, name := range strings.Fields(list) {
						if golden[name] == nil {
							t.Fatalf("unknown pass %q", name)
						}
						p.Passes = append(p.Passes, golden[name]())
					}
				}
			}
			if len(ar.Files) == 0 || len(p.Passes) == 0 {
				t.Fatal("no passes or no in.onnxtxt")
			}
			m, err := text.Parse("in.onnxtxt", ar.Files[0].Data, nil)
			if err != nil {
				t.Fatal(err)
			}
			before, err := m.Clone()
			if err != nil {
				t.Fatal(err)
			}
			if err := op.InferModel(before, nil); err != nil {
				t.Fatal(err)
			}
			res, err := p.Run(context.Background(), m)
			if err != nil {
				t.Fatal(err)
			}
			got, err := text.Format(m)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				ar.Files = append(ar.Files[:1], txtar.File{Name: "out.onnxtxt", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(ar.Files) != 2 {
				t.Fatal("no out.onnxtxt: run with -update")
			}
			if d := cmp.Diff(string(ar.Files[1].Data), got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			in, err := feeds(before, 3, nil)
			if err != nil {
				t.Fatal(err)
			}
			sameOutputs(t, evaluate(t, e, before, in), evaluate(t, e, m, in), 1e-5)
			again, err := p.Run(context.Background(), m)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range again.Log {
				if r.Changed {
					t.Errorf("pass %s changes its own result", r.Pass)
				}
				if notes := res.Log[i].Notes; len(notes) > 0 {
					t.Errorf("notes: %q", notes)
				}
			}
		})
	}
}
