package format

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
)

// pending is a file being written under a temporary name in the folder of its final one.
type pending struct {
	tmp, final string
	f          *os.File
	w          *bufio.Writer
}

func create(path string) (*pending, error) {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, err
	}
	p := &pending{tmp: f.Name(), final: path, f: f, w: bufio.NewWriterSize(&eager{f: f}, 64<<10)}
	if err := f.Chmod(mode); err != nil {
		p.discard()
		return nil, err
	}
	return p, nil
}

// sync writes everything to disk and closes the temporary file.
func (p *pending) sync() error {
	if err := p.w.Flush(); err != nil {
		return err
	}
	if err := p.f.Sync(); err != nil {
		return err
	}
	return p.f.Close()
}

// commit gives the synced file its final name.
func (p *pending) commit() error {
	if err := os.Rename(p.tmp, p.final); err != nil {
		return err
	}
	p.tmp = ""
	return nil
}

// syncFolder makes renames in dir last before those that follow. Some file systems cannot; the renames have happened all the same.
func syncFolder(dir string) {
	if f, err := os.Open(dir); err == nil {
		_ = f.Sync()
		f.Close()
	}
}

// discard removes the temporary file unless it was committed.
func (p *pending) discard() {
	if p.tmp != "" {
		p.f.Close()
		os.Remove(p.tmp)
	}
}

var zeros [4096]byte

// pad writes n zero bytes.
func pad(w io.Writer, n int64) error {
	for n > 0 {
		k, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}
