package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
)

var block = sync.OnceValues(findBlock)

// BlockedChannels is the number of channels in a block of the CPU provider's blocked convolutions (domain com.microsoft.nchwc), 0
// where the library has none for this processor. Open must have been called.
func BlockedChannels() (int64, error) { return block() }

// findBlock lets onnxruntime optimize a convolution of one output channel and looks at what it made of the weights, whose output
// channels it fills up to whole blocks.
func findBlock() (int64, error) {
	dir, err := os.MkdirTemp("", "mqatc")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	raw, err := blockModel()
	if err != nil {
		return 0, err
	}
	path := filepath.Join(dir, "optimized.onnx")
	s, err := NewSession(raw, SessionOptions{OptimizedModelPath: path, Threads: 1, NoArena: true})
	if err != nil {
		return 0, fmt.Errorf("onnxruntime's blocked convolutions: %w", err)
	}
	s.Close()
	m, err := format.Load(path)
	if err != nil {
		return 0, fmt.Errorf("onnxruntime's blocked convolutions: %w", err)
	}
	for _, n := range m.Graph.Nodes() {
		if n.Op != "Conv" || n.Domain != "com.microsoft.nchwc" {
			continue
		}
		w := n.Input(1)
		if w == nil || w.Init() == nil || len(w.Init().Dims()) != 4 {
			return 0, errors.New("onnxruntime's blocked convolutions have weights of another kind than known")
		}
		if b := w.Init().Dims()[0]; b == 8 || b == 16 {
			return b, nil
		}
	}
	return 0, nil
}

// blockModel is y = Conv(x), float, from 32 channels to 1.
func blockModel() ([]byte, error) {
	m := ir.NewModel("block", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, 32, 8, 8)))
	if err != nil {
		return nil, err
	}
	t, err := ir.FromFloat32s(make([]float32, 32*9), 1, 32, 3, 3)
	if err != nil {
		return nil, err
	}
	w, err := m.Graph.AddInitializer("w", t)
	if err != nil {
		return nil, err
	}
	n, err := m.Graph.Append(ir.NodeSpec{Op: "Conv", Inputs: []*ir.Value{x, w}, Outputs: []string{"y"}})
	if err != nil {
		return nil, err
	}
	y := n.Outputs()[0]
	y.Type = ir.TensorType(ir.Float32, ir.StaticShape(1, 1, 6, 6))
	if err := m.Graph.AddOutput(y); err != nil {
		return nil, err
	}
	return format.Marshal(m)
}
