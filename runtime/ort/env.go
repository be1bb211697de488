package ort

import "C"

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	binding "github.com/yalue/onnxruntime_go"
)

// process is the one onnxruntime environment of this process; the C library has no second.
var process struct {
	sync.Mutex
	open      bool
	library   Library
	uint2Made C.int // set by load
}

// ErrNotOpen is returned by everything that needs the library before Open succeeded.
var ErrNotOpen = errors.New("onnxruntime is not open")

// Open finds the library, installs it where there is none, and loads it into the process. It may be called again: that does
// nothing, unless an explicit path names another library than the one loaded, which is an error. onnxruntime itself logs only
// what is fatal, since every error is returned; its telemetry is off.
func Open(ctx context.Context, opts Options) error {
	process.Lock()
	defer process.Unlock()
	if process.open {
		if opts.LibraryPath == "" {
			return nil
		}
		l, err := Locate(opts)
		if err == nil && !sameFile(l.Path, process.library.Path) {
			err = fmt.Errorf("onnxruntime is open already, from %s, not %s", process.library.Path, l.Path)
		}
		return err
	}
	opts.skip = map[string]string{}
	for {
		l, err := Ensure(ctx, opts)
		if err != nil {
			return err
		}
		err = load(&l)
		if err == nil {
			process.open, process.library = true, l
			return nil
		}
		_, again := opts.skip[l.Path]
		if l.Source == FromFlag || again {
			return fmt.Errorf("%s: %w", l.Path, err)
		}
		opts.skip[l.Path] = err.Error()
	}
}

// envNoTelemetry is the opt-out of the telemetry that the official builds for Linux and macOS have sent since 1.29. It must be
// set before the environment is created: DisableTelemetry comes after a device identifier and a database have been written.
const envNoTelemetry = "ORT_DISABLE_TELEMETRY"

func load(l *Library) error {
	if os.Getenv(envNoTelemetry) == "" {
		if err := os.Setenv(envNoTelemetry, "1"); err != nil {
			return err
		}
	}
	base, closeLibrary, err := openLibrary(l.Path)
	if err != nil {
		return err
	}
	defer closeLibrary()
	if l.Version, err = attach(base); err != nil {
		return err
	}
	process.uint2Made = uint2Made()
	binding.SetSharedLibraryPath(l.Path)
	if err := binding.InitializeEnvironment(binding.WithLogLevelFatal()); err != nil {
		return errors.New(oneLine(err.Error()))
	}
	return binding.DisableTelemetry()
}

func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}

// Opened reports the loaded library, if there is one.
func Opened() (Library, bool) {
	process.Lock()
	defer process.Unlock()
	return process.library, process.open
}

// Information describes the loaded library.
type Information struct {
	Library   Library  `json:"library"`
	SHA256    string   `json:"sha256"`
	Version   string   `json:"version"`
	Build     string   `json:"build"`     // onnxruntime's own build string: branch, commit, build type, flags
	Providers []string `json:"providers"` // execution providers compiled in, by their names in onnxruntime
	Devices   []string `json:"devices"`   // what SessionOptions.Device may be here: the providers whose own libraries load
	MaxOpset  int      `json:"max_opset"` // newest default-domain opset that loads
	MaxIR     int      `json:"max_ir"`    // newest ONNX IR version that loads
}

// Info describes the loaded library. The newest opset and IR version are found by loading a one-node model of each, newest
// first.
func Info() (Information, error) {
	l, ok := Opened()
	if !ok {
		return Information{}, ErrNotOpen
	}
	inf := Information{Library: l, Version: l.Version, Build: buildInfo()}
	var err error
	if inf.Providers, err = providers(); err != nil {
		return inf, fmt.Errorf("onnxruntime: list providers: %w", err)
	}
	inf.Devices = usableDevices(inf.Providers)
	if inf.SHA256, err = fileSHA256(l.Path); err != nil {
		return inf, err
	}
	if inf.MaxOpset, err = newest(99, 7, func(v int64) ([]byte, error) { return probeModel(3, v) }); err != nil {
		return inf, err
	}
	inf.MaxIR, err = newest(99, 3, func(v int64) ([]byte, error) { return probeModel(v, 7) })
	return inf, err
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
