package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/frontend"
	"mqatc/compiler/plan"
	"mqatc/onnx/ir"
	"mqatc/passes/quant"
	"mqatc/passes/target"
	"mqatc/runtime/task"
)

func planCommand() *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "choose a width for each module, without data or training", ArgsUsage: "MODEL",
		Description: "The widths of least importance within the compression are proven optimal. Where none fit, the exit code is 3 and the smallest reachable size is told.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "compress", Value: "4x", Usage: "how many times smaller at least"},
			&cli.StringFlag{Name: "compress-basis", Value: plan.Achieved, Usage: "achieved: bytes of weights and what stands for them; nominal: the paper's figure; file: files on disk"},
			&cli.StringFlag{Name: "sensitivity", Value: plan.Weights, Usage: "FILE that sensitivity -o wrote, or weights: rounding errors alone", TakesFile: true},
			&cli.StringSliceFlag{Name: "bits", Value: cli.NewStringSlice("2", "4", "8"), Usage: "widths to choose from"},
			&cli.StringSliceFlag{Name: "assign", Usage: "widths that are given, as backbone=8,fpn=2: names of modules or roles; 32 keeps float"},
			&cli.StringFlag{Name: "quantizer", Value: "lsq", Usage: "lsq, inq, inq-pow2 or ptq"},
			&cli.BoolFlag{Name: "per-tensor", Usage: "one scale for each weight instead of one per output channel"},
			&cli.StringFlag{Name: "target", Value: "onnxruntime", Usage: "onnxruntime, tensorrt or weights"},
			&cli.StringFlag{Name: "activations", Value: "8", Usage: "8 or none"},
			&cli.StringFlag{Name: "count-shared", Value: "once", Usage: "once or per-use: how the nominal figure counts a weight that is used several times"},
			&cli.Int64Flag{Name: "max-bops", Usage: "most bit operations of one image; 0 for no bound"},
			&cli.BoolFlag{Name: "layers", Usage: "a width for each layer instead of each module"},
			jsonFlag, modulesFlag, headsFlag, shapeFlag, ortLibFlag, dumpFlag, stopFlag,
		},
		Action: func(c *cli.Context) error {
			path, err := oneArg(c, "model")
			if err != nil {
				return err
			}
			return makePlan(c, path)
		},
	}
}

func makePlan(c *cli.Context, path string) error {
	r, err := planRequest(c)
	if err != nil {
		return err
	}
	tgt, err := planTarget(c)
	if err != nil {
		return err
	}
	if _, err := quant.Find(c.String("quantizer")); err != nil {
		return usageError(err)
	}
	s := plan.Sensitivity{}
	var given *plan.SensitivityFile
	if from := c.String("sensitivity"); from != plan.Weights {
		if s, given, err = plan.ReadSensitivity(from); err != nil {
			return withHint(err, sensitivityHint)
		}
	}
	o, err := frontOptions(c)
	if err != nil {
		return err
	}
	f, err := loadFront(c, path, o)
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Stopped {
		return nil
	}
	if err := checkSensitivity(given, f); err != nil {
		return withHint(fmt.Errorf("plan: %s: %w", c.String("sensitivity"), err), sensitivityHint)
	}
	in := planInput(f, tgt)
	in.Quantizer, in.PerTensor = c.String("quantizer"), c.Bool("per-tensor")
	in.FileAfter = plan.Files(in, r.Layers, keepTask(f.Model))
	d, err := plan.Make(in, s, r)
	var unknown *plan.UnknownModuleError
	switch {
	case errors.As(err, &unknown):
		return usageError(err)
	case err != nil:
		return withHint(err, "see mqatc plan --help; mqatc partition MODEL shows the modules")
	}
	if c.Bool("json") {
		err = printJSON(c.App.Writer, d)
	} else {
		err = planTable(c.App.Writer, d)
	}
	if err != nil || !d.Infeasible() {
		return err
	}
	return planInfeasible(d)
}

// planInput is what a plan needs of a model that was brought in.
func planInput(f *frontend.Front, tgt target.Target) plan.Input {
	return plan.Input{Model: f.Model, Partition: f.Partition, PayloadBefore: f.PayloadBefore, FileBefore: f.Source.Bytes, Target: tgt, Copies: f.Copies, Starts: &quant.Starts{}}
}

// planInfeasible is the error, with exit code 3, of a plan that does not fit.
func planInfeasible(d *plan.Document) error {
	return withHint(&exitError{3, fmt.Errorf("plan: %s", d.Reason)}, "ask for less with --compress, or allow narrower widths with --bits and --assign")
}

// keepTask adds to a trial emission the task that a run would store; the model's own where it has one.
func keepTask(m *ir.Model) func(*ir.Model) error {
	return func(e *ir.Model) error {
		if _, ok, err := task.Of(m); ok && err == nil {
			return nil
		}
		t, err := task.Lookup("")
		if err != nil {
			return err
		}
		return t.Keep(e)
	}
}

func planRequest(c *cli.Context) (plan.Request, error) {
	r := plan.Request{Basis: c.String("compress-basis"), MaxBOPs: c.Int64("max-bops"), Layers: c.Bool("layers")}
	switch r.Basis {
	case plan.Achieved, plan.Nominal, plan.File:
	default:
		return r, usagef("--compress-basis %q: %s, %s or %s", r.Basis, plan.Achieved, plan.Nominal, plan.File)
	}
	switch c.String("count-shared") {
	case "once":
	case "per-use":
		r.CountSharedPerUse = true
	default:
		return r, usagef("--count-shared %q: once or per-use", c.String("count-shared"))
	}
	if r.MaxBOPs < 0 {
		return r, usagef("--max-bops %d is negative", r.MaxBOPs)
	}
	var err error
	if r.Compress, err = parseCompress(c.String("compress")); err != nil {
		return r, err
	}
	if r.Bits, err = parseBits(c.StringSlice("bits")); err != nil {
		return r, err
	}
	if r.Assign, err = parseAssign(c.StringSlice("assign")); err != nil {
		return r, err
	}
	return r, nil
}

// planTarget is the target of --target, without quantized activations where --activations says so.
func planTarget(c *cli.Context) (target.Target, error) {
	t, err := target.Find(c.String("target"))
	if err != nil {
		return t, usageError(err)
	}
	switch c.String("activations") {
	case "8":
		return t, nil
	case "none":
		t.Activation = ir.Undefined
		return t, nil
	}
	return t, usagef("--activations %q: 8 or none", c.String("activations"))
}

func planTable(out io.Writer, d *plan.Document) error {
	w := table(out)
	fmt.Fprint(w, "module\trole\tweights\tbits\tbytes\tomega")
	widths := map[int]bool{}
	for _, os := range d.Table.Options {
		for _, o := range os {
			widths[o.Bits] = true
		}
	}
	for b := 1; b <= plan.Float; b++ {
		if widths[b] {
			fmt.Fprintf(w, "\tbytes@%d\tomega@%d", b, b)
		}
	}
	fmt.Fprintln(w)
	for _, u := range d.Table.Units {
		bits, size, omega := "-", "-", "-"
		if o, ok := d.Table.Option(u.Name, d.Bits[u.Name]); ok {
			bits, size, omega = fmt.Sprint(o.Bits), grouped(o.Bytes), fmt.Sprintf("%.3g", o.Omega)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s", u.Name, u.Role, grouped(u.Elements), bits, size, omega)
		for b := 1; b <= plan.Float; b++ {
			if !widths[b] {
				continue
			}
			if o, ok := d.Table.Option(u.Name, b); ok {
				fmt.Fprintf(w, "\t%s\t%.3g", grouped(o.Bytes), o.Omega)
			} else {
				fmt.Fprint(w, "\t-\t-")
			}
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	w = table(out)
	fmt.Fprintf(w, "sensitivity\t%s\n", d.Sensitivity)
	fmt.Fprintf(w, "requested\t%.4gx\n", d.Compress.Requested)
	if !d.Infeasible() {
		fmt.Fprintf(w, "achieved\t%.3fx in weights (%s bytes of %s)\n", d.Compress.Achieved, grouped(d.Bytes.After), grouped(d.Bytes.Before))
		fmt.Fprintf(w, "file\t%.3fx\n", d.Compress.File)
		fmt.Fprintf(w, "nominal\t%.3fx\n", d.Compress.Nominal)
		fmt.Fprintf(w, "importance\t%.6g\n", d.Objective)
		fmt.Fprintf(w, "flow\t%s\n", strings.Join(d.Flow, " -> "))
	}
	fmt.Fprintf(w, "smallest\t%s bytes\n", grouped(d.Smallest))
	if err := w.Flush(); err != nil {
		return err
	}
	return frontierTable(out, d)
}

// frontierTable prints at most a dozen points of the frontier.
func frontierTable(out io.Writer, d *plan.Document) error {
	if len(d.Frontier) == 0 {
		return nil
	}
	const most = 12
	fmt.Fprintln(out, "\nbest importance by size")
	w := table(out)
	n := len(d.Frontier)
	for i := range min(n, most) {
		p := d.Frontier[i]
		if n > most {
			p = d.Frontier[i*(n-1)/(most-1)]
		}
		var bits []string
		for _, u := range d.Table.Units {
			bits = append(bits, fmt.Sprintf("%s=%d", u.Name, p.Bits[u.Name]))
		}
		fmt.Fprintf(w, "  %.3fx\t%s bytes\t%.4g\t%s\n", p.Achieved, grouped(p.Bytes), p.Objective, strings.Join(bits, " "))
	}
	return w.Flush()
}
