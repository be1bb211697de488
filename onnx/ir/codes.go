package ir

import "fmt"

// PackCodes makes a tensor of a type of less than a byte from the bits of its elements, each in the low bits of one entry; an error
// when an entry has more.
func PackCodes(d DType, codes []uint8, dims ...int64) (*Tensor, error) {
	bits := d.Bits()
	if bits == 0 || bits >= 8 {
		return nil, fmt.Errorf("cannot pack codes as %v", d)
	}
	size, err := PackedSize(d, int64(len(codes)))
	if err != nil {
		return nil, err
	}
	raw := make([]byte, size)
	for i, c := range codes {
		if c>>bits != 0 {
			return nil, fmt.Errorf("element %d = %d does not fit %v", i, c, d)
		}
		at, shift := i*bits/8, uint(i*bits%8)
		raw[at] |= c << shift
		if int(shift)+bits > 8 {
			raw[at+1] |= c >> (8 - shift)
		}
	}
	return NewTensor(d, dims, raw)
}

// Codes are the bits of the elements of a type of less than a byte, each in the low bits of one entry.
func (t *Tensor) Codes() ([]uint8, error) {
	bits := t.dtype.Bits()
	if bits == 0 || bits >= 8 {
		return nil, fmt.Errorf("elements of %v are no codes of less than a byte", t.dtype)
	}
	out := make([]uint8, t.Len())
	for i := range out {
		at, shift := i*bits/8, uint(i*bits%8)
		c := t.raw[at] >> shift
		if int(shift)+bits > 8 {
			c |= t.raw[at+1] << (8 - shift)
		}
		out[i] = c & (1<<bits - 1)
	}
	return out, nil
}
