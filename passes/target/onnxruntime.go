package target

import "mqatc/onnx/ir"

// onnxruntime is stock onnxruntime 1.30 or newer on a CPU. Integer convolutions want unsigned activations there and run from Conv to
// the quantizer behind it, through Relu when the zero point is 0; any other activation function needs quantizers on both sides. A
// convolution has no int4 or int2 form, but a constant Cast to int8 is folded when the model is loaded.
//
// Only convolutions get quantized activations: Gemm and MatMul are bound by reading weights. Their weights must not come from a
// DequantizeLinear, which onnxruntime's EXTENDED level fuses with MatMul and Gemm into MatMulNBits: that quantizes the activations
// by itself (accuracy level 4) and, in 1.30, computes something else altogether from int2.
var onnxruntime = Target{
	Name: "onnxruntime", Doc: "stock onnxruntime on a CPU: uint8 activations, integer convolutions",
	Activation: ir.Uint8, Layers: []string{"Conv"}, Outputs: true, Fused: clipsAtZero, Widen: true, IntegerBias: true,
	Fold: []string{"Gemm", "MatMul"},
}

// clipsAtZero reports a Relu, or a Clip whose lower bound is 0: an unsigned quantizer with zero point 0 clips there by itself.
func clipsAtZero(n *ir.Node) bool {
	if n.Is("Relu") {
		return true
	}
	if !n.Is("Clip") || n.Input(1) == nil || n.Input(1).Init() == nil {
		return false
	}
	lo, err := n.Input(1).Init().Floats()
	return err == nil && len(lo) == 1 && lo[0] == 0
}
