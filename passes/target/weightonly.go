package target

// weightOnly leaves activations and arithmetic in float: weights are stored packed and dequantized by the runtime.
var weightOnly = Target{Name: "weights", Doc: "weights only: packed storage, float arithmetic",
	Fold: []string{"Gemm", "MatMul"}}
