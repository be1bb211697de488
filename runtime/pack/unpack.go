package pack

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/renameio/v2"

	"mqatc/runtime/data/npy"
)

// File is an array that Unpack wrote.
type File struct{ Tensor, Name string }

// Unpack dequantizes each tensor of packed weights, given as for Read, to a float32 array DIR/NAME.npy and returns the files in the
// order of the tensors. Characters of a name other than letters, digits and ._-+=@ become _; names that would be equal then, letter
// case aside, are numbered. dir is made if need be.
func Unpack(path, dir string) ([]File, error) {
	b, err := Read(path)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	files, err := unpack(b, dir)
	if err != nil {
		return nil, fmt.Errorf("unpack %s into %s: %w", path, dir, err)
	}
	return files, nil
}

func unpack(b *Blob, dir string) ([]File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, reason(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, reason(err)
	}
	defer root.Close()
	files := fileNames(b.Tensors)
	for i := range b.Tensors {
		t := &b.Tensors[i]
		x, err := b.Float32s(t)
		if err != nil {
			return nil, err
		}
		out := output{files[i].Name, func(w io.Writer) error { return npy.Write(w, t.Shape, x) }}
		if err := writeAll([]output{out}, renameio.WithRoot(root)); err != nil {
			return nil, t.fail(reason(err))
		}
	}
	return files, nil
}

// fileNames gives tensors whose name is a file name already that name, then the others what is left.
func fileNames(tensors []Tensor) []File {
	files := make([]File, len(tensors))
	u := newUnique()
	for _, clean := range []bool{true, false} {
		for i, t := range tensors {
			if name := fileName(t.Name); (name == t.Name) == clean {
				files[i] = File{t.Name, u.take(name, strings.ToLower) + ".npy"}
			}
		}
	}
	return files
}
