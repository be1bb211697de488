package passes

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/onnx/text"
)

// weightsName is the file beside dumps that holds their large tensors.
const weightsName = "weights.bin"

var dumpName = regexp.MustCompile(`^\d{2,}_.*\.onnxtxt$`)

// Dump writes models into a folder: 00_input.onnxtxt and NN_pass.onnxtxt, NN counting the passes that ran, with one weights.bin in
// which a tensor stands once however often it is dumped. Equal runs give equal bytes.
type Dump struct {
	dir     string
	file    *os.File
	weights *text.Weights
	count   int
	began   bool
}

// NewDump makes dir where it is missing and removes an earlier dump from it.
func NewDump(dir string) (*Dump, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("dump folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("dump folder: %w", err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() && dumpName.MatchString(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("dump folder: %w", err)
			}
		}
	}
	f, err := os.Create(filepath.Join(dir, weightsName))
	if err != nil {
		return nil, fmt.Errorf("dump folder: %w", err)
	}
	return &Dump{dir: dir, file: f, weights: text.NewWeights(weightsName, f)}, nil
}

// Close ends the dump.
func (d *Dump) Close() error { return d.file.Close() }

func (d *Dump) input(m *ir.Model) error {
	if d.began {
		return nil
	}
	d.began = true
	return d.write("00_input", m)
}

func (d *Dump) after(name string, m *ir.Model, changed bool) error {
	d.count++
	if !changed {
		return nil
	}
	return d.write(fmt.Sprintf("%02d_%s", d.count, name), m)
}

func (d *Dump) write(name string, m *ir.Model) error {
	var b bytes.Buffer
	if err := text.Write(&b, m, d.weights); err != nil {
		return fmt.Errorf("dump %s: %w", name, err)
	}
	if err := d.file.Sync(); err != nil {
		return fmt.Errorf("dump %s: %w", name, err)
	}
	return writeFile(filepath.Join(d.dir, name+".onnxtxt"), b.Bytes())
}

// writeRepro writes the graph before a failing pass, the passes that were left, and the error.
func writeRepro(dir string, rest []string, m *ir.Model, cause error) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var b, w bytes.Buffer
	if err := text.Write(&b, m, text.NewWeights(weightsName, &w)); err != nil {
		return err
	}
	message := cause.Error() + "\n"
	var internal *internalError
	if errors.As(cause, &internal) {
		message += string(internal.stack)
	}
	return errors.Join(
		writeFile(filepath.Join(dir, weightsName), w.Bytes()),
		writeFile(filepath.Join(dir, "before.onnxtxt"), b.Bytes()),
		writeFile(filepath.Join(dir, "passes.txt"), []byte(strings.Join(rest, "\n")+"\n")),
		writeFile(filepath.Join(dir, "error.txt"), []byte(message)),
	)
}

// writeFile writes a file under a temporary name, syncs and renames it.
func writeFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(0o644); err != nil {
		f.Close()
		return err
	}
	if _, err = f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err = f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
