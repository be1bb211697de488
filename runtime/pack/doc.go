// Package pack describes the packed weights beside a model and moves them between packings.
//
// weights.bin is the external-data file of model.onnx. weights.json and weights.h say where each tensor lies in it and what its
// bytes mean; FORMAT.md has every byte of the three. The reader in c needs neither ONNX nor JSON.
package pack
