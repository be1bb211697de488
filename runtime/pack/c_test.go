package pack

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var strict = []string{"-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"}

// tool finds a program or skips the test.
func tool(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("none of these programs is installed: %s", strings.Join(names, ", "))
	return ""
}

type fataler interface{ Fatalf(string, ...any) }

func execute(t fataler, name string, args ...string) []byte {
	cmd := exec.Command(name, args...)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, diag.String())
	}
	return out.Bytes()
}

// dump compiles the reader with the weights.h of dir and unpacks its weights.bin; run is what runs the program.
func dump(t fataler, dir, cc string, flags []string, run ...string) []byte {
	program := filepath.Join(dir, "dump")
	args := append(slices.Clone(strict), flags...)
	execute(t, cc, append(args, "-I", "c", "-I", dir, "-o", program, "c/mqatc_weights.c", "testdata/dump.c")...)
	command := append(slices.Clone(run), program, filepath.Join(dir, "weights.bin"))
	return execute(t, command[0], command[1:]...)
}

// wanted is what dump must print, by Go.
func wanted(t fataler, path string) []byte {
	b, err := Read(path)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer b.Close()
	var out bytes.Buffer
	for i := range b.Tensors {
		x := &b.Tensors[i]
		codes, err := b.Codes(x)
		if err == nil {
			out.WriteByte(1)
			_ = binary.Write(&out, binary.NativeEndian, codes)
		} else {
			out.WriteByte(0)
		}
		values, err := b.Float32s(x)
		if err != nil {
			t.Fatalf("%v", err)
		}
		_ = binary.Write(&out, binary.NativeEndian, values)
	}
	return out.Bytes()
}

// everyPacking puts three tensors of each packing into a new folder.
func everyPacking(t *testing.T) string {
	dir := t.TempDir()
	write(t, dir, rapid.Custom(func(t *rapid.T) []sample {
		var all []sample
		for range 3 {
			all = append(all, drawAll(t, true)...)
		}
		for i := range all {
			all[i].Name += strings.Repeat("'", i)
		}
		return all
	}).Example(7))
	return dir
}

func TestReaderInC(t *testing.T) {
	cc := tool(t, "cc", "gcc", "clang")
	t.Run("every packing", func(t *testing.T) {
		dir := everyPacking(t)
		if got, want := dump(t, dir, cc, nil), wanted(t, dir); !bytes.Equal(got, want) {
			t.Errorf("C and Go differ: %d and %d bytes", len(got), len(want))
		}
	})
	t.Run("sanitized", func(t *testing.T) {
		probe := filepath.Join(t.TempDir(), "probe.c")
		if err := os.WriteFile(probe, []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		flags := []string{"-fsanitize=address,undefined", "-fno-sanitize-recover=all"}
		if err := exec.Command(cc, append(slices.Clone(flags), probe, "-o", probe+".out")...).Run(); err != nil {
			t.Skip("this compiler has no sanitizers: ", err)
		}
		dir := everyPacking(t)
		if got, want := dump(t, dir, cc, flags), wanted(t, dir); !bytes.Equal(got, want) {
			t.Errorf("C and Go differ: %d and %d bytes", len(got), len(want))
		}
	})
	t.Run("refusals", func(t *testing.T) {
		program := filepath.Join(t.TempDir(), "reject")
		execute(t, cc, append(slices.Clone(strict), "-I", "c", "-o", program, "c/mqatc_weights.c", "testdata/reject.c")...)
		execute(t, program)
	})
	t.Run("random", func(t *testing.T) {
		dir := t.TempDir()
		for seed := range 5 {
			write(t, dir, rapid.Custom(func(t *rapid.T) []sample { return drawAll(t, false) }).Example(seed))
			if got, want := dump(t, dir, cc, nil), wanted(t, dir); !bytes.Equal(got, want) {
				t.Errorf("seed %d: C and Go differ: %d and %d bytes", seed, len(got), len(want))
			}
		}
	})
}

func TestReaderOnARM(t *testing.T) {
	cc := tool(t, "aarch64-linux-gnu-gcc")
	qemu := tool(t, "qemu-aarch64", "qemu-aarch64-static")
	dir := everyPacking(t)
	if got, want := dump(t, dir, cc, []string{"-static"}, qemu), wanted(t, dir); !bytes.Equal(got, want) {
		t.Errorf("C on ARM and Go differ: %d and %d bytes", len(got), len(want))
	}
}

func TestHeaderInCpp(t *testing.T) {
	cpp := tool(t, "c++", "g++", "clang++")
	dir := everyPacking(t)
	source := filepath.Join(dir, "use.cpp")
	// Both headers in either order: the type is theirs in common.
	for _, text := range []string{
		"#include \"weights.h\"\n#include \"mqatc_weights.h\"\n#include \"weights.h\"\n",
		"#include \"mqatc_weights.h\"\n#include \"weights.h\"\n",
	} {
		text += "int main() { return mqatc_check(&weights_tensors[0], 0) == MQATC_OK && weights_NUM_TENSORS > 0; }\n"
		if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, std := range []string{"-std=c++11", "-std=c++20"} {
			execute(t, cpp, std, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I", "c", "-I", dir, source)
		}
	}
}

// Names that a C compiler or a comment could stumble over.
func TestHeaderNames(t *testing.T) {
	cc := tool(t, "cc", "gcc", "clang")
	dir := t.TempDir()
	var samples []sample
	for i, name := range []string{
		"a/b", "a_b", "a.b", "a_b_2", "", "int", "0", "*/", "\"; int x", "??/", "\\", "ü", "line\nbreak", "\x00", "%s",
		strings.Repeat("long", 999), strings.Repeat("long", 999) + "er", "num_tensors", "a_b_2_2",
	} {
		if name == "" {
			name = "_"
		}
		samples = append(samples, sample{Tensor: Tensor{Name: name, Module: name, Shape: []int64{int64(i % 3)}, Bits: 8, Packing: "int8", Axis: -1,
			ZeroPoints: []int32{-1 << 31}, Scales: []float32{1 << 24}, Bytes: int64(i % 3)}, raw: make([]byte, i%3), codes: make([]int32, i%3)})
	}
	write(t, dir, samples)
	if got, want := dump(t, dir, cc, nil), wanted(t, dir); !bytes.Equal(got, want) {
		t.Errorf("C and Go differ: %d and %d bytes", len(got), len(want))
	}
	b := mustRead(t, dir)
	for i, s := range samples {
		if _, err := b.Tensor(s.Name); err != nil {
			t.Errorf("name %d: %v", i, err)
		}
	}
	header, err := os.ReadFile(filepath.Join(dir, "weights.h"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"weights_T_a_b = ", "weights_T_a_b_2 = ", "weights_T_a_b_3 = ", "weights_T_a_b_2_2 = ", "weights_T_int = ", "weights_T_w0 = "} {
		if strings.Count(string(header), "  "+id) != 1 {
			t.Errorf("%s stands %d times", id, strings.Count(string(header), "  "+id))
		}
	}
}
