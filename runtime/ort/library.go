package ort

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Version is the onnxruntime release that Install brings, the same through either client.
const Version = "1.30.0"

// MinVersion is the oldest release with the C API version (24) that the Go binding asks for.
const MinVersion = "1.24.0"

// EnvLibrary names the environment variable that holds the library's path.
const EnvLibrary = "ONNXRUNTIME_SHARED_LIBRARY_PATH"

// Source says how a library was found.
type Source string

// Sources, in the order in which Locate asks them.
const (
	FromFlag        Source = "flag"
	FromEnvironment Source = "environment"
	FromCache       Source = "cache"
	FromSystem      Source = "system"
	FromPython      Source = "python"
)

// Options say where to look for the library and where to install it.
type Options struct {
	// LibraryPath is the user's explicit choice (--ort-lib): the file, or a folder that holds it. Nothing else is tried.
	LibraryPath string
	// CacheDir is the folder that holds onnxruntime/<version>/; empty means mqatc in os.UserCacheDir.
	CacheDir string
	// Progress receives one line per step of an installation; nil discards them.
	Progress io.Writer

	places *places           // nil: those of this machine
	skip   map[string]string // path -> why it could not be opened
}

// Library is a found onnxruntime shared library.
type Library struct {
	Path    string   `json:"path"`
	Source  Source   `json:"source"`
	Version string   `json:"version,omitempty"` // as far as the file tells; empty when it does not
	Notes   []string `json:"notes,omitempty"`   // candidates that were passed over, and why
}

// MissingError is returned when there is no usable library; Hint says what the user can do.
type MissingError struct {
	Notes   []string // candidates that were passed over, and why
	Install []string // why each client could not install it; empty when installing was not tried
}

func (e *MissingError) Error() string {
	var b strings.Builder
	b.WriteString("no usable onnxruntime library (>= " + strings.TrimSuffix(MinVersion, ".0") + ") found")
	if len(e.Notes) > 0 {
		b.WriteString(" [" + strings.Join(e.Notes, "; ") + "]")
	}
	if len(e.Install) > 0 {
		b.WriteString(", and it cannot be installed [" + strings.Join(e.Install, "; ") + "]")
	}
	b.WriteString(": " + waysOut)
	return b.String()
}

const waysOut = "(1) install npm or pip and run `mqatc runtime install`, (2) name a library by --ort-lib or " + EnvLibrary +
	", or (3) run `mqatc runtime install` on a machine that has a client and copy its cache folder onnxruntime/" + Version + " here"

// Hint is one line of advice.
func (e *MissingError) Hint() string {
	return "install npm (Node.js) or pip, or pass --ort-lib FILE"
}

func (o Options) cacheRoot() (string, error) {
	if o.CacheDir != "" {
		return filepath.Abs(o.CacheDir)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder for onnxruntime: %w", err)
	}
	return filepath.Join(d, "mqatc"), nil
}

// CachePath is the folder in which Install puts the pinned library for this machine, and where one may be put by hand.
func (o Options) CachePath() (string, error) {
	root, err := o.cacheRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "onnxruntime", Version, platform(runtime.GOOS, runtime.GOARCH)), nil
}

func (o Options) progress(format string, args ...any) {
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, format+"\n", args...)
	}
}

// Locate finds the library: the explicit path alone if there is one, else EnvLibrary, our cache, the system's usual places
// and the onnxruntime wheel of the python3 on PATH, in this order. Candidates that are older than MinVersion, made for
// another machine or damaged are passed over and noted. Without any the error is a *MissingError.
func Locate(opts Options) (Library, error) {
	pl := opts.places
	if pl == nil {
		pl = machinePlaces()
	}
	if opts.LibraryPath != "" {
		for _, p := range expand(opts.LibraryPath, pl.goos) {
			v, err := inspectFile(p, pl.goos, pl.goarch)
			if err != nil {
				return Library{}, fmt.Errorf("--ort-lib: %w", err)
			}
			return Library{Path: p, Source: FromFlag, Version: v}, nil
		}
		return Library{}, fmt.Errorf("--ort-lib: no onnxruntime library at %s", opts.LibraryPath)
	}
	var notes []string
	seen := map[string]bool{}
	try := func(src Source, paths []string) (Library, bool) {
		for _, p := range paths {
			if seen[p] {
				continue
			}
			seen[p] = true
			if why, ok := opts.skip[p]; ok {
				notes = append(notes, p+": "+why)
				continue
			}
			v, err := inspectFile(p, pl.goos, pl.goarch)
			if err != nil {
				notes = append(notes, err.Error())
				continue
			}
			return Library{Path: p, Source: src, Version: v, Notes: notes}, true
		}
		return Library{}, false
	}

	if env := pl.getenv(EnvLibrary); env != "" {
		paths := expand(env, pl.goos)
		if len(paths) == 0 {
			notes = append(notes, fmt.Sprintf("%s=%s: no such library", EnvLibrary, env))
		}
		if l, ok := try(FromEnvironment, paths); ok {
			return l, nil
		}
	}
	if p, note := cached(opts); p != "" {
		if l, ok := try(FromCache, []string{p}); ok {
			return l, nil
		}
	} else if note != "" {
		notes = append(notes, note)
	}
	if l, ok := try(FromSystem, pl.system()); ok {
		return l, nil
	}
	if l, ok := try(FromPython, pl.python()); ok {
		return l, nil
	}
	return Library{}, &MissingError{Notes: notes}
}

// Ensure is Locate, and Install where nothing was located.
func Ensure(ctx context.Context, opts Options) (Library, error) {
	l, err := Locate(opts)
	var missing *MissingError
	if !errors.As(err, &missing) {
		return l, err
	}
	return Install(ctx, opts)
}
