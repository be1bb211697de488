// Package pass says what a compiler pass is. Packages of single passes import it; package passes holds the table of all of them.
package pass

import (
	"context"
	"fmt"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
)

// Evaluator runs a model once and returns all its outputs by name. model is the bytes of a whole ONNX file without external data.
type Evaluator interface {
	Run(model []byte, feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error)
}

// Env is what passes need from outside.
type Env struct {
	Eval Evaluator // runs models; passes that need it say so where it is nil
}

// Order says that a pass runs after another where both run, and why.
type Order struct{ Pass, Why string }

// Info describes a pass.
type Info struct {
	Name  string
	Doc   string
	After []Order
	// Exact passes leave the model's results as they are, up to the rounding of reordered arithmetic.
	Exact bool
}

// Pass is a pass with its parameters, ready to run.
type Pass struct {
	Info
	// Run changes m and reports whether it did. After an error m may be half changed.
	Run func(*Ctx, *ir.Model) (changed bool, err error)
}

// Ctx is what one run of a pass sees.
type Ctx struct {
	Context context.Context
	Env     Env
	Pass    string // recorded in the nodes that the pass makes

	notes []string
}

// NewCtx makes the context of one run of a pass.
func NewCtx(ctx context.Context, env Env, name string) *Ctx {
	return &Ctx{Context: ctx, Env: env, Pass: name}
}

// Note records something a person should know about this run; equal notes are kept once.
func (c *Ctx) Note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	for _, n := range c.notes {
		if n == s {
			return
		}
	}
	c.notes = append(c.notes, s)
}

// Notes lists what Note recorded, in order.
func (c *Ctx) Notes() []string { return c.notes }

// Cancelled returns the context's error.
func (c *Ctx) Cancelled() error {
	if c.Context == nil {
		return nil
	}
	return c.Context.Err()
}

// Errorf makes an error that names a node.
func (c *Ctx) Errorf(n *ir.Node, format string, args ...any) error {
	return fmt.Errorf("node %v: %w", n, fmt.Errorf(format, args...))
}

// Run evaluates m on feeds.
func (c *Ctx) Run(m *ir.Model, feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
	if c.Env.Eval == nil {
		return nil, fmt.Errorf("there is no evaluator")
	}
	b, err := format.Marshal(m)
	if err != nil {
		return nil, err
	}
	return c.Env.Eval.Run(b, feeds)
}
