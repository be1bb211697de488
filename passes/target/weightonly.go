package target

// weightOnly leaves activations and arithmetic in float: weights are stored packed and multiplied out by the runtime when it loads the
// model. Behind DequantizeLinear they would be multiplied out at every run: 12.3 ms instead of 4.2 on Objectron, 161 instead of 28 on
// PP-OCRv4 (onnxruntime 1.30, one thread).
var weightOnly = Target{
	Name: "weights", Doc: "weights only: packed storage, float arithmetic",
	Narrow: true, Fold: []string{"Conv", "ConvTranspose", "Gemm", "MatMul"},
}
