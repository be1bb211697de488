package format

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"

	"mqatc/onnx/ir"
	"mqatc/onnx/mapped"
	"mqatc/onnx/pb"
)

// Load reads an ONNX file and its external data; beyond 64 MiB in all, tensors are views of the mapped files. Errors are of type *Error and name the file, the part and the remedy.
func Load(path string) (*ir.Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fail(path, "check the path", "no such file")
		}
		return nil, fail(path, "", "%w", err)
	}
	if info.IsDir() {
		return nil, fail(path, "give the .onnx file in it", "is a folder, not an ONNX file")
	}
	if !info.Mode().IsRegular() {
		return nil, fail(path, "copy it to a file first", "is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(path, "", "%w", err)
	}
	defer f.Close()
	files := new(mapped.Reader)
	data, err := files.File(f)
	if err != nil {
		return nil, fail(path, "", "%w", err)
	}
	return parse(data, filepath.Dir(path), path, files)
}

// Parse reads a model from data, which the model keeps views of. External data is looked for in dir; with dir "" it is refused.
func Parse(data []byte, dir string) (*ir.Model, error) {
	return parse(data, dir, "model", new(mapped.Reader))
}

func parse(data []byte, dir, where string, files *mapped.Reader) (*ir.Model, error) {
	return guarded(where, func() (*ir.Model, error) {
		if len(data) == 0 {
			return nil, fail(where, "export or copy it again", "the file is empty")
		}
		p, err := decodeProto(data, where)
		if err != nil {
			return nil, err
		}
		d := &decoder{where: where, files: newExternalFiles(dir, files)}
		defer d.files.close()
		return d.model(p)
	})
}

// guarded runs f, which reads mapped files, and turns the fault of a file that another program cut short into an error.
func guarded[T any](where string, f func() (T, error)) (out T, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		var zero T
		out = zero
		if mapped.IsFault(r) {
			cut := &mapped.CutShort{}
			err = fail(where, cut.Hint(), "%w", cut)
			return
		}
		err = fail(where, "report it, with the model, as a bug", "internal error: %v", r)
	}()
	return f()
}

// decodeProto checks and unmarshals the protobuf message.
func decodeProto(data []byte, where string) (*pb.ModelProto, error) {
	what, hint, foreign := sniff(data)
	err := pb.Check(data, pb.Limits{})
	if err != nil && foreign {
		return nil, fail(where, hint, "not an ONNX model: it is %s", what)
	}
	if err != nil {
		return nil, fail(where, "export, copy or download it again", "not an ONNX model, or a truncated or damaged one: %w", err)
	}
	p := new(pb.ModelProto)
	if err := p.Unmarshal(data); err != nil {
		return nil, fail(where, "export, copy or download it again", "not an ONNX model, or a damaged one: %w", err)
	}
	if p.Graph == nil {
		switch {
		case foreign:
			return nil, fail(where, hint, "not an ONNX model: it is %s", what)
		case p.IrVersion == nil && len(p.OpsetImport) == 0:
			return nil, fail(where, "give the path of an .onnx file", "not an ONNX model")
		}
		return nil, fail(where, "export it again", "the model has no graph")
	}
	return p, nil
}
