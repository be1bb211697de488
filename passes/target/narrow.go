package target

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
	"mqatc/passes/quant"
)

// biasFactor multiplies integer biases stored as float16 that have elements beyond it: all of int32 is within its range then, and 1 is
// not below its least number.
const biasFactor = 1 << 15

// ScaleBits is the number of significant bits that scales of weights are to have; 0 for any.
func (t Target) ScaleBits() int {
	switch {
	case t.Exact && t.Activation != ir.Undefined:
		return quant.ExactBits
	case t.Narrow:
		return quant.BFloat16Bits
	}
	return 0
}

// narrows reports whether a vector of n elements is stored in 16 bits.
func (t Target) narrows(n int) bool { return t.Narrow && n >= quant.NarrowFrom }

// packExactly makes a tensor of type d, float16 or bfloat16, an error where an element has no equal in it.
func packExactly(d ir.DType, x []float32, dims ...int64) (*ir.Tensor, error) {
	t, err := ir.PackFloats(d, x, dims...)
	if err != nil {
		return nil, err
	}
	back, err := t.Floats()
	if err != nil {
		return nil, err
	}
	for i, v := range back {
		if v != float64(x[i]) {
			return nil, fmt.Errorf("element %d is %g, which %v does not hold", i, x[i], d)
		}
	}
	return t, nil
}

// scales adds a vector of scales of the given shape: bfloat16 behind a Cast, or float32.
func (e *emitter) scales(scale []float32, dims []int64) (*ir.Value, error) {
	name := e.g.FreshName(e.b.Site + "_scale")
	if len(dims) == 0 || !e.t.narrows(len(scale)) {
		t, err := ir.FromFloat32s(append([]float32(nil), scale...), dims...)
		if err != nil {
			return nil, err
		}
		return e.g.AddInitializer(name, t)
	}
	t, err := packExactly(ir.BFloat16, scale, dims...)
	if err != nil {
		return nil, fmt.Errorf("scales: %w", err)
	}
	v, err := e.g.AddInitializer(name, t)
	if err != nil {
		return nil, err
	}
	return e.cast(v, ir.Float32), e.b.Err()
}

func (e *emitter) cast(v *ir.Value, to ir.DType) *ir.Value {
	return e.b.Op("Cast", []*ir.Value{v}, ir.AInt("to", int64(to)))
}

// scaleBytes is what a weight's scales take.
func (t Target) scaleBytes(channels int64, axis int) int64 {
	if axis >= 0 && t.narrows(int(channels)) {
		return 2 * channels
	}
	return 4 * channels
}

// integerBias adds a bias in units of the accumulator's scale: int32, or 11 significant bits of it as float16, and Casts.
func (e *emitter) integerBias(name string, q []int32, narrow bool) (stored, wide *ir.Value, err error) {
	var t *ir.Tensor
	factor := float32(1)
	if narrow {
		x := make([]float32, len(q))
		for _, v := range q {
			if math.Abs(float64(v)) > quant.MaxHalf {
				factor = biasFactor
			}
		}
		for i, v := range q {
			x[i] = float32(v) / factor
		}
		t, err = packExactly(ir.Float16, x, int64(len(q)))
	} else {
		t, err = ir.FromInt32s(q, int64(len(q)))
	}
	if err != nil {
		return nil, nil, err
	}
	if stored, err = e.g.AddInitializer(e.g.FreshName(name+"_int"), t); err != nil || !narrow {
		return stored, stored, err
	}
	wide = stored
	if factor != 1 {
		wide = e.b.Op("Mul", []*ir.Value{e.cast(stored, ir.Float32), e.b.Float(factor)})
	}
	return stored, e.cast(wide, ir.Int32), e.b.Err()
}

// storedBias finds the constant behind d, the DequantizeLinear that a layer's bias comes from, and what its elements are multiplied
// with to give the bias in units of the accumulator's scale.
func storedBias(d *ir.Node) (v *ir.Value, factor float32, err error) {
	v, factor = d.Input(0), 1
	if c := producer(v, "Cast"); c != nil {
		v = c.Input(0)
		if m := producer(v, "Mul"); m != nil {
			f, err := constFloats(m.Input(1))
			if c = producer(m.Input(0), "Cast"); err != nil || len(f) != 1 || c == nil {
				return nil, 0, fmt.Errorf("the bias %q is not constant", name(d.Input(0)))
			}
			v, factor = c.Input(0), f[0]
		}
	}
	if v == nil || v.Init() == nil {
		return nil, 0, fmt.Errorf("the bias %q is not constant", name(d.Input(0)))
	}
	return v, factor, nil
}

// biasInts are the elements of the bias behind d in units of the accumulator's scale.
func biasInts(d *ir.Node) ([]int64, error) {
	v, factor, err := storedBias(d)
	if err != nil {
		return nil, err
	}
	if !v.Init().DType().IsFloat() {
		return v.Init().Ints()
	}
	f, err := v.Init().Floats()
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(f))
	for i, x := range f {
		x *= float64(factor)
		if x != math.Trunc(x) || math.Abs(x) > math.MaxInt32 {
			return nil, fmt.Errorf("element %d of the bias is %g, no int32", i, x)
		}
		out[i] = int64(x)
	}
	return out, nil
}

func producer(v *ir.Value, op string) *ir.Node {
	if v == nil || v.Producer() == nil || !v.Producer().Is(op) {
		return nil
	}
	return v.Producer()
}

// halves stores the biases that are added in float, and that float16 holds, as such.
func (e *emitter) halves(names []string) error {
	for _, name := range names {
		v := e.g.Value(name)
		if v == nil || v.Init() == nil || !v.Used() {
			continue
		}
		b, err := v.Init().Float32s()
		if err != nil {
			return fmt.Errorf("bias %q: %w", name, err)
		}
		if !e.t.narrows(len(b)) || !quant.FitsHalf(b) {
			continue
		}
		t, err := packExactly(ir.Float16, b, v.Init().Dims()...)
		if err != nil {
			return fmt.Errorf("bias %q: %w", name, err)
		}
		if err := e.g.Rename(v, e.g.FreshName(name+"_float")); err != nil {
			return err
		}
		h, err := e.g.AddInitializer(name, t)
		if err != nil {
			return err
		}
		e.b.Before, e.b.Site = e.g.First(), name
		x := e.cast(h, ir.Float32)
		if err := e.b.Err(); err != nil {
			return err
		}
		if err := e.g.ReplaceUses(v, x); err != nil {
			return err
		}
	}
	return nil
}

// BiasBytes is what Emit writes for a bias of n elements of a quantized layer. half says that the layer is placed to run in integers,
// or that the bias fits float16 (quant.FitsHalf).
func (t Target) BiasBytes(n int64, half bool) int64 {
	if half && t.narrows(int(n)) {
		return 2 * n
	}
	return 4 * n
}

// WeightSpec says how a weight is quantized for t.
func (t Target) WeightSpec(bits int, quantizer string, perTensor bool) quant.WeightSpec {
	return quant.WeightSpec{Bits: bits, Quantizer: quantizer, PerTensor: perTensor, Pairs: t.Paired(), ScaleBits: t.ScaleBits()}
}
