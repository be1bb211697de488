package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
)

// Exact writes the tensors of b to the file path in the fewest bits of their width: bit streams of 1 to 8 bits, {-1, +1} in one
// bit, {-1, 0, +1} five to a byte. Nothing but the elements' size aligns them. The description and the header go beside path.
func Exact(b *Blob, path string) (*Description, error) {
	return repack(b, path, exact, func(l layout) int64 { return l.align() })
}

// Containers writes the tensors of b to the file path in the types ONNX has, each at a multiple of 64 bytes: int2 for 1 and 2 bits,
// int4 for 3 and 4, int8 for 5 to 8, and the unsigned ones likewise.
func Containers(b *Blob, path string) (*Description, error) {
	return repack(b, path, container, func(layout) int64 { return 64 })
}

// chooser names the packing of codes for which width bits are meant.
type chooser func(codes []int32, width int, signed bool) Packing

// exact is the packing of codes that a plan gave bits.
func exact(codes []int32, width int, signed bool) Packing {
	width = max(width, bitsOf(codes, signed))
	switch {
	case !signed:
		return Packing(fmt.Sprintf("uint%d", width))
	case width == 1:
		return Binary
	case width == 2 && within(codes, -1, 1):
		return Ternary
	}
	return Packing(fmt.Sprintf("int%d", width))
}

func container(codes []int32, width int, signed bool) Packing {
	width = max(width, bitsOf(codes, signed))
	prefix := "uint"
	if signed {
		prefix = "int"
	}
	for _, w := range []int{2, 4} {
		if width <= w {
			return Packing(fmt.Sprintf("%s%d", prefix, w))
		}
	}
	return Packing(prefix + "8")
}

func within(codes []int32, lo, hi int32) bool {
	for _, q := range codes {
		if q < lo || q > hi {
			return false
		}
	}
	return true
}

func repack(b *Blob, path string, choose chooser, align func(layout) int64) (*Description, error) {
	d, err := repackTo(b, path, choose, align)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func repackTo(b *Blob, path string, choose chooser, align func(layout) int64) (*Description, error) {
	if err := checkBlobName(path); err != nil {
		return nil, err
	}
	for _, p := range []string{path, beside(path, ".json")} {
		if info, err := os.Stat(p); err == nil && slices.ContainsFunc(b.files, func(f os.FileInfo) bool { return os.SameFile(f, info) }) {
			return nil, fmt.Errorf("%s is being read and would be replaced; take another name", filepath.Base(p))
		}
	}
	d := &Description{Format: Format, File: filepath.Base(path)}
	sum := sha256.New()
	blob := output{path, func(w io.Writer) error {
		w = io.MultiWriter(w, sum)
		end := int64(0)
		for i := range b.Tensors {
			t := b.Tensors[i]
			raw, l, err := repacked(b, &t, choose)
			if err != nil {
				return err
			}
			a := align(l)
			at := (end + a - 1) / a * a
			if _, err := w.Write(make([]byte, at-end)); err != nil {
				return err
			}
			if _, err := w.Write(raw); err != nil {
				return err
			}
			t.Packing, t.Offset, t.Bytes, t.CRC32C = l.name, at, int64(len(raw)), Checksum(crc32.Checksum(raw, castagnoli))
			end = at + t.Bytes
			d.Tensors = append(d.Tensors, t)
		}
		d.SHA256 = hex.EncodeToString(sum.Sum(nil))
		return nil
	}}
	// Both texts are made after the bytes have been written: writeAll takes the files in order.
	late := func(ext string, text func() ([]byte, error)) output {
		return output{beside(path, ext), func(w io.Writer) error {
			raw, err := text()
			if err != nil {
				return err
			}
			_, err = io.Copy(w, bytes.NewReader(raw))
			return err
		}}
	}
	return d, writeAll([]output{blob, late(".json", d.JSON), late(".h", d.Header)})
}

// repacked are the bytes of t in the packing that choose names; floats and codes of more than 8 bits stay as they are.
func repacked(b *Blob, t *Tensor, choose chooser) ([]byte, layout, error) {
	l, err := t.Packing.layout()
	if err != nil {
		return nil, l, t.fail(err)
	}
	if l.kind.float() || l.width > 8 {
		raw, err := b.Raw(t)
		return raw, l, err
	}
	q, err := b.Codes(t)
	if err != nil {
		return nil, l, err
	}
	width := max(t.Bits, bits.Len(uint(max(0, len(t.Codebook)-1)))) // codes for levels that no element has are kept
	to, err := choose(q, width, signed(t.Packing)).layout()
	if err != nil {
		return nil, l, t.fail(err)
	}
	raw, err := to.pack(q)
	if err != nil {
		return nil, l, t.fail(err)
	}
	return raw, to, nil
}
