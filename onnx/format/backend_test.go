package format_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/onnxtest"
	"mqatc/onnx/op"
	"mqatc/onnx/text"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// valueShaped lists operators whose outputs have sizes that only running them tells.
var valueShaped = map[string]string{
	"NonMaxSuppression": "the number of boxes kept",
	"StringNormalizer":  "the number of words that are not stop words",
	"StringSplit":       "the largest number of parts",
	"ImageDecoder":      "the size of an encoded image",
}

// backendColumns are the counts per folder of models.
var backendColumns = []string{
	"models", "loaded", "saved", "text", "inferred", "runs", "saved runs same", "as recorded",
	"opset<17", "to 17", "17 runs same", "opset<25", "to 25", "25 runs same", "25 not in onnxruntime",
	"outputs", "shape by types", "shape by values", "excluded",
}

// tally counts columns per folder; "all" is their sum.
type tally struct {
	rows    map[string]map[string]int
	reasons map[string][]string // names of cases by what was refused and why
}

func (a *tally) add(folder, column string) {
	for _, row := range []string{folder, "all"} {
		if a.rows[row] == nil {
			a.rows[row] = map[string]int{}
		}
		a.rows[row][column]++
	}
}

func (a *tally) String() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', tabwriter.AlignRight)
	var folders []string
	for f := range a.rows {
		folders = append(folders, f)
	}
	slices.SortFunc(folders, func(x, y string) int { return a.rows[x]["models"] - a.rows[y]["models"] })
	fmt.Fprintf(w, "\n\t%s\t\n", strings.Join(folders, "\t"))
	for _, c := range backendColumns {
		fmt.Fprintf(w, "%s\t", c)
		for _, f := range folders {
			fmt.Fprintf(w, "%d\t", a.rows[f][c])
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	var why []string
	for r := range a.reasons {
		why = append(why, r)
	}
	slices.Sort(why)
	for _, r := range why {
		fmt.Fprintf(&out, "%d %s: %s", len(a.reasons[r]), r, strings.Join(a.reasons[r][:min(3, len(a.reasons[r]))], ", "))
		if len(a.reasons[r]) > 3 {
			out.WriteString(", ...")
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// TestBackendModels takes every ONNX backend model through loading, saving, text, shape inference and upgrades, and runs what
// comes out beside the original in onnxruntime. -v prints the table.
func TestBackendModels(t *testing.T) {
	cases := onnxtest.Cases(t)
	orttest.TestLibrary(t)
	sum := &tally{rows: map[string]map[string]int{}, reasons: map[string][]string{}}
	for _, c := range cases {
		t.Run(c.Folder+"/"+c.Name, func(t *testing.T) {
			b := &backendCase{T: t, Case: c, sum: sum}
			b.add("models")
			b.check()
		})
	}
	t.Log(sum)
	all := sum.rows["all"]
	if all["shape by values"]*100 < all["outputs"]*98 {
		t.Errorf("%d of %d outputs have the recorded shape", all["shape by values"], all["outputs"])
	}
	if all["runs"]*100 < all["models"]*70 {
		t.Errorf("onnxruntime runs %d of %d models", all["runs"], all["models"])
	}
}

type backendCase struct {
	*testing.T
	onnxtest.Case
	sum   *tally
	feeds map[string]*ir.Tensor
	want  map[string]*ir.Tensor // what onnxruntime gives for the file; nil where it does not run
}

func (b *backendCase) add(column string) { b.sum.add(b.Folder, column) }

var quoted = regexp.MustCompile(`"[^"]*"|\([^()]*\)|\[[^\]]*\]|node \S+ -> \S+|'[^']*'`)

// refused notes what was refused without being a fault.
func (b *backendCase) refused(what string, err error) {
	b.note(what + ": " + quoted.ReplaceAllString(err.Error(), "..."))
}

func (b *backendCase) note(why string) { b.sum.reasons[why] = append(b.sum.reasons[why], b.Name) }

func (b *backendCase) check() {
	data, err := os.ReadFile(b.Path)
	if err != nil {
		b.Fatal(err)
	}
	s, ortErr := ort.NewSession(data, ort.SessionOptions{OptLevel: ort.DisableAll, Threads: 1, NoArena: true})
	if ortErr == nil {
		defer s.Close()
	} else {
		b.refused("onnxruntime", ortErr)
	}
	m, err := format.Load(b.Path)
	if err != nil {
		b.refused("load", err)
		if ortErr == nil {
			b.Errorf("onnxruntime loads what is refused: %v", err)
		}
		return
	}
	b.add("loaded")
	feeds, complete := b.Feeds(m.Graph)
	if b.feeds = feeds; ortErr == nil && complete {
		if b.want, err = s.Run(feeds, nil); err != nil {
			b.refused("run", err)
		} else {
			b.add("runs")
			if b.asRecorded(m) {
				b.add("as recorded")
			} else {
				b.note("onnxruntime gives something else than was recorded")
			}
		}
	}
	b.roundTrip(m)
	b.shapes()
	b.upgrade(17, sameBits)
	b.upgrade(25, near)
}

func (b *backendCase) asRecorded(m *ir.Model) bool {
	for name, x := range b.Results(m.Graph) {
		if !within(1e-3, b.want[name], x) {
			return false
		}
	}
	return true
}

// runsLike runs a model where its original runs, and reports whether it gives the same.
func (b *backendCase) runsLike(data []byte, same func(got, want *ir.Tensor) bool) error {
	got, err := ort.Evaluator{}.Run(data, b.feeds)
	if err != nil {
		return err
	}
	for name, w := range b.want {
		if !same(got[name], w) {
			return fmt.Errorf("output %s differs", name)
		}
	}
	return nil
}

func (b *backendCase) roundTrip(m *ir.Model) {
	first := marshal(b.T, m)
	again, err := format.Parse(first, "")
	if err != nil {
		b.Fatalf("what was written cannot be read: %v", err)
	}
	if !bytes.Equal(first, marshal(b.T, again)) {
		b.Error("load, save, load changed the bytes")
	}
	b.add("saved")
	if b.want != nil {
		if err := b.runsLike(first, sameBits); err != nil {
			b.Errorf("after load and save: %v", err)
		} else {
			b.add("saved runs same")
		}
	}
	src, err := text.Format(m)
	if err != nil {
		b.Fatal(err)
	}
	back, err := text.Parse(b.Name, []byte(src), nil)
	if err != nil {
		b.Fatalf("the text cannot be read: %v", err)
	}
	if !bytes.Equal(first, marshal(b.T, back)) {
		b.Error("the text says something else")
		return
	}
	b.add("text")
}

// shapes infers the model without the types in the file, once from its inputs' types and once from their recorded values too.
func (b *backendCase) shapes() {
	for _, values := range []bool{false, true} {
		m := load(b.T, b.Path)
		want := b.Results(m.Graph)
		for name, x := range b.feeds {
			if v := m.Graph.Value(name); values && x.Len() <= 4096 {
				if err := m.Graph.InitializerFromInput(v, x); err != nil {
					b.Fatal(err)
				}
			}
		}
		op.ClearTypes(m.Graph)
		if err := op.InferModel(m, nil); err != nil {
			b.Error(err)
			return
		}
		if !values {
			b.add("inferred")
		}
		for name, x := range want {
			b.shape(m.Graph.Value(name), x, values)
		}
	}
}

func (b *backendCase) shape(v *ir.Value, x *ir.Tensor, values bool) {
	if v.Type.Kind != ir.KindTensor && v.Type.Kind != ir.KindUnknown || v.Type.Elem != ir.Undefined && v.Type.Elem != x.DType() ||
		!mayBe(v.Shape(), x.Dims()) {
		b.Errorf("output %s: inferred %v, recorded %v", v.Name(), v.Type, x.Type())
	}
	_, static := v.StaticDims()
	switch p := v.Producer(); {
	case !values:
		if static {
			b.add("shape by types")
		}
		return
	case static:
		b.add("shape by values")
	case p != nil && valueShaped[p.Op] != "":
		b.add("excluded")
		b.note("excluded, " + p.Op + ": " + valueShaped[p.Op])
		return
	case p != nil:
		b.note("open, " + p.Op)
	}
	b.add("outputs")
}

// mayBe reports whether nothing in s contradicts dims.
func mayBe(s ir.Shape, dims []int64) bool {
	if s == nil {
		return true
	}
	return slices.EqualFunc(s, dims, func(d ir.Dim, n int64) bool { return !d.Known() || d.Size == n })
}

// upgrade brings a model up to an opset of the default domain and runs it again.
func (b *backendCase) upgrade(to int, same func(got, want *ir.Tensor) bool) {
	m := load(b.T, b.Path)
	if from := m.Opset(""); from == 0 || from >= int64(to) {
		return
	}
	b.add(fmt.Sprintf("opset<%d", to))
	if err := format.Upgrade(m, to); err != nil {
		b.refused(fmt.Sprintf("to %d", to), err)
		return
	}
	b.add(fmt.Sprintf("to %d", to))
	if b.want == nil {
		return
	}
	err := b.runsLike(marshal(b.T, m), same)
	switch {
	case err == nil:
		b.add(fmt.Sprintf("%d runs same", to))
	case to == 25 && strings.Contains(err.Error(), "Could not find an implementation"):
		b.add("25 not in onnxruntime")
		b.refused("onnxruntime at 25", err)
	default:
		b.Errorf("at opset %d: %v", to, err)
	}
}

func sameBits(got, want *ir.Tensor) bool {
	return got != nil && got.DType() == want.DType() && slices.Equal(got.Dims(), want.Dims()) && bytes.Equal(got.Raw(), want.Raw())
}

// near allows what the order of additions and the choice of an approximation change.
func near(got, want *ir.Tensor) bool { return within(1e-5, got, want) }

func within(tol float64, got, want *ir.Tensor) bool {
	if got == nil || got.DType() != want.DType() || !slices.Equal(got.Dims(), want.Dims()) {
		return false
	}
	x, err := got.Floats()
	y, err2 := want.Floats()
	if err != nil || err2 != nil {
		return bytes.Equal(got.Raw(), want.Raw())
	}
	for i := range x {
		if x[i] != y[i] && !(math.IsNaN(x[i]) && math.IsNaN(y[i])) && !(math.Abs(x[i]-y[i]) <= tol*(0.01+math.Abs(y[i]))) {
			return false
		}
	}
	return true
}
