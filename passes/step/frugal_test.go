package step_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/lower"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/train"
)

// TestPiecesKeepTheBits compares gradients of weights that are made in pieces, of images and of output channels, and of poolings that are scattered
// in pieces, with those made whole.
func TestPiecesKeepTheBits(t *testing.T) {
	orttest.TestLibrary(t)
	m := ir.NewModel("pieces", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(8, 64, 32, 32)))
	if err != nil {
		t.Fatal(err)
	}
	b := ir.NewBuilder(m.Graph, "test", op.InferNode)
	var params []step.Param
	conv := func(v *ir.Value, k, c, stride int64) *ir.Value {
		w, err := m.Graph.AddInitializer(fmt.Sprintf("w%d", len(params)), noise(t, 0.1, k, c, 3, 3))
		if err != nil {
			t.Fatal(err)
		}
		params = append(params, step.Param{Name: w.Name()})
		return b.Op("Conv", []*ir.Value{v, w}, ir.AInts("kernel_shape", 3, 3), ir.AInts("pads", 1, 1, 1, 1), ir.AInts("strides", stride, stride))
	}
	v := b.Op("Relu", []*ir.Value{conv(x, 64, 64, 1)})
	v = b.Op("MaxPool", []*ir.Value{v}, ir.AInts("kernel_shape", 3, 3), ir.AInts("pads", 1, 1, 1, 1))
	v = b.Op("MaxPool", []*ir.Value{v}, ir.AInts("kernel_shape", 8, 8), ir.AInts("strides", 8, 8))
	v = b.Op("Relu", []*ir.Value{conv(v, 512, 64, 1)})
	y := b.Op("ReduceMean", []*ir.Value{b.Op("Relu", []*ir.Value{conv(v, 512, 512, 1)})}, ir.AInts("axes", 2, 3))
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.SetOutputs(y); err != nil {
		t.Fatal(err)
	}
	block, err := ort.BlockedChannels()
	if err != nil {
		t.Fatal(err)
	}
	loss := ir.NewModel("loss", 17)
	in, err := loss.Graph.AddInput(y.Name(), y.Type.Clone())
	if err != nil {
		t.Fatal(err)
	}
	b = ir.NewBuilder(loss.Graph, "test", op.InferNode)
	mean := b.Op("ReduceMean", []*ir.Value{b.Op("Mul", []*ir.Value{in, in})}, ir.AInt("keepdims", 0))
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := loss.Graph.SetOutputs(mean); err != nil {
		t.Fatal(err)
	}
	feeds := train.Feeds{"x": noise(t, 1, 8, 64, 32, 32)}
	for _, lowered := range []bool{false, true} {
		if lowered && block == 0 {
			t.Skip("no blocked convolutions on this processor")
		}
		var want map[string][]byte
		var products, scatters int
		for _, segments := range []int{0, 2} {
			o := step.Options{Loss: loss, Params: params, EmitGrads: true, Recompute: segments}
			if lowered {
				o.Lower = lower.New(lower.Machine{Block: block, Frugal: segments > 0})
			}
			s, err := step.Build(m, o)
			if err != nil {
				t.Fatal(err)
			}
			e, err := train.New(train.Config{Step: bytesOf(t, s), State: weightsOf(m, params), Threads: 2})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if _, err := e.Step(0, feeds); err != nil {
				t.Fatal(err)
			}
			got := map[string][]byte{}
			for _, p := range params {
				got[p.Name] = bytes.Clone(e.Output(p.Name + step.Grad).Bytes())
			}
			mul, put := 0, 0
			for n := s.Graph.First(); n != nil; n = n.Next() {
				switch n.Op {
				case "Gemm", "MatMul":
					mul++
				case "ScatterElements":
					put++
				}
			}
			if want == nil {
				want, products, scatters = got, mul, put
				continue
			}
			if mul < products+4 {
				t.Errorf("lowered %v: %d products of matrices, %d without pieces", lowered, mul, products)
			}
			if put < scatters+3 {
				t.Errorf("lowered %v: %d scatters, %d without pieces", lowered, put, scatters)
			}
			for name, g := range got {
				if !bytes.Equal(g, want[name]) {
					t.Errorf("lowered %v: %s has other bits", lowered, name)
				}
			}
		}
	}
}

// noise is a tensor of numbers around zero, as large as scale.
func noise(t *testing.T, scale float32, dims ...int64) *ir.Tensor {
	t.Helper()
	n, err := ir.NumElements(dims)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = scale * (2*rng.Float32() - 1)
	}
	v, err := ir.FromFloat32s(x, dims...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
