package rebatch_test

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
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
			staticAt(t, m, rep, 8)
		})
	}
}

// staticAt checks that all sizes follow once the batch is a number.
func staticAt(t *testing.T, m *ir.Model, rep rebatch.Report, n int64) {
	t.Helper()
	shapes := map[string][]int64{}
	for _, v := range m.Graph.Inputs() {
		var dims []int64
		for i, d := range v.Shape() {
			dims = append(dims, d.Size)
			if given := sizes[v.Name()]; given != nil {
				dims[i] = given[i]
			}
		}
		if slices.Contains(rep.Inputs, v.Name()) {
			dims[0] = n
		}
		shapes[v.Name()] = dims
	}
	if err := op.InferModel(m, shapes); err != nil {
		t.Fatal(err)
	}
	for node := m.Graph.First(); node != nil; node = node.Next() {
		for _, v := range node.Outputs() {
			if _, ok := v.StaticDims(); !ok {
				t.Errorf("at batch %d the size of %q is %v", n, v.Name(), v.Type)
			}
		}
	}
	for _, v := range m.Graph.Outputs() {
		if d, _ := v.StaticDims(); len(d) == 0 || d[0] != n {
			t.Errorf("at batch %d output %q is %v", n, v.Name(), v.Type)
		}
	}
}
