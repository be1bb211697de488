// Package rundir keeps what a run of mqatc must not lose: OUT/run with the run's identity, its events, the results of finished
// units of work and the checkpoints of the unit in progress.
//
// A run is a fixed sequence of units, each a pure function of the run's identity and of earlier units. The result of a finished
// unit is stored once, by rename, so that a killed run that is resumed repeats only the unit it died in, from that unit's
// last checkpoint, and ends with the same bytes.
package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Identity is what the bytes of a run's results depend on. Values are compared one by one on resume.
type Identity map[string]string

// Dir is an open run directory, held by a lock until Close.
type Dir struct {
	path   string
	lock   *os.File
	events *os.File
	mu     sync.Mutex
}

const (
	identityFile = "identity.json"
	eventsFile   = "events.jsonl"
	lockFile     = "lock"
)

// ErrNotEmpty is returned by Open for an output folder that holds something when no resume was asked for.
var ErrNotEmpty = errors.New("the output folder is not empty")

// ErrLocked is returned by Open when another process works in the folder.
var ErrLocked = errors.New("another mqatc works in this output folder")

// MismatchError says that a run cannot be resumed under another identity.
type MismatchError struct{ Key, Was, Is string }

// Error names the first difference.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("the run was started with %s = %q, now it is %q", e.Key, e.Was, e.Is)
}

// Options say how Open treats a folder with something in it.
type Options struct {
	Resume       bool // go on with the run in the folder, or start one where there is none
	ResumeAnyway bool // do so even if the identity differs
}

// Open creates or resumes OUT/run under the output folder out.
func Open(out string, id Identity, o Options) (*Dir, bool, error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, false, err
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		return nil, false, err
	}
	path := filepath.Join(out, "run")
	_, statErr := os.Stat(filepath.Join(path, identityFile))
	resumed := statErr == nil
	if len(entries) > 0 && !o.Resume {
		return nil, false, fmt.Errorf("%s: %w", out, ErrNotEmpty)
	}
	if len(entries) > 0 && !resumed && !startable(entries) {
		return nil, false, fmt.Errorf("%s: %w and holds no run to resume", out, ErrNotEmpty)
	}
	if err := os.MkdirAll(filepath.Join(path, "units"), 0o755); err != nil {
		return nil, false, err
	}
	d := &Dir{path: path}
	if d.lock, err = os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, false, err
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.lock.Close()
		return nil, false, fmt.Errorf("%s: %w", out, ErrLocked)
	}
	if err := d.identify(id, resumed && !o.ResumeAnyway); err != nil {
		d.Close()
		return nil, false, err
	}
	if d.events, err = os.OpenFile(filepath.Join(path, eventsFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		d.Close()
		return nil, false, err
	}
	return d, resumed, nil
}

// startable reports whether a folder without an identity is what a run leaves that was killed at its very start.
func startable(entries []fs.DirEntry) bool {
	return len(entries) == 1 && entries[0].Name() == "run"
}

func (d *Dir) identify(id Identity, compare bool) error {
	file := filepath.Join(d.path, identityFile)
	if compare {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		was := Identity{}
		if err := json.Unmarshal(raw, &was); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		keys := map[string]bool{}
		for k := range was {
			keys[k] = true
		}
		for k := range id {
			keys[k] = true
		}
		var list []string
		for k := range keys {
			list = append(list, k)
		}
		sort.Strings(list)
		for _, k := range list {
			if was[k] != id[k] {
				return &MismatchError{k, was[k], id[k]}
			}
		}
		return nil
	}
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, append(raw, '\n'), 0o644)
}

// Close releases the lock.
func (d *Dir) Close() error {
	if d.events != nil {
		d.events.Close()
	}
	if d.lock != nil {
		return d.lock.Close()
	}
	return nil
}

// Event appends one line to events.jsonl: the time, a kind and fields, which must marshal to a JSON object or be nil.
func (d *Dir) Event(kind string, fields any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	line := map[string]any{}
	if fields != nil {
		raw, err := json.Marshal(fields)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &line); err != nil {
			return err
		}
	}
	line["time"] = time.Now().UTC().Format(time.RFC3339Nano)
	line["event"] = kind
	raw, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = d.events.Write(append(raw, '\n'))
	return err
}

func (d *Dir) unit(name, ext string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\\") || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("run directory: %q cannot name a unit", name)
	}
	return filepath.Join(d.path, "units", name+ext), nil
}

// Load reads the stored result of a finished unit into v; false when the unit has not finished.
func (d *Dir) Load(name string, v any) (bool, error) {
	file, err := d.unit(name, ".json")
	if err != nil {
		return false, err
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("%s: %w; delete it to repeat this part of the run", file, err)
	}
	return true, nil
}

// Store records a unit's result.
func (d *Dir) Store(name string, v any) error {
	file, err := d.unit(name, ".json")
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("unit %s: %w", name, err)
	}
	return renameio.WriteFile(file, raw, 0o644)
}

// File is the path of a unit's binary companion (weights, a training checkpoint).
func (d *Dir) File(name string) (string, error) { return d.unit(name, ".bin") }

// Discard deletes a unit's binary companion if it is there.
func (d *Dir) Discard(name string) error {
	file, err := d.unit(name, ".bin")
	if err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Once returns the stored result of unit name, or computes it with f and stores it.
func Once[T any](d *Dir, name string, f func() (T, error)) (T, error) {
	var v T
	if ok, err := d.Load(name, &v); ok || err != nil {
		return v, err
	}
	v, err := f()
	if err != nil {
		return v, err
	}
	return v, d.Store(name, v)
}
