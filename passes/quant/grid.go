package quant

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// Grid is a set of levels relative to a scale: the integers Lo..Hi, or {-1, +1} when Binary, or Levels when it is not nil.
type Grid struct {
	Lo, Hi int
	Binary bool
	// Levels, ascending, are those of a codebook that is no uniform grid; a code is then an index into it.
	Levels []float32
}

// Symmetric is the grid of 2^bits-1 levels around zero for 2 to 8 bits ({-1, 0, +1} at 2), and {-1, +1} at 1 bit.
func Symmetric(bits int) (Grid, error) {
	if err := checkBits(bits, 1); err != nil {
		return Grid{}, err
	}
	if bits == 1 {
		return Grid{Lo: -1, Hi: 1, Binary: true}, nil
	}
	q := 1<<(bits-1) - 1
	return Grid{Lo: -q, Hi: q}, nil
}

// TwosComplement is the grid -2^(bits-1)..2^(bits-1)-1 for 3 to 8 bits (LSQ, section 2), {-1, 0, +1} at 2 and {-1, +1} at 1.
func TwosComplement(bits int) (Grid, error) {
	g, err := Symmetric(bits)
	if err == nil && bits > 2 {
		g.Lo--
	}
	return g, err
}

// Powers is the codebook of INQ (Zhou et al., "Incremental Network Quantization", ICLR 2017, equations 1 to 4) relative to its
// largest level 2^n1: zero and the signed powers 2^0 down to 2^-(2^(bits-2)-1), for 2 to 8 bits.
func Powers(bits int) (Grid, error) {
	if err := checkBits(bits, 2); err != nil {
		return Grid{}, err
	}
	n := 1 << (bits - 2)
	levels := make([]float32, 2*n+1)
	for k := 0; k < n; k++ {
		p := float32(math.Ldexp(1, -k))
		levels[k], levels[2*n-k] = -p, p
	}
	return Grid{Levels: levels}, nil
}

func checkBits(bits, lo int) error {
	if bits < lo || bits > 8 {
		return fmt.Errorf("%d bits: this quantizer has %d to 8", bits, lo)
	}
	return nil
}

// Level is the value of a code relative to the scale.
func (g Grid) Level(code int16) float32 {
	if g.Levels != nil {
		return g.Levels[code]
	}
	return float32(code)
}

// Max is the largest level.
func (g Grid) Max() float32 {
	if g.Levels != nil {
		return g.Levels[len(g.Levels)-1]
	}
	return float32(g.Hi)
}

// Nearest is the code whose level is nearest to x, a weight divided by its scale, computed as the fake-quantization graph does:
// in float32, halves to even. NaN gives the code of the lowest level.
func (g Grid) Nearest(x float32) int16 {
	switch {
	case g.Levels != nil:
		lo, hi := 0, len(g.Levels)-1
		for lo < hi {
			mid := (lo + hi) / 2
			if x > (g.Levels[mid]+g.Levels[mid+1])/2 {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		return int16(lo)
	case g.Binary:
		// Round is half to even and Clip keeps the value in 0..1, so that exactly one half goes to the lower level.
		if half := float32(x * 0.5); float32(half+0.5) > 0.5 {
			return 1
		}
		return -1
	}
	if !(x > float32(g.Lo)) {
		return int16(g.Lo)
	}
	if x >= float32(g.Hi) {
		return int16(g.Hi)
	}
	return int16(roundEven(x))
}

// magic is 1.5 * 2^23: adding it to a float32 below 2^22 in size rounds that to an integer, halves to even.
const magic float32 = 12582912

func roundEven(x float32) float32 { return float32(x+magic) - magic }

// Container is the element type that stores a width: int2 for 1 and 2 bits, int4 for 3 and 4, int8 for 5 to 8.
func Container(bits int) ir.DType {
	switch {
	case bits <= 2:
		return ir.Int2
	case bits <= 4:
		return ir.Int4
	}
	return ir.Int8
}

// uniform rewrites the codes of a codebook as integers of one uniform grid when all of them fit the container of bits: powers of
// two at 2 and 3 bits do.
func (g Grid) uniform(bits int) (Grid, bool) {
	if g.Levels == nil {
		return g, true
	}
	smallest := g.Levels[len(g.Levels)/2+1]
	ratio := g.Max() / smallest
	if ratio > float32(int(1)<<(Container(bits).Bits()-1)-1) {
		return g, false
	}
	hi := int(ratio)
	return Grid{Lo: -hi, Hi: hi}, true
}
