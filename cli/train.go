package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"mqatc/compiler/fit"
	"mqatc/compiler/frontend"
	"mqatc/compiler/problem"
	"mqatc/compiler/rundir"
	"mqatc/onnx/format"
	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/task"
	"mqatc/runtime/train"
)

func trainCommand() *cli.Command {
	return &cli.Command{
		Name: "train", Usage: "train or fine-tune a network in full precision", ArgsUsage: "MODEL",
		Description: "DIR is a BOP dataset for pose tasks, else a folder of images; cubesat:IMAGES[:SEED] renders the cube satellite in memory.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "training data", Required: true},
			&cli.StringFlag{Name: "eval-data", Usage: "data for the results; every tenth training image where it is not given"},
			&cli.StringFlag{Name: "o", Usage: "output folder", Required: true},
			&cli.StringFlag{Name: "task", Usage: "what the network eats and is for: a name or FILE.yaml"},
			lossFlag,
			&cli.Float64Flag{Name: "epochs", Value: 10, Usage: "passes over the training data"},
			&cli.IntFlag{Name: "batch", Value: 32, Usage: "images in a step"},
			&cli.Float64Flag{Name: "lr", Value: 0.01, Usage: "base learning rate"},
			&cli.StringFlag{Name: "schedule", Value: "cosine:0.02", Usage: "constant, cosine:WARMUP or decay:F1,F2,..."},
			&cli.StringFlag{Name: "optimizer", Value: "nesterov", Usage: "sgd, nesterov, adam or adamw"},
			&cli.Float64Flag{Name: "momentum", Value: 0.9, Usage: "of sgd and nesterov"},
			&cli.Float64Flag{Name: "weight-decay", Value: 1e-4, Usage: "of weights of rank 2 and more"},
			&cli.Float64Flag{Name: "clip-norm", Value: 5, Usage: "largest norm of all gradients together"},
			emaFlag,
			&cli.IntFlag{Name: "accumulate", Value: 1, Usage: "batches whose gradients are averaged in a step"},
			&cli.StringFlag{Name: "freeze", Usage: "modules that are not trained, by name or role, as backbone,fpn"},
			&cli.StringFlag{Name: "bn", Value: "frozen", Usage: "BatchNormalization by its running statistics (frozen) or by those of the batch, which the running ones follow (batch)"},
			&cli.StringFlag{Name: "distill", Usage: "values inside the network, as VALUE,VALUE, that the loss distill compares too"},
			augmentFlag, recomputeFlag, deviceFlag, lowerFlag,
			&cli.IntFlag{Name: "workers", Value: 1, Usage: "goroutines that make batches; the result does not depend on it"},
			&cli.BoolFlag{Name: "resume", Usage: "go on with the run in the output folder"},
			modulesFlag, headsFlag, seedFlag, threadsFlag, ortLibFlag, shapeFlag, jsonFlag,
		},
		Action: func(c *cli.Context) error {
			path, err := oneArg(c, "model")
			if err != nil {
				return err
			}
			rate, err := trainFlags(c)
			if err != nil {
				return err
			}
			if err := openRuntime(c); err != nil {
				return err
			}
			if err := checkDevice(c); err != nil {
				return err
			}
			return trainModel(c, path, rate)
		},
	}
}

// trained is what `train` prints and keeps as train.json.
type trained struct {
	Steps    int     `json:"steps"`
	Seconds  float64 `json:"seconds"`
	LossFrom float64 `json:"loss_from"`
	LossTo   float64 `json:"loss_to"`
	Metric   string  `json:"metric"`
	Value    float64 `json:"value"`
	Detail   any     `json:"detail"`
}

// trainFlags refuses flags that no training can take, before any work is done, and reads the schedule.
func trainFlags(c *cli.Context) (train.Schedule, error) {
	if o := c.String("optimizer"); !slices.Contains(step.Optimizers(), o) {
		return nil, usagef("--optimizer %q: one of %s", o, strings.Join(step.Optimizers(), ", "))
	}
	if e := c.Float64("epochs"); !(e >= 0 && e <= math.MaxInt32) {
		return nil, usagef("--epochs %g: a number from 0", e)
	}
	for _, f := range []string{"batch", "accumulate", "workers"} {
		if n := c.Int(f); n < 1 || n > 1<<20 {
			return nil, usagef("--%s %d: a number from 1", f, n)
		}
	}
	if bn := c.String("bn"); bn != "frozen" && bn != "batch" {
		return nil, usagef("--bn %q: frozen or batch", bn)
	}
	if _, err := average(c); err != nil {
		return nil, err
	}
	if _, err := recompute(c); err != nil {
		return nil, err
	}
	rate, err := train.ParseSchedule(c.String("schedule"), c.Float64("lr"))
	if err != nil {
		return nil, usageError(err)
	}
	return rate, nil
}

// trainIdentity is what the bytes of a training depend on.
func trainIdentity(c *cli.Context, sha string) rundir.Identity {
	id := machine(c, c.Bool("lower"))
	id["command"], id["input"] = "train", sha
	for _, f := range []string{"data", "eval-data", "task", "epochs", "batch", "lr", "schedule", "optimizer", "momentum", "weight-decay", "clip-norm", "seed", "input-shape",
		"ema", "accumulate", "freeze", "bn", "distill", "device", "lower", "augment", "modules", "heads"} {
		id[f] = fmt.Sprint(c.Value(f))
	}
	if sum, err := fileSHA256(c.String("task")); err == nil {
		id["task"] = sum
	}
	id["loss"] = lossID(c)
	return id
}

func trainModel(c *cli.Context, path string, rate train.Schedule) error {
	out := c.String("o")
	m, src, err := readModel(c, path)
	if err != nil {
		return err
	}
	sha, err := src.Digest()
	if err != nil {
		return err
	}
	spec, err := taskOf(c, m)
	if err != nil {
		return err
	}
	name, err := chooseLoss(c, &spec)
	if err != nil {
		return err
	}
	if err := checkAugment(c, spec); err != nil {
		return err
	}
	inside, err := distilled(c, spec, name)
	if err != nil {
		return err
	}
	params, left, err := unfrozen(c, src, step.Trainable(m))
	if err != nil {
		return err
	}
	prob, err := openProblem(c, m, problem.Options{Task: spec, Loss: name, Distill: inside, Device: c.String("device"), Augment: c.String("augment")})
	if err != nil {
		return err
	}
	defer prob.Close()
	d, resumed, err := rundir.Open(out, trainIdentity(c, sha), rundir.Options{Resume: c.Bool("resume")})
	var mismatch *rundir.MismatchError
	if errors.As(err, &mismatch) {
		return withHint(fmt.Errorf("train: %w", err), "use the same flags, input and library, or name an empty folder with -o")
	}
	if err != nil {
		return withHint(fmt.Errorf("train: %w", err), "name an empty folder with -o, or add --resume to go on with the run in it")
	}
	defer d.Close()
	checkpoint, err := d.File("train")
	if err != nil {
		return err
	}
	p := newProgress(c.App.ErrWriter)
	defer p.Close()
	desc := prob.Describe()
	if resumed {
		p.Line("going on with the run in %s", out)
	}
	p.Line("train on %d images, task %s, loss %s; input %s", desc.Train, desc.Task, desc.Loss, desc.Preproc)
	if left != "" {
		p.Line("%s", left)
	}
	start := time.Now()
	ema, err := average(c)
	if err != nil {
		return err
	}
	segments, err := recompute(c)
	if err != nil {
		return err
	}
	batch := c.Int("batch") * c.Int("accumulate")
	steps := max(1, int(c.Float64("epochs")*float64(train.StepsPerEpoch(desc.Train, batch))+0.5))
	forms, err := formsOf(c, filepath.Join(out, "run", formsFile), p)
	if err != nil {
		return err
	}
	res, err := fit.Run(c.Context, fit.Options{
		Model: m, Problem: prob, Params: params, Rate: rate, Steps: steps, Batch: batch, Micro: c.Int("batch"), Single: fixedBatch(m),
		Seed: c.Uint64("seed"), Threads: c.Int("threads"), Workers: c.Int("workers"), Device: c.String("device"), Lower: c.Bool("lower"), Forms: forms,
		Expose: inside, BatchStatistics: c.String("bn") == "batch", Recompute: segments, Foreseen: func(m fit.Memory) { p.Line("%s", memoryLine(m)) },
		Optimizer: step.Optimizer{Name: c.String("optimizer"), Momentum: float32(c.Float64("momentum")),
			WeightDecay: float32(c.Float64("weight-decay")), ClipNorm: float32(c.Float64("clip-norm")), EMA: ema},
		Path: checkpoint, Key: "train", Tried: p.segments,
		Progress: func(g train.Progress) {
			p.Update("train", g.Step, g.Steps, fmt.Sprintf("loss %.4g  lr %.2g  %.0f images/s", g.Mean, g.Rate, g.ImagesPerSecond))
		},
	})
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	t, err := fit.Put(m, res.Values)
	if err != nil {
		return err
	}
	if err := spec.Keep(t); err != nil {
		return err
	}
	if _, err := format.Save(t, filepath.Join(out, "model.onnx"), format.SaveOptions{}); err != nil {
		return err
	}
	score, err := measure(c.Context, prob, t, problem.Eval, p)
	if err != nil {
		return err
	}
	doc := trained{Steps: steps, Seconds: time.Since(start).Seconds(), LossFrom: res.LossFrom, LossTo: res.LossTo,
		Metric: score.Name, Value: score.Value(), Detail: score.Detail}
	if err := writeJSON(filepath.Join(out, "train.json"), doc); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, doc)
	}
	p.Line("%d steps in %.0f s, loss %.4g -> %.4g, %s %.4g on %d images; %s", steps, doc.Seconds, res.LossFrom, res.LossTo, score.Name,
		score.Value(), score.Images, filepath.Join(out, "model.onnx"))
	return nil
}

// readModel loads a model for commands that take it as it is, at opset 17 at least, with shapes; the source is the file's.
func readModel(c *cli.Context, path string) (*ir.Model, *frontend.Source, error) {
	shapes, err := inputShapes(c)
	if err != nil {
		return nil, nil, err
	}
	s, err := frontend.Read(path)
	if err != nil {
		return nil, nil, err
	}
	m, err := s.Model.Clone()
	if err != nil {
		return nil, nil, err
	}
	notes, err := frontend.Infer(m, shapes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, n := range notes {
		fmt.Fprintf(c.App.ErrWriter, "note: %s\n", n)
	}
	return m, s, nil
}

// taskOf is the task of --task or, where it is not given, the one that the model keeps.
func taskOf(c *cli.Context, m *ir.Model) (task.Task, error) {
	name := c.String("task")
	kept, ok, err := task.Of(m)
	if name == "" {
		if err != nil || ok {
			return kept, err
		}
		fmt.Fprintln(c.App.ErrWriter, "no --task: the network is fed RGB divided by 255, stretched to its input")
	}
	t, err := task.Lookup(name)
	if err != nil {
		return t, usageError(err)
	}
	if ok && kept.Name != t.Name {
		fmt.Fprintf(c.App.ErrWriter, "--task %s instead of %s, which the model keeps: it may be fed otherwise than it was trained\n", t.Name, kept.Name)
	}
	return t, nil
}

// openProblem ties a model to --data and --eval-data.
func openProblem(c *cli.Context, m *ir.Model, o problem.Options) (problem.Problem, error) {
	return openProblemOn(c, m, o, c.String("data"), c.String("eval-data"))
}

// openProblemOn ties a model to folders, or to rendered data.
func openProblemOn(c *cli.Context, m *ir.Model, o problem.Options, data, eval string) (problem.Problem, error) {
	o.Seed, o.Threads = c.Uint64("seed"), c.Int("threads")
	size := 0
	for _, v := range m.Graph.Inputs() {
		if s := v.Shape(); len(s) == 4 && s[2].Known() && !v.IsInitializer() {
			size = int(s[2].Size)
		}
	}
	o, err := withData(o, data, eval, size, c.App.ErrWriter)
	if err != nil {
		return nil, err
	}
	p, err := problem.Open(m, o)
	var of *hint.Error
	switch {
	case err == nil:
		return p, nil
	case errors.As(err, &of):
		return nil, fmt.Errorf("%s: %w", c.Command.Name, err)
	case errors.Is(err, os.ErrNotExist):
		return nil, withHint(fmt.Errorf("data: %w", err), "name a folder that exists with --data")
	}
	return nil, withHint(fmt.Errorf("data: %w", err), "--data takes a folder of JPEG or PNG images, or a BOP dataset for pose tasks")
}

// measure runs a model over part of a problem's data.
func measure(ctx context.Context, prob problem.Problem, m *ir.Model, part problem.Part, p *progress) (*scoreResult, error) {
	run, done, err := problem.Runner(m, ort.SessionOptions{})
	if err != nil {
		return nil, err
	}
	defer done()
	return prob.Score(ctx, part, run, func(n, total int) { p.Update("measure", n, total, "") })
}

func writeJSON(path string, v any) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := printJSON(io.Writer(f), v); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
