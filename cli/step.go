package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/fit"
	"mqatc/compiler/frontend"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/step"
	"mqatc/runtime/task"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/task/loss"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/wdr"
)

func stepCommand() *cli.Command {
	return &cli.Command{
		Name: "step", Usage: "write a network's training step as an ONNX graph: forward, loss, backward, optimizer", ArgsUsage: "MODEL",
		Description: "Inputs of the graph are the model's, the loss's targets, lr, each trained tensor W and its states W.S; outputs are loss, W.new and W.S.new.",
		Flags: []cli.Flag{
			lossFlag,
			&cli.StringFlag{Name: "o", Usage: "file to write", Required: true, TakesFile: true},
			&cli.Int64Flag{Name: "batch", Usage: "images in a step; 0 takes the model's, or 1"},
			&cli.BoolFlag{Name: "emit-grads", Usage: "add the gradients W.grad to the outputs"},
			&cli.StringFlag{Name: "task", Usage: "what the network eats and is for: a name or FILE.yaml; by default what the model keeps"},
			&cli.StringFlag{Name: "optimizer", Value: "sgd", Usage: strings.Join(step.Optimizers(), ", ")},
			&cli.Float64Flag{Name: "momentum", Value: 0.9, Usage: "of sgd and nesterov"},
			&cli.Float64Flag{Name: "weight-decay", Usage: "of weights of rank 2 and more"},
			&cli.Float64Flag{Name: "clip-norm", Usage: "largest norm of all gradients together; 0 for none"},
			&cli.IntFlag{Name: "unroll", Value: 1, Usage: "steps in one graph: input X of step I is X.I, its loss is loss.I, outputs are what all steps leave"},
			&cli.BoolFlag{Name: "lower", Usage: "write the forms that this machine's onnxruntime runs fastest instead of standard operators"},
			emaFlag, recomputeFlag, shapeFlag, ortLibFlag,
		},
		Action: func(c *cli.Context) error {
			path, err := oneArg(c, "model")
			if err != nil {
				return err
			}
			return writeStep(c, path)
		},
	}
}

func writeStep(c *cli.Context, path string) error {
	batch := c.Int64("batch")
	if batch < 0 {
		return usagef("--batch %d is negative", batch)
	}
	if o := c.String("optimizer"); !slices.Contains(step.Optimizers(), o) {
		return usagef("--optimizer %q: %s", o, strings.Join(step.Optimizers(), ", "))
	}
	unroll := c.Int("unroll")
	if unroll < 1 || unroll > step.MostUnrolled {
		return usagef("--unroll %d: from 1 to %d steps", unroll, step.MostUnrolled)
	}
	ema, err := average(c)
	if err != nil {
		return err
	}
	segments, err := recompute(c)
	if err != nil {
		return err
	}
	f, err := stepModel(c, path, batch)
	if err != nil {
		return err
	}
	defer f.Close()
	m := f.Model
	graph, err := stepLoss(c, m)
	if err != nil {
		return err
	}
	p := newProgress(c.App.ErrWriter)
	defer p.Close()
	var lowering func(*ir.Model) error
	if c.Bool("lower") {
		if err := openRuntime(c); err != nil {
			return err
		}
		forms, err := formsOf(c, "", p)
		if err != nil {
			return err
		}
		mach, err := fit.Machine("cpu")
		if err != nil {
			return fmt.Errorf("step: %w", err)
		}
		if mach.Block == 0 {
			return withHint(errors.New("step: --lower: onnxruntime has no blocked convolutions for this processor"), "leave --lower out")
		}
		if lowering, err = fit.Lowering("cpu", segments, forms); err != nil {
			return fmt.Errorf("step: %w", err)
		}
	}
	s, err := step.Build(m, step.Options{
		Loss: graph, Batch: max(batch, 1), Params: step.Trainable(m), EmitGrads: c.Bool("emit-grads"), Recompute: segments, Tried: p.segments, Lower: lowering,
		Optimizer: step.Optimizer{Name: c.String("optimizer"), Momentum: float32(c.Float64("momentum")),
			WeightDecay: float32(c.Float64("weight-decay")), ClipNorm: float32(c.Float64("clip-norm")), EMA: ema},
	})
	if err != nil {
		return withHint(fmt.Errorf("step: %w", err), "--input-shape gives inputs a size; --loss names another loss")
	}
	if unroll > 1 {
		if s, err = step.Unroll(s, unroll); err != nil {
			return fmt.Errorf("step: %w", err)
		}
	}
	if _, err := format.Save(s, c.String("o"), format.SaveOptions{}); err != nil {
		return withHint(fmt.Errorf("step: %w", err), "name a file in a folder that exists and can be written with -o")
	}
	fmt.Fprintf(c.App.ErrWriter, "%d nodes, %d inputs, %d outputs in %s\n", s.Graph.NumNodes(), len(s.Graph.Inputs()), len(s.Graph.Outputs()), c.String("o"))
	fmt.Fprintln(c.App.ErrWriter, memoryLine(fit.Foresee(s.Graph)))
	return nil
}

// stepModel brings the model in under the names of its file, its batch made free where another one is asked for.
func stepModel(c *cli.Context, path string, batch int64) (*frontend.Front, error) {
	o, err := frontOptions(c)
	if err != nil {
		return nil, err
	}
	o.NoFold = true
	src, err := frontend.Read(path)
	if err != nil {
		return nil, err
	}
	for _, v := range src.Model.Graph.Inputs() {
		if s := v.Shape(); !v.IsInitializer() && len(s) > 0 && s[0].Known() && batch > 0 && s[0].Size != batch {
			o.Rebatch = true
		}
	}
	f, err := frontend.Prepare(c.Context, src, o)
	if err != nil {
		return nil, err
	}
	if f.Batch != nil && !f.Batch.Free {
		return nil, withHint(fmt.Errorf("step: the batch cannot be %d: %s", batch, f.Batch.Reason), "leave --batch out to take the model's")
	}
	return f, nil
}

// stepLoss is the loss of --loss or of the task.
func stepLoss(c *cli.Context, m *ir.Model) (*ir.Model, error) {
	t, err := stepTask(c, m)
	if err != nil {
		return nil, err
	}
	name, err := chooseLoss(c, &t)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = t.Loss
	}
	l, err := stepNamed(m, t, name)
	if err != nil {
		return nil, fmt.Errorf("step: %w", err)
	}
	return l.Model, nil
}

// stepNamed is a loss by name, or several with their weights.
func stepNamed(m *ir.Model, t task.Task, name string) (*loss.Loss, error) {
	parts, several, err := loss.Parts(name)
	if err != nil {
		return nil, err
	}
	var made *ir.Model
	switch {
	case several:
		var all []*loss.Loss
		var weights []float64
		for _, p := range parts {
			l, err := stepNamed(m, t, p.Name)
			if err != nil {
				return nil, err
			}
			all, weights = append(all, l), append(weights, p.Weight)
		}
		return loss.Weighted(all, weights)
	case loss.IsFile(name):
		return loss.Read(name)
	case name == task.LossWDR:
		made, err = stepWDR(m, t, wdr.Loss)
	case name == task.LossWDRDistill:
		made, err = stepWDR(m, t, wdr.Teach)
	case name == task.LossDistill:
		made, err = distill.Loss(m.Graph.Outputs())
	default:
		return loss.Named(name, m.Graph.Outputs())
	}
	return &loss.Loss{Name: name, Model: made}, err
}

func stepWDR(m *ir.Model, t task.Task, make func(*wdr.Layout, wdr.Config) (*ir.Model, error)) (*ir.Model, error) {
	in, err := prep.Fit(t.Prep, m.Graph.Inputs())
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", t.Name, err)
	}
	layout, err := wdr.FindLayout(m.Graph.Outputs(), in.Width, in.Height)
	if err != nil {
		return nil, err
	}
	var cfg wdr.Config
	if t.WDR != nil {
		cfg = *t.WDR
	}
	if cfg, err = cfg.WithDefaults(max(in.Width, in.Height)); err != nil {
		return nil, err
	}
	return make(layout, cfg)
}

func stepTask(c *cli.Context, m *ir.Model) (task.Task, error) {
	if c.String("task") == "" {
		if t, ok, err := task.Of(m); ok || err != nil {
			return t, err
		}
	}
	t, err := task.Lookup(c.String("task"))
	if err != nil {
		return t, usageError(err)
	}
	return t, nil
}
