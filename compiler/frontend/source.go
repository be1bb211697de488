package frontend

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mqatc/onnx/format"
	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/onnx/text"
)

// DumpExt ends the names of pass dumps, models in ONNX textual syntax.
const DumpExt = ".onnxtxt"

// Source is a model as it was read.
type Source struct {
	Path string
	// Model is what the file says: its opset, its types, nothing inferred.
	Model *ir.Model
	// Dump says that the file was a pass dump.
	Dump bool
	// Bytes counts the whole files: the model and, once each, the external data files it refers to. For a dump it is the size of
	// the same model as one ONNX file.
	Bytes int64
	// SHA256 is the digest, in hexadecimal, of the model file followed by its external data files by name; for a dump, of the same
	// model as one ONNX file.
	SHA256 string
}

// Read reads an ONNX file, or a pass dump where the name ends in .onnxtxt.
func Read(path string) (*Source, error) {
	s := &Source{Path: path, Dump: strings.EqualFold(filepath.Ext(path), DumpExt)}
	var err error
	if s.Dump {
		err = s.readDump()
	} else {
		err = s.readFile()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Source) readFile() error {
	m, err := format.Load(s.Path)
	if err != nil {
		return err
	}
	s.Model = m
	h := sha256.New()
	for _, f := range append([]string{s.Path}, externalFiles(m, filepath.Dir(s.Path))...) {
		n, err := addFile(h, f)
		if err != nil {
			return hint.Errorf("let no other program change it meanwhile", "%s: %w", s.Path, err)
		}
		s.Bytes += n
	}
	s.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

func addFile(w io.Writer, path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return io.Copy(w, f)
}

func (s *Source) readDump() error {
	info, err := os.Stat(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hint.Errorf("check the path", "%s: no such file", s.Path)
	case err != nil:
		return hint.Errorf("check the path and its permissions", "%w", err)
	case !info.Mode().IsRegular():
		return hint.Errorf("give the path of a file NN_pass"+DumpExt, "%s: is not a regular file", s.Path)
	case info.Size() == 0:
		return hint.Errorf("dump it again with --dump-passes", "%s: the file is empty", s.Path)
	}
	if s.Model, err = text.Load(s.Path); err != nil {
		return hint.Errorf("dump it again with --dump-passes, and keep weights.bin beside it", "%s: %w", s.Path, err)
	}
	raw, err := format.Marshal(s.Model)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	s.Bytes, s.SHA256 = int64(len(raw)), hex.EncodeToString(sum[:])
	return nil
}

// externalFiles lists the files in dir that tensors of m were read from, by name.
func externalFiles(m *ir.Model, dir string) []string {
	seen := map[string]bool{}
	tensor := func(t *ir.Tensor) {
		if t == nil {
			return
		}
		if l, ok := t.External.Get("location"); ok && l != "" {
			seen[filepath.Clean(filepath.FromSlash(l))] = true
		}
	}
	graphs := []*ir.Graph{m.Graph}
	for _, f := range m.Functions {
		graphs = append(graphs, f.Graph)
	}
	for len(graphs) > 0 {
		g := graphs[len(graphs)-1]
		graphs = graphs[:len(graphs)-1]
		for _, v := range g.Initializers() {
			tensor(v.Init())
			if s := v.SparseInit(); s != nil {
				tensor(s.Values)
				tensor(s.Indices)
			}
		}
		for n := g.First(); n != nil; n = n.Next() {
			graphs = append(graphs, n.Subgraphs()...)
			for _, a := range n.Attrs() {
				tensor(a.T)
				for _, t := range a.Tensors {
					tensor(t)
				}
				for _, s := range append(a.Sparses, a.Sparse) {
					if s != nil {
						tensor(s.Values)
						tensor(s.Indices)
					}
				}
			}
		}
	}
	var out []string
	for l := range seen {
		out = append(out, filepath.Join(dir, l))
	}
	slices.Sort(out)
	return out
}
