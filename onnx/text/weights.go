package text

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"mqatc/onnx/mapped"
)

// weightAlign is the alignment of a tensor in a weights file, bytes.
const weightAlign = 64

// Weights collects the bytes of large tensors. Equal bytes are stored once.
type Weights struct {
	Location string // what the text calls the file: a path relative to the text
	w        io.Writer
	size     int64
	at       map[[sha256.Size]byte]int64
}

// NewWeights writes to w, which the text calls location.
func NewWeights(location string, w io.Writer) *Weights {
	return &Weights{Location: location, w: w, at: map[[sha256.Size]byte]int64{}}
}

// Add stores raw unless it is there already, and returns its offset.
func (s *Weights) Add(raw []byte) (int64, error) {
	key := sha256.Sum256(raw)
	if off, ok := s.at[key]; ok {
		return off, nil
	}
	pad := (weightAlign - s.size%weightAlign) % weightAlign
	if _, err := s.w.Write(make([]byte, pad)); err != nil {
		return 0, err
	}
	if _, err := s.w.Write(raw); err != nil {
		return 0, err
	}
	off := s.size + pad
	s.size = off + int64(len(raw))
	s.at[key] = off
	return off, nil
}

// External returns the bytes of a file that a text refers to. The slice is kept, not changed.
type External func(location string) ([]byte, error)

// Folder serves references to files inside dir; nothing outside it can be reached. Close releases dir.
type Folder struct {
	root   *os.Root
	reader mapped.Reader
	files  map[string][]byte
}

// OpenFolder opens dir.
func OpenFolder(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Folder{root: root, files: map[string][]byte{}}, nil
}

// External reads a file of the folder, once. Beyond 64 MiB in all, files are mapped.
func (f *Folder) External(location string) ([]byte, error) {
	if b, ok := f.files[location]; ok {
		return b, nil
	}
	if location == "" || filepath.IsAbs(location) || strings.ContainsRune(location, 0) {
		return nil, fmt.Errorf("%q is not a path inside the folder of the text", location)
	}
	info, err := f.root.Stat(filepath.FromSlash(location))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a file", location)
	}
	file, err := f.root.Open(filepath.FromSlash(location))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := f.reader.File(file)
	if err != nil {
		return nil, err
	}
	f.files[location] = b
	return b, nil
}

// Close releases the folder; tensors that were read stay valid.
func (f *Folder) Close() error { return f.root.Close() }
