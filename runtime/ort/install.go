package ort

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// manifest stands beside an installed library and tells a complete folder from one that was cut short or changed.
type manifest struct {
	Version string         `json:"version"`
	Client  string         `json:"client"`
	Files   []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

const manifestName = "manifest.json"

// cached is the library in our cache, or a note why there is none that can be used. A library without manifest was put
// there by hand.
func cached(opts Options) (path, note string) {
	dir, err := opts.CachePath()
	if err != nil {
		return "", err.Error()
	}
	lib := filepath.Join(dir, libraryName(runtime.GOOS))
	if !isFile(lib) {
		for _, p := range filesIn(dir, runtime.GOOS) {
			return p, ""
		}
		return "", ""
	}
	raw, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return lib, ""
	}
	var m manifest
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return "", fmt.Sprintf("%s: %v", filepath.Join(dir, manifestName), err)
	}
	for _, f := range m.Files {
		fi, err := os.Stat(filepath.Join(dir, filepath.Base(f.Name)))
		if err != nil || fi.Size() != f.Size {
			return "", fmt.Sprintf("%s: damaged: %s is not as installed", dir, f.Name)
		}
	}
	return lib, ""
}

// Install brings the pinned library into the cache through the machine's npm or, failing that, pip, checks it against the
// checksum of this platform, and returns it; a sound one that is there already is kept. Processes that install at the same
// time wait for each other on a file lock, and the library appears by rename, whole.
func Install(ctx context.Context, opts Options) (Library, error) {
	pl := opts.places
	if pl == nil {
		pl = machinePlaces()
	}
	dir, err := opts.CachePath()
	if err != nil {
		return Library{}, err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return Library{}, fmt.Errorf("install onnxruntime: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(parent, "lock"))
	if err != nil {
		return Library{}, fmt.Errorf("install onnxruntime: %w", err)
	}
	defer unlock()

	if p, _ := cached(opts); p != "" {
		if why, bad := opts.skip[p]; bad {
			return Library{}, fmt.Errorf("%s: %s", p, why)
		}
		if v, err := inspectFile(p, pl.goos, pl.goarch); err == nil {
			return Library{Path: p, Source: FromCache, Version: v}, nil
		}
	}
	host := hostPlatform(pl)
	if len(npmFiles[host]) == 0 && len(wheelPinned[host]) == 0 {
		return Library{}, unsupported(pl.goos, pl.goarch)
	}
	clients := pl.clients()
	if len(clients) == 0 {
		return Library{}, &MissingError{Install: []string{errNoClient.Error()}}
	}
	var failed []string
	for _, c := range clients {
		err := installWith(ctx, c, host, dir, opts)
		if err == nil {
			lib := filepath.Join(dir, libraryName(pl.goos))
			v, err := inspectFile(lib, pl.goos, pl.goarch)
			if err != nil {
				return Library{}, fmt.Errorf("install onnxruntime: %w", err)
			}
			opts.progress("onnxruntime %s installed in %s", v, dir)
			return Library{Path: lib, Source: FromCache, Version: v}, nil
		}
		if ctx.Err() != nil {
			return Library{}, fmt.Errorf("install onnxruntime: %w", context.Cause(ctx))
		}
		opts.progress("%s: %v", c.name, err)
		failed = append(failed, c.name+": "+err.Error())
	}
	return Library{}, &MissingError{Install: failed}
}

func lock(ctx context.Context, path string) (func(), error) {
	type result struct {
		unlock func()
		err    error
	}
	got := make(chan result, 1)
	go func() {
		u, err := lockedfile.MutexAt(path).Lock()
		got <- result{u, err}
	}()
	select {
	case r := <-got:
		return r.unlock, r.err
	case <-ctx.Done():
		go func() {
			if r := <-got; r.err == nil {
				r.unlock()
			}
		}()
		return nil, fmt.Errorf("waiting for another process to install onnxruntime: %w", context.Cause(ctx))
	}
}

func installWith(ctx context.Context, c client, host, dir string, opts Options) (err error) {
	want := c.files[host]
	if len(want) == 0 {
		return fmt.Errorf("has no library for %s", host)
	}
	parent := filepath.Dir(dir)
	if stale, gerr := filepath.Glob(filepath.Join(escapeGlob(parent), ".new-*")); gerr == nil {
		for _, s := range stale {
			os.RemoveAll(s)
		}
	}
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	pkg, lib := filepath.Join(tmp, "package"), filepath.Join(tmp, "library")
	for _, d := range []string{pkg, lib} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	opts.progress("downloading onnxruntime %s with %s", Version, c.name)
	archive, err := c.fetch(ctx, pkg, host)
	if err != nil {
		return err
	}
	if err := extract(archive, lib, want); err != nil {
		return err
	}
	m := manifest{Version: Version, Client: c.name}
	for _, f := range want {
		m.Files = append(m.Files, manifestFile{f.name, f.size, f.sha256})
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(lib, manifestName), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(lib, dir)
}
