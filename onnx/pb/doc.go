// Package pb holds the protobuf types of ONNX models and a check of the wire format that must come before Unmarshal.
//
// TensorProto.RawData of an unmarshalled message aliases the buffer it was read from.
package pb

//go:generate sh gen.sh
