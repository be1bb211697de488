package pack

import (
	"encoding/hex"
	"fmt"
	"math"
	"unicode/utf8"

	"mqatc/onnx/ir"
)

const (
	maxName = 4000 // a C99 compiler need not take string literals of more than 4,095 characters
	maxRank = 64
)

// Tensor says where a tensor lies and what its elements are worth: (code - zero point) * scale of the element's channel,
// Codebook[code] * scale, or float * scale. Offset, Bytes and CRC32C are filled in by Describe.
type Tensor struct {
	Name       string    `json:"name"`   // unique; that of the initializer in model.onnx
	Module     string    `json:"module"` // "" for none
	Offset     int64     `json:"offset"`
	Bytes      int64     `json:"bytes"`
	Shape      []int64   `json:"shape"`
	Bits       int       `json:"bits"` // planned width; at most what an element takes
	Packing    Packing   `json:"packing"`
	Axis       int       `json:"axis"`               // of the channels; -1 for one scale or none
	Scales     []float32 `json:"scales"`             // one per channel; one, or none where codes or floats are values
	ZeroPoints []int32   `json:"zero_points"`        // none, or as many as scales
	Codebook   []float32 `json:"codebook,omitempty"` // value of each code of an unsigned packing; none for uniform grids
	CRC32C     Checksum  `json:"crc32c"`
}

// Checksum is a CRC-32C (Castagnoli), eight hexadecimal digits in JSON.
type Checksum uint32

// MarshalText writes eight digits.
func (c Checksum) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%08x", uint32(c)), nil }

// UnmarshalText reads eight digits.
func (c *Checksum) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != 4 {
		return fmt.Errorf("checksum %q is not eight hexadecimal digits", clip(string(text)))
	}
	*c = Checksum(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]))
	return nil
}

// Len is the number of elements.
func (t *Tensor) Len() int64 {
	n, err := ir.NumElements(t.Shape)
	if err != nil {
		return 0
	}
	return n
}

// clip shortens what an error quotes.
func clip(s string) string {
	if len(s) <= 80 {
		return s
	}
	return s[:80] + "..."
}

func (t *Tensor) fail(err error) error { return fmt.Errorf("tensor %q: %w", clip(t.Name), err) }

// check tells whether t makes sense by itself.
func (t *Tensor) check() error {
	if err := t.checkMeaning(); err != nil {
		return t.fail(err)
	}
	return nil
}

func (t *Tensor) checkMeaning() error {
	for _, s := range []string{t.Name, t.Module} {
		if len(s) > maxName || !utf8.ValidString(s) {
			return fmt.Errorf("a name must be UTF-8 of at most %d bytes", maxName)
		}
	}
	if t.Name == "" {
		return fmt.Errorf("it has no name")
	}
	l, err := t.Packing.layout()
	if err != nil {
		return err
	}
	if len(t.Shape) > maxRank {
		return fmt.Errorf("rank %d is above %d", len(t.Shape), maxRank)
	}
	n, err := ir.NumElements(t.Shape)
	if err != nil {
		return err
	}
	want, err := l.size(n)
	if err != nil {
		return err
	}
	if t.Bytes != want {
		return fmt.Errorf("shape %v of %s takes %d bytes, not %d", t.Shape, t.Packing, want, t.Bytes)
	}
	if t.Offset < 0 || t.Offset > math.MaxInt64-t.Bytes || t.Offset%l.align() != 0 {
		return fmt.Errorf("offset %d is no multiple of %d", t.Offset, l.align())
	}
	if err := l.checkBits(t.Bits); err != nil {
		return err
	}
	return t.checkScales(l)
}

func (l layout) checkBits(bits int) error {
	lo, hi := 1, l.width
	switch l.kind {
	case kindBinary:
		hi = 1
	case kindTernary:
		hi = 2
	case kindFloat, kindBfloat:
		lo = l.width
	}
	if bits < lo || bits > hi {
		return fmt.Errorf("%d bits in packing %s, which has %d to %d", bits, l.name, lo, hi)
	}
	return nil
}

func (t *Tensor) checkScales(l layout) error {
	if t.Axis < -1 || t.Axis >= len(t.Shape) {
		return fmt.Errorf("axis %d of shape %v", t.Axis, t.Shape)
	}
	if l.kind.float() && len(t.ZeroPoints)+len(t.Codebook) > 0 {
		return fmt.Errorf("%s elements have neither zero points nor levels", l.name)
	}
	if t.Axis >= 0 && int64(len(t.Scales)) != t.Shape[t.Axis] || t.Axis < 0 && len(t.Scales) > 1 {
		return fmt.Errorf("%d scales for shape %v along axis %d", len(t.Scales), t.Shape, t.Axis)
	}
	if z := len(t.ZeroPoints); z > 0 && z != max(1, len(t.Scales)) {
		return fmt.Errorf("%d zero points for %d scales", z, len(t.Scales))
	}
	if len(t.Codebook) > 0 && (l.kind != kindUint || len(t.ZeroPoints) > 0 || len(t.Codebook) > 1<<l.width) {
		return fmt.Errorf("a codebook of %d levels and %d zero points for codes of %s", len(t.Codebook), len(t.ZeroPoints), l.name)
	}
	for _, list := range [][]float32{t.Scales, t.Codebook} {
		for i, x := range list {
			if x-x != 0 {
				return fmt.Errorf("scale or level %d is %g", i, x)
			}
		}
	}
	for i, x := range t.Scales {
		if x < 0 {
			return fmt.Errorf("scale %d is %g", i, x)
		}
	}
	return nil
}

// codes unpacks raw, which has t.Bytes bytes.
func (t *Tensor) codes(raw []byte) ([]int32, error) {
	l, err := t.Packing.layout()
	if err != nil {
		return nil, t.fail(err)
	}
	if l.kind.float() {
		return nil, t.fail(fmt.Errorf("%s elements have no codes", l.name))
	}
	q, err := l.codes(raw, int(t.Len()))
	if err != nil {
		return nil, t.fail(err)
	}
	if len(t.Codebook) > 0 {
		for i, x := range q {
			if int(x) >= len(t.Codebook) {
				return nil, t.fail(fmt.Errorf("code %d of element %d is beyond the %d levels of its codebook", x, i, len(t.Codebook)))
			}
		}
	}
	return q, nil
}

// floats dequantizes raw as ONNX DequantizeLinear does, in float32.
func (t *Tensor) floats(raw []byte) ([]float32, error) {
	l, err := t.Packing.layout()
	if err != nil {
		return nil, t.fail(err)
	}
	channel := t.channels()
	if l.kind.float() {
		out := l.floats(raw, int(t.Len()))
		for i := range out {
			if len(t.Scales) > 0 {
				out[i] *= t.Scales[channel(i)]
			}
		}
		return out, nil
	}
	q, err := t.codes(raw)
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(q))
	for i, x := range q {
		c := channel(i)
		v := float32(x)
		switch {
		case len(t.Codebook) > 0:
			v = t.Codebook[x]
		case len(t.ZeroPoints) > 0:
			v = float32(int64(x) - int64(t.ZeroPoints[c]))
		}
		if len(t.Scales) > 0 {
			v *= t.Scales[c]
		}
		out[i] = v
	}
	return out, nil
}

// channels gives the channel of an element.
func (t *Tensor) channels() func(i int) int {
	if t.Axis < 0 || t.Len() == 0 {
		return func(int) int { return 0 }
	}
	inner, n := 1, int(t.Shape[t.Axis])
	for _, d := range t.Shape[t.Axis+1:] {
		inner *= int(d)
	}
	return func(i int) int { return i / inner % n }
}
