package pack

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"mqatc/onnx/format"
)

// Describe describes the size bytes of the file of that name. Tensors come in any order with Offset and Bytes set; codes must fit
// the width their tensor declares.
func Describe(file string, blob io.ReaderAt, size int64, tensors []Tensor) (*Description, error) {
	d := &Description{Format: Format, File: file, Tensors: slices.Clone(tensors)}
	slices.SortFunc(d.Tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Name, b.Name))
	})
	var err error
	if d.SHA256, err = digest(blob, size); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	if err := d.fits(size); err != nil {
		return nil, err
	}
	for i := range d.Tensors {
		t := &d.Tensors[i]
		raw := make([]byte, t.Bytes)
		if _, err := blob.ReadAt(raw, t.Offset); err != nil && !(errors.Is(err, io.EOF) && len(raw) == 0) {
			return nil, t.fail(err)
		}
		if t.CRC32C, err = checksum(blob, t); err != nil {
			return nil, err
		}
		if l, _ := t.Packing.layout(); l.kind.float() || l.width > 8 {
			continue
		}
		q, err := t.codes(raw)
		if err != nil {
			return nil, err
		}
		if need := bitsOf(q, signed(t.Packing)); need > t.Bits {
			return nil, t.fail(fmt.Errorf("its codes need %d bits, not %d", need, t.Bits))
		}
	}
	return d, nil
}

// Write describes the external-data file of a saved model by NAME.json and NAME.h beside it. placed is what format.Save reported;
// each tensor is found there under its name and must start at a multiple of 64 bytes.
func Write(blob string, tensors []Tensor, placed []format.Placement) (*Description, error) {
	d, err := describeFile(blob, tensors, placed)
	if err != nil {
		return nil, fmt.Errorf("packed weights %s: %w", filepath.Base(blob), err)
	}
	return d, nil
}

func describeFile(blob string, tensors []Tensor, placed []format.Placement) (*Description, error) {
	if err := checkBlobName(blob); err != nil {
		return nil, err
	}
	at := make(map[string]format.Placement, len(placed))
	for _, p := range placed {
		at[p.Name] = p
	}
	tensors = slices.Clone(tensors)
	for i := range tensors {
		t := &tensors[i]
		p, ok := at[t.Name]
		if !ok {
			return nil, t.fail(errors.New("it is not in the file"))
		}
		if p.Offset%64 != 0 {
			return nil, t.fail(fmt.Errorf("offset %d is no multiple of 64", p.Offset))
		}
		t.Offset, t.Bytes = p.Offset, p.Bytes
	}
	f, err := os.Open(blob)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, reason(err)
	}
	d, err := Describe(filepath.Base(blob), f, info.Size(), tensors)
	if err != nil {
		return nil, err
	}
	files, err := d.files(blob)
	if err != nil {
		return nil, err
	}
	return d, writeAll(files)
}

// signed reports whether codes of p may be negative.
func signed(p Packing) bool {
	l, err := p.layout()
	return err == nil && l.kind != kindUint
}

// bitsOf is the smallest width that holds all codes: 1 for {-1, +1} alone, else two's complement; plain binary where unsigned.
func bitsOf(codes []int32, signed bool) int {
	binary := true
	lo, hi := int32(0), int32(0)
	for _, q := range codes {
		lo, hi = min(lo, q), max(hi, q)
		binary = binary && (q == -1 || q == 1)
	}
	if !signed {
		bits := 1
		for int64(hi)>>bits != 0 {
			bits++
		}
		return bits
	}
	if binary {
		return 1
	}
	bits := 2
	for int64(lo) < -1<<(bits-1) || int64(hi) >= 1<<(bits-1) {
		bits++
	}
	return bits
}
