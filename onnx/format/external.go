package format

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"mqatc/onnx/mapped"
	"mqatc/onnx/pb"
)

// externalFiles opens the files of external tensors, each once, and only inside the model's folder.
type externalFiles struct {
	dir    string
	root   *os.Root
	reader *mapped.Reader
	data   map[string][]byte
}

func newExternalFiles(dir string, r *mapped.Reader) *externalFiles {
	return &externalFiles{dir: dir, reader: r, data: map[string][]byte{}}
}

func (x *externalFiles) close() {
	if x.root != nil {
		x.root.Close()
	}
}

// bytes returns the want bytes that the entries of TensorProto.external_data point to.
func (x *externalFiles) bytes(entries []*pb.StringStringEntryProto, want int64) ([]byte, error) {
	var location string
	offset, length := int64(0), want
	for _, e := range entries {
		var err error
		switch e.GetKey() {
		case "location":
			location = e.GetValue()
		case "offset":
			offset, err = strconv.ParseInt(e.GetValue(), 10, 64)
		case "length":
			length, err = strconv.ParseInt(e.GetValue(), 10, 64)
		}
		if err != nil || offset < 0 || length < 0 {
			return nil, fmt.Errorf("external data: %s %q is no byte count", e.GetKey(), e.GetValue())
		}
	}
	if length != want {
		return nil, fmt.Errorf("external data in %q has %d bytes, the tensor needs %d", location, length, want)
	}
	if want == 0 {
		return []byte{}, nil
	}
	data, err := x.open(location)
	if err != nil {
		return nil, err
	}
	if offset > int64(len(data)) || length > int64(len(data))-offset {
		return nil, fail("", "copy the model and its data again, together", "external data at bytes %d to %d of %q, which has %d bytes",
			offset, offset+length, location, len(data))
	}
	return data[offset : offset+length : offset+length], nil
}

func (x *externalFiles) open(location string) ([]byte, error) {
	if data, ok := x.data[location]; ok {
		return data, nil
	}
	if location == "" {
		return nil, fmt.Errorf("external data names no file")
	}
	if x.dir == "" {
		return nil, fail("", "load the model by its path", "external data in %q, but the model was not read from a folder", location)
	}
	name := filepath.FromSlash(location)
	if !filepath.IsLocal(name) {
		return nil, fail("", "put the file beside the model and set its location to the bare name", "external data in %q lies outside the model's folder", location)
	}
	if x.root == nil {
		root, err := os.OpenRoot(x.dir)
		if err != nil {
			return nil, fmt.Errorf("external data: %w", err)
		}
		x.root = root
	}
	info, err := x.root.Stat(name)
	if os.IsNotExist(err) {
		return nil, fail("", "copy the file too, under this name", "external data file %q is missing beside the model", location)
	}
	if err != nil {
		return nil, fmt.Errorf("external data file %q cannot be read inside the model's folder: %w", location, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("external data file %q is not a regular file", location)
	}
	f, err := x.root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("external data: %w", err)
	}
	defer f.Close()
	data, err := x.reader.File(f)
	if err != nil {
		return nil, fmt.Errorf("external data file %q: %w", location, err)
	}
	x.data[location] = data
	return data, nil
}
