package pack

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mqatc/onnx/ir"
)

// The bytes of each packing, worked out by hand.
func TestBytes(t *testing.T) {
	for _, c := range []struct {
		packing Packing
		codes   []int32
		raw     []byte
	}{
		{"int2", []int32{1, -1, 0, -2, 1}, []byte{0b10_00_11_01, 0b01}},
		{"int4", []int32{-8, 7, -1}, []byte{0x78, 0x0f}},
		{"int3", []int32{1, -1, 3, -4}, []byte{0b11_111_001, 0b100_0}},
		{"int5", []int32{-16, 15, 1}, []byte{0b111_10000, 0b0_00001_01}},
		{"int6", []int32{-32, 31, 1, -1}, []byte{0b11_100000, 0b0001_0111, 0b111111_00}},
		{"int7", []int32{-64, 63}, []byte{0b1_1000000, 0b00_011111}},
		{"int8", []int32{-128, 127}, []byte{0x80, 0x7f}},
		{"int16", []int32{-2}, []byte{0xfe, 0xff}},
		{"int32", []int32{-1 << 31, 1}, []byte{0, 0, 0, 0x80, 1, 0, 0, 0}},
		{"uint1", []int32{1, 0, 1}, []byte{0b101}},
		{"uint3", []int32{7, 0, 5}, []byte{0b01_000_111, 0b1}},
		{"uint16", []int32{0xabcd}, []byte{0xcd, 0xab}},
		{Binary, []int32{1, -1, -1, 1, 1, 1, 1, 1, -1, 1}, []byte{0b11111001, 0b10}},
		{Ternary, []int32{-1, 0, 1, 0, -1, 1}, []byte{0 + 3 + 18 + 27 + 0, 2}},
	} {
		l, err := c.packing.layout()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := l.pack(c.codes)
		if err != nil || !bytes.Equal(raw, c.raw) {
			t.Errorf("%s of %v: %08b, want %08b (%v)", c.packing, c.codes, raw, c.raw, err)
		}
		codes, err := l.codes(c.raw, len(c.codes))
		if err != nil || !slices.Equal(codes, c.codes) {
			t.Errorf("%s of %08b: %v, want %v (%v)", c.packing, c.raw, codes, c.codes, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, l := range layouts {
			if l.kind.float() {
				continue
			}
			s := draw(t, l, "w")
			if want, err := l.size(s.Len()); err != nil || want != int64(len(s.raw)) {
				t.Fatalf("%s%v has %d bytes, size says %d (%v)", l.name, s.Shape, len(s.raw), want, err)
			}
			got, err := l.codes(s.raw, len(s.codes))
			if err != nil || !slices.Equal(got, s.codes) {
				t.Fatalf("%s: %v comes back as %v (%v)", l.name, s.codes, got, err)
			}
			if l.dtype == ir.Undefined {
				continue
			}
			wide := make([]int64, len(s.codes))
			for i, q := range s.codes {
				wide[i] = int64(q)
			}
			onnx, err := ir.PackInts(l.dtype, wide, s.Shape...)
			if err != nil || !bytes.Equal(onnx.Raw(), s.raw) {
				t.Fatalf("%s: %v is %x here and %x in ONNX (%v)", l.name, s.codes, s.raw, onnx.Raw(), err)
			}
		}
	})
}

func TestPackRefuses(t *testing.T) {
	for _, l := range layouts {
		if l.kind.float() {
			continue
		}
		for _, q := range []int32{-1 << 31, 1<<31 - 1} {
			if raw, err := l.pack([]int32{q}); err == nil && l.width < 32 {
				t.Errorf("%s holds %d as %x", l.name, q, raw)
			}
		}
	}
	if l, _ := Binary.layout(); l.holds(0) {
		t.Error("binary holds 0")
	}
	if l, _ := Ternary.layout(); l.holds(2) || l.holds(-2) {
		t.Error("ternary holds 2")
	}
}
