// Package npy reads NumPy's .npy arrays
// (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
package npy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/x448/float16"
)

// Array is an array of numbers as float64, in C order whatever the file's.
// Integers beyond 2^53 are rounded.
type Array struct {
	Shape []int
	Data  []float64
}

const (
	maxFile = 4 << 30
	maxRank = 32
)

// ReadFile reads a .npy file of at most 4 GiB.
func ReadFile(path string) (*Array, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("npy: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("npy: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("npy: %s is no regular file of at most %d bytes", path, int64(maxFile))
	}
	data, err := io.ReadAll(io.LimitReader(f, st.Size()))
	if err != nil {
		return nil, fmt.Errorf("npy: %w", err)
	}
	a, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("npy: %s: %w", path, err)
	}
	return a, nil
}

// Parse reads the bytes of a .npy file of format 1, 2 or 3 with boolean,
// integer or float elements; bytes after the array are an error.
func Parse(data []byte) (*Array, error) {
	h, body, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	get, ok := elements[h.kind]
	if !ok {
		return nil, fmt.Errorf("element type %q is not read", h.descr)
	}
	n := 1
	for _, d := range h.shape {
		if d > 0 && n > len(body)/d {
			return nil, fmt.Errorf("shape %v does not fit in %d bytes", h.shape, len(body))
		}
		n *= d
	}
	if n*get.size != len(body) {
		return nil, fmt.Errorf("shape %v of %s takes %d bytes, there are %d", h.shape, h.descr, n*get.size, len(body))
	}
	a := &Array{Shape: h.shape, Data: make([]float64, n)}
	at := func(i int) float64 { return get.value(h.order, body[i*get.size:]) }
	if !h.fortran || len(h.shape) < 2 {
		for i := range a.Data {
			a.Data[i] = at(i)
		}
		return a, nil
	}
	// Count up the index with the first axis fastest; its C position follows.
	stride := make([]int, len(h.shape))
	step := 1
	for k := len(h.shape) - 1; k >= 0; k-- {
		stride[k] = step
		step *= h.shape[k]
	}
	index := make([]int, len(h.shape))
	pos := 0
	for i := range n {
		a.Data[pos] = at(i)
		for k := range index {
			index[k]++
			pos += stride[k]
			if index[k] < h.shape[k] {
				break
			}
			pos -= stride[k] * h.shape[k]
			index[k] = 0
		}
	}
	return a, nil
}

type element struct {
	size  int
	value func(o binary.ByteOrder, b []byte) float64
}

// elements are the readable types by kind and width.
var elements = map[string]element{
	"b1": {1, func(_ binary.ByteOrder, b []byte) float64 { return float64(b[0]) }},
	"u1": {1, func(_ binary.ByteOrder, b []byte) float64 { return float64(b[0]) }},
	"i1": {1, func(_ binary.ByteOrder, b []byte) float64 { return float64(int8(b[0])) }},
	"u2": {2, func(o binary.ByteOrder, b []byte) float64 { return float64(o.Uint16(b)) }},
	"i2": {2, func(o binary.ByteOrder, b []byte) float64 { return float64(int16(o.Uint16(b))) }},
	"u4": {4, func(o binary.ByteOrder, b []byte) float64 { return float64(o.Uint32(b)) }},
	"i4": {4, func(o binary.ByteOrder, b []byte) float64 { return float64(int32(o.Uint32(b))) }},
	"u8": {8, func(o binary.ByteOrder, b []byte) float64 { return float64(o.Uint64(b)) }},
	"i8": {8, func(o binary.ByteOrder, b []byte) float64 { return float64(int64(o.Uint64(b))) }},
	"f2": {2, func(o binary.ByteOrder, b []byte) float64 { return float64(float16.Frombits(o.Uint16(b)).Float32()) }},
	"f4": {4, func(o binary.ByteOrder, b []byte) float64 { return float64(math.Float32frombits(o.Uint32(b))) }},
	"f8": {8, func(o binary.ByteOrder, b []byte) float64 { return math.Float64frombits(o.Uint64(b)) }},
}

type header struct {
	descr, kind string
	order       binary.ByteOrder
	fortran     bool
	shape       []int
}

func parseHeader(data []byte) (h header, body []byte, err error) {
	rest, ok := bytes.CutPrefix(data, []byte("\x93NUMPY"))
	if !ok || len(rest) < 4 {
		return h, nil, errors.New("not a .npy file")
	}
	var n, at int
	switch major := rest[0]; major {
	case 1:
		n, at = int(binary.LittleEndian.Uint16(rest[2:])), 4
	case 2, 3:
		if len(rest) < 6 {
			return h, nil, errors.New("header ends early")
		}
		n, at = int(binary.LittleEndian.Uint32(rest[2:])), 6
	default:
		return h, nil, fmt.Errorf("format version %d is not known", major)
	}
	if n > len(rest)-at {
		return h, nil, errors.New("header ends early")
	}
	dict, body := string(rest[at:at+n]), rest[at+n:]
	if err := h.parseDict(dict); err != nil {
		return h, nil, err
	}
	return h, body, nil
}

// parseDict reads the Python literal {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }.
func (h *header) parseDict(dict string) error {
	value := func(key string) (string, error) {
		for _, quote := range []string{"'", `"`} {
			if _, after, ok := strings.Cut(dict, quote+key+quote); ok {
				after, ok := strings.CutPrefix(strings.TrimSpace(after), ":")
				if ok {
					return strings.TrimSpace(after), nil
				}
			}
		}
		return "", fmt.Errorf("header %q has no %s", dict, key)
	}
	descr, err := value("descr")
	if err != nil {
		return err
	}
	if len(descr) < 2 || descr[0] != '\'' && descr[0] != '"' {
		return fmt.Errorf("header %q: structured elements are not read", dict)
	}
	h.descr, _, _ = strings.Cut(descr[1:], descr[:1])
	if len(h.descr) < 2 {
		return fmt.Errorf("element type %q is not read", h.descr)
	}
	h.kind = h.descr[1:]
	switch h.descr[0] {
	case '<', '|', '=':
		h.order = binary.LittleEndian
	case '>':
		h.order = binary.BigEndian
	default:
		return fmt.Errorf("element type %q is not read", h.descr)
	}
	order, err := value("fortran_order")
	if err != nil {
		return err
	}
	h.fortran = strings.HasPrefix(order, "True")
	if !h.fortran && !strings.HasPrefix(order, "False") {
		return fmt.Errorf("header %q: fortran_order is neither True nor False", dict)
	}
	shape, err := value("shape")
	if err != nil {
		return err
	}
	inside, _, ok := strings.Cut(strings.TrimPrefix(shape, "("), ")")
	if !ok || !strings.HasPrefix(shape, "(") {
		return fmt.Errorf("header %q: bad shape", dict)
	}
	for _, d := range strings.Split(inside, ",") {
		if d = strings.TrimSpace(d); d == "" {
			continue
		}
		v, err := strconv.Atoi(d)
		if err != nil || v < 0 || len(h.shape) == maxRank {
			return fmt.Errorf("header %q: bad shape", dict)
		}
		h.shape = append(h.shape, v)
	}
	return nil
}
