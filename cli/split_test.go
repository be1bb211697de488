package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mqatc/cli/clitest"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/text"
	"mqatc/passes/partition"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/testmodels/zoo"
)

// command runs mqatc, which must end well, and returns its standard output.
func command(t *testing.T, args ...string) string {
	t.Helper()
	return clitest.Command(t, Main, args...)
}

// splitInto cuts the model and reads order.json.
func splitInto(t *testing.T, dir, path string, args ...string) splitDoc {
	t.Helper()
	command(t, append([]string{"partition", path, "--split", dir}, args...)...)
	raw, err := os.ReadFile(filepath.Join(dir, orderFile))
	if err != nil {
		t.Fatal(err)
	}
	var d splitDoc
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// sameInTurn cuts the model at path into dir, runs the whole file and the parts at optimization level 0 and compares all outputs
// bit by bit.
func sameInTurn(t *testing.T, path, dir string, args ...string) splitDoc {
	t.Helper()
	orttest.TestLibrary(t)
	d := splitInto(t, dir, path, args...)
	m, err := format.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]*ir.Tensor{}
	r := rand.New(rand.NewPCG(1, 2))
	for _, v := range m.Graph.Inputs() {
		if !v.IsInitializer() {
			known[v.Name()] = randomInput(t, r, v)
		}
	}
	want := runFile(t, path, known)
	for _, p := range d.Parts {
		feeds := map[string]*ir.Tensor{}
		for _, in := range p.Inputs {
			if feeds[in.Name] = known[in.Name]; feeds[in.Name] == nil {
				t.Fatalf("%s needs %q, which no earlier part gives", p.File, in.Name)
			}
		}
		got := runFile(t, filepath.Join(dir, p.File), feeds)
		for _, o := range p.Outputs {
			if got[o.Name] == nil {
				t.Fatalf("%s does not give %q", p.File, o.Name)
			}
			known[o.Name] = got[o.Name]
		}
	}
	if len(d.Outputs) != len(m.Graph.Outputs()) {
		t.Fatalf("%d outputs, the network has %d", len(d.Outputs), len(m.Graph.Outputs()))
	}
	for i, o := range d.Outputs {
		a, b := want[m.Graph.Outputs()[i].Name()], known[o.Name]
		if b == nil || !slices.Equal(a.Dims(), b.Dims()) || a.DType() != b.DType() || !bytes.Equal(a.Raw(), b.Raw()) {
			t.Errorf("output %q of the parts is not that of the whole", o.Name)
		}
	}
	return d
}

func runFile(t *testing.T, path string, feeds map[string]*ir.Tensor) map[string]*ir.Tensor {
	t.Helper()
	s, err := ort.NewSessionFile(path, ort.SessionOptions{OptLevel: ort.DisableAll, Threads: 1})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer s.Close()
	out, err := s.Run(feeds, nil)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out
}

// randomInput draws an input, 2 for an open batch and 64 for other open sizes.
func randomInput(t *testing.T, r *rand.Rand, v *ir.Value) *ir.Tensor {
	t.Helper()
	n := int64(1)
	var dims []int64
	for i, d := range v.Shape() {
		size := d.Size
		if !d.Known() {
			if size = 64; i == 0 {
				size = 2
			}
		}
		dims = append(dims, size)
		n *= size
	}
	if v.DType() != ir.Float32 {
		t.Fatalf("input %q is of type %v", v.Name(), v.DType())
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = r.Float32()
	}
	out, err := ir.FromFloat32s(x, dims...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPartsOfTheZooInTurnAreTheWhole(t *testing.T) {
	for _, a := range zoo.Table {
		t.Run(a.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "net.onnx")
			command(t, "zoo", a.Name, "--size", "64", "--width", "0.0625", "-o", path)
			d := sameInTurn(t, path, filepath.Join(t.TempDir(), "parts"))
			if len(d.Parts) < 2 {
				t.Errorf("%d parts", len(d.Parts))
			}
		})
	}
}

func TestPartsOfPublicNetworksInTurnAreTheWhole(t *testing.T) {
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	files, err := filepath.Glob(filepath.Join(dir, "models", "*.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("no *.onnx in %s/models: set MQATC_SHARED to the folder that has them", dir)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { sameInTurn(t, f, filepath.Join(t.TempDir(), "parts")) })
	}
}

// Modules that need one another's values in turn are cut into runs.
func TestInterleavedModulesAreCutIntoParts(t *testing.T) {
	for _, name := range []string{"wdr", "efficientdet", "fasterrcnn"} {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			path, file := filepath.Join(tmp, "net.onnx"), filepath.Join(tmp, "modules.yaml")
			command(t, "zoo", name, "--size", "64", "--width", "0.0625", "-o", path)
			var p partitionDoc
			if err := json.Unmarshal([]byte(command(t, "partition", path, "--json")), &p); err != nil {
				t.Fatal(err)
			}
			f := partition.File{Modules: []partition.FileModule{{Name: "a/b"}, {Name: "A:b"}, {Name: "..c"}}}
			last, k := "", 0
			for _, m := range p.Modules {
				for _, w := range m.Initializers {
					layer := w[:strings.LastIndex(w, ".")+1]
					if layer = strings.TrimSuffix(strings.TrimSuffix(layer, "bn."), "conv."); layer != last {
						last, k = layer, k+1
					}
					at := &f.Modules[k/5%3]
					at.Initializers = append(at.Initializers, w)
				}
			}
			writeYAML(t, file, f)
			d := sameInTurn(t, path, filepath.Join(tmp, "parts"), "--modules", file)
			seen := map[string]bool{}
			parts := map[string]int{}
			for _, p := range d.Parts {
				if seen[strings.ToLower(p.File)] || strings.ContainsAny(p.File, "/:") || p.File[0] == '.' {
					t.Errorf("file name %q", p.File)
				}
				seen[strings.ToLower(p.File)] = true
				if p.Module != "" {
					if parts[p.Module]++; parts[p.Module] != p.Part || p.Parts < 2 {
						t.Errorf("%s is part %d of %d", p.File, p.Part, p.Parts)
					}
				}
			}
			if len(parts) != 3 {
				t.Errorf("modules %v", parts)
			}
		})
	}
}

func writeYAML(t *testing.T, path string, f partition.File) {
	t.Helper()
	var b strings.Builder
	b.WriteString("modules:\n")
	for _, m := range f.Modules {
		fmt.Fprintf(&b, "- name: %q\n  initializers:\n", m.Name)
		for _, w := range m.Initializers {
			fmt.Fprintf(&b, "  - %q\n", w)
		}
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// branching has a condition and a subgraph that read values of another module, a function, a constant that two modules read, metadata,
// post-processing, an output that is an input and one that is a constant.
const branching = `<
  ir_version: 10,
  opset_import: ["": 17, "own": 1],
  producer_name: "author",
  metadata_props: ["key": "value"]
>
net (float[1,2,8,8] x, float[2] k) => (float[1,2,8,8] y, int64[4] size, float[2] k, float[1] c)
<
  float[2,2,1,1] w1 = {1, 0.5, -0.25, 2},
  float[2,2,1,1] w2 = {0.5, -1, 1.5, 0.125},
  float[1] c = {0.75}
>
{
  [a] a = Conv (x, w1)
  [twice] b = own.Twice (a)
  [cc] m = Mul (b, c)
  [d] d = Conv (m, w2)
  [s] total = ReduceSum <keepdims = 0> (a)
  [z] zero = Constant <value = float {0}> ()
  [g] positive = Greater (total, zero)
  [if] e = If (positive) <
    then_branch = then () => (float[1,2,8,8] t) { t = Add (d, b) },
    else_branch = els () => (float[1,2,8,8] u) { u = Mul (d, c) }
  >
  [y] y = Relu (e)
  [size] size = Shape (y)
}

<
  domain: "own",
  opset_import: ["": 17]
>
Twice (p) => (q)
{
  q = Add (p, p)
}
`

func TestPartsKeepWhatBelongsToThem(t *testing.T) {
	m, err := text.Parse("branching", []byte(branching), nil)
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	path, file := filepath.Join(tmp, "net.onnx"), filepath.Join(tmp, "modules.yaml")
	if _, err := format.Save(m, path, format.SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	writeYAML(t, file, partition.File{Modules: []partition.FileModule{{Name: "one", Initializers: []string{"w1", "c"}}, {Name: "two", Initializers: []string{"w2"}}}})
	d := sameInTurn(t, path, filepath.Join(tmp, "parts"), "--modules", file)
	var files, outputs []string
	constants := map[string][]string{}
	for _, p := range d.Parts {
		files = append(files, p.File)
		part, err := format.Load(filepath.Join(tmp, "parts", p.File))
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := part.Meta.Get("key"); v != "value" || part.Producer != "author" || part.Opset("own") != 1 || len(part.Functions) != 1 {
			t.Errorf("%s: metadata %v, producer %q, opsets %v, %d functions", p.File, part.Meta, part.Producer, part.Opsets, len(part.Functions))
		}
		for _, v := range part.Graph.Initializers() {
			constants[p.File] = append(constants[p.File], v.Name())
		}
	}
	for _, o := range d.Outputs {
		outputs = append(outputs, o.Name+" of "+o.From)
	}
	for _, c := range []struct{ what, got, want string }{
		{"parts", fmt.Sprint(files), "[one.1.onnx two.onnx one.2.onnx after.onnx]"},
		{"outputs", strings.Join(outputs, ", "), "y of one.2.onnx, size of after.onnx, k of , c of after.onnx"},
		{"initializers", fmt.Sprint(constants), "map[after.onnx:[c] one.1.onnx:[w1 c zero] one.2.onnx:[c] two.onnx:[w2]]"},
		{"inputs", fmt.Sprint(d.Parts[2].Inputs), "[{{b float[1,2,8,8]} one.1.onnx} {{d float[1,2,8,8]} two.onnx} {{positive bool} one.1.onnx}]"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.what, c.got, c.want)
		}
	}
}
