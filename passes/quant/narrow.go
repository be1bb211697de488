package quant

import (
	"math"
	"slices"

	"github.com/x448/float16"

	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// NarrowFrom is the number of elements from which a vector of scales or biases is stored in 16 bits: the node that widens a shorter
// one takes as many bytes as it saves.
const NarrowFrom = 32

// Significant bits: of scales under an exact placement, and of scales stored as bfloat16.
const (
	ExactBits    = 5
	BFloat16Bits = 8
)

// significant rounds x, in place, to a number of significant bits.
func significant(x []float32, bits int) []float32 {
	for i, v := range x {
		f, e := math.Frexp(float64(v))
		x[i] = float32(math.Ldexp(math.RoundToEven(math.Ldexp(f, bits)), e-bits))
	}
	return x
}

// halfBits are the significant bits of float16.
const halfBits = 11

// splitter is 2^(24-bits)+1: t - (t - x) with t = x*splitter keeps that many significant bits of x (Dekker's and Veltkamp's splitting).
func splitter(bits int) float32 { return float32(int64(1)<<(24-bits) + 1) }

// Narrowed rounds x, of size up to 2^31, to 11 significant bits, those of float16, as the fake-quantization graph does.
func Narrowed(x float32) float32 {
	t := float32(x * splitter(halfBits))
	return t - float32(t-x)
}

// narrowed rounds x to a number of significant bits; its derivative is one.
func narrowed(b *ir.Builder, x *ir.Value, bits int) *ir.Value {
	t := b.Op("Mul", []*ir.Value{x, b.Float(splitter(bits))})
	return b.Op("Sub", []*ir.Value{t, b.Op("Sub", []*ir.Value{t, x})})
}

// Least and largest size that the largest element of a vector may have to be stored as float16. Below the least, float16 has fewer
// than 11 bits for it.
const (
	leastHalf = 1.0 / (1 << 14)
	MaxHalf   = 65504
)

// FitsHalf reports whether float16 holds all of b, finite and to 11 bits of the largest element.
func FitsHalf(b []float32) bool {
	top := 0.0
	for _, x := range b {
		if x != x {
			return false
		}
		top = max(top, math.Abs(float64(x)))
	}
	return top == 0 || top >= leastHalf && top <= MaxHalf
}

// halves rounds x, in place, to float16.
func halves(x []float32) []float32 {
	for i, v := range x {
		x[i] = float16.Fromfloat32(v).Float32()
	}
	return x
}

// floatBiases lists the float32 constants of NarrowFrom elements and more that nothing reads but the bias inputs of layers whose weight
// is in ws.
func floatBiases(g *ir.Graph, ws []Inserted, params map[string]weights.Param) []string {
	quantized := map[*ir.Node]bool{}
	for _, ins := range ws {
		for _, n := range params[ins.Name].Nodes {
			quantized[n] = true
		}
	}
	var out []string
	for _, v := range g.Initializers() {
		t := v.Init()
		if t == nil || t.DType() != ir.Float32 || t.Len() < NarrowFrom || v.IsInput() || v.IsOutput() || !v.Used() {
			continue
		}
		if !slices.ContainsFunc(v.Uses(), func(u ir.Use) bool { return !quantized[u.Node] || !BiasInput(u) }) {
			out = append(out, v.Name())
		}
	}
	return out
}

// BiasInput reports whether u is where a Conv, ConvTranspose or Gemm reads its bias.
func BiasInput(u ir.Use) bool {
	return u.Index == 2 && (u.Node.Is("Conv") || u.Node.Is("ConvTranspose") || u.Node.Is("Gemm"))
}

// addedInFloat reports whether some layer reads v as it is.
func addedInFloat(v *ir.Value) bool { return slices.ContainsFunc(v.Uses(), BiasInput) }
