package npy

import (
	"bytes"
	"math"
	"slices"
	"testing"
)

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, []int64{3}, []float32{1, -0.5, 0.25}); err != nil {
		t.Fatal(err)
	}
	// As numpy.save writes it: the header is filled up to 128 bytes.
	want := append([]byte("\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"), bytes.Repeat([]byte{' '}, 60)...)
	want = append(append(want, '\n'), 0, 0, 0x80, 0x3f, 0, 0, 0, 0xbf, 0, 0, 0x80, 0x3e)
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%q, want %q", b.Bytes(), want)
	}
	for _, shape := range [][]int64{{}, {1}, {0}, {0, 1 << 60, 1 << 60}, {2, 3}, {2, 1, 3, 1}, slices.Repeat([]int64{1}, 32)} {
		n := int64(1)
		for _, d := range shape {
			n *= d
		}
		data := make([]float32, n)
		for i := range data {
			data[i] = float32(math.Sqrt(float64(i))) - 1
		}
		b.Reset()
		if err := Write(&b, shape, data); err != nil {
			t.Fatal(err)
		}
		if (b.Len()-4*len(data))%64 != 0 {
			t.Errorf("shape %v: the header has %d bytes", shape, b.Len()-4*len(data))
		}
		if shape != nil && len(shape) == 3 && n == 0 {
			continue // its sizes are no int everywhere
		}
		a, err := Parse(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Shape) != len(shape) || len(a.Data) != len(data) {
			t.Errorf("shape %v becomes %v", shape, a.Shape)
		}
		for i, d := range shape {
			if int64(a.Shape[i]) != d {
				t.Errorf("shape %v becomes %v", shape, a.Shape)
			}
		}
		for i, x := range data {
			if a.Data[i] != float64(x) {
				t.Errorf("element %d of %v: %g, want %g", i, shape, a.Data[i], x)
			}
		}
	}
	for _, shape := range [][]int64{{2}, {-1}, {1 << 62, 4}, slices.Repeat([]int64{1}, 33)} {
		if err := Write(&b, shape, []float32{1}); err == nil {
			t.Errorf("one element is written as shape %v", shape)
		}
	}
}
