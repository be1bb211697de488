package target

import "mqatc/onnx/ir"

// tensorRT wants explicit quantization with symmetric int8 activations at zero point 0, weights in int8 (on the grid of their
// width: its int4 is no type for convolutions) and float biases. It fuses what follows a layer by itself, so quantizers stand at
// the inputs of layers only.
var tensorRT = Target{
	Name: "tensorrt", Doc: "TensorRT explicit quantization: symmetric int8 activations, int8 weights, float biases",
	Activation: ir.Int8, Layers: []string{"Conv", "ConvTranspose", "Gemm", "MatMul"}, Bytes: true,
}
