package ort

import (
	"fmt"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"

	binding "github.com/yalue/onnxruntime_go"
)

// newest is the largest version from hi down to lo whose model loads.
func newest(hi, lo int64, model func(version int64) ([]byte, error)) (int, error) {
	var last error
	for v := hi; v >= lo; v-- {
		raw, err := model(v)
		if err != nil {
			return 0, err
		}
		s, err := binding.NewDynamicAdvancedSessionWithONNXData(raw, nil, nil, nil)
		if err == nil {
			return int(v), s.Destroy()
		}
		last = err
	}
	return 0, fmt.Errorf("onnxruntime loads no probe model: %s", oneLine(last.Error()))
}

// probeModel is y = Relu(x), float[1], at the given IR and opset version.
func probeModel(irVersion, opset int64) ([]byte, error) {
	m := ir.NewModel("probe", opset)
	m.IRVersion = irVersion
	float1 := ir.TensorType(ir.Float32, ir.StaticShape(1))
	x, err := m.Graph.AddInput("x", float1)
	if err != nil {
		return nil, err
	}
	n, err := m.Graph.Append(ir.NodeSpec{Op: "Relu", Inputs: []*ir.Value{x}, Outputs: []string{"y"}})
	if err != nil {
		return nil, err
	}
	y := n.Outputs()[0]
	y.Type = float1
	if err := m.Graph.AddOutput(y); err != nil {
		return nil, err
	}
	return format.Marshal(m)
}
