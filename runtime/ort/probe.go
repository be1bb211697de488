package ort

import (
	"fmt"

	"github.com/gogo/protobuf/proto"
	binding "github.com/yalue/onnxruntime_go"
)

// newest is the largest version from hi down to lo whose model loads.
func newest(hi, lo int, model func(version int) []byte) (int, error) {
	var last error
	for v := hi; v >= lo; v-- {
		s, err := binding.NewDynamicAdvancedSessionWithONNXData(model(v), nil, nil, nil)
		if err == nil {
			return v, s.Destroy()
		}
		last = err
	}
	return 0, fmt.Errorf("onnxruntime loads no probe model: %s", oneLine(last.Error()))
}

// probeModel is y = Relu(x), float[1], at the given IR and opset version, in protobuf wire format. Its strings and numbers
// are fields of ModelProto (ir_version 1, graph 7, opset_import 8), GraphProto (node 1, name 2, input 11, output 12) and
// what lies below.
func probeModel(ir, opset int) []byte {
	value := func(name string) []byte {
		dim := message(number(1, 1))
		tensor := message(number(1, 1), field(2, field(1, dim)))
		return message(field(1, []byte(name)), field(2, field(1, tensor)))
	}
	node := message(field(1, []byte("x")), field(2, []byte("y")), field(4, []byte("Relu")))
	graph := message(field(1, node), field(2, []byte("probe")), field(11, value("x")), field(12, value("y")))
	return message(number(1, uint64(ir)), field(7, graph), field(8, number(2, uint64(opset))))
}

func message(fields ...[]byte) []byte {
	var b []byte
	for _, f := range fields {
		b = append(b, f...)
	}
	return b
}

func number(tag int, v uint64) []byte {
	return append(proto.EncodeVarint(uint64(tag)<<3), proto.EncodeVarint(v)...)
}

func field(tag int, payload []byte) []byte {
	b := append(proto.EncodeVarint(uint64(tag)<<3|2), proto.EncodeVarint(uint64(len(payload)))...)
	return append(b, payload...)
}
