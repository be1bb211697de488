package rebatch

import (
	"context"
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
	Inputs    []string // the inputs that hold the batch in their first dimension, when Free
	Rewritten []string // the nodes that were changed
	Constant  []string // outputs that do not depend on the inputs, and so hold no batch
	Diff      float64  // largest difference of the proof, relative to the largest magnitude of its output
}

// New makes the pass; r, if not nil, receives its report.
func New(o Options, r *Report) pass.Pass {
	return pass.Pass{Info: Info, Run: func(c *pass.Ctx, m *ir.Model) (bool, error) {
		free, rep, err := attempt(c, m, o)
		if r != nil {
			*r = rep
		}
		if err != nil {
			return false, err
		}
		if rep.Reason != "" {
			c.Note("the batch stays 1: %s", rep.Reason)
		}
		for _, name := range rep.Constant {
			c.Note("output %q does not depend on the inputs and holds no batch", name)
		}
		if free == nil {
			return false, nil
		}
		*m = *free
		return true, nil
	}}
}

// Check reports whether m can be given a free batch, and why not, with the proof; m is not changed. It returns the freed model,
// which is m itself where nothing had to be changed and nil where the report's Free is false.
func Check(ctx context.Context, m *ir.Model, env pass.Env, o Options) (*ir.Model, Report, error) {
	free, rep, err := attempt(pass.NewCtx(ctx, env, Info.Name), m, o)
	if err == nil && rep.Free && free == nil {
		free = m
	}
	return free, rep, err
}

// stuck is an error that ends the attempt, not the compilation.
type stuck struct{ reason string }

func (s *stuck) Error() string { return s.reason }

func stuckf(format string, args ...any) error { return &stuck{fmt.Sprintf(format, args...)} }

// attempt returns the freed model, nil where nothing changed or nothing could be proven.
func attempt(c *pass.Ctx, m *ir.Model, o Options) (*ir.Model, Report, error) {
	w, err := newSearch(c, m, o).run()
	if err == nil {
		err = w.settle()
	}
	if err == nil {
		err = w.prove()
	}
	var s *stuck
	switch {
	case errors.As(err, &s):
		return nil, Report{Reason: s.reason}, nil
	case err != nil:
		return nil, Report{}, err
	}
	w.report.Free = true
	if !w.changed {
		return nil, w.report, nil
	}
	return w.big, w.report, nil
}

// settle gives the inputs a symbolic batch and infers all types anew.
func (w *walk) settle() error {
	w.report.Symbol = freeSymbol(w.file.Graph)
	for _, v := range w.big.Graph.Inputs() {
		if d := w.file.Graph.Value(v.Name()).Shape(); w.batched[v.Name()] && d[0].Symbol != "" {
			w.report.Symbol = d[0].Symbol
			break
		}
	}
	for _, v := range w.big.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		v.Type = w.file.Graph.Value(v.Name()).Type.Clone()
		if !w.batched[v.Name()] {
			continue
		}
		w.report.Inputs = append(w.report.Inputs, v.Name())
		if d := v.Type.Shape[0]; d.Symbol == "" {
			v.Type.Shape[0] = ir.Dim{Size: -1, Symbol: w.report.Symbol, Denote: d.Denote}
			w.changed = true
		}
	}
	if !w.changed {
		return nil
	}
	if _, err := clean.Dead(w.big.Graph); err != nil {
		return err
	}
	op.ClearTypes(w.big.Graph)
	for _, v := range w.big.Graph.Outputs() {
		if u := w.file.Graph.Value(v.Name()); u != nil && v.Producer() != nil {
			v.Type = w.freeType(u.Type, w.state[v])
		}
	}
	if op.InferModel(w.big, nil) == nil {
		return nil
	}
	op.ClearTypes(w.big.Graph)
	if err := op.InferModel(w.big, nil); err != nil {
		return stuckf("with a free batch: %v", err)
	}
	return nil
}

// freeType is the file's type t of a value with state s, its batch made free.
func (w *walk) freeType(t ir.Type, s state) ir.Type {
	t = t.Clone()
	if s.kind != batch || s.axis >= len(t.Shape) || !t.Shape[s.axis].Known() {
		return t
	}
	d := ir.Dim{Size: -1, Denote: t.Shape[s.axis].Denote}
	if s.rows() == 1 {
		d.Symbol = w.report.Symbol
	}
	t.Shape[s.axis] = d
	return t
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
