package fit

import (
	"mqatc/onnx/ir"
	"mqatc/passes/lower"
	"mqatc/runtime/ort"
)

// Machine is what step graphs are lowered for on a device, as ort.SessionOptions has it: the blocked convolutions of this processor, or
// nothing where another device computes. Its choice is part of what the bytes of a result depend on.
func Machine(device string) (lower.Machine, error) {
	if device != "" && device != "cpu" {
		return lower.Machine{}, nil
	}
	b, err := ort.BlockedChannels()
	return lower.Machine{Block: b}, err
}

// Lowering is what step.Options.Lower takes on a device, nil where standard operators stay. It is frugal with memory for steps that
// compute values again.
func Lowering(device string, recompute int) (func(*ir.Model) error, error) {
	m, err := Machine(device)
	if err != nil || m.Block == 0 {
		return nil, err
	}
	m.Frugal = recompute != 0
	return lower.New(m), nil
}
