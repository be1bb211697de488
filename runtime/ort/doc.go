// Package ort runs ONNX models on onnxruntime: it finds or installs the shared library, opens it once per process, and
// offers sessions, reusable buffers bound to them, and a throw-away evaluator.
//
// The library is loaded through github.com/yalue/onnxruntime_go, which also owns session options and sessions. That binding
// cannot return scalars, half floats or empty tensors, nor reach some calls of the C API; values and runs therefore go
// through a small table of the C API's functions in capi.c.
package ort
