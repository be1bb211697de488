package rebatch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"mqatc/onnx/ir"
)

// images is the batch of the proof.
const images = 3

// tolerance is the largest difference between a batch and single images, relative to the largest magnitude of the output.
const tolerance = 1e-4

// prove runs images at once through the rewritten model and one by one through the original, and compares all outputs.
func (w *work) prove(original *ir.Model) error {
	if w.c.Env.Eval == nil {
		return stuckf("there is no evaluator to prove it with")
	}
	// Images of small values may leave every output at rest, which would prove nothing: then larger ones are tried.
	for _, scale := range []float32{1, 255} {
		moved, err := w.compare(original, scale)
		if err != nil || moved {
			return err
		}
	}
	return stuckf("the outputs are the same for all random inputs, which proves nothing")
}

// compare reports whether any output differs between the images.
func (w *work) compare(original *ir.Model, scale float32) (moved bool, err error) {
	rng := rand.New(rand.NewPCG(w.o.Seed, 0x7265626174636821))
	single := make([]map[string]*ir.Tensor, images)
	joint := map[string]*ir.Tensor{}
	for _, v := range original.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		for i := range single {
			if single[i] == nil {
				single[i] = map[string]*ir.Tensor{}
			}
			t, err := randomTensor(rng, v.DType(), w.feeds[v.Name()], scale)
			if err != nil {
				return false, stuckf("input %q: %v", v.Name(), err)
			}
			single[i][v.Name()] = t
			if !w.batched[v.Name()] {
				single[i][v.Name()] = single[0][v.Name()]
			}
		}
		if joint[v.Name()], err = stack(single, v.Name(), w.batched[v.Name()]); err != nil {
			return false, err
		}
	}
	var want []map[string]*ir.Tensor
	for i := range single {
		out, err := w.c.Run(original, single[i])
		if err != nil {
			return false, stuckf("running one image: %v", err)
		}
		want = append(want, out)
	}
	alone, err := w.c.Run(w.big, single[0])
	if err != nil {
		return false, stuckf("running one image after the change: %v", err)
	}
	got, err := w.c.Run(w.big, joint)
	if err != nil {
		return false, stuckf("running %d images at once: %v", images, err)
	}
	for _, v := range original.Graph.Outputs() {
		name := v.Name()
		if err := same(name, want[0][name], alone[name]); err != nil {
			return false, stuckf("one image after the change: %v", err)
		}
		for i := range want {
			part, err := w.part(got[name], want[i][name], i)
			if err != nil {
				return false, stuckf("output %q: %v", name, err)
			}
			if err := same(name, want[i][name], part); err != nil {
				return false, stuckf("image %d of %d at once: %v", i+1, images, err)
			}
			moved = moved || !slices.Equal(want[i][name].Raw(), want[0][name].Raw())
		}
	}
	return moved, nil
}

// part cuts image i out of an output of the whole batch; like is that output for the image alone.
func (w *work) part(t, like *ir.Tensor, i int) (*ir.Tensor, error) {
	if t == nil || like == nil {
		return nil, fmt.Errorf("it is missing")
	}
	if slices.Equal(t.Dims(), like.Dims()) {
		return t, nil
	}
	want := slices.Clone(like.Dims())
	if len(want) == 0 || want[0] != 1 {
		return nil, fmt.Errorf("its shape is %v for one image, without a batch dimension, and %v for %d", like.Dims(), t.Dims(), images)
	}
	want[0] = images
	if !slices.Equal(t.Dims(), want) || t.DType() != like.DType() {
		return nil, fmt.Errorf("it is %v for %d images, %v for one", t.Type(), images, like.Type())
	}
	if t.DType().Bits() < 8 {
		return nil, fmt.Errorf("it is of type %v, which is not compared", t.DType())
	}
	size := len(t.Raw()) / images
	return ir.NewTensor(t.DType(), like.Dims(), t.Raw()[i*size:(i+1)*size])
}

func same(name string, want, got *ir.Tensor) error {
	if want == nil || got == nil || want.DType() != got.DType() || !slices.Equal(want.Dims(), got.Dims()) {
		return fmt.Errorf("output %q has another type", name)
	}
	a, err := want.Floats()
	if err != nil {
		return fmt.Errorf("output %q: %w", name, err)
	}
	b, err := got.Floats()
	if err != nil {
		return fmt.Errorf("output %q: %w", name, err)
	}
	peak, worst := 0.0, 0.0
	for i := range a {
		if math.IsNaN(a[i]) && math.IsNaN(b[i]) || a[i] == b[i] {
			continue
		}
		peak = max(peak, math.Abs(a[i]))
		worst = max(worst, math.Abs(a[i]-b[i]))
	}
	for i := range a {
		if !math.IsInf(a[i], 0) {
			peak = max(peak, math.Abs(a[i]))
		}
	}
	if !(worst <= tolerance*peak) {
		return fmt.Errorf("output %q differs by %.3g, its largest magnitude being %.3g", name, worst, peak)
	}
	return nil
}

// stack joins the tensors of all images along their first dimension, or takes the first where there is no batch.
func stack(single []map[string]*ir.Tensor, name string, batched bool) (*ir.Tensor, error) {
	t := single[0][name]
	if !batched {
		return t, nil
	}
	dims := slices.Clone(t.Dims())
	dims[0] = int64(len(single))
	var raw []byte
	for _, s := range single {
		raw = append(raw, s[name].Raw()...)
	}
	return ir.NewTensor(t.DType(), dims, raw)
}

func randomTensor(rng *rand.Rand, d ir.DType, dims []int64, scale float32) (*ir.Tensor, error) {
	n, err := ir.NumElements(dims)
	if err != nil {
		return nil, err
	}
	if n > 1<<28 {
		return nil, fmt.Errorf("%v is too large to try", dims)
	}
	switch d {
	case ir.Float32:
		v := make([]float32, n)
		for i := range v {
			v[i] = rng.Float32() * scale
		}
		return ir.FromFloat32s(v, dims...)
	case ir.Float64:
		v := make([]float64, n)
		for i := range v {
			v[i] = rng.Float64() * float64(scale)
		}
		return ir.FromFloat64s(v, dims...)
	case ir.Bool:
		v := make([]bool, n)
		for i := range v {
			v[i] = rng.IntN(2) == 1
		}
		return ir.FromBools(v, dims...)
	}
	limit := int64(2)
	if d == ir.Uint8 {
		limit = 256
	}
	v := make([]int64, n)
	for i := range v {
		v[i] = rng.Int64N(limit)
	}
	return ir.PackInts(d, v, dims...)
}
