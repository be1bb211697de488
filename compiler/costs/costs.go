// Package costs keeps what the forms of a training step's operators cost on this machine, measured once and kept in the user's cache.
package costs

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/klauspost/cpuid/v2"

	"mqatc/compiler/fit"
	"mqatc/passes/lower"
)

// Gain is the part of the first form's time that another form may take at most to be chosen instead: what is measured scatters, and
// the same choice on machines of one kind keeps the bytes of results.
const Gain = 0.8

// Options of Open.
type Options struct {
	// Dir is the folder of the tables; empty is costs in mqatc's folder of the user's cache.
	Dir string
	// Threads are those of onnxruntime, 0 for as many as there are processors.
	Threads int
	// Library identifies the build of onnxruntime.
	Library string
	// Record is a file of the forms that a run takes: those in it are taken again, others are added. Empty keeps none.
	Record string
	// Line is told what took time, and what could not be kept. May be nil.
	Line func(format string, a ...any)
	// Update is told how many of the sites that are to be measured are done. May be nil.
	Update func(done, total int)
}

// Table chooses forms. It is used by one goroutine.
type Table struct {
	o       Options
	machine map[string]string
	path    string // empty where there is no cache
	seconds map[string]map[string]float64
	taken   map[string]string // by key, of this run
	changed bool              // taken differs from the record
	count   int               // sites measured since the last Flush
	ahead   int               // sites to be measured until the next Flush, as far as Survey saw
	spent   time.Duration
	measure func(s lower.Site, threads int) (map[string]float64, error)
	// of is the table whose record this one writes to, under keys that begin with mark; nil for that table itself.
	of   *Table
	mark string
}

type file struct {
	Machine map[string]string             `json:"machine"`
	Seconds map[string]map[string]float64 `json:"seconds"`
}

// Open reads the table of this machine, and the record where there is one. A table that cannot be read is begun anew.
func Open(o Options) (*Table, error) {
	if o.Threads <= 0 {
		o.Threads = runtime.NumCPU()
	}
	t := &Table{o: o, taken: map[string]string{}, measure: measure}
	if err := t.locate(); err != nil {
		return nil, err
	}
	if o.Record != "" {
		raw, err := os.ReadFile(o.Record)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		default:
			if err := json.Unmarshal(raw, &t.taken); err != nil {
				return nil, fmt.Errorf("%s, the forms that the run took, is damaged: %w", o.Record, err)
			}
		}
	}
	t.read()
	return t, nil
}

// locate finds the file of the table.
func (t *Table) locate() error {
	t.seconds = map[string]map[string]float64{}
	t.machine = map[string]string{"cpu": processor(), "runtime": t.o.Library, "threads": fmt.Sprint(t.o.Threads)}
	raw, err := json.Marshal(t.machine)
	if err != nil {
		return err
	}
	dir := t.o.Dir
	if dir == "" {
		if cache, err := os.UserCacheDir(); err == nil {
			dir = filepath.Join(cache, "mqatc", "costs")
		}
	}
	if dir != "" {
		t.path = filepath.Join(dir, fmt.Sprintf("%x.json", sha256.Sum256(raw))[:20]+".json")
	}
	return nil
}

// With is the table for another number of threads; it writes to the same record.
func (t *Table) With(threads int) fit.Forms {
	if threads == t.o.Threads {
		return t
	}
	c := &Table{o: t.o, measure: t.measure, of: t, mark: fmt.Sprintf("threads %d, ", threads)}
	c.o.Threads = threads
	if err := c.locate(); err != nil {
		c.path = ""
	}
	c.read()
	return c
}

// Keep returns what is on record under a name, and puts value there where nothing is.
func (t *Table) Keep(name, value string) string {
	if have, ok := t.record(name); ok {
		return have
	}
	t.take(name, value)
	return value
}

// record is what the run took under a key.
func (t *Table) record(key string) (string, bool) {
	r := t
	if t.of != nil {
		r = t.of
	}
	v, ok := r.taken[t.mark+key]
	return v, ok
}

func (t *Table) take(key, form string) {
	r := t
	if t.of != nil {
		r = t.of
	}
	r.taken[t.mark+key], r.changed = form, true
}

func processor() string {
	name := cpuid.CPU.BrandName
	if name == "" {
		name = runtime.GOARCH + " " + strings.Join(cpuid.CPU.FeatureSet(), " ")
	}
	return name
}

func (t *Table) line(format string, a ...any) {
	if t.o.Line != nil {
		t.o.Line(format, a...)
	}
}

// read takes in what the table's file knows by now.
func (t *Table) read() {
	raw, err := os.ReadFile(t.path)
	if err != nil {
		return
	}
	var f file
	if json.Unmarshal(raw, &f) != nil {
		return
	}
	for k, forms := range f.Seconds {
		t.seconds[k] = forms
	}
}

// Cheapest is the form of s that the run took before, or else the one that costs least; costs that are not known are measured.
func (t *Table) Cheapest(s lower.Site) (string, error) {
	if form, ok := t.record(s.Key); ok {
		for _, f := range s.Forms {
			if f == form {
				return form, nil
			}
		}
		return "", fmt.Errorf("%s: there is no form %q of %s", t.o.Record, form, s.Key)
	}
	if !known(t.seconds[s.Key], s.Forms) {
		if err := t.learn(s); err != nil {
			return "", err
		}
	}
	form := cheapest(t.seconds[s.Key], s.Forms)
	t.take(s.Key, form)
	return form, nil
}

// Survey is told the sites of a graph ahead, so that progress has an end; it takes the first forms.
func (t *Table) Survey() lower.Costs {
	t.ahead = 0
	return survey{t, map[string]bool{}}
}

type survey struct {
	t    *Table
	seen map[string]bool
}

func (s survey) Cheapest(site lower.Site) (string, error) {
	if _, ok := s.t.record(site.Key); !ok && !known(s.t.seconds[site.Key], site.Forms) && !s.seen[site.Key] {
		s.seen[site.Key] = true
		s.t.ahead++
	}
	return site.Forms[0], nil
}

func known(seconds map[string]float64, forms []string) bool {
	for _, f := range forms {
		if !(seconds[f] > 0) {
			return false
		}
	}
	return true
}

func cheapest(seconds map[string]float64, forms []string) string {
	best, least := forms[0], Gain*seconds[forms[0]]
	for _, f := range forms[1:] {
		if seconds[f] < least {
			best, least = f, seconds[f]
		}
	}
	return best
}

// learn measures s, unless another process did so meanwhile, and keeps the costs. One process measures at a time.
func (t *Table) learn(s lower.Site) error {
	kept := errors.New("no folder for caches")
	if t.path != "" {
		if kept = os.MkdirAll(filepath.Dir(t.path), 0o755); kept == nil {
			lock := flock.New(t.path + ".lock")
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if _, kept = lock.TryLockContext(ctx, 50*time.Millisecond); kept == nil {
				defer lock.Close()
				if t.read(); known(t.seconds[s.Key], s.Forms) {
					return nil
				}
			}
		}
	}
	start := time.Now()
	seconds, err := t.measure(s, t.o.Threads)
	if err != nil {
		return fmt.Errorf("costs of %s: %w", s.Key, err)
	}
	t.seconds[s.Key] = seconds
	t.count++
	t.spent += time.Since(start)
	if t.o.Update != nil {
		t.o.Update(t.count, max(t.count, t.ahead))
	}
	if kept == nil {
		kept = t.write()
	}
	if kept != nil && t.count == 1 {
		t.line("what forms of operators cost is not kept: %v", kept)
	}
	return nil
}

func (t *Table) write() error {
	raw, err := json.MarshalIndent(file{t.machine, t.seconds}, "", " ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(t.path, append(raw, '\n'), 0o644)
}

// Flush writes the record, which a training must do before its first step.
func (t *Table) Flush() error {
	if t.count > 0 {
		t.line("forms of %d operators measured in %.1f s", t.count, t.spent.Seconds())
		t.count, t.spent = 0, 0
	}
	if t.of != nil {
		return t.of.Flush()
	}
	if t.o.Record == "" || !t.changed {
		return nil
	}
	raw, err := json.MarshalIndent(t.taken, "", " ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(t.o.Record, append(raw, '\n'), 0o644); err != nil {
		return err
	}
	t.changed = false
	return nil
}
