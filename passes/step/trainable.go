package step

import (
	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// Trainable lists the trained tensors of m, each once, in graph order: the float constants that are weight, bias, scale or shift
// of a Conv, ConvTranspose, DeformConv, Gemm, MatMul, LSTM, GRU, RNN or a normalization, decomposed ones included. Weights of rank 2 and
// more get Decay.
func Trainable(m *ir.Model) []Param {
	var out []Param
	for _, p := range weights.Find(m.Graph) {
		if p.Value.Init().DType() != ir.Float32 {
			continue
		}
		out = append(out, Param{Name: p.Value.Name(), Decay: p.Decays()})
	}
	return out
}
