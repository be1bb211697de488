package frontend

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"

	"mqatc/onnx/format"
	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
)

const unchanged = "let no other program change it meanwhile"

// Digest is the SHA-256, in hexadecimal, of the model file followed by its external data files by name; for a dump, of the same
// model as one ONNX file. The first call reads the files: an error says that one cannot be read, or is not the one that was loaded.
func (s *Source) Digest() (string, error) {
	s.once.Do(func() { s.sum, s.err = s.digest() })
	return s.sum, s.err
}

func (s *Source) digest() (string, error) {
	h := sha256.New()
	if s.Dump {
		raw, err := format.Marshal(s.Model)
		if err != nil {
			return "", err
		}
		h.Write(raw)
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	for _, f := range s.files {
		if err := f.addTo(h); err != nil {
			return "", hint.Errorf(unchanged, "%s: %w", s.Path, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// file is a part of a model on disk, as it was when the model was read.
type file struct {
	path string
	info fs.FileInfo
}

func (x file) addTo(w io.Writer) error {
	f, err := os.Open(x.path)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(now, x.info) || now.Size() != x.info.Size() || !now.ModTime().Equal(x.info.ModTime()) {
		return fmt.Errorf("%s has changed since the model was read", x.path)
	}
	_, err = io.Copy(w, f)
	return err
}

// stat finds the files of m, the model at path: itself and, by name, those that its tensors were read from.
func stat(m *ir.Model, path string) ([]file, int64, error) {
	var out []file
	size := int64(0)
	for _, p := range append([]string{path}, externalFiles(m, path)...) {
		info, err := os.Stat(p)
		if err != nil {
			return nil, 0, hint.Errorf(unchanged, "%s: %w", path, err)
		}
		out = append(out, file{p, info})
		size += info.Size()
	}
	return out, size, nil
}
