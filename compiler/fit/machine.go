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

// Forms chooses the forms of operators, and keeps what was chosen.
type Forms interface {
	lower.Costs
	// Survey is asked, in place of the costs themselves, about a copy of the graph first.
	Survey() lower.Costs
	// With are the forms for another number of threads, kept in the same place.
	With(threads int) Forms
	// Keep returns what is on record under a name, and puts value there where nothing is.
	Keep(name, value string) string
	// Flush is called once a graph is made, before it runs.
	Flush() error
}

// LeastMeasured is the number of steps from which on a training chooses its forms by what they cost; shorter ones take the first forms,
// as measuring would cost them more than it saves.
const LeastMeasured = 300

// Lowering is what step.Options.Lower takes on a device, nil where standard operators stay. It is frugal with memory for steps that
// compute values again. Forms may be nil.
func Lowering(device string, recompute int, forms Forms) (func(*ir.Model) error, error) {
	m, err := Machine(device)
	if err != nil || m.Block == 0 {
		return nil, err
	}
	m.Frugal = recompute != 0
	if forms == nil {
		return lower.New(m), nil
	}
	return surveyed(m, forms), nil
}

// surveyed lowers with the forms that cost least.
func surveyed(m lower.Machine, forms Forms) func(*ir.Model) error {
	return func(g *ir.Model) error {
		c, err := g.Clone()
		if err != nil {
			return err
		}
		m := m
		m.Costs = forms.Survey()
		if err := lower.Run(c, m); err != nil {
			return err
		}
		m.Costs = forms
		if err := lower.Run(g, m); err != nil {
			return err
		}
		return forms.Flush()
	}
}
