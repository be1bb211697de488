// Package format reads and writes ONNX files: protobuf to ir.Model and back, external data, and operators of older opsets
// brought up to newer ones.
//
// A loaded model's tensors are views of the file's bytes; files of 64 MB and more are mapped into memory and stay mapped until
// the process ends. Strangers' files are checked before anything is allocated on their word: every size is compared with the
// bytes that are there, and external data is read from the model's own folder only.
package format
