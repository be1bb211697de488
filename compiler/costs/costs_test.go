package costs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/lower"
	"mqatc/runtime/ort/orttest"
)

// counted is a table whose measurements are those of seconds, and are counted.
func counted(t *testing.T, o Options, seconds map[string]float64) (*Table, *int) {
	t.Helper()
	table, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	n := new(int)
	table.measure = func(lower.Site, int) (map[string]float64, error) {
		*n++
		return maps.Clone(seconds), nil
	}
	return table, n
}

func site(key string, forms ...string) lower.Site { return lower.Site{Key: key, Forms: forms} }

func take(t *testing.T, table *Table, s lower.Site, want string) {
	t.Helper()
	got, err := table.Cheapest(s)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s: form %q, want %q", s.Key, got, want)
	}
}

// Costs are measured once for a machine, and another form than the first is taken for a clear gain only.
func TestMeasuredOnce(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Threads: 2, Library: "1"}
	a, n := counted(t, o, map[string]float64{"first": 1, "slower": 2, "faster": 0.5, "little faster": 0.9})
	take(t, a, site("x", "first", "slower", "faster"), "faster")
	take(t, a, site("x", "first", "slower", "faster"), "faster")
	take(t, a, site("y", "first", "little faster"), "first")
	if *n != 2 {
		t.Errorf("measured %d times, want 2", *n)
	}
	b, n := counted(t, o, nil)
	take(t, b, site("x", "first", "slower", "faster"), "faster")
	if *n != 0 {
		t.Error("measured although the table knows")
	}
	c, n := counted(t, Options{Dir: dir, Threads: 1, Library: "1"}, map[string]float64{"first": 1, "faster": 2})
	take(t, c, site("x", "first", "faster"), "first")
	if *n != 1 {
		t.Error("another number of threads is another table")
	}
	d, n := counted(t, o, map[string]float64{"first": 1, "new": 0.1})
	take(t, d, site("x", "first", "new"), "new")
	if *n != 1 {
		t.Error("a form that the table does not know is measured")
	}
}

// Progress has an end that a survey of the graph found.
func TestSurvey(t *testing.T) {
	var said []string
	a, n := counted(t, Options{Dir: t.TempDir(), Update: func(done, total int) { said = append(said, fmt.Sprint(done, " of ", total)) }},
		map[string]float64{"first": 1, "other": 0.1})
	take(t, a, site("x", "first", "other"), "other")
	s := a.Survey()
	for _, key := range []string{"x", "y", "y", "z"} {
		if form, err := s.Cheapest(site(key, "first", "other")); form != "first" || err != nil {
			t.Errorf("form %q, %v", form, err)
		}
	}
	if *n != 1 {
		t.Error("the survey measured")
	}
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	take(t, a, site("y", "first", "other"), "other")
	take(t, a, site("z", "first", "other"), "other")
	if want := []string{"1 of 1", "1 of 2", "2 of 2"}; !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
}

// Two processes that begin together take the same forms.
func TestTogether(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	a, _ := counted(t, o, map[string]float64{"first": 1, "other": 0.1})
	b, n := counted(t, o, map[string]float64{"first": 0.1, "other": 1})
	take(t, a, site("x", "first", "other"), "other")
	take(t, b, site("x", "first", "other"), "other")
	if *n != 0 {
		t.Error("measured again")
	}
}

// A run that goes on takes the forms of its record, whatever the table says by now.
func TestRecord(t *testing.T) {
	record := filepath.Join(t.TempDir(), "forms.json")
	a, _ := counted(t, Options{Dir: t.TempDir(), Record: record}, map[string]float64{"first": 1, "other": 0.1})
	take(t, a, site("x", "first", "other"), "other")
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	b, n := counted(t, Options{Dir: t.TempDir(), Record: record}, map[string]float64{"first": 0.1, "other": 1})
	take(t, b, site("x", "first", "other"), "other")
	if *n != 0 {
		t.Error("measured although the record knows")
	}
	take(t, b, site("y", "first", "other"), "first")
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(record)
	if err != nil || !strings.Contains(string(raw), `"x": "other"`) || !strings.Contains(string(raw), `"y": "first"`) {
		t.Errorf("record %s, %v", raw, err)
	}
	if _, err := b.Cheapest(site("x", "first", "third")); err == nil || !strings.Contains(err.Error(), record) {
		t.Errorf("a form that is gone: %v", err)
	}
	if err := os.WriteFile(record, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: t.TempDir(), Record: record}); err == nil || !strings.Contains(err.Error(), record) {
		t.Errorf("a record that is cut short: %v", err)
	}
}

// A cache that is damaged, or cannot be written, costs time only; an error of a measurement is one.
func TestCacheThatFails(t *testing.T) {
	dir := t.TempDir()
	seconds := map[string]float64{"first": 1, "other": 0.1}
	a, _ := counted(t, Options{Dir: dir}, seconds)
	take(t, a, site("x", "first", "other"), "other")
	if err := os.WriteFile(a.path, []byte(`{"seconds": {"x`), 0o644); err != nil {
		t.Fatal(err)
	}
	b, n := counted(t, Options{Dir: dir}, seconds)
	take(t, b, site("x", "first", "other"), "other")
	if *n != 1 {
		t.Error("a damaged table was believed")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var said []string
	c, _ := counted(t, Options{Dir: filepath.Join(file, "costs"), Line: func(f string, a ...any) { said = append(said, fmt.Sprintf(f, a...)) }}, seconds)
	take(t, c, site("x", "first", "other"), "other")
	if len(said) != 1 || !strings.Contains(said[0], file) {
		t.Errorf("said %q", said)
	}
	d, _ := counted(t, Options{Dir: dir}, nil)
	d.measure = func(lower.Site, int) (map[string]float64, error) { return nil, errors.New("no memory") }
	if _, err := d.Cheapest(site("z", "first", "other")); err == nil || !strings.Contains(err.Error(), "no memory") {
		t.Errorf("error %v", err)
	}
}

// TestMeasure: a product of matrices of sixteen times the work costs more.
func TestMeasure(t *testing.T) {
	orttest.TestLibrary(t)
	s := site("product", "large", "small")
	s.Model = func(form string) (*ir.Model, error) {
		n := map[string]int64{"large": 1024, "small": 64}[form]
		m := ir.NewModel(form, 17)
		x, err := m.Graph.AddInput(form, ir.TensorType(ir.Float32, ir.StaticShape(n, 256)))
		if err != nil {
			return nil, err
		}
		b := ir.NewBuilder(m.Graph, "", op.InferNode)
		y := b.Op("Gemm", []*ir.Value{x, x}, ir.AInt("transB", 1))
		if err := b.Err(); err != nil {
			return nil, err
		}
		return m, m.Graph.AddOutput(y)
	}
	table, err := Open(Options{Dir: t.TempDir(), Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	take(t, table, s, "small")
	if c := table.seconds["product"]; !(c["large"] > c["small"] && c["small"] > 0) {
		t.Errorf("costs %v", c)
	}
}

// A run takes the same forms again for each number of threads, and the same values under other names.
func TestRecordOfSeveralNumbersOfThreads(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Threads: 2, Library: "1", Record: filepath.Join(dir, "forms.json")}
	a, n := counted(t, o, map[string]float64{"first": 1, "faster": 0.5})
	take(t, a, site("x", "first", "faster"), "faster")
	if a.With(2) != any(a) {
		t.Error("the same number of threads is another table")
	}
	one := a.With(1).(*Table)
	take(t, one, site("x", "first", "faster"), "faster")
	if *n != 2 {
		t.Errorf("measured %d times, want 2", *n)
	}
	if got := one.Keep("parts", "2"); got != "2" {
		t.Errorf("kept %q", got)
	}
	if got := one.Keep("parts", "4"); got != "2" {
		t.Errorf("kept %q, want what was there", got)
	}
	if err := one.Flush(); err != nil {
		t.Fatal(err)
	}
	b, n := counted(t, Options{Dir: t.TempDir(), Threads: 2, Library: "1", Record: o.Record}, map[string]float64{"first": 1, "faster": 2})
	take(t, b.With(1).(*Table), site("x", "first", "faster"), "faster")
	take(t, b, site("x", "first", "faster"), "faster")
	take(t, b.With(3).(*Table), site("x", "first", "faster"), "first")
	if *n != 1 {
		t.Errorf("measured %d times, want once", *n)
	}
	if got := b.With(1).Keep("parts", "4"); got != "2" {
		t.Errorf("kept %q after a restart", got)
	}
}
