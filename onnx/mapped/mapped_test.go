package mapped_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sync/errgroup"

	"mqatc/onnx/mapped"
)

// sparse makes a file of size bytes that occupies no disk, its last byte b.
func sparse(t *testing.T, size int64, b byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteAt([]byte{b}, size-1); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestReaderCopiesABoundedSum(t *testing.T) {
	const files, size = 40, 8 << 20
	var r mapped.Reader
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range files {
		f := sparse(t, size, byte(i))
		data, err := r.File(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) != size || data[0] != 0 || data[size-1] != byte(i) {
			t.Fatalf("file %d: %d bytes, the last is %d", i, len(data), data[size-1])
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; runtime.GOOS == "linux" && n > 80<<20 {
		t.Errorf("%d files of %d bytes cost %d bytes of heap", files, size, n)
	}
	small := sparse(t, 100, 7)
	data, err := r.File(small)
	if err != nil || !bytes.Equal(data, append(make([]byte, 99), 7)) {
		t.Fatalf("a small file after large ones: %v, %v", data, err)
	}
	if err := small.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if data[99] != 7 {
		t.Error("a small file was not copied")
	}
}

// cutShort is a view whose file is empty by now.
func cutShort(t *testing.T) []byte {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("files are mapped, and can be cut short meanwhile, on Linux")
	}
	var r mapped.Reader
	f := sparse(t, 65<<20, 1)
	data, err := r.File(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGuardMakesAnErrorOfAFault(t *testing.T) {
	view := cutShort(t)
	read := func() error {
		if view[len(view)/2] == 9 {
			return errors.New("read what is not there")
		}
		return nil
	}
	var cut *mapped.CutShort
	if err := mapped.Guard(read); !errors.As(err, &cut) {
		t.Errorf("Guard gave %v", err)
	}
	var g errgroup.Group
	g.Go(mapped.Guarded(read))
	if err := g.Wait(); !errors.As(err, &cut) {
		t.Errorf("Guarded gave %v", err)
	}
	err := mapped.Guard(func() error {
		g.Go(mapped.Guarded(read))
		panic(g.Wait())
	})
	if !errors.As(err, &cut) {
		t.Errorf("a fault handed on between goroutines gave %v", err)
	}
}

func TestGuardLetsOthersPass(t *testing.T) {
	own := errors.New("own")
	if err := mapped.Guard(func() error { return own }); err != own {
		t.Errorf("error became %v", err)
	}
	defer func() {
		if r := recover(); r != "own" {
			t.Errorf("panic became %v", r)
		}
	}()
	_ = mapped.Guard(func() error { panic("own") })
}

func TestCopy(t *testing.T) {
	var r mapped.Reader
	f := sparse(t, 65<<20, 7)
	view, err := r.File(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if done, err := mapped.Copy(out, []byte("not a view")); done || err != nil {
		t.Errorf("bytes of no file: %v, %v", done, err)
	}
	if _, err := out.WriteString("before"); err != nil {
		t.Fatal(err)
	}
	part := view[len(view)-3<<20:]
	if done, err := mapped.Copy(out, part); err != nil || !done && runtime.GOOS == "linux" {
		t.Fatalf("a view of a closed file: %v, %v", done, err)
	} else if !done {
		t.Skip("files are not mapped here")
	}
	got, err := os.ReadFile(out.Name())
	if err != nil || !bytes.Equal(got, append([]byte("before"), part...)) {
		t.Errorf("copied %d bytes of %d, or others: %v", len(got)-6, len(part), err)
	}
	var cut *mapped.CutShort
	if done, err := mapped.Copy(out, cutShort(t)); !done || !errors.As(err, &cut) {
		t.Errorf("a file that was cut short: %v, %v", done, err)
	}
}
