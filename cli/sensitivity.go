package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/frontend"
	"mqatc/compiler/mqat"
	"mqatc/compiler/plan"
	"mqatc/compiler/problem"
	"mqatc/passes/target"
	"mqatc/passes/weights"
)

func sensitivityCommand() *cli.Command {
	return &cli.Command{
		Name: "sensitivity", Usage: "measure how sensitive each layer is: the trace of the loss's Hessian", ArgsUsage: "MODEL",
		Description: "Hutchinson's estimate, exact in each layer's block of the Hessian. `mqatc plan --sensitivity FILE` plans with what -o writes.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "folder of images or BOP dataset, or cubesat:IMAGES[:SEED]", Required: true},
			&cli.StringFlag{Name: "task", Usage: "what the network eats and is for: a name or FILE.yaml"},
			lossFlag,
			&cli.StringSliceFlag{Name: "bits", Value: cli.NewStringSlice("2", "4", "8"), Usage: "widths to tell the importance of rounding at"},
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

const sensitivityHint = "mqatc sensitivity MODEL --data DIR -o FILE writes such a file"

// checkSensitivity sees that a sensitivity file, nil for none, was measured on the network that was brought in.
func checkSensitivity(s *plan.SensitivityFile, f *frontend.Front) error {
	if s == nil {
		return nil
	}
	var layers []string
	for _, m := range f.Partition.Modules {
		for _, w := range m.Weights {
			if w.Kind == weights.Weight {
				layers = append(layers, w.Value.Name())
			}
		}
	}
	sum, err := f.Source.Digest()
	if err != nil {
		return err
	}
	return s.Check(sum, layers)
}

// omegas adds to each layer its importance at each width.
func omegas(f *frontend.Front, doc *plan.SensitivityFile, bits []int) error {
	tgt, err := target.Find("onnxruntime")
	if err != nil {
		return err
	}
	in := planInput(f, tgt)
	in.Quantizer = "lsq"
	t, err := plan.Measure(in, doc.Sensitivity("measured"), plan.Request{Compress: 1, Basis: plan.Achieved, Bits: bits, Layers: true})
	if err != nil {
		return err
	}
	for i, u := range t.Units {
		at := slices.IndexFunc(doc.Layers, func(l plan.SensitivityLayer) bool { return l.Name == u.Name })
		if at < 0 {
			continue
		}
		doc.Layers[at].Omega = map[string]float64{}
		for _, o := range t.Options[i] {
			doc.Layers[at].Omega[strconv.Itoa(o.Bits)] = o.Omega
		}
	}
	return nil
}

func measureSensitivity(c *cli.Context, path string) error {
	bits, err := parseBits(c.StringSlice("bits"))
	if err != nil {
		return err
	}
	if err := openRuntime(c); err != nil {
		return err
	}
	f, err := bringIn(c, path, true)
	if err != nil {
		return err
	}
	defer f.Close()
	spec, err := taskOf(c, f.Source.Model)
	if err != nil {
		return err
	}
	name, err := chooseTuningLoss(c, &spec)
	if err != nil {
		return err
	}
	prob, err := openProblem(c, f.Model, problem.Options{Task: spec, Loss: name, Raw: f.Raw})
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
	sum, err := f.Source.Digest()
	if err != nil {
		return err
	}
	doc := &plan.SensitivityFile{Format: 1, Model: sum, Task: spec.Name, Loss: prob.Describe().Loss, Seed: c.Uint64("seed"),
		Probes: r.Probes, Negative: r.Negative}
	for i, l := range r.Layers {
		doc.Layers = append(doc.Layers, plan.SensitivityLayer{Name: l.Name, Module: home[l.Name], N: l.Elements, Trace: l.Trace, StdErr: l.StdErr, Lambda: r.Lambda(i)})
	}
	p.Close()
	if err := omegas(f, doc, bits); err != nil {
		return fmt.Errorf("sensitivity: %w", err)
	}
	if file := c.String("o"); file != "" {
		if err := doc.Write(file); err != nil {
			return withHint(err, "name a file in a folder that can be written with -o")
		}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, doc)
	}
	w := table(c.App.Writer)
	fmt.Fprintf(w, "layer\tmodule\tweights\ttrace\tstandard error\tlambda / N")
	for _, b := range bits {
		fmt.Fprintf(w, "\tomega@%d", b)
	}
	fmt.Fprintln(w)
	for _, l := range doc.Layers {
		fmt.Fprintf(w, "%s\t%s\t%d\t%.4g\t%.2g\t%.3g", l.Name, l.Module, l.N, l.Trace, l.StdErr, l.Lambda/float64(max(l.N, 1)))
		for _, b := range bits {
			fmt.Fprintf(w, "\t%.3g", l.Omega[strconv.Itoa(b)])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d probes, %d of %d traces negative\n", doc.Probes, doc.Negative, len(doc.Layers))
	return w.Flush()
}
