// Package ir is the in-memory form of an ONNX model: models, graphs, nodes, values, tensors and types.
//
// It imports no protobuf. A Node owns its output Values; a Value knows its producer and every use. Both ends of an edge are
// changed only by Graph methods, so that they cannot disagree. Tensors are immutable views: the bytes of a mapped file until
// somebody makes a new tensor. Functions report errors; none of them panics on a malformed model.
package ir
