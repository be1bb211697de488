// Package pretrained holds small networks that this project trained itself; README.md tells how.
package pretrained

import _ "embed"

//go:embed cubesat.onnx
var cubeSat []byte

// CubeSat is the pose network of the cube satellite (package cubesat, width 1, 96x96 pixels) as an ONNX file. The caller must not
// change it.
func CubeSat() []byte { return cubeSat }
