package pack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// sample is a tensor with the codes or floats that its bytes were made of.
type sample struct {
	Tensor
	codes []int32
	raw   []byte
}

// draw makes a tensor of packing l.
func draw(t *rapid.T, l layout, name string) sample {
	rank := rapid.IntRange(0, 4).Draw(t, "rank")
	s := sample{Tensor: Tensor{Name: name, Module: rapid.SampledFrom([]string{"", "backbone", "head/ü"}).Draw(t, "module"), Packing: l.name, Axis: -1}}
	n := 1
	for range rank {
		d := rapid.IntRange(0, 7).Draw(t, "dim")
		s.Shape = append(s.Shape, int64(d))
		n *= d
	}
	if l.kind.float() {
		s.Bits = l.width
		s.raw = make([]byte, n*l.width/8)
		for i := range n {
			f := rapid.Float32().Draw(t, "float")
			if f != f {
				f = 1
			}
			switch {
			case l.width == 16: // every bit pattern but those of NaN
				b := uint16(math.Float32bits(f) >> 7)
				if l.kind == kindFloat && b&0x7c00 == 0x7c00 || l.kind == kindBfloat && b&0x7f80 == 0x7f80 {
					b &= 0x8000
				}
				binary.LittleEndian.PutUint16(s.raw[2*i:], b)
			case l.width == 32:
				binary.LittleEndian.PutUint32(s.raw[4*i:], math.Float32bits(f))
			default:
				binary.LittleEndian.PutUint64(s.raw[8*i:], math.Float64bits(float64(f)/3))
			}
		}
		s.Bytes = int64(len(s.raw))
		if l.width == 16 && rapid.Bool().Draw(t, "scaled") {
			s.Scales = []float32{0.5}
			if rank > 0 {
				s.Axis = rapid.IntRange(0, rank-1).Draw(t, "axis")
				s.Scales = nil
				for range s.Shape[s.Axis] {
					s.Scales = append(s.Scales, rapid.Float32Range(1e-3, 1).Draw(t, "scale"))
				}
			}
		}
		return s
	}
	lo, hi := math.MinInt32, math.MaxInt32
	if l.width < 32 {
		lo, hi = -1<<(l.width-1), 1<<(l.width-1)-1
	}
	scales := rapid.IntRange(0, 1).Draw(t, "scales")
	switch l.kind {
	case kindUint:
		lo, hi = 0, 1<<l.width-1
	case kindBinary, kindTernary:
		lo, hi = -1, 1
	}
	if rank > 0 && rapid.Bool().Draw(t, "per channel") {
		s.Axis = rapid.IntRange(0, rank-1).Draw(t, "axis")
		scales = int(s.Shape[s.Axis])
	}
	for range scales {
		s.Scales = append(s.Scales, rapid.Float32Range(1e-30, 4).Draw(t, "scale"))
	}
	switch {
	case l.kind == kindUint && l.width <= 8 && rapid.Bool().Draw(t, "codebook"):
		hi = rapid.IntRange(0, hi).Draw(t, "levels")
		for range hi + 1 {
			s.Codebook = append(s.Codebook, rapid.Float32Range(-1, 1).Draw(t, "level"))
		}
	case rapid.Bool().Draw(t, "zero points"):
		for range max(1, scales) {
			s.ZeroPoints = append(s.ZeroPoints, rapid.Int32().Draw(t, "zero point"))
		}
	}
	if s.Axis >= 0 && scales == 0 {
		s.ZeroPoints = nil
	}
	for range n {
		q := int32(rapid.IntRange(lo, hi).Draw(t, "code"))
		if l.kind == kindBinary && q == 0 {
			q = 1
		}
		s.codes = append(s.codes, q)
	}
	need := bitsOf(s.codes, l.kind != kindUint)
	switch {
	case l.kind == kindBinary:
		need = 1
	case l.kind == kindTernary:
		need = 2
	case l.width > 8:
		need = l.width
	}
	s.Bits = rapid.IntRange(min(need, l.width), max(need, min(l.width, 8))).Draw(t, "bits")
	if l.kind == kindBinary || l.kind == kindTernary {
		s.Bits = need
	}
	raw, err := l.pack(s.codes)
	if err != nil {
		t.Fatal(err)
	}
	s.raw, s.Bytes = raw, int64(len(raw))
	return s
}

// value is what element i is worth, by the definition in FORMAT.md.
func (s sample) value(i int) float32 {
	l, _ := s.Packing.layout()
	c := 0
	if s.Axis >= 0 {
		// The index along axis, counted from the last dimension.
		rest := i
		for k := len(s.Shape) - 1; k >= s.Axis; k-- {
			c = rest % int(s.Shape[k])
			rest /= int(s.Shape[k])
		}
	}
	v := float32(0)
	if l.kind.float() {
		v = l.floats(s.raw[i*l.width/8:], 1)[0]
	} else {
		v = float32(s.codes[i])
	}
	if len(s.ZeroPoints) > 0 {
		v = float32(int64(s.codes[i]) - int64(s.ZeroPoints[c]))
	}
	if len(s.Codebook) > 0 {
		v = s.Codebook[s.codes[i]]
	}
	if len(s.Scales) > 0 {
		v *= s.Scales[c]
	}
	return v
}

// drawAll makes one to eight tensors, or one of each packing.
func drawAll(t *rapid.T, each bool) []sample {
	var out []sample
	if each {
		for i, l := range layouts {
			out = append(out, draw(t, l, fmt.Sprintf("%s/w.%d", l.name, i)))
		}
		return out
	}
	for i := range rapid.IntRange(1, 8).Draw(t, "tensors") {
		l := layouts[rapid.IntRange(0, len(layouts)-1).Draw(t, "packing")]
		out = append(out, draw(t, l, strings.Repeat("t??/", i%3)+fmt.Sprint(i)))
	}
	return out
}

// lay puts samples one after another at multiples of 64 bytes.
func lay(samples []sample) []byte {
	var blob []byte
	for i := range samples {
		blob = append(blob, make([]byte, (64-len(blob)%64)%64)...)
		samples[i].Offset = int64(len(blob))
		blob = append(blob, samples[i].raw...)
	}
	return blob
}

func tensorsOf(samples []sample) []Tensor {
	out := make([]Tensor, len(samples))
	for i, s := range samples {
		out[i] = s.Tensor
	}
	return out
}

// write puts samples and their description into dir.
func write(t interface{ Fatal(...any) }, dir string, samples []sample) *Description {
	blob := lay(samples)
	d, err := Describe("weights.bin", bytes.NewReader(blob), int64(len(blob)), tensorsOf(samples))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "weights.bin")
	if err := os.WriteFile(path, blob, 0o644); err != nil {
		t.Fatal(err)
	}
	files, err := d.files(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeAll(files); err != nil {
		t.Fatal(err)
	}
	return d
}

func same(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

func (s sample) values() []float32 {
	out := make([]float32, s.Len())
	for i := range out {
		out[i] = s.value(i)
	}
	return out
}

func mustRead(t testing.TB, path string) *Blob {
	t.Helper()
	b, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}
