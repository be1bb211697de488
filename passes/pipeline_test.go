package passes_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/text"
	"mqatc/passes"
	"mqatc/passes/clean"
	"mqatc/passes/fold"
	"mqatc/passes/pass"
)

const small = `<ir_version: 8, opset_import: ["": 17]>
g (float[1,2] x) => (float[1,2] y)
<float[100] w = {` + "%s" + `}>
{
  i = Identity (x)
  k = Constant <value_float = 2.0> ()
  s = ReduceSum <keepdims = 0> (w)
  a = Mul (i, k)
  y = Add (a, s)
}
`

func smallModel(t *testing.T) *ir.Model {
	t.Helper()
	src := strings.Replace(small, "%s", strings.TrimSuffix(strings.Repeat("0.5, ", 100), ", "), 1)
	m, err := text.Parse("small", []byte(src), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTheTableIsConsistent(t *testing.T) {
	at := map[string]int{}
	for i, row := range passes.Table {
		if row.Name == "" || row.Doc == "" {
			t.Errorf("row %d has no name or description", i)
		}
		if _, twice := at[row.Name]; twice {
			t.Errorf("two rows are called %q", row.Name)
		}
		at[row.Name] = i
	}
	for i, row := range passes.Table {
		for _, o := range row.After {
			j, ok := at[o.Pass]
			if !ok || j >= i || o.Why == "" {
				t.Errorf("%s after %s (%q): the table does not keep it or gives no reason", row.Name, o.Pass, o.Why)
			}
		}
	}
}

func TestOrderIsChecked(t *testing.T) {
	_, err := (&passes.Pipeline{Passes: []pass.Pass{fold.New(), clean.New()}}).Run(context.Background(), smallModel(t))
	if err == nil || !strings.Contains(err.Error(), "pass fold must run after clean: a constant in a node") {
		t.Errorf("error %v", err)
	}
	p := passes.Pipeline{Passes: []pass.Pass{clean.New(), fold.New(), clean.New()}, Env: env(t)}
	if _, err := p.Run(context.Background(), smallModel(t)); err != nil {
		t.Error(err)
	}
	p.StopAfter = "nonesuch"
	if _, err := p.Run(context.Background(), smallModel(t)); err == nil || !strings.Contains(err.Error(), "clean, fold, clean") {
		t.Errorf("error %v", err)
	}
	p = passes.Pipeline{Passes: []pass.Pass{{Info: pass.Info{Name: "stranger"}, Run: clean.New().Run}}}
	if _, err := p.Run(context.Background(), smallModel(t)); err == nil || !strings.Contains(err.Error(), `"stranger" has no row`) {
		t.Errorf("error %v", err)
	}
}

func TestStopAfter(t *testing.T) {
	m := smallModel(t)
	p := passes.Pipeline{Passes: []pass.Pass{clean.New(), fold.New()}, StopAfter: "clean"}
	res, err := p.Run(context.Background(), m)
	if err != nil || !res.Stopped || len(res.Log) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if r := res.Log[0]; r.Before != 5 || r.After != 3 || !r.Changed {
		t.Errorf("record %+v", r)
	}
}

// breaking is the clean pass with something done to the model after it.
func breaking(do func(m *ir.Model) error) pass.Pass {
	p := clean.New()
	p.Run = func(c *pass.Ctx, m *ir.Model) (bool, error) {
		n := m.Graph.Last()
		if err := m.Graph.SetInput(n, 0, m.Graph.Value("x")); err != nil {
			return false, err
		}
		return true, do(m)
	}
	return p
}

func TestAFailureLeavesTheModelAndARepro(t *testing.T) {
	for name, do := range map[string]func(m *ir.Model) error{
		"error":   func(*ir.Model) error { return errors.New("no such luck") },
		"panic":   func(*ir.Model) error { var m map[string]int; m["no such luck"]++; return nil },
		"unsound": func(m *ir.Model) error { m.Graph.Last().SetAttr(ir.AInt("no such luck", 1)); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			m := smallModel(t)
			want := marshal(t, m)
			dir := filepath.Join(t.TempDir(), "repro")
			p := passes.Pipeline{Passes: []pass.Pass{breaking(do), fold.New()}, Repro: dir, NoInfer: name != "unsound"}
			_, err := p.Run(context.Background(), m)
			var e *passes.Error
			if !errors.As(err, &e) || e.Pass != "clean" || e.Repro != dir || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v", err)
			}
			if name != "panic" && !strings.Contains(err.Error(), "no such luck") {
				t.Errorf("error %v", err)
			}
			if name != "unsound" && !bytes.Equal(marshal(t, m), want) {
				t.Error("the model changed")
			}
			back, err := text.Load(filepath.Join(dir, "before.onnxtxt"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(marshal(t, back), marshal(t, m)) {
				t.Error("the repro holds another model")
			}
			if b, err := os.ReadFile(filepath.Join(dir, "passes.txt")); string(b) != "clean\nfold\n" {
				t.Errorf("passes.txt: %q, %v", b, err)
			}
			b, err := os.ReadFile(filepath.Join(dir, "error.txt"))
			if err != nil || (name == "panic") != bytes.Contains(b, []byte("pipeline_test.go")) {
				t.Errorf("error.txt: %s, %v", b, err)
			}
		})
	}
}

func marshal(t *testing.T, m *ir.Model) []byte {
	t.Helper()
	b, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDumpsAreReproducibleAndReadBack(t *testing.T) {
	e := env(t)
	var folders [2]map[string][]byte
	for i := range folders {
		dir := filepath.Join(t.TempDir(), "dump")
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		for _, stale := range []string{"07_old.onnxtxt", "notes.txt"} {
			if err := os.WriteFile(filepath.Join(dir, stale), []byte("x"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		d, err := passes.NewDump(dir)
		if err != nil {
			t.Fatal(err)
		}
		m := smallModel(t)
		p := passes.Pipeline{Passes: []pass.Pass{clean.New(), clean.New(), fold.New()}, Env: e, Dump: d}
		if _, err := p.Run(context.Background(), m); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		folders[i] = map[string][]byte{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range entries {
			names = append(names, f.Name())
			if folders[i][f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(names, " "); got != "00_input.onnxtxt 01_clean.onnxtxt 03_fold.onnxtxt notes.txt weights.bin" {
			t.Errorf("the dump holds %s", got)
		}
		last, err := text.Load(filepath.Join(dir, "03_fold.onnxtxt"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(marshal(t, last), marshal(t, m)) {
			t.Error("the last dump reads back to another model")
		}
	}
	for name, b := range folders[0] {
		if !bytes.Equal(b, folders[1][name]) {
			t.Errorf("%s differs between two runs", name)
		}
	}
	if n := len(folders[0]["weights.bin"]); n != 400 {
		t.Errorf("weights.bin has %d bytes, want the 400 of one tensor", n)
	}
}
