package pack

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Blob is a described file of weights that is open for reading.
type Blob struct {
	Description
	names map[string]int
	r     io.ReaderAt
	close func() error
	files []os.FileInfo // the description and the file with the bytes, where they were read from files
}

// Read opens packed weights by their folder (the description is weights.json then), by the path of a description, or by that of
// the file of weights beside one. The file must be what the description says: size, SHA-256 and each tensor's CRC-32C.
func Read(path string) (*Blob, error) {
	b, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("packed weights %s: %w", path, err)
	}
	return b, nil
}

func read(path string) (*Blob, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, reason(err)
	}
	described, blob := path, ""
	switch {
	case info.IsDir():
		described = filepath.Join(path, "weights.json")
	case !strings.EqualFold(filepath.Ext(path), ".json"):
		described, blob = beside(path, ".json"), filepath.Base(path)
	}
	root, err := os.OpenRoot(filepath.Dir(described))
	if err != nil {
		return nil, reason(err)
	}
	defer root.Close()
	f, about, err := openRegular(root, filepath.Base(described))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if about.Size() > maxDescription {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", filepath.Base(described), about.Size(), maxDescription)
	}
	raw, err := io.ReadAll(io.LimitReader(f, about.Size()))
	if err != nil {
		return nil, reason(err)
	}
	d, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(described), err)
	}
	if blob != "" && blob != d.File {
		return nil, fmt.Errorf("%s describes the file %q, not %q", filepath.Base(described), d.File, blob)
	}
	w, of, err := openRegular(root, d.File)
	if err != nil {
		return nil, err
	}
	b, err := open(d, w, of.Size())
	if err != nil {
		w.Close()
		return nil, err
	}
	b.close, b.files = w.Close, []os.FileInfo{about, of}
	return b, nil
}

// openRegular opens a regular file of root; links that lead elsewhere are refused.
func openRegular(root *os.Root, name string) (*os.File, os.FileInfo, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, reason(err))
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no regular file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, reason(err))
	}
	return f, info, nil
}

// reason drops the path that the message around it names already.
func reason(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err
	}
	return err
}

// open checks the bytes that d describes.
func open(d *Description, r io.ReaderAt, size int64) (*Blob, error) {
	if err := d.fits(size); err != nil {
		return nil, err
	}
	sum, err := digest(r, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.File, err)
	}
	if !strings.EqualFold(sum, d.SHA256) {
		return nil, fmt.Errorf("%s is not the file that was described: its SHA-256 is %s, not %s", d.File, sum, d.SHA256)
	}
	b := &Blob{Description: *d, names: make(map[string]int, len(d.Tensors)), r: r, close: func() error { return nil }}
	for i := range b.Tensors {
		t := &b.Tensors[i]
		got, err := checksum(r, t)
		if err != nil {
			return nil, err
		}
		if got != t.CRC32C {
			return nil, t.fail(fmt.Errorf("its CRC-32C is %08x, not %08x", uint32(got), uint32(t.CRC32C)))
		}
		b.names[t.Name] = i
	}
	return b, nil
}

func digest(r io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func checksum(r io.ReaderAt, t *Tensor) (Checksum, error) {
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, io.NewSectionReader(r, t.Offset, t.Bytes))
	if err == nil && n != t.Bytes {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, t.fail(err)
	}
	return Checksum(h.Sum32()), nil
}

// Close closes the file.
func (b *Blob) Close() error { return b.close() }

// Tensor finds a tensor by name.
func (b *Blob) Tensor(name string) (*Tensor, error) {
	i, ok := b.names[name]
	if !ok {
		return nil, fmt.Errorf("%s has no tensor %q", b.File, clip(name))
	}
	return &b.Tensors[i], nil
}

// Raw are the packed bytes of a tensor of b.
func (b *Blob) Raw(t *Tensor) ([]byte, error) {
	raw := make([]byte, t.Bytes)
	if _, err := b.r.ReadAt(raw, t.Offset); err != nil && len(raw) > 0 {
		return nil, t.fail(err)
	}
	if got := Checksum(crc32.Checksum(raw, castagnoli)); got != t.CRC32C {
		return nil, t.fail(fmt.Errorf("its bytes have changed: CRC-32C %08x, not %08x", uint32(got), uint32(t.CRC32C)))
	}
	return raw, nil
}

// Codes are the unpacked elements of a tensor of b with an integer packing, in row-major order.
func (b *Blob) Codes(t *Tensor) ([]int32, error) {
	raw, err := b.Raw(t)
	if err != nil {
		return nil, err
	}
	return t.codes(raw)
}

// Float32s are the dequantized elements of a tensor of b, in row-major order.
func (b *Blob) Float32s(t *Tensor) ([]float32, error) {
	raw, err := b.Raw(t)
	if err != nil {
		return nil, err
	}
	return t.floats(raw)
}
