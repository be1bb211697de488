// Package score is what measuring a network gives.
package score

import "mqatc/onnx/ir"

// Score is the result of an evaluation.
type Score struct {
	Images int
	Name   string  // of the main number, as add_0.1d or cosine
	Main   float64 // larger is better
	// Lower says that Main is the negative of a number of which less is better, such as an error.
	Lower bool
	// Detail is what `eval --json` prints: *pose.Summary, *distill.Agreement or *detect.Summary.
	Detail any
}

// Value is the main number as people know it.
func (s *Score) Value() float64 { return Natural(s.Main, s.Lower) }

// Natural turns a number of which more is better into the one that people know: its negative where less is better.
func Natural(main float64, lower bool) float64 {
	if lower && main != 0 {
		return -main
	}
	return main
}

// Runner runs a network on one set of inputs. It may be called from several goroutines.
type Runner func(feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error)
