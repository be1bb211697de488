package npy

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// file is a .npy file of the format version with the dictionary and body.
func file(major byte, dict string, body []byte) []byte {
	b := append([]byte("\x93NUMPY"), major, 0)
	if major == 1 {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(dict)))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(dict)))
	}
	return append(append(b, dict...), body...)
}

func TestOrdersAndTypes(t *testing.T) {
	// Element (i, j, k) of shape 2x3x2 is 100i + 10j + k.
	want := &Array{Shape: []int{2, 3, 2}}
	for i := range 2 {
		for j := range 3 {
			for k := range 2 {
				want.Data = append(want.Data, float64(100*i+10*j+k))
			}
		}
	}
	put := map[string]func(o binary.AppendByteOrder, b []byte, v float64) []byte{
		"f4": func(o binary.AppendByteOrder, b []byte, v float64) []byte {
			return o.AppendUint32(b, math.Float32bits(float32(v)))
		},
		"f8": func(o binary.AppendByteOrder, b []byte, v float64) []byte {
			return o.AppendUint64(b, math.Float64bits(v))
		},
		"i2": func(o binary.AppendByteOrder, b []byte, v float64) []byte { return o.AppendUint16(b, uint16(v)) },
		"i8": func(o binary.AppendByteOrder, b []byte, v float64) []byte { return o.AppendUint64(b, uint64(v)) },
		"u1": func(_ binary.AppendByteOrder, b []byte, v float64) []byte { return append(b, byte(v)) },
	}
	for kind, add := range put {
		for _, order := range []string{"<", ">"} {
			for _, fortran := range []bool{false, true} {
				var o binary.AppendByteOrder = binary.LittleEndian
				if order == ">" {
					o = binary.BigEndian
				}
				var body []byte
				if fortran {
					for k := range 2 {
						for j := range 3 {
							for i := range 2 {
								body = add(o, body, float64(100*i+10*j+k))
							}
						}
					}
				} else {
					for _, v := range want.Data {
						body = add(o, body, v)
					}
				}
				py := map[bool]string{false: "False", true: "True"}[fortran]
				for major := byte(1); major <= 3; major++ {
					got, err := Parse(file(major, fmt.Sprintf("{'descr': '%s%s', 'fortran_order': %s, 'shape': (2, 3, 2), }   \n", order, kind, py), body))
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s%s fortran %v: %s", order, kind, fortran, diff)
					}
				}
			}
		}
	}
	half, err := Parse(file(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (), }", []byte{0x00, 0xc1}))
	if err != nil || len(half.Shape) != 0 || half.Data[0] != -2.5 {
		t.Errorf("half: %v %v", half, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		dict string
		body int
	}{
		{"", 0},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 11},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 13},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 4), }", 16},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 4},
		{"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,), }", 4},
		{"{'descr': '<f4', 'fortran_order': False, 'shape': 1, }", 4},
		{"{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", 8},
		{"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 8},
		{"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,), }", 4},
		{"{'descr': '', 'fortran_order': False, 'shape': (1,), }", 4},
	} {
		if a, err := Parse(file(1, c.dict, make([]byte, c.body))); err == nil {
			t.Errorf("%s with %d bytes is read as %v", c.dict, c.body, a)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(file(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }\n", make([]byte, 8)))
	f.Add(file(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9), }\n", nil))
	f.Add(file(3, "{'descr': '<f4', 'shape': (99999999, 99999999), 'fortran_order': True}", make([]byte, 8)))
	f.Add([]byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Parse(data)
		if err != nil {
			return
		}
		n := 1
		for _, d := range a.Shape {
			n *= d
		}
		if n != len(a.Data) || n > len(data) {
			t.Errorf("shape %v, %d elements from %d bytes", a.Shape, len(a.Data), len(data))
		}
	})
}
