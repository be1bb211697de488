package pack

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
)

func TestReadBack(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		samples := drawAll(t, false)
		d := write(t, dir, samples)
		for _, path := range []string{dir, filepath.Join(dir, "weights.json"), filepath.Join(dir, "weights.bin")} {
			b, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(normal(d), normal(&b.Description)); diff != "" {
				t.Fatal(diff)
			}
			for _, s := range samples {
				x, err := b.Tensor(s.Name)
				if err != nil {
					t.Fatal(err)
				}
				got, err := b.Float32s(x)
				if err != nil || !same(got, s.values()) {
					t.Fatalf("%+v: %v, want %v (%v)", s.Tensor, got, s.values(), err)
				}
				if s.codes == nil {
					continue
				}
				if codes, err := b.Codes(x); err != nil || !slices.Equal(codes, s.codes) {
					t.Fatalf("%+v: codes %v, want %v (%v)", s.Tensor, codes, s.codes, err)
				}
			}
			b.Close()
		}
	})
}

func normal(d *Description) *Description {
	c := *d
	c.Tensors = slices.Clone(d.Tensors)
	for i := range c.Tensors {
		t := &c.Tensors[i]
		t.Shape, t.Scales, t.ZeroPoints, t.Codebook = notNil(t.Shape), notNil(t.Scales), notNil(t.ZeroPoints), notNil(t.Codebook)
	}
	return &c
}

// A model saved by onnx/format, described from what Save reported.
func TestBesideModel(t *testing.T) {
	dir := t.TempDir()
	m := ir.NewModel("test", 25)
	g := m.Graph
	ints := func(d ir.DType, name string, dims []int64, v ...int64) {
		x, err := ir.PackInts(d, v, dims...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.AddInitializer(name, x); err != nil {
			t.Fatal(err)
		}
	}
	ints(ir.Int8, "c", []int64{3}, -128, 0, 127)
	ints(ir.Int2, "a", []int64{2, 3}, -1, 0, 1, 1, 1, -1)
	ints(ir.Int4, "b", []int64{1, 3}, -4, 3, 2)
	bias, err := ir.FromFloat32s([]float32{0.5, -0.25}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.AddInitializer("bias", bias); err != nil {
		t.Fatal(err)
	}
	placed, err := format.Save(m, filepath.Join(dir, "model.onnx"), format.SaveOptions{ExternalFile: "weights.bin", External: func(*ir.Value) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	tensors := []Tensor{
		{Name: "a", Module: "backbone", Shape: []int64{2, 3}, Bits: 2, Packing: "int2", Axis: 1, Scales: []float32{0.5, 0.25, 2}},
		{Name: "b", Module: "head", Shape: []int64{1, 3}, Bits: 3, Packing: "int4", Axis: -1, Scales: []float32{0.1}},
		{Name: "c", Module: "head", Shape: []int64{3}, Bits: 8, Packing: "int8", Axis: -1, Scales: []float32{1. / 3}},
		{Name: "bias", Shape: []int64{2}, Bits: 32, Packing: "float32", Axis: -1},
	}
	if _, err := Write(filepath.Join(dir, "weights.bin"), tensors, placed); err != nil {
		t.Fatal(err)
	}
	b := mustRead(t, dir)
	tenth, third := float32(0.1), float32(1)/3
	for name, want := range map[string][]float32{
		"a": {-0.5, 0, 2, 0.5, 0.25, -2}, "b": {-4 * tenth, 3 * tenth, 2 * tenth}, "c": {-128 * third, 0, 127 * third}, "bias": {0.5, -0.25},
	} {
		x, err := b.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.Float32s(x); err != nil || !same(got, want) {
			t.Errorf("%s: %v, want %v (%v)", name, got, want, err)
		}
		if x.Offset%64 != 0 {
			t.Errorf("%s lies at %d", name, x.Offset)
		}
	}
	if _, err := b.Tensor("d"); err == nil {
		t.Error("there is a tensor d")
	}
	for what, change := range map[string]func(t []Tensor){
		"is not in the file":            func(t []Tensor) { t[0].Name = "x" },
		"takes 1 bytes, not 2":          func(t []Tensor) { t[0].Shape, t[0].Scales = []int64{1, 3}, []float32{1, 1, 1} },
		"codes need 8 bits, not 7":      func(t []Tensor) { t[2].Bits = 7 },
		"codes need 3 bits, not 2":      func(t []Tensor) { t[1].Bits = 2 },
		"stands twice":                  func(t []Tensor) { t[1] = t[2] },
		"scale or level 0 is +Inf":      func(t []Tensor) { t[2].Scales = []float32{third * 1e38 * 1e10} },
		"2 scales for shape [2 3]":      func(t []Tensor) { t[0].Scales = t[0].Scales[:2] },
		"float32 elements have neither": func(t []Tensor) { t[3].ZeroPoints = []int32{1} },
	} {
		bad := slices.Clone(tensors)
		change(bad)
		if _, err := Write(filepath.Join(dir, "weights.bin"), bad, placed); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: %v", what, err)
		}
	}
}

func TestSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := drawAll(t, false)
		blob := lay(samples)
		texts := func(in []Tensor) (j, h []byte) {
			d, err := Describe("weights.bin", bytes.NewReader(blob), int64(len(blob)), in)
			if err != nil {
				t.Fatal(err)
			}
			if j, err = d.JSON(); err != nil {
				t.Fatal(err)
			}
			if h, err = d.Header(); err != nil {
				t.Fatal(err)
			}
			return j, h
		}
		j, h := texts(tensorsOf(samples))
		backwards := tensorsOf(samples)
		slices.Reverse(backwards)
		j2, h2 := texts(backwards)
		if !bytes.Equal(j, j2) || !bytes.Equal(h, h2) {
			t.Fatal("the order in which tensors are named shows")
		}
		if !json.Valid(j) {
			t.Fatalf("not JSON: %s", j)
		}
	})
}

// The published check values of SHA-256 and CRC-32C are those of "123456789".
func TestContractFields(t *testing.T) {
	dir := t.TempDir()
	s := sample{Tensor: Tensor{Name: "a<b>/c", Module: "m", Shape: []int64{3, 3}, Bits: 8, Packing: "int8", Axis: 0, Scales: []float32{0.1, 1e-20, 3}}, raw: []byte("123456789")}
	s.Bytes = 9
	write(t, dir, []sample{s})
	raw, err := os.ReadFile(filepath.Join(dir, "weights.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"format":1,"file":"weights.bin","sha256":"15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225","tensors":[
{"name":"a<b>/c","module":"m","offset":0,"bytes":9,"shape":[3,3],"bits":8,"packing":"int8","axis":0,"scales":[0.1,1e-20,3],"zero_points":[],"crc32c":"e3069283"}
]}
`
	if string(raw) != want {
		t.Errorf("%s", raw)
	}
}
