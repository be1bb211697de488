package npy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
)

// Write writes data, in C order, as a .npy array of little-endian float32 in format version 1.0. A shape () has one element.
func Write(w io.Writer, shape []int64, data []float32) error {
	n := int64(1)
	dims := make([]string, len(shape))
	for i, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt64/d {
			return fmt.Errorf("npy: shape %v", shape)
		}
		n *= d
		dims[i] = fmt.Sprint(d)
	}
	if n != int64(len(data)) || len(shape) > maxRank {
		return fmt.Errorf("npy: %d elements of rank %d for shape %v", len(data), len(shape), shape)
	}
	tuple := strings.Join(dims, ", ")
	if len(dims) == 1 {
		tuple += ","
	}
	dict := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", tuple)
	const before = 10 // magic string, version, length of the header
	pad := 63 - (before+len(dict))%64
	dict += strings.Repeat(" ", pad) + "\n"
	var b bytes.Buffer
	b.WriteString("\x93NUMPY\x01\x00")
	b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(dict))))
	b.WriteString(dict)
	if _, err := w.Write(b.Bytes()); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, data)
}
