package rebatch

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/x448/float16"

	"mqatc/onnx/ir"
)

// maxImages is the largest batch of the proof; every batch from 2 on is run.
const maxImages = 3

// Largest differences between a batch and single images, relative to the largest magnitude of the output, by the width of its
// elements.
const (
	tolerance     = 1e-5
	tolerance16   = 4e-3
	rounding      = 2e-7    // allowed on top: Sigmoid and its like are exact to an absolute error only
	maxProofInput = 1 << 26 // elements
)

// prove runs several images at once through the rewritten model and one by one through the original, and compares all outputs.
func (w *walk) prove() error {
	if w.c.Env.Eval == nil {
		return stuckf("there is no evaluator to prove it with")
	}
	// Images of small values may leave outputs at rest, which would prove nothing for them: then larger ones are tried.
	moved := map[string]bool{}
	for _, scale := range []float32{1, 255} {
		if err := w.compare(scale, moved); err != nil {
			return err
		}
		if len(moved)+len(w.report.Constant) >= len(w.file.Graph.Outputs()) {
			return nil
		}
	}
	if len(moved) == 0 {
		return stuckf("the outputs are the same for all random inputs, which proves nothing")
	}
	for _, v := range w.file.Graph.Outputs() {
		if !moved[v.Name()] && !slices.Contains(w.report.Constant, v.Name()) {
			w.c.Note("output %q is the same for all random inputs", v.Name())
		}
	}
	return nil
}

// compare runs the proof on images of random values up to scale, and records which outputs differ from image to image.
func (w *walk) compare(scale float32, moved map[string]bool) error {
	single, err := w.samples(scale)
	if err != nil {
		return err
	}
	var want []map[string]*ir.Tensor
	for i := range single {
		if err := w.c.Cancelled(); err != nil {
			return err
		}
		out, err := w.c.Run(w.file, single[i])
		if err != nil {
			return stuckf("running one image: %v", err)
		}
		want = append(want, out)
	}
	for n := 2; n <= maxImages; n++ {
		joint := map[string]*ir.Tensor{}
		for name := range single[0] {
			if joint[name], err = stack(single[:n], name, w.batched[name]); err != nil {
				return err
			}
		}
		if err := w.c.Cancelled(); err != nil {
			return err
		}
		got, err := w.c.Run(w.big, joint)
		if err != nil {
			return stuckf("running %d images at once: %v", n, err)
		}
		for _, v := range w.file.Graph.Outputs() {
			name := v.Name()
			for i := range want[:n] {
				part := got[name]
				if !slices.Contains(w.report.Constant, name) {
					if part, err = cut(got[name], want[i][name], i, n); err != nil {
						return stuckf("output %q: %v", name, err)
					}
				}
				d, err := w.same(name, want[i][name], part)
				if err != nil {
					return stuckf("image %d of %d at once: %v", i+1, n, err)
				}
				w.report.Diff = max(w.report.Diff, d)
				if far(want[i][name], want[0][name]) {
					moved[name] = true
				}
			}
		}
	}
	return nil
}

// samples makes the random inputs of the proof, one map for each image; inputs that hold no batch are the same in all.
func (w *walk) samples(scale float32) ([]map[string]*ir.Tensor, error) {
	rng := rand.New(rand.NewPCG(w.o.Seed, 0x7265626174636821))
	single := make([]map[string]*ir.Tensor, maxImages)
	for i := range single {
		single[i] = map[string]*ir.Tensor{}
		for _, v := range w.file.Graph.Inputs() {
			if v.IsInitializer() {
				continue
			}
			if i > 0 && !w.batched[v.Name()] {
				single[i][v.Name()] = single[0][v.Name()]
				continue
			}
			t, err := randomTensor(rng, v.DType(), w.feeds[v.Name()], scale/float32(i+1))
			if err != nil {
				return nil, stuckf("input %q: %v", v.Name(), err)
			}
			single[i][v.Name()] = t
		}
	}
	return single, nil
}

// cut takes image i of n out of an output of the whole batch; like is that output for the image alone.
func cut(t, like *ir.Tensor, i, n int) (*ir.Tensor, error) {
	if t == nil || like == nil {
		return nil, fmt.Errorf("it is missing")
	}
	want := slices.Clone(like.Dims())
	if len(want) == 0 || want[0] != 1 {
		return nil, fmt.Errorf("its shape for one image is %v, without a batch dimension", like.Dims())
	}
	want[0] = int64(n)
	if !slices.Equal(t.Dims(), want) || t.DType() != like.DType() {
		return nil, fmt.Errorf("it is %v for %d images, %v for one", t.Type(), n, like.Type())
	}
	if t.DType().Bits() < 8 {
		return nil, fmt.Errorf("it is of type %v, which is not compared", t.DType())
	}
	size := len(t.Raw()) / n
	return ir.NewTensor(t.DType(), like.Dims(), t.Raw()[i*size:(i+1)*size])
}

// same is the difference of two tensors relative to the largest magnitude of want; an error when it is above the tolerance, or
// when the types, the infinities or the NaNs differ.
func (w *walk) same(name string, want, got *ir.Tensor) (float64, error) {
	if want == nil || got == nil || want.DType() != got.DType() || !slices.Equal(want.Dims(), got.Dims()) {
		return 0, fmt.Errorf("output %q has another type", name)
	}
	a, err := want.Floats()
	if err != nil {
		return 0, fmt.Errorf("output %q: %w", name, err)
	}
	b, err := got.Floats()
	if err != nil {
		return 0, fmt.Errorf("output %q: %w", name, err)
	}
	peak, worst := 0.0, 0.0
	for i := range a {
		if !math.IsInf(a[i], 0) && !math.IsNaN(a[i]) {
			peak = max(peak, math.Abs(a[i]))
		}
		if a[i] == b[i] || math.IsNaN(a[i]) && math.IsNaN(b[i]) {
			continue
		}
		d := math.Abs(a[i] - b[i])
		if math.IsNaN(d) {
			d = math.Inf(1)
		}
		worst = max(worst, d)
	}
	limit := tolerance
	switch d := want.DType(); {
	case d == ir.Float16 || d == ir.BFloat16:
		limit = tolerance16
	case !d.IsFloat():
		limit = 0
	}
	if worst > limit*peak+rounding {
		return 0, fmt.Errorf("output %q differs by %.3g, its largest magnitude being %.3g", name, worst, peak)
	}
	if peak == 0 {
		return 0, nil
	}
	return worst / peak, nil
}

// far reports whether two outputs differ by clearly more than the proof tolerates, so that taking one for the other would be seen.
func far(a, b *ir.Tensor) bool {
	x, err1 := a.Floats()
	y, err2 := b.Floats()
	if err1 != nil || err2 != nil || len(x) != len(y) {
		return false
	}
	peak, most := 0.0, 0.0
	for i := range x {
		peak, most = max(peak, math.Abs(x[i])), max(most, math.Abs(x[i]-y[i]))
	}
	limit := tolerance
	if a.DType() == ir.Float16 || a.DType() == ir.BFloat16 {
		limit = tolerance16
	}
	return most > 4*(limit*peak+rounding)
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
	if n > maxProofInput {
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
	case ir.Float16:
		raw := make([]byte, 0, 2*n)
		for range n {
			raw = binary.LittleEndian.AppendUint16(raw, float16.Fromfloat32(rng.Float32()*scale).Bits())
		}
		return ir.NewTensor(d, dims, raw)
	case ir.BFloat16:
		raw := make([]byte, 0, 2*n)
		for range n {
			raw = binary.LittleEndian.AppendUint16(raw, uint16(math.Float32bits(rng.Float32()*scale)>>16))
		}
		return ir.NewTensor(d, dims, raw)
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
