package target

import (
	"math"

	"mqatc/onnx/ir"
)

// onnxruntime is stock onnxruntime 1.30 or newer on a CPU. Integer convolutions want unsigned activations there and run from Conv to
// the quantizer behind it, through Relu when the zero point is 0; any other activation function needs quantizers on both sides. A
// convolution has no int4 or int2 form, but a constant Cast to int8 is folded when the model is loaded. On x86 without VNNI the kernels
// add neighbouring products in int16, which saturates.
//
// Only convolutions get quantized activations: Gemm and MatMul are bound by reading weights. Their weights must not come from a
// DequantizeLinear, which onnxruntime's EXTENDED level fuses with MatMul and Gemm into MatMulNBits: that quantizes the activations
// by itself (accuracy level 4) and, in 1.30, computes something else altogether from int2. Nor should those of float convolutions:
// a DequantizeLinear is computed again at every run, while Mul(Cast(codes)) is folded once, when the model is loaded.
var onnxruntime = Target{
	Name: "onnxruntime", Doc: "stock onnxruntime on a CPU: uint8 activations, integer convolutions",
	Activation: ir.Uint8, Layers: []string{"Conv"}, Outputs: true, Exact: true, Fused: clipsAtZero, Widen: true, IntegerBias: true, Pairs: true,
	Narrow: true, Fold: []string{"Conv", "ConvTranspose", "Gemm", "MatMul"},
}

// clipsAtZero reports a Relu, or a Clip to zero and above: an unsigned quantizer with zero point 0 clips there by itself. For a Clip
// with an upper bound see limits.
func clipsAtZero(n *ir.Node) bool {
	if n.Is("Relu") {
		return true
	}
	lo, hi, ok := clipBounds(n)
	return ok && lo == 0 && math.IsInf(hi, 1)
}

// clipBounds are the constant bounds of a Clip.
func clipBounds(n *ir.Node) (lo, hi float64, ok bool) {
	if !n.Is("Clip") {
		return 0, 0, false
	}
	bounds := [2]float64{math.Inf(-1), math.Inf(1)}
	for i := range bounds {
		v := n.Input(i + 1)
		if v == nil {
			continue
		}
		if v.Init() == nil {
			return 0, 0, false
		}
		f, err := v.Init().Floats()
		if err != nil || len(f) != 1 {
			return 0, 0, false
		}
		bounds[i] = f[0]
	}
	return bounds[0], bounds[1], true
}

// through is the function of the only thing that reads v, where it is a simple one.
func through(v *ir.Value) func(float64) float64 {
	uses := v.Uses()
	if len(uses) == 2 && uses[1].Node.Is("Sigmoid") {
		uses = []ir.Use{uses[1], uses[0]}
	}
	if v.IsOutput() || len(uses) == 0 || len(uses) > 2 {
		return nil
	}
	n := uses[0].Node
	if len(uses) == 2 {
		// x * Sigmoid(x)
		m := uses[1].Node
		if n.Is("Sigmoid") && m.Is("Mul") && len(n.Output(0).Uses()) == 1 && n.Output(0).Uses()[0].Node == m {
			return func(x float64) float64 { return x / (1 + math.Exp(-x)) }
		}
		return nil
	}
	switch {
	case n.Is("LeakyRelu"):
		alpha := float64(n.Float("alpha", 0.01))
		return func(x float64) float64 { return max(x, 0) + alpha*min(x, 0) }
	case n.Is("HardSwish"):
		return func(x float64) float64 { return x * min(max(x/6+0.5, 0), 1) }
	case n.Is("Sigmoid"):
		return func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	case n.Is("Tanh"):
		return math.Tanh
	}
	if lo, hi, ok := clipBounds(n); ok {
		return func(x float64) float64 { return min(max(x, lo), hi) }
	}
	return nil
}
