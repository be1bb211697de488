// Package target knows what runs a quantized model: where activations are quantized, in which types weights and biases are written,
// and what the written model must prove before it is handed out.
//
// A target is a row of Targets. Place computes where activation quantizers stand, before training, so that training sees what will
// run; Emit writes the trained codes into standard ONNX in QDQ form; CheckAccumulators and Verify examine the result; the functions
// of size.go tell beforehand how many bytes a weight will take.
package target

import (
	"fmt"
	"slices"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/passes/quant"
)

// Pass is the name recorded in the nodes made here.
const Pass = "emit"

// Target is one row of the table.
type Target struct {
	Name string
	Doc  string
	// Activation is the element type of quantized activations, ir.Undefined where they stay float.
	Activation ir.DType
	// Layers are the operators whose inputs are quantized when their weight is.
	Layers []string
	// Outputs says that a Conv followed by other layers gets its output quantized too, so that it runs in integers.
	Outputs bool
	// Exact restricts scales so that every kernel rounds alike: see quant.Placement.
	Exact bool
	// Fused lists activation functions that run inside an integer Conv when the quantizer stands behind them.
	Fused func(n *ir.Node) bool
	// Widen says that weights under 8 bits are stored in their container and cast to int8 for layers that run in integers.
	Widen bool
	// Bytes says that every weight is stored as int8, whatever its width.
	Bytes bool
	// Pairs says that kernels may add two products of unsigned activations and weights in int16.
	Pairs bool
	// Fold says that codes which only these operators read, in float, are written as Mul(Cast(codes), scale) instead of
	// DequantizeLinear.
	Fold []string
	// Narrow says that vectors of quant.NarrowFrom elements and more are stored in 16 bits, behind a Cast that the runtime folds: scales
	// of weights as bfloat16, biases of quantized layers as float16.
	Narrow bool
	// IntegerBias says that layers that run in integers get biases in units of the accumulator's scale.
	IntegerBias bool
	// leave names values that are not quantized: see Leaving.
	leave map[string]bool
}

// Leaving is t with some values kept float, by name: Place quantizes neither them nor the other activations of the layers that read
// them or, if they run in integers, make them.
func (t Target) Leaving(values ...string) Target {
	t.leave = map[string]bool{}
	for _, v := range values {
		t.leave[v] = true
	}
	return t
}

// Targets is the table.
var Targets = []Target{onnxruntime, weightOnly, tensorRT}

// Find returns a row by name.
func Find(name string) (Target, error) {
	var names []string
	for _, t := range Targets {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	return Target{}, fmt.Errorf("unknown target %q: one of %s", name, strings.Join(names, ", "))
}

// Container is the element type a weight of a width is stored in.
func (t Target) Container(bits int) ir.DType {
	if t.Bytes {
		return ir.Int8
	}
	return quant.Container(bits)
}

// folds reports whether all readers are among those of Fold. A convolution of dequantized values keeps its DequantizeLinear: its
// weights, once folded to float, would be quantized again by onnxruntime.
func (t Target) folds(uses []ir.Use) bool {
	for _, u := range uses {
		conv := u.Node.Is("Conv") || u.Node.Is("ConvTranspose")
		if !slices.Contains(t.Fold, u.Node.Op) || conv && dequantizer(u.Node.Input(0)) != nil {
			return false
		}
	}
	return len(t.Fold) > 0
}

// Paired reports whether 8-bit weights are to keep to quant.PairLimit.
func (t Target) Paired() bool { return t.Pairs && t.Activation == ir.Uint8 }
