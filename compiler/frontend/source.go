package frontend

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

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

	files []file
	once  sync.Once
	sum   string
	err   error
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
	s.files, s.Bytes, err = stat(m, s.Path)
	return err
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
	s.Bytes, err = format.Size(s.Model)
	return err
}

// externalFiles lists the files that tensors of m, the model at path, were read from, by name.
func externalFiles(m *ir.Model, path string) []string {
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
		out = append(out, filepath.Join(filepath.Dir(path), l))
	}
	slices.Sort(out)
	return out
}
