package passes

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"mqatc/onnx/ir"
	"mqatc/onnx/mapped"
	"mqatc/onnx/op"
	"mqatc/passes/pass"
)

// Pipeline is a list of passes to run over a model.
type Pipeline struct {
	Passes []pass.Pass
	Env    pass.Env
	// Dump receives the model as it comes in and after each pass that changed it; nil dumps nothing. Pipelines may share one.
	Dump *Dump
	// StopAfter ends the run after the pass of this name.
	StopAfter string
	// Repro is the folder that receives what is needed to reproduce a failure; empty writes nothing.
	Repro string
	// NoInfer leaves types alone. Otherwise all types are inferred before the first pass and after each one that changed something.
	NoInfer bool
}

// Record says what one pass did.
type Record struct {
	Pass          string        `json:"pass"`
	Changed       bool          `json:"changed"`
	Before, After int           // nodes, those of subgraphs included
	Time          time.Duration `json:"ns"` // the pass and the verification after it
	Notes         []string      `json:"notes,omitempty"`
}

// Result is the log of a run.
type Result struct {
	Log     []Record
	Stopped bool // StopAfter ended the run before the last pass
}

// Error is a failure of one pass.
type Error struct {
	Pass  string
	Repro string // folder with what reproduces it; may be empty
	Err   error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("pass %s: %v", e.Pass, e.Err)
	if e.Repro != "" {
		s += fmt.Sprintf(" (the graph before it is in %s)", e.Repro)
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Check reports a pass without a row in the table and a breach of the ordering constraints.
func (p *Pipeline) Check() error {
	stop := p.StopAfter == ""
	for i, x := range p.Passes {
		info, ok := Find(x.Name)
		if !ok || x.Run == nil {
			return fmt.Errorf("pass %q has no row in the table of passes or nothing to run", x.Name)
		}
		stop = stop || x.Name == p.StopAfter
		for _, o := range info.After {
			if p.has(o.Pass, 0, len(p.Passes)) && !p.has(o.Pass, 0, i) {
				return fmt.Errorf("pass %s must run after %s: %s", x.Name, o.Pass, o.Why)
			}
		}
	}
	if !stop {
		return fmt.Errorf("there is no pass %q to stop after; this run has %s", p.StopAfter, strings.Join(p.names(), ", "))
	}
	return nil
}

func (p *Pipeline) has(name string, from, to int) bool {
	for _, x := range p.Passes[from:to] {
		if x.Name == name {
			return true
		}
	}
	return false
}

func (p *Pipeline) names() []string {
	var out []string
	for _, x := range p.Passes {
		out = append(out, x.Name)
	}
	return out
}

// Run runs the passes over m. After each one the graph is verified and its types are inferred anew. When a pass fails, m is as it
// was before that pass, the error is an *Error, and the log holds the passes before it.
func (p *Pipeline) Run(ctx context.Context, m *ir.Model) (Result, error) {
	var res Result
	if err := p.Check(); err != nil {
		return res, err
	}
	err := mapped.Guard(func() error { return p.run(ctx, m, &res) })
	return res, err
}

func (p *Pipeline) run(ctx context.Context, m *ir.Model, res *Result) error {
	if err := p.verify(m); err != nil {
		return fmt.Errorf("the model is not sound: %w", err)
	}
	if p.Dump != nil {
		if err := p.Dump.input(m); err != nil {
			return err
		}
	}
	for i, x := range p.Passes {
		if err := ctx.Err(); err != nil {
			return err
		}
		before, err := m.Clone()
		if err != nil {
			return err
		}
		rec := Record{Pass: x.Name, Before: pass.Count(m.Graph)}
		c := pass.NewCtx(ctx, p.Env, x.Name)
		start := time.Now()
		rec.Changed, err = guarded(x, c, m)
		if err == nil && rec.Changed {
			err = p.verify(m)
		}
		rec.Time = time.Since(start)
		if err != nil {
			*m = *before
			return p.failure(ctx, i, m, err)
		}
		rec.After, rec.Notes = pass.Count(m.Graph), c.Notes()
		res.Log = append(res.Log, rec)
		if p.Dump != nil {
			if err := p.Dump.after(x.Name, m, rec.Changed); err != nil {
				return err
			}
		}
		if x.Name == p.StopAfter && !p.has(x.Name, i+1, len(p.Passes)) {
			res.Stopped = i+1 < len(p.Passes)
			return nil
		}
	}
	return nil
}

func (p *Pipeline) verify(m *ir.Model) error {
	if err := m.Verify(); err != nil {
		return err
	}
	if p.NoInfer {
		return nil
	}
	return op.InferModel(m, nil)
}

// guarded turns a panic of a pass into an error with the place it came from.
func guarded(x pass.Pass, c *pass.Ctx, m *ir.Model) (changed bool, err error) {
	defer func() {
		if r := recover(); mapped.IsFault(r) {
			err = &mapped.CutShort{}
		} else if r != nil {
			err = &internalError{r, debug.Stack()}
		}
	}()
	return x.Run(c, m)
}

// internalError is a panic inside a pass.
type internalError struct {
	cause any
	stack []byte
}

func (e *internalError) Error() string { return fmt.Sprintf("internal error: %v", e.cause) }

func (p *Pipeline) failure(ctx context.Context, i int, m *ir.Model, err error) error {
	e := &Error{Pass: p.Passes[i].Name, Err: err}
	if p.Repro == "" || ctx.Err() != nil {
		return e
	}
	if werr := writeRepro(p.Repro, p.names()[i:], m, err); werr != nil {
		return errors.Join(e, fmt.Errorf("writing %s: %w", p.Repro, werr))
	}
	e.Repro = p.Repro
	return e
}
