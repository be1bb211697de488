package cli

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/mqat"
	"mqatc/compiler/plan"
)

func sensitivityCommand() *cli.Command {
	return &cli.Command{
		Name: "sensitivity", Usage: "measure how sensitive each layer is: the trace of the loss's Hessian", ArgsUsage: "MODEL",
		Description: "Hutchinson's estimate by exact Hessian-vector products. `mqatc plan --sensitivity FILE` plans with what -o writes.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "folder of images or BOP dataset, or cubesat:IMAGES[:SEED]", Required: true},
			&cli.StringFlag{Name: "task", Usage: "what the network eats and is for: a name or FILE.yaml"},
			&cli.StringFlag{Name: "loss", Usage: "distill or wdr; by default the task's"},
			&cli.IntFlag{Name: "probes", Value: 64, Usage: "probes at most; fewer when the estimate is sure"},
			&cli.StringFlag{Name: "o", Usage: "file to write", TakesFile: true},
			modulesFlag, headsFlag, jsonFlag, seedFlag, threadsFlag, ortLibFlag, shapeFlag,
		},
		Action: func(c *cli.Context) error {
			path, err := oneArg(c, "model")
			if err != nil {
				return err
			}
			return measureSensitivity(c, path)
		},
	}
}

func measureSensitivity(c *cli.Context, path string) error {
	if err := openRuntime(c); err != nil {
		return err
	}
	f, err := bringIn(c, path)
	if err != nil {
		return err
	}
	defer f.Close()
	spec, err := taskOf(c, f.Source.Model)
	if err != nil {
		return err
	}
	if l := c.String("loss"); l != "" {
		spec.Loss = l
		if err := spec.Check(); err != nil {
			return usageError(err)
		}
	}
	prob, err := openProblem(c, f.Model, spec)
	if err != nil {
		return err
	}
	defer prob.Close()
	p := newProgress(c.App.ErrWriter)
	defer p.Close()
	r, home, err := mqat.Sensitivity(c.Context, mqat.Job{Name: filepath.Base(path), Net: network(f), Problem: prob, Task: spec, Watch: p,
		Config: mqat.Config{Probes: c.Int("probes"), Seed: c.Uint64("seed"), Threads: c.Int("threads"), Activations: 8}})
	if err != nil {
		return fmt.Errorf("sensitivity: %w", err)
	}
	doc := &plan.SensitivityFile{Format: 1, Model: f.Source.SHA256, Task: spec.Name, Loss: prob.Describe().Loss, Seed: c.Uint64("seed"),
		Probes: r.Probes, Negative: r.Negative}
	for i, l := range r.Layers {
		doc.Layers = append(doc.Layers, plan.SensitivityLayer{Name: l.Name, Module: home[l.Name], N: l.Elements, Trace: l.Trace, StdErr: l.StdErr, Lambda: r.Lambda(i)})
	}
	p.Close()
	if file := c.String("o"); file != "" {
		if err := doc.Write(file); err != nil {
			return withHint(err, "name a file in a folder that can be written with -o")
		}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, doc)
	}
	w := table(c.App.Writer)
	fmt.Fprintf(w, "layer\tmodule\tweights\ttrace\tstandard error\tlambda / N\n")
	for _, l := range doc.Layers {
		fmt.Fprintf(w, "%s\t%s\t%d\t%.4g\t%.2g\t%.3g\n", l.Name, l.Module, l.N, l.Trace, l.StdErr, l.Lambda/float64(max(l.N, 1)))
	}
	fmt.Fprintf(w, "%d probes, %d of %d traces negative\n", doc.Probes, doc.Negative, len(doc.Layers))
	return w.Flush()
}
