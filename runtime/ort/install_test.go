package ort

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

type entry struct {
	name string
	data []byte
	link string
}

func tgz(t *testing.T, path string, entries ...entry) {
	t.Helper()
	var b bytes.Buffer
	gz, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(gz)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Size: int64(len(e.data)), Mode: 0o644, Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), gz.Close(), os.WriteFile(path, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func wheel(t *testing.T, path string, entries ...entry) {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Store}
		h.SetMode(0o644)
		data := e.data
		if e.link != "" {
			h.SetMode(0o777 | os.ModeSymlink)
			data = []byte(e.link)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func pinnedOf(in, name string, data []byte) pinnedFile {
	h := sha256.Sum256(data)
	return pinnedFile{in, name, int64(len(data)), hex.EncodeToString(h[:])}
}

// fakeClient "downloads" the archive at path, after it has noted the download in log.
func fakeClient(name, path, log string, want []pinnedFile) client {
	host := platform(runtime.GOOS, runtime.GOARCH)
	return client{name: name, files: map[string][]pinnedFile{host: want}, fetch: func(_ context.Context, dir, _ string) (string, error) {
		f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(f, name)
		time.Sleep(50 * time.Millisecond)
		to := filepath.Join(dir, filepath.Base(path))
		return to, errors.Join(f.Close(), os.Link(path, to))
	}}
}

// TestHelperInstall is the other process of TestInstallSideBySide.
func TestHelperInstall(t *testing.T) {
	cache := os.Getenv("ORT_TEST_CACHE")
	if cache == "" {
		t.Skip("runs only as a child of TestInstallSideBySide")
	}
	l, err := Install(context.Background(), sideBySide(t, cache, realLibrary(t)))
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := fileSHA256(l.Path); err != nil || sum != os.Getenv("ORT_TEST_SUM") {
		t.Fatal(sum, err)
	}
}

func sideBySide(t *testing.T, cache, lib string) Options {
	t.Helper()
	raw, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	want := []pinnedFile{pinnedOf("package/lib", libraryName(runtime.GOOS), raw)}
	opts := Options{CacheDir: cache, places: noPlaces()}
	opts.places.clients = func() []client {
		return []client{fakeClient("fake", filepath.Join(cache, "p.tgz"), filepath.Join(cache, "log"), want)}
	}
	return opts
}

func TestInstallSideBySide(t *testing.T) {
	lib := realLibrary(t)
	cache := t.TempDir()
	opts := sideBySide(t, cache, lib)
	raw, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	tgz(t, filepath.Join(cache, "p.tgz"), entry{name: "package/other", data: []byte("x")}, entry{name: "package/lib", data: raw})
	sum, err := fileSHA256(lib)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := opts.CachePath()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(filepath.Dir(dir), ".new-killed", "package"), 0o755); err != nil {
		t.Fatal(err)
	}

	var wg sync.WaitGroup
	for range 3 {
		wg.Add(2)
		go func() {
			defer wg.Done()
			cmd := exec.Command(os.Args[0], "-test.run=^TestHelperInstall$")
			cmd.Env = append(os.Environ(), "ORT_TEST_CACHE="+cache, "ORT_TEST_SUM="+sum)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("process: %v\n%s", err, out)
			}
		}()
		go func() {
			defer wg.Done()
			l, err := Install(context.Background(), opts)
			if err != nil || l.Source != FromCache {
				t.Errorf("%+v, %v", l, err)
				return
			}
			if got, err := fileSHA256(l.Path); err != nil || got != sum {
				t.Errorf("%s: %s %v", l.Path, got, err)
			}
		}()
	}
	wg.Wait()
	log, err := os.ReadFile(filepath.Join(cache, "log"))
	if err != nil || string(log) != "fake\n" {
		t.Errorf("downloads %q, %v; one is enough", log, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".new-*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}

	// A library that was cut short is noticed and installed anew.
	if err := os.Truncate(filepath.Join(dir, libraryName(runtime.GOOS)), 1000); err != nil {
		t.Fatal(err)
	}
	if l, err := Locate(opts); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged cache: %+v %v", l, err)
	}
	l, err := Ensure(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fileSHA256(l.Path); err != nil || got != sum {
		t.Errorf("after repair: %s %v", got, err)
	}
}

func TestInstallRefuses(t *testing.T) {
	good := []byte("the library, as pinned")
	want := []pinnedFile{pinnedOf("package/lib", libraryName(runtime.GOOS), good)}
	flipped := bytes.ReplaceAll(good, []byte("pinned"), []byte("pwned!"))
	dir := t.TempDir()
	for name, c := range map[string]struct {
		entry entry
		want  string
	}{
		"checksum": {entry{name: "package/lib", data: flipped}, "checksum mismatch"},
		"size":     {entry{name: "package/lib", data: append(good, 0)}, "expected 22"},
		"missing":  {entry{name: "package/libx", data: good}, "holds no package/lib"},
		"escape":   {entry{name: "../package/lib", data: good}, "holds no package/lib"},
		"symlink":  {entry{name: "package/lib", link: "/etc/passwd"}, "not a regular file"},
	} {
		for _, kind := range []string{".tgz", ".whl"} {
			t.Run(name+kind, func(t *testing.T) {
				archive := filepath.Join(dir, name+kind)
				if kind == ".whl" {
					wheel(t, archive, c.entry)
				} else {
					tgz(t, archive, c.entry)
				}
				opts := Options{CacheDir: t.TempDir(), places: noPlaces()}
				opts.places.clients = func() []client {
					return []client{fakeClient("fake", archive, filepath.Join(t.TempDir(), "log"), want)}
				}
				_, err := Install(context.Background(), opts)
				var missing *MissingError
				if !errors.As(err, &missing) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%v", err)
				}
				left := map[string]bool{}
				root := filepath.Join(opts.CacheDir, "onnxruntime", Version)
				list, err := os.ReadDir(root)
				for _, e := range list {
					left[e.Name()] = true
				}
				if err != nil || len(left) != 1 || !left["lock"] {
					t.Errorf("left in the cache: %v %v", left, err)
				}
			})
		}
	}
	t.Run("cut", func(t *testing.T) {
		whole := filepath.Join(dir, "whole.tgz")
		tgz(t, whole, entry{name: "package/lib", data: good})
		raw, err := os.ReadFile(whole)
		if err != nil {
			t.Fatal(err)
		}
		cut := filepath.Join(dir, "cut.tgz")
		for _, n := range []int{0, 5, 20, 540} {
			if err := os.WriteFile(cut, raw[:n], 0o644); err != nil {
				t.Fatal(err)
			}
			if err := extract(cut, t.TempDir(), want); err == nil {
				t.Errorf("the first %d bytes of %d were taken", n, len(raw))
			}
		}
	})
	t.Run("next client", func(t *testing.T) {
		bad := client{name: "bad", files: map[string][]pinnedFile{platform(runtime.GOOS, runtime.GOARCH): want},
			fetch: func(context.Context, string, string) (string, error) { return "", errors.New("no network") }}
		opts := Options{CacheDir: t.TempDir(), places: noPlaces()}
		wheel(t, filepath.Join(dir, "good.whl"), entry{name: "package/lib", data: good})
		opts.places.clients = func() []client {
			return []client{bad, fakeClient("second", filepath.Join(dir, "good.whl"), filepath.Join(t.TempDir(), "log"), want)}
		}
		var log bytes.Buffer
		opts.Progress = &log
		// What the second client brings is no library, and that is how one can tell that it was asked.
		if _, err := Install(context.Background(), opts); err == nil || !strings.Contains(err.Error(), "not a") {
			t.Errorf("%v", err)
		}
		if s := log.String(); !strings.Contains(s, "bad: no network") || !strings.Contains(s, "with second") {
			t.Errorf("progress: %s", s)
		}
	})
	t.Run("cache is a file", func(t *testing.T) {
		f := filepath.Join(dir, "file")
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Install(context.Background(), Options{CacheDir: f, places: noPlaces()}); err == nil || !strings.Contains(err.Error(), f) {
			t.Errorf("%v", err)
		}
	})
}

func TestInstallWaitsAndCanBeStopped(t *testing.T) {
	opts := Options{CacheDir: t.TempDir(), places: noPlaces()}
	dir, err := opts.CachePath()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(context.Background(), filepath.Join(filepath.Dir(dir), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := Install(ctx, opts); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	unlock()
	if _, err := Install(context.Background(), opts); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the lock was freed: %v", err)
	}
}

func TestRunClient(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh")
	}
	err = runClient(context.Background(), t.TempDir(), sh, "-c", "echo first; echo; echo '  the   reason ' >&2; exit 7")
	if err == nil || err.Error() != "exit status 7: first | the reason" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := runClient(ctx, t.TempDir(), sh, "-c", "exec sleep 60"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// TestInstallRealClients downloads through each client of this machine (some 140 MB), so it must be asked for.
func TestInstallRealClients(t *testing.T) {
	if os.Getenv("MQATC_TEST_DOWNLOAD") == "" {
		t.Skip("set MQATC_TEST_DOWNLOAD=1 to download onnxruntime through npm and pip")
	}
	all := machineClients()
	if len(all) == 0 {
		t.Skip("neither npm nor pip here")
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			opts := Options{CacheDir: t.TempDir(), places: noPlaces()}
			opts.places.clients = func() []client { return []client{c} }
			l, err := Install(context.Background(), opts)
			if err != nil || l.Version != Version {
				t.Fatalf("%+v, %v", l, err)
			}
			_, closeLibrary, err := openLibrary(l.Path)
			if err != nil {
				t.Fatal(err)
			}
			closeLibrary()
		})
	}
	// The tables of the other platforms are checked against the same packages.
	for _, c := range all {
		for p, want := range c.files {
			t.Run(c.name+" "+p, func(t *testing.T) {
				archive, err := c.fetch(context.Background(), t.TempDir(), p)
				if err != nil {
					t.Fatal(err)
				}
				if err := extract(archive, t.TempDir(), want); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
