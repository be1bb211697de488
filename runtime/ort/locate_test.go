package ort

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// realLibrary is the library that the other tests of this package open.
func realLibrary(t *testing.T) string {
	t.Helper()
	l, err := Ensure(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := filepath.EvalSymlinks(l.Path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func link(t *testing.T, target string, path ...string) string {
	t.Helper()
	p := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, p); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	return p
}

func noPlaces() *places {
	none := func() []string { return nil }
	return &places{goos: runtime.GOOS, goarch: runtime.GOARCH, getenv: func(string) string { return "" }, system: none, python: none,
		clients: func() []client { return nil }}
}

// altered is a changed copy of a library.
func altered(t *testing.T, lib string, change func([]byte) []byte) string {
	t.Helper()
	raw, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(p, change(raw), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLocateOrder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs symbolic links")
	}
	lib := realLibrary(t)
	name := libraryName(runtime.GOOS)
	dir := t.TempDir()
	flag := link(t, lib, dir, "flag", name)
	env := link(t, lib, dir, "env", "lib", name)
	system := link(t, lib, dir, "system", name)
	wheel := link(t, lib, dir, "site", "onnxruntime", "capi", filepath.Base(lib))
	opts := Options{LibraryPath: filepath.Dir(flag), CacheDir: filepath.Join(dir, "cache"), places: noPlaces()}
	cacheDir, err := opts.CachePath()
	if err != nil {
		t.Fatal(err)
	}
	cache := link(t, lib, cacheDir, name)
	opts.places.getenv = func(k string) string {
		return map[string]string{EnvLibrary: filepath.Join(dir, "env")}[k]
	}
	opts.places.system = func() []string { return filesIn(filepath.Join(dir, "system"), runtime.GOOS) }
	opts.places.python = func() []string { return wheelFilesIn([]string{"relative", filepath.Join(dir, "site")}, runtime.GOOS) }

	for _, step := range []struct {
		src  Source
		path string
	}{{FromFlag, flag}, {FromEnvironment, env}, {FromCache, cache}, {FromSystem, system}, {FromPython, wheel}} {
		l, err := Locate(opts)
		if err != nil || l.Source != step.src || l.Path != step.path || compareVersions(l.Version, MinVersion) < 0 {
			t.Fatalf("want %s from %s, got %+v, %v", step.path, step.src, l, err)
		}
		if step.src == FromFlag {
			opts.LibraryPath = ""
			continue
		}
		if err := os.Remove(step.path); err != nil {
			t.Fatal(err)
		}
	}
	var missing *MissingError
	if _, err := Locate(opts); !errors.As(err, &missing) {
		t.Fatalf("nothing left, got %v", err)
	}
	opts.LibraryPath = filepath.Join(dir, "nowhere")
	if _, err := Locate(opts); err == nil || !strings.Contains(err.Error(), "--ort-lib") || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("missing explicit path: %v", err)
	}
}

func TestLocatePassesOver(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("alters an ELF library")
	}
	lib := realLibrary(t)
	version, err := inspectFile(lib, "linux", runtime.GOARCH)
	if err != nil || version == "" {
		t.Fatal(version, err)
	}
	tooOld := altered(t, lib, func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("VERS_"+version), []byte("VERS_1.9."+strings.Repeat("1", len(version)-4)))
	})
	elsewhere := altered(t, lib, func(b []byte) []byte {
		binary.LittleEndian.PutUint16(b[18:], 2) // e_machine: SPARC
		return b
	})
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(text, []byte("not a library\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	other := altered(t, lib, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("OrtGetApiBase"), []byte("OrtGetApiFace")) })
	opts := Options{CacheDir: t.TempDir(), places: noPlaces(), skip: map[string]string{"/skipped/libonnxruntime.so": "cannot be opened"}}
	opts.places.system = func() []string {
		return []string{"/skipped/libonnxruntime.so", tooOld, elsewhere, text, other, "/nowhere/libonnxruntime.so", lib}
	}
	l, err := Locate(opts)
	if err != nil || l.Path != lib || len(l.Notes) != 6 {
		t.Fatalf("%+v, %v", l, err)
	}
	for i, want := range []string{"cannot be opened", "too old, at least " + MinVersion, "SPARC", "not an ELF", "not onnxruntime", "no such file"} {
		if !strings.Contains(l.Notes[i], want) {
			t.Errorf("note %q does not say %q", l.Notes[i], want)
		}
	}
	opts.LibraryPath = tooOld
	if _, err := Locate(opts); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("explicit path to an old library: %v", err)
	}
	opts = Options{LibraryPath: text}
	if err := Open(context.Background(), opts); err == nil || !strings.Contains(err.Error(), "not an ELF") {
		t.Errorf("Open of a text file: %v", err)
	}
}

func TestNoWayOut(t *testing.T) {
	opts := Options{CacheDir: t.TempDir(), places: noPlaces()}
	_, err := Ensure(context.Background(), opts)
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Fatal(err)
	}
	for _, want := range []string{"npm or pip", "--ort-lib", EnvLibrary, "mqatc runtime install", "onnxruntime/" + Version} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "\n") || missing.Hint() == "" {
		t.Errorf("not one line: %q", err)
	}
	opts.places.goos, opts.places.goarch = "plan9", "mips"
	if _, err := Install(context.Background(), opts); err == nil || !strings.Contains(err.Error(), "plan9/mips") {
		t.Errorf("unsupported platform: %v", err)
	}
}

func TestParseLdconfig(t *testing.T) {
	lib := filepath.Join(t.TempDir(), "libonnxruntime.so.1.30.0")
	if err := os.WriteFile(lib, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out := "2 libs found in cache `/etc/ld.so.cache'\n\tlibonnx.so (libc6,x86-64) => " + lib + "\n" +
		"\tlibonnxruntime.so.1 (libc6,x86-64) => " + lib + "\n\tlibonnxruntime.so (libc6,x86-64) => /nowhere/libonnxruntime.so\n"
	if got := parseLdconfig([]byte(out)); len(got) != 1 || got[0] != lib {
		t.Errorf("%v", got)
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		sign int
	}{{"1.30.0", "1.24", 1}, {"1.9", "1.24.0", -1}, {"1.24", "1.24.0", 0}, {"", "1.0", -1}, {"2", "1.99.9", 1}} {
		if got := compareVersions(c.a, c.b); (got > 0) != (c.sign > 0) || (got < 0) != (c.sign < 0) {
			t.Errorf("%q %q: %d", c.a, c.b, got)
		}
	}
	for name, want := range map[string]string{"libonnxruntime.so.1.30.0": "1.30.0", "libonnxruntime.1.24.3.dylib": "1.24.3", "libonnxruntime.so": "", "libonnxruntime.so.1": ""} {
		if got := versionInName("/x/" + name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A Mach-O file of nothing but LC_ID_DYLIB tells its version and machine.
func TestInspectMachO(t *testing.T) {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xfeedfacf) // 64-bit magic
	for _, v := range []uint32{0x0100000c, 0, 6, 1, 48, 0, 0} {
		b = le.AppendUint32(b, v) // arm64, subtype, dylib, one command of 48 bytes, flags, reserved
	}
	for _, v := range []uint32{0xd, 48, 24, 0, 1<<16 | 29<<8 | 3, 0x10000} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, "libonnxruntime.1.dylib\x00\x00"...)
	p := filepath.Join(t.TempDir(), "libonnxruntime.dylib")
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if v, err := inspectFile(p, "darwin", "arm64"); err != nil || v != "1.29.3" {
		t.Errorf("%q %v", v, err)
	}
	if _, err := inspectFile(p, "darwin", "amd64"); err == nil || !strings.Contains(err.Error(), "amd64") {
		t.Errorf("wrong machine: %v", err)
	}
	if _, err := inspectFile(p, "windows", "amd64"); err == nil || !strings.Contains(err.Error(), "not a DLL") {
		t.Errorf("as a DLL: %v", err)
	}
}
