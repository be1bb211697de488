package ort_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func open(t testing.TB, model []byte, o ort.SessionOptions) *ort.Session {
	t.Helper()
	orttest.TestLibrary(t)
	s, err := ort.NewSession(model, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Every element type goes in and comes out bit by bit, as scalar, empty tensor, vector and matrix. Reshape moves bytes only, and
// changes the rank, so that neither name, type nor sizes could be right by accident.
func TestRunDTypes(t *testing.T) {
	types := []ir.DType{ir.Float32, ir.Uint8, ir.Int8, ir.Uint16, ir.Int16, ir.Int32, ir.Int64, ir.Bool, ir.Float16, ir.Float64,
		ir.Uint32, ir.Uint64, ir.BFloat16, ir.Float8E4M3FN, ir.Float8E5M2}
	shapes := []struct{ in, out []int64 }{
		{[]int64{}, []int64{1, 1}}, {[]int64{1}, []int64{}}, {[]int64{3, 0, 2}, []int64{0}}, {[]int64{6}, []int64{2, 3}}, {[]int64{5, 2}, []int64{10}},
	}
	for _, d := range types {
		for _, sh := range shapes {
			t.Run(fmt.Sprintf("%v%v", d, sh.in), func(t *testing.T) {
				g := newGraph(t, 25)
				g.m.IRVersion = 13
				x := g.in("x", d, ir.StaticShape(sh.in...))
				shape := g.init("shape", ir.VectorInt64(sh.out...))
				y := g.op("Reshape", "y", []*ir.Value{x, shape}, ir.AInt("allowzero", 1))
				g.out(y, d, ir.StaticShape(sh.out...))
				s := open(t, g.bytes(), ort.SessionOptions{OptLevel: ort.DisableAll, Threads: 1})

				n, err := ir.NumElements(sh.in)
				g.must(err)
				size, err := ir.PackedSize(d, n)
				g.must(err)
				raw := make([]byte, size)
				for i := range raw {
					raw[i] = byte(37*i + 11)
					if d == ir.Bool {
						raw[i] = byte(i % 2)
					}
				}
				// A view at an odd address, as into a mapped file, must work too.
				odd := append(make([]byte, 1, size+1), raw...)[1:]
				in, err := ir.NewTensor(d, sh.in, odd)
				res, err := s.Run(map[string]*ir.Tensor{"x": tensor(t, in, err)}, nil)
				g.must(err)
				got := res["y"]
				if got.DType() != d || fmt.Sprint(got.Dims()) != fmt.Sprint(sh.out) || !bytes.Equal(got.Raw(), raw) {
					t.Errorf("got %v %x, want %v%v %x", got.Type(), got.Raw(), d, sh.out, raw)
				}
			})
		}
	}
}

// onnxruntime has no Reshape for sub-byte types, so they are widened to int8 and narrowed again.
func TestRunSubByte(t *testing.T) {
	for d, vals := range map[ir.DType][]int64{ir.Int4: {-8, 7, 0, -1, 3}, ir.Uint4: {15, 0, 7, 8, 1}, ir.Int2: {-2, 1, 0, -1, 1}, ir.Uint2: {3, 0, 1, 2, 2}} {
		t.Run(d.String(), func(t *testing.T) {
			g := newGraph(t, 25)
			g.m.IRVersion = 13
			wide := g.op("Cast", "wide", []*ir.Value{g.in("x", d, ir.StaticShape(5))}, ir.AInt("to", int64(ir.Int8)))
			back := g.op("Cast", "back", []*ir.Value{wide}, ir.AInt("to", int64(d)))
			g.out(wide, ir.Int8, ir.StaticShape(5)).out(back, d, ir.StaticShape(5))
			s := open(t, g.bytes(), ort.SessionOptions{OptLevel: ort.DisableAll})
			if s.Inputs()[0].Type.Elem != d || s.Outputs()[1].Type.Elem != d {
				t.Errorf("types %v %v", s.Inputs(), s.Outputs())
			}
			x, err := ir.PackInts(d, vals, 5)
			res, err := s.Run(map[string]*ir.Tensor{"x": tensor(t, x, err)}, nil)
			g.must(err)
			w, err := res["wide"].Ints()
			g.must(err)
			b, err := res["back"].Ints()
			g.must(err)
			if fmt.Sprint(w) != fmt.Sprint(vals) || fmt.Sprint(b) != fmt.Sprint(vals) || res["back"].DType() != d {
				t.Errorf("%v became %v and %v", vals, w, b)
			}
		})
	}
}

// y = a + b and z = a * b with a scalar b: two outputs, of which a run may ask for one.
func sumAndProduct(t testing.TB) []byte {
	g := newGraph(t, 17)
	a := g.in("a", ir.Float32, ir.Shape{ir.Sym("N"), ir.D(2)})
	b := g.in("b", ir.Float32, ir.StaticShape())
	y := g.op("Add", "y", []*ir.Value{a, b})
	z := g.op("ReduceSum", "z", []*ir.Value{g.op("Mul", "p", []*ir.Value{a, b})}, ir.AInt("keepdims", 0))
	g.out(y, ir.Float32, ir.Shape{ir.Sym("N"), ir.D(2)})
	g.out(z, ir.Float32, ir.StaticShape())
	return g.bytes()
}

func TestRunNamedOutputs(t *testing.T) {
	s := open(t, sumAndProduct(t), ort.SessionOptions{})
	if in := s.Inputs(); len(in) != 2 || in[0].Name != "a" || in[0].Type.String() != "float[N,2]" || in[1].Type.Shape == nil || len(in[1].Type.Shape) != 0 {
		t.Errorf("inputs %v", in)
	}
	if out := s.Outputs(); len(out) != 2 || out[0].Name != "y" || out[1].Name != "z" {
		t.Errorf("outputs %v", out)
	}
	a, err := ir.FromFloat32s([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
	feeds := map[string]*ir.Tensor{"a": tensor(t, a, err), "b": ir.ScalarFloat32(10)}
	res, err := s.Run(feeds, []string{"z"})
	if err != nil || len(res) != 1 {
		t.Fatal(res, err)
	}
	if z, err := res["z"].Float32s(); err != nil || len(res["z"].Dims()) != 0 || len(z) != 1 || z[0] != 210 {
		t.Errorf("z = %v %v", z, err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			res, err := s.Run(map[string]*ir.Tensor{"a": feeds["a"], "b": ir.ScalarFloat32(float32(i))}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if y, _ := res["y"].Float32s(); len(y) != 6 || y[5] != 6+float32(i) {
				t.Errorf("run %d: y = %v", i, y)
			}
		}()
	}
	wg.Wait()
}

func TestRunErrors(t *testing.T) {
	s := open(t, sumAndProduct(t), ort.SessionOptions{})
	a, err := ir.FromFloat32s([]float32{1, 2}, 1, 2)
	a = tensor(t, a, err)
	bad, err := ir.FromFloat32s([]float32{1, 2, 3}, 1, 3)
	bad = tensor(t, bad, err)
	b := ir.ScalarFloat32(1)
	for name, c := range map[string]struct {
		feeds map[string]*ir.Tensor
		outs  []string
		want  string
	}{
		"missing":        {map[string]*ir.Tensor{"a": a}, nil, `input "b" is not fed`},
		"unknown input":  {map[string]*ir.Tensor{"a": a, "b": b, "c": b}, nil, `no input "c"`},
		"unknown output": {map[string]*ir.Tensor{"a": a, "b": b}, []string{"q"}, `no output "q"`},
		"type":           {map[string]*ir.Tensor{"a": a, "b": ir.ScalarInt64(1)}, nil, `input "b": tensor is int64`},
		"shape":          {map[string]*ir.Tensor{"a": bad, "b": b}, nil, "Got: 3 Expected: 2"},
	} {
		_, err := s.Run(c.feeds, c.outs)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, model := range map[string][]byte{"empty": nil, "text": []byte("hello, world"), "cut": sumAndProduct(t)[:90]} {
		_, err := ort.NewSession(model, ort.SessionOptions{})
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "onnxruntime: load model: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := newGraph(t, 17)
	g.out(g.op("NoSuchOperator", "y", []*ir.Value{g.in("x", ir.Float32, ir.StaticShape(1))}), ir.Float32, ir.StaticShape(1))
	if _, err := ort.NewSession(g.bytes(), ort.SessionOptions{}); err == nil || !strings.Contains(err.Error(), "NoSuchOperator") {
		t.Errorf("unknown operator: %v", err)
	}
	for _, dev := range []string{"abacus", "cuda:x"} {
		if _, err := ort.NewSession(sumAndProduct(t), ort.SessionOptions{Device: dev}); err == nil || !strings.Contains(err.Error(), dev) {
			t.Errorf("device %s: %v", dev, err)
		}
	}
	closed, err := ort.NewSession(sumAndProduct(t), ort.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Error(err)
	}
	if _, err := closed.Run(map[string]*ir.Tensor{"a": a, "b": b}, nil); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// matMul is y = x W with W (64x8) in an external file.
func matMul(t *testing.T, dir string) (path string, w []float32) {
	w = make([]float32, 512)
	for i := range w {
		w[i] = float32(i%7) - 3
	}
	g := newGraph(t, 17)
	wt, err := ir.FromFloat32s(w, 64, 8)
	x := g.in("x", ir.Float32, ir.StaticShape(1, 64))
	g.out(g.op("MatMul", "y", []*ir.Value{x, g.init("w", tensor(t, wt, err))}), ir.Float32, ir.StaticShape(1, 8))
	path = filepath.Join(dir, "m.onnx")
	if _, err := format.Save(g.m, path, format.SaveOptions{ExternalFile: "m.bin"}); err != nil {
		t.Fatal(err)
	}
	return path, w
}

func TestExternalData(t *testing.T) {
	orttest.TestLibrary(t)
	dir := t.TempDir()
	path, w := matMul(t, dir)
	model, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := os.ReadFile(filepath.Join(dir, "m.bin"))
	if err != nil || len(bin) < 2048 {
		t.Fatalf("%d bytes of external data: %v", len(bin), err)
	}
	ones := make([]float32, 64)
	want := make([]float32, 8)
	for i := range w {
		ones[i/8] = 1
		want[i%8] += w[i]
	}
	x, err := ir.FromFloat32s(ones, 1, 64)
	x = tensor(t, x, err)
	for name, make := range map[string]func() (*ort.Session, error){
		"file":   func() (*ort.Session, error) { return ort.NewSessionFile(path, ort.SessionOptions{}) },
		"folder": func() (*ort.Session, error) { return ort.NewSession(model, ort.SessionOptions{ExternalDir: dir}) },
		"memory": func() (*ort.Session, error) {
			return ort.NewSession(model, ort.SessionOptions{ExternalFiles: map[string][]byte{"m.bin": bin}})
		},
	} {
		s, err := make()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		res, err := s.Run(map[string]*ir.Tensor{"x": x}, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if y, _ := res["y"].Float32s(); fmt.Sprint(y) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", name, y, want)
		}
		s.Close()
	}
	if _, err := ort.NewSession(model, ort.SessionOptions{}); err == nil {
		t.Error("loaded without its weights")
	}
	res, err := ort.Evaluator{ExternalFiles: map[string][]byte{"m.bin": bin}}.Run(model, map[string]*ir.Tensor{"x": x})
	if err != nil {
		t.Fatal(err)
	}
	if y, _ := res["y"].Float32s(); fmt.Sprint(y) != fmt.Sprint(want) {
		t.Errorf("evaluator: %v, want %v", y, want)
	}
}

func TestSessionOptions(t *testing.T) {
	dir := t.TempDir()
	a, err := ir.FromFloat32s([]float32{1, 2}, 1, 2)
	feeds := map[string]*ir.Tensor{"a": tensor(t, a, err), "b": ir.ScalarFloat32(3)}
	for i, level := range ort.OptLevels() {
		o := ort.SessionOptions{OptLevel: level, Threads: 2, InterThreads: 1 + i%2, DisableQDQ: true, Deterministic: true, NoSpin: true, NoArena: i%2 == 0,
			OptimizedModelPath: filepath.Join(dir, level.String()+".onnx"), Profile: filepath.Join(dir, level.String()),
			Config: map[string]string{"session.set_denormal_as_zero": "1"}}
		s := open(t, sumAndProduct(t), o)
		if _, err := s.Run(feeds, nil); err != nil {
			t.Fatal(err)
		}
		p, err := s.EndProfile()
		if err != nil || !strings.HasPrefix(p, o.Profile) {
			t.Errorf("profile %q %v", p, err)
		} else if raw, err := os.ReadFile(p); err != nil || !bytes.Contains(raw, []byte("Mul")) {
			t.Errorf("profile without the operators that ran: %v", err)
		}
		if _, err := format.Load(o.OptimizedModelPath); err != nil {
			t.Errorf("optimized model: %v", err)
		}
	}
	if _, err := ort.NewSession(sumAndProduct(t), ort.SessionOptions{Threads: -1}); err == nil {
		t.Error("-1 threads accepted")
	}
}

func TestEvaluatorWithoutInputs(t *testing.T) {
	orttest.TestLibrary(t)
	g := newGraph(t, 17)
	y := g.op("Range", "y", []*ir.Value{g.init("a", ir.ScalarInt64(2)), g.init("b", ir.ScalarInt64(11)), g.init("c", ir.ScalarInt64(3))})
	g.out(y, ir.Int64, ir.Shape{ir.UnknownDim()})
	res, err := ort.Evaluator{}.Run(g.bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := res["y"].Int64s(); fmt.Sprint(v) != "[2 5 8]" {
		t.Errorf("y = %v", v)
	}
	if _, err := (ort.Evaluator{}).Run([]byte("nonsense"), nil); err == nil || !strings.HasPrefix(err.Error(), "evaluate: ") {
		t.Errorf("nonsense: %v", err)
	}
}
