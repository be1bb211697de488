// Package rebatch frees a network from the batch of 1 that its exporter wrote into shape constants.
//
// The shapes of all values are inferred twice, at batch 1 and at a prime batch. Where they differ tells in which dimension a value
// holds the batch, and next to how many rows per image. A node whose constant would not let the batch through is rewritten, so that
// the constant says 0 or -1, or is computed from Shape. The result counts only if running several images at once gives what running
// them one by one through the original gives.
package rebatch

import (
	"errors"
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/clean"
	"mqatc/passes/pass"
)

// Info is the pass's row in the table.
var Info = pass.Info{
	Name: "rebatch",
	Doc: "A batch of 1 that stands in constants of Reshape, Expand, Resize, Slice and the like is made free, and the inputs' first " +
		"dimension symbolic; proven by running several images at once and one by one. Where it cannot be proven nothing changes.",
	After: []pass.Order{{Pass: "clean", Why: "a shape in a Constant node is not seen as a constant operand"}},
	Exact: true,
}

// Options are the pass's parameters.
type Options struct {
	// InputShapes gives sizes for the proof to inputs whose sizes are not fixed, batch included (it is ignored). Sizes that are known
	// nowhere are taken as 64.
	InputShapes map[string][]int64
	Seed        uint64 // of the random images of the proof
}

// Report says what came of it.
type Report struct {
	Free      bool     // the model runs at every batch, and this is proven
	Reason    string   // why it does not; empty when Free
	Symbol    string   // the batch dimension of the inputs, when Free
	Rewritten []string // the nodes that were changed
	Constant  []string // outputs that do not depend on the inputs, and so hold no batch
}

// New makes the pass; r, if not nil, receives its report.
func New(o Options, r *Report) pass.Pass {
	return pass.Pass{Info: Info, Run: func(c *pass.Ctx, m *ir.Model) (bool, error) {
		rep, changed, err := run(c, m, o)
		if r != nil {
			*r = rep
		}
		if err == nil && rep.Reason != "" {
			c.Note("the batch stays 1: %s", rep.Reason)
		}
		return changed, err
	}}
}

// stuck is an error that ends the attempt, not the compilation.
type stuck struct{ reason string }

func (s *stuck) Error() string { return s.reason }

func stuckf(format string, args ...any) error { return &stuck{fmt.Sprintf(format, args...)} }

func run(c *pass.Ctx, m *ir.Model, o Options) (Report, bool, error) {
	if err := c.Cancelled(); err != nil {
		return Report{}, false, err
	}
	w, err := newWork(c, m, o)
	if err == nil {
		err = w.rewrite()
	}
	if err == nil {
		err = w.outputs()
	}
	if err == nil {
		err = w.settle()
	}
	if err == nil {
		err = w.prove(m)
	}
	var s *stuck
	switch {
	case errors.As(err, &s):
		return Report{Reason: s.reason}, false, nil
	case err != nil:
		return Report{}, false, err
	}
	if w.changed {
		*m = *w.big
	}
	w.report.Free = true
	return w.report, w.changed, nil
}

// settle gives the inputs a symbolic batch and infers all types anew.
func (w *work) settle() error {
	w.report.Symbol = freeSymbol(w.big.Graph)
	for _, v := range w.big.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		file := w.file.Graph.Value(v.Name()).Type.Clone()
		if w.batched[v.Name()] {
			if d := file.Shape[0]; d.Known() {
				file.Shape[0] = ir.Dim{Size: -1, Symbol: w.report.Symbol, Denote: d.Denote}
				w.changed = true
			} else if d.Symbol != "" {
				w.report.Symbol = d.Symbol
			}
		}
		v.Type = file
	}
	if !w.changed {
		return nil
	}
	if _, err := clean.Dead(w.big.Graph); err != nil {
		return err
	}
	op.ClearTypes(w.big.Graph)
	if err := op.InferModel(w.big, nil); err != nil {
		return stuckf("with a free batch: %v", err)
	}
	return nil
}

// freeSymbol is a name for the batch that no dimension of g bears.
func freeSymbol(g *ir.Graph) string {
	used := map[string]bool{}
	see := func(t ir.Type) {
		for _, d := range t.Shape {
			used[d.Symbol] = true
		}
	}
	for _, v := range g.Inputs() {
		see(v.Type)
	}
	for n := g.First(); n != nil; n = n.Next() {
		for _, v := range n.Outputs() {
			see(v.Type)
		}
	}
	name := "N"
	for i := 2; used[name]; i++ {
		name = fmt.Sprintf("N%d", i)
	}
	return name
}
