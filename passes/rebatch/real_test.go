package rebatch_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"mqatc/onnx/format"
	"mqatc/passes/clean"
	"mqatc/passes/fold"
	"mqatc/passes/pass"
	"mqatc/passes/rebatch"
)

// sizes are those of inputs that the real networks leave open.
var sizes = map[string][]int64{"x": {1, 3, 160, 96}}

func TestRealNetworksRunAtAnyBatch(t *testing.T) {
	e := ortEnv(t)
	for _, path := range sharedModels(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m, err := format.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := format.Upgrade(m, 17); err != nil {
				t.Fatal(err)
			}
			original, err := m.Clone()
			if err != nil {
				t.Fatal(err)
			}
			c := pass.NewCtx(context.Background(), e, "clean")
			if _, err := clean.New().Run(c, m); err != nil {
				t.Fatal(err)
			}
			again, err := m.Clone()
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, rep, notes := run(t, e, m, rebatch.Options{InputShapes: sizes})
			t.Logf("free %v in %v, %d nodes rewritten, largest difference %.2g, constant outputs %v, notes %q", rep.Free,
				time.Since(start), len(rep.Rewritten), rep.Diff, rep.Constant, notes)
			if !rep.Free {
				t.Fatal(rep.Reason)
			}
			sameAtBatch(t, original, m, rep, 3, sizes)
			run(t, e, again, rebatch.Options{InputShapes: sizes})
			if !bytes.Equal(marshal(t, m), marshal(t, again)) {
				t.Error("the pass gives another model the second time")
			}
			changed, rep2, _ := run(t, e, again, rebatch.Options{InputShapes: sizes})
			if changed || !rep2.Free {
				t.Errorf("a freed model is changed again (%v) or not free (%q)", changed, rep2.Reason)
			}
			if _, err := fold.New().Run(pass.NewCtx(context.Background(), e, "fold"), m); err != nil {
				t.Fatal(err)
			}
			sameAtBatch(t, original, m, rep, 5, sizes)
		})
	}
}
