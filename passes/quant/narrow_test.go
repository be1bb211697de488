package quant

import (
	"math"
	"testing"

	"github.com/x448/float16"
	"pgregory.net/rapid"

	"mqatc/runtime/ort/orttest"
)

// Integers up to 2^31 keep 11 bits, which float16 holds as they are or divided by 2^15.
func TestNarrowedFitsFloat16(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := float32(rapid.Int32().Draw(t, "x") >> rapid.IntRange(0, 31).Draw(t, "shift"))
		y := Narrowed(x)
		if d := math.Abs(float64(y) - float64(x)); d > math.Abs(float64(x))/2048*1.0001 {
			t.Fatalf("%g became %g", x, y)
		}
		if Narrowed(y) != y || Narrowed(-x) != -y {
			t.Fatalf("%g, %g, %g", y, Narrowed(y), Narrowed(-x))
		}
		f := float32(1)
		if math.Abs(float64(y)) > MaxHalf {
			f = 1 << 15
		}
		if math.Abs(float64(y)) < 1<<30 && float16.Fromfloat32(y/f).Float32()*f != y {
			t.Fatalf("float16 does not hold %g", y)
		}
	})
}

func TestScalesKeepTheirBits(t *testing.T) {
	for _, name := range []string{"inq", "ptq", "inq-pow2"} {
		s := Site{Name: "w", Dims: []int64{40, 27}, Bits: 4, Quantizer: name, ScaleBits: BFloat16Bits}
		scale, err := s.Start(normal(3, 40*27))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range scale {
			if math.Float32bits(x)&0xffff != 0 {
				t.Errorf("%s: bfloat16 does not hold the scale %g", name, x)
			}
		}
	}
	for x, ok := range map[float32]bool{0: true, 1e-6: false, 1: true, 65504: true, 65505: false, float32(math.Inf(1)): false, float32(math.NaN()): false} {
		if FitsHalf([]float32{x, 0}) != ok {
			t.Errorf("FitsHalf(%g) is %v", x, !ok)
		}
	}
}

// What a training sees of a weight, whatever its steps have become, is what is stored in the end.
func TestTrainingSeesWhatIsStored(t *testing.T) {
	orttest.TestLibrary(t)
	for _, dims := range [][]int64{{6, 4, 3, 3}, {6, 3, 3, 3}, {6, 5, 2, 1}, {6, 1, 1, 1}} {
		n := 1
		for _, d := range dims {
			n *= int(d)
		}
		w := normal(7, n)
		scale := normal(11, 6)
		for _, bits := range []int{2, 4, 8} {
			for i, x := range scale {
				scale[i] = (0.2 + float32(math.Abs(float64(x)))/3) / float32(int(1)<<bits)
			}
			for _, scaleBits := range []int{ExactBits, BFloat16Bits} {
				m := weightModel(t, w, dims...)
				rep, err := Insert(m, Spec{Weights: map[string]WeightSpec{"W": {Bits: bits, Quantizer: "lsq", ScaleBits: scaleBits, Scale: scale, Pairs: true}}})
				if err != nil {
					t.Fatal(err)
				}
				seen := runOne(t, m, rep.Weights[0].Output)
				codes, err := Collect(m, rep)
				if err != nil {
					t.Fatal(err)
				}
				for i, x := range codes[0].Values() {
					if seen[i] != x {
						t.Fatalf("%v, %d bits, steps of %d bits: element %d is %g in training and stored as %g", dims, bits, scaleBits, i, seen[i], x)
					}
				}
				if free, err := newCodes(rep.Weights[0].Site, w, codes[0].Scale, codes[0].Grid); err != nil || free.limit(rep.Weights[0].Site) != (bits == 8 && n > 6) {
					t.Errorf("%v, %d bits: pairs do not reach the limit where they should, or do elsewhere (%v)", dims, bits, err)
				}
			}
		}
	}
}
