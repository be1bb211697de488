// Package score is what measuring a network gives.
package score

import "mqatc/onnx/ir"

// Score is the result of an evaluation.
type Score struct {
	Images int
	Name   string  // of the main number, as add_0.1d or cosine
	Main   float64 // 0..1, higher is better
	// Detail is what `eval --json` prints: *pose.Summary, *distill.Agreement or *detect.Summary.
	Detail any
}

// Runner runs a network on one set of inputs. It may be called from several goroutines.
type Runner func(feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error)
