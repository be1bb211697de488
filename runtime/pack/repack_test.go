package pack

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mqatc/runtime/data/npy"
)

func TestRepack(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		samples := drawAll(t, false)
		write(t, dir, samples)
		b, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for _, c := range []struct {
			pack func(*Blob, string) (*Description, error)
			file string
		}{{Exact, "exact.bin"}, {Containers, "again.wts"}} {
			path := filepath.Join(dir, c.file)
			if _, err := c.pack(b, path); err != nil {
				t.Fatal(err)
			}
			r, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			payload := int64(0)
			for _, s := range samples {
				x, err := r.Tensor(s.Name)
				if err != nil {
					t.Fatal(err)
				}
				codes, codesErr := r.Codes(x)
				values, err := r.Float32s(x)
				if err != nil || !same(values, s.values()) || codesErr == nil && !slices.Equal(codes, s.codes) {
					t.Fatalf("%+v becomes %+v: codes %v, values %v (%v)", s.Tensor, x, codes, values, err)
				}
				if x.Module != s.Module || x.Bits != s.Bits || x.Name != s.Name {
					t.Fatalf("%+v becomes %+v", s.Tensor, x)
				}
				payload += x.Bytes
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if limit := payload + payload/100 + 64*int64(len(samples)); int64(len(raw)) > limit {
				t.Fatalf("%d bytes for a payload of %d", len(raw), payload)
			}
			// From the other form, the same bytes come out.
			if _, err := c.pack(r, filepath.Join(dir, "twice.bin")); err != nil {
				t.Fatal(err)
			}
			twice, err := os.ReadFile(filepath.Join(dir, "twice.bin"))
			if err != nil || !bytes.Equal(raw, twice) {
				t.Fatalf("packed twice: %d and %d bytes (%v)", len(raw), len(twice), err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Exact spends the bits of the plan, 1.6 for ternary codes, and no others.
func TestExactSizes(t *testing.T) {
	const n = 1000
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		bits      int
		container Packing
		lo, hi    int
		want      Packing
		bytes     int64
	}{
		{1, "int2", -1, 1, Binary, 125}, {2, "int2", -1, 1, Ternary, 200}, {2, "int2", -2, 1, "int2", 250}, {3, "int4", -4, 3, "int3", 375},
		{3, "int8", -3, 3, "int3", 375}, {4, "int4", -7, 7, "int4", 500}, {5, "int8", -15, 15, "int5", 625}, {6, "int8", -32, 31, "int6", 750},
		{7, "int8", -63, 63, "int7", 875}, {8, "int8", -128, 127, "int8", 1000}, {4, "uint4", 0, 8, "uint4", 500}, {5, "uint8", 0, 16, "uint5", 625},
	} {
		l, err := c.container.layout()
		if err != nil {
			t.Fatal(err)
		}
		s := sample{Tensor: Tensor{Name: "w", Shape: []int64{n}, Bits: c.bits, Packing: c.container, Axis: -1, Scales: []float32{1}}}
		for range n {
			q := int32(c.lo + rng.IntN(c.hi-c.lo+1))
			if c.bits == 1 && q == 0 {
				q = 1
			}
			s.codes = append(s.codes, q)
		}
		if s.raw, err = l.pack(s.codes); err != nil {
			t.Fatal(err)
		}
		s.Bytes = int64(len(s.raw))
		dir := t.TempDir()
		write(t, dir, []sample{s})
		d, err := Exact(mustRead(t, dir), filepath.Join(dir, "exact.bin"))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, "exact.bin"))
		if err != nil {
			t.Fatal(err)
		}
		if x := d.Tensors[0]; x.Packing != c.want || x.Bytes != c.bytes || info.Size() != c.bytes {
			t.Errorf("%d bits, %d to %d in %s: %d bytes of %s, want %d of %s", c.bits, c.lo, c.hi, c.container, x.Bytes, x.Packing, c.bytes, c.want)
		}
		back, err := Containers(mustRead(t, filepath.Join(dir, "exact.bin")), filepath.Join(dir, "back.bin"))
		if err != nil {
			t.Fatal(err)
		}
		if c.container != "int8" || c.bits > 4 {
			if diff := cmp.Diff(s.raw, mustBytes(t, filepath.Join(dir, "back.bin"))); diff != "" || back.Tensors[0].Packing != c.container {
				t.Errorf("%d bits back in %s: %s", c.bits, back.Tensors[0].Packing, diff)
			}
		}
	}
}

func mustBytes(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestPackRefusesNames(t *testing.T) {
	description, blob := good(t)
	dir := put(t, description, blob)
	b := mustRead(t, dir)
	for _, name := range []string{"x.json", "x.h", "x.H", ".bin", filepath.Join("absent", "x.bin"), "weights.bin", "weights.exact"} {
		if d, err := Exact(b, filepath.Join(dir, name)); err == nil {
			t.Errorf("%s: %v", name, d)
		}
	}
	if !bytes.Equal(mustBytes(t, filepath.Join(dir, "weights.bin")), blob) || !bytes.Equal(mustBytes(t, filepath.Join(dir, "weights.json")), description) {
		t.Error("what was read has changed")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "x.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	if d, err := Exact(b, filepath.Join(dir, "x.bin")); err == nil {
		t.Errorf("over a folder: %v", d)
	}
}

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	names := map[string]string{ // in the table's order, below
		"head/w": "head_w_3.npy", "head_w": "head_w.npy", "HEAD_W": "HEAD_W_2.npy", "../../up": "_.._.._up.npy", "..": "_...npy", ".hidden": "_.hidden.npy",
		"head.w": "head.w.npy", "head:w": "head_w_4.npy", "a\x00b": "a_b.npy", "ü": "_.npy", "é": "__2.npy",
	}
	var samples []sample
	for i, name := range []string{"head/w", "head_w", "HEAD_W", "../../up", "..", ".hidden", "head.w", "head:w", "a\x00b", "ü", "é"} {
		s := sample{Tensor: Tensor{Name: name, Shape: []int64{2, 1, 2}, Bits: 3, Packing: "int4", Axis: 2, Scales: []float32{0.1, float32(i)}}, codes: []int32{-4, 3, 2, 1}}
		l, _ := s.Packing.layout()
		s.raw, _ = l.pack(s.codes)
		s.Bytes = int64(len(s.raw))
		samples = append(samples, s)
	}
	write(t, dir, samples)
	out := filepath.Join(dir, "deep", "out")
	for range 2 {
		files, err := Unpack(filepath.Join(dir, "weights.bin"), out)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, f := range files {
			got[f.Tensor] = f.Name
		}
		if diff := cmp.Diff(names, got); diff != "" {
			t.Fatal(diff)
		}
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != len(names) {
		t.Errorf("%d files (%v), want %d", len(entries), err, len(names))
	}
	for _, s := range samples {
		a, err := npy.ReadFile(filepath.Join(out, names[s.Name]))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.Shape, []int{2, 1, 2}) {
			t.Errorf("%s has shape %v", s.Name, a.Shape)
		}
		for i, want := range s.values() {
			if a.Data[i] != float64(want) {
				t.Errorf("%s[%d] is %g, want %g", s.Name, i, a.Data[i], want)
			}
		}
	}
	if _, err := Unpack(filepath.Join(dir, "weights.bin"), filepath.Join(dir, "weights.bin")); err == nil {
		t.Error("unpacked into a file")
	}
}

// A link in the folder is replaced, not followed.
func TestUnpackLinks(t *testing.T) {
	description, blob := good(t)
	dir := put(t, description, blob)
	out := t.TempDir()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(out, "a.npy")); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
	if _, err := Unpack(dir, out); err != nil {
		t.Fatal(err)
	}
	if got := mustBytes(t, victim); string(got) != "kept" {
		t.Errorf("the file outside is %q", got)
	}
	if info, err := os.Lstat(filepath.Join(out, "a.npy")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v %v", info, err)
	}
}

// Literals of C read back as the same number.
func TestFloatLiterals(t *testing.T) {
	for x, want := range map[float32]string{1: "1.0f", 0.1: "0.100000001f", 1 << 24: "16777216.0f", 1e10: "1e+10f", math.SmallestNonzeroFloat32: "1.40129846e-45f"} {
		if got := cFloat(x); got != want {
			t.Errorf("%g: %s, want %s", x, got, want)
		}
	}
}
