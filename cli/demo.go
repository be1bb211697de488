package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"mqatc/compiler/frontend"
	"mqatc/compiler/mqat"
	"mqatc/compiler/problem"
	"mqatc/compiler/report"
	"mqatc/compiler/rundir"
	"mqatc/passes/pass"
	"mqatc/runtime/ort"
	"mqatc/runtime/task"
	"mqatc/testmodels/cubesat"
	"mqatc/testmodels/pretrained"
)

// What the demo trains and measures on, chosen so that all of it takes minutes on two cores.
const (
	demoImages   = 6000 // rendered for training, so many that no image is seen twice
	demoEval     = 500  // held out, with even depth ranges
	demoEvalSeed = 7
	demoCompress = 4
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "the main job on embedded data: make a pose network four times smaller",
		Description: "Takes the pretrained pose network of the cube satellite, renders images of it, and compares the float network, the float network\n" +
			"trained on for as long, uniform quantization and MQAT, the last two also at equal bytes.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "o", Usage: "output folder", Value: "mqatc-demo"},
			&cli.BoolFlag{Name: "resume", Usage: "go on with the demo in the output folder"},
			jsonFlag, threadsFlag, ortLibFlag, seedFlag,
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return demo(c)
		},
	}
}

func demoConfig(c *cli.Context) mqat.Config {
	return mqat.Config{Compress: demoCompress, Activations: 8, Probe: true, Epochs: 0.25, Batch: 32, Optimizer: "nesterov", LR: 0.01,
		Seed: c.Uint64("seed"), Threads: c.Int("threads"), Probes: 32, Lower: true}
}

func demo(c *cli.Context) error {
	start := time.Now()
	out := c.String("o")
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 && !c.Bool("resume") {
		return withHint(fmt.Errorf("demo: %s: %w", out, rundir.ErrNotEmpty), "name a new folder with -o, or add --resume to go on with the demo in it")
	}
	if err := openRuntime(c); err != nil {
		return err
	}
	p := newProgress(c.App.ErrWriter)
	defer p.Close()
	id := machine(c, true)
	id["command"], id["seed"] = "demo", fmt.Sprint(c.Uint64("seed"))
	d, _, err := rundir.Open(out, id, rundir.Options{Resume: c.Bool("resume")})
	if err != nil {
		return withHint(fmt.Errorf("demo: %w", err), "name a new folder with -o")
	}
	defer d.Close()
	path := filepath.Join(out, "cubesat.onnx")
	if err := renameio.WriteFile(path, pretrained.CubeSat(), 0o644); err != nil {
		return err
	}
	f, err := frontend.Load(c.Context, path, frontend.Options{Env: pass.Env{Eval: ort.Evaluator{}}, Rebatch: true, Seed: c.Uint64("seed")})
	if err != nil {
		return err
	}
	defer f.Close()
	spec, _, err := task.Of(f.Source.Model)
	if err != nil {
		return err
	}
	prob, labels, err := demoProblems(c, f, spec, p)
	if err != nil {
		return err
	}
	defer prob.Close()
	defer labels.Close()
	introduce(p, f, prob)
	job := mqat.Job{Name: "cubesat.onnx", Net: network(f), Problem: prob, Task: spec, Dir: d, Watch: p, SourceBytes: f.Source.Bytes,
		PayloadBefore: f.PayloadBefore, Config: demoConfig(c)}
	rows, err := demoRuns(c, job, labels, out, p)
	if err != nil {
		return quantizeFailed(err)
	}
	p.Line("done in %s", time.Since(start).Round(time.Second))
	if err := writeJSON(filepath.Join(out, "demo.json"), rows); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, rows)
	}
	return printDemo(c, out, rows)
}

// demoProblems are the problem that quantization trains on, towards the float network, and that of the labels.
func demoProblems(c *cli.Context, f *frontend.Front, spec task.Task, p *progress) (tuning, labels problem.Problem, err error) {
	size := 0
	for _, v := range f.Model.Graph.Inputs() {
		if s := v.Shape(); len(s) == 4 && s[2].Known() {
			size = int(s[2].Size)
		}
	}
	train, err := cubesat.Generate(cubesat.Config{Size: size, Seed: c.Uint64("seed") + 1000}, demoImages, 0,
		func(done, total int) { p.Update("render", done, total, "") })
	if err != nil {
		return nil, nil, err
	}
	eval, err := cubesat.Generate(cubesat.Config{Size: size, Seed: demoEvalSeed, EvenBins: true}, demoEval, 0, nil)
	if err != nil {
		return nil, nil, err
	}
	o := problem.Options{Task: spec, TrainSource: train.Source(), EvalSource: eval.Source(), Seed: c.Uint64("seed"), Threads: c.Int("threads")}
	if labels, err = problem.Open(f.Model, o); err != nil {
		return nil, nil, err
	}
	o.Loss = task.LossWDRDistill
	tuning, err = problem.Open(f.Model, o)
	return tuning, labels, err
}

// demoRuns runs the four arms: the float network, the one trained on, uniform and MQAT at the compression asked for, and MQAT at
// uniform's bytes where the two differ.
func demoRuns(c *cli.Context, job mqat.Job, labels problem.Problem, out string, p *progress) ([]report.Method, error) {
	p.Line("\nfloat, trained on for as long")
	job.Prefix = "float-"
	float := job
	float.Problem = labels
	ft, err := mqat.FineTune(c.Context, float)
	if err != nil {
		return nil, err
	}
	rows := []report.Method{
		{Name: "float", Metric: ft.Before.Value(), Bytes: job.PayloadBefore, Disk: job.SourceBytes, Achieved: 1},
		{Name: "float, trained on", Metric: ft.After.Value(), Bytes: job.PayloadBefore, Disk: job.SourceBytes, Achieved: 1, Epochs: ft.Epochs},
	}
	run := func(name, folder string, change func(*mqat.Config)) (*mqat.Result, error) {
		p.Line("\n%s", name)
		j := job
		j.Prefix = folder + "-"
		j.Out = out
		if folder != "mqat" {
			j.Out = filepath.Join(out, folder)
		}
		change(&j.Config)
		res, err := mqat.Quantize(c.Context, j)
		if err != nil {
			return nil, err
		}
		row := res.Report.Methods[len(res.Report.Methods)-1]
		row.Name = name
		rows = append(rows, row)
		return res, nil
	}
	uniform, err := run("uniform", "uniform", func(cfg *mqat.Config) { cfg.Method = "uniform" })
	if err != nil {
		return nil, err
	}
	main, err := run("MQAT", "mqat", func(cfg *mqat.Config) { cfg.Method = "mqat" })
	if err != nil {
		return nil, err
	}
	if u := uniform.Emission.Payload; u != main.Emission.Payload {
		if _, err = run("MQAT at uniform's bytes", "mqat-pair", func(cfg *mqat.Config) { cfg.Method, cfg.Budget = "mqat", u }); err != nil {
			return nil, err
		}
	}
	main.Report.Methods = rows
	return rows, main.Report.Write(out)
}

func printDemo(c *cli.Context, out string, rows []report.Method) error {
	var b bytes.Buffer
	w := table(&b)
	fmt.Fprintf(w, "method\tADD-0.1d\tweights, bytes\ton disk\tsmaller\tbits\tflow\n")
	for _, m := range rows {
		fmt.Fprintf(w, "%s\t%.3f\t%d\t%d\t%.2f\t%s\t%s\n", m.Name, m.Metric, m.Bytes, m.Disk, m.Achieved, m.WidthText(), strings.Join(m.Flow, " > "))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%s\nmodel  %s\nreport %s\n", b.String(), filepath.Join(out, mqat.ModelFile), filepath.Join(out, "report.html"))
	return nil
}
