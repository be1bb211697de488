package target

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/quant"
	"mqatc/passes/weights"
)

// Weight describes a weight and the bias that stands with it, for counting bytes before anything is emitted.
type Weight struct {
	Dims      []int64
	Bits      int    // 1 to 8, or 32 for float
	Axis      int    // of the scales; -1 for one scale
	Quantizer string // empty means a uniform grid
	Biases    int64  // elements of the bias; 0 for none
	// Integer says that the layer is placed to run in integers. Its biases are integers then, their scale the product of others.
	Integer bool
	Half    bool // the bias fits float16: see quant.FitsHalf
}

// PayloadBytes is what Emit writes for w: codes in their container, scales, and the bias; not the levels of a codebook, which all its
// weights of one width share (4 bytes each). An error when the width is not one of the quantizer's.
func (t Target) PayloadBytes(w Weight) (int64, error) {
	n, err := ir.NumElements(w.Dims)
	if err != nil {
		return 0, err
	}
	if w.Bits == 32 {
		return 4 * (n + w.Biases), nil
	}
	name := w.Quantizer
	if name == "" {
		name = "ptq"
	}
	q, err := quant.Find(name)
	if err != nil {
		return 0, err
	}
	g, err := q.Grid(w.Bits)
	if err != nil {
		return 0, fmt.Errorf("quantizer %s: %w", name, err)
	}
	channels := int64(1)
	if w.Axis >= 0 {
		if w.Axis >= len(w.Dims) {
			return 0, fmt.Errorf("axis %d of shape %v", w.Axis, w.Dims)
		}
		channels = w.Dims[w.Axis]
	}
	c := quant.Codes{Bits: w.Bits, Grid: g}
	container := t.Container(w.Bits)
	if _, _, uniform := c.Integers(); !uniform {
		container = ir.Uint8
		if len(g.Levels) <= 16 {
			container = ir.Uint4
		}
	}
	codes, err := ir.PackedSize(container, n)
	if err != nil {
		return 0, err
	}
	return codes + t.scaleBytes(channels, w.Axis) + t.BiasBytes(w.Biases, w.Integer || w.Half), nil
}

// Payload is the number of bytes of m's trained tensors and of all that stands for them: weights, biases and normalization
// parameters, each once, with scales, zero points and levels where they are quantized; no shapes, anchors or activation scales. It
// serves float and emitted models alike.
func Payload(m *ir.Model) (int64, error) {
	c, err := m.Clone()
	if err != nil {
		return 0, err
	}
	if err := op.InferModel(c, nil); err != nil {
		return 0, fmt.Errorf("payload: %w", err)
	}
	seen := map[*ir.Value]bool{}
	for _, p := range weights.Find(c.Graph) {
		seen[p.Value] = true
	}
	for n := c.Graph.First(); n != nil; n = n.Next() {
		if !(n.Is("Conv") || n.Is("ConvTranspose") || n.Is("Gemm") || n.Is("MatMul")) {
			continue
		}
		for _, v := range n.Inputs() {
			if dequantized(v) {
				constants(v, seen)
			}
		}
	}
	total := int64(0)
	for _, v := range c.Graph.Initializers() {
		if seen[v] && v.Init() != nil {
			total += int64(len(v.Init().Raw()))
		}
	}
	return total, nil
}

// dequantized reports whether v is computed from constants alone.
func dequantized(v *ir.Value) bool {
	if v == nil || v.Init() != nil {
		return v != nil
	}
	p := v.Producer()
	if p == nil || v.IsInput() {
		return false
	}
	for _, x := range p.Inputs() {
		if x != nil && !dequantized(x) {
			return false
		}
	}
	return len(p.Inputs()) > 0
}

// scalesActivation reports a scale or zero point that an activation's quantizer reads too.
func scalesActivation(v *ir.Value) bool {
	for _, u := range v.Uses() {
		if u.Node.Is("QuantizeLinear") {
			return true
		}
	}
	return false
}

// constants gathers the constants that v is computed from, except int64 ones, which are shapes and axes, scales of activations, and
// biasFactor.
func constants(v *ir.Value, into map[*ir.Value]bool) {
	if v == nil {
		return
	}
	if t := v.Init(); t != nil {
		if t.DType() != ir.Int64 && !scalesActivation(v) {
			into[v] = true
		}
		return
	}
	p := v.Producer()
	if p == nil {
		return
	}
	if m := producer(p.Input(0), "Mul"); m != nil && p.Is("Cast") && p.Int("to", 0) == int64(ir.Int32) {
		constants(m.Input(0), into)
		return
	}
	for _, x := range p.Inputs() {
		constants(x, into)
	}
}
