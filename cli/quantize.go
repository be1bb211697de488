package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/cpu"

	"mqatc/compiler/fit"
	"mqatc/compiler/frontend"
	"mqatc/compiler/mqat"
	"mqatc/compiler/plan"
	"mqatc/compiler/problem"
	"mqatc/compiler/rundir"
	"mqatc/onnx/ir"
	"mqatc/passes/quant"
	"mqatc/passes/step"
	"mqatc/passes/target"
)

// methodFlags are the flags of `quantize` that say how; all of them are part of a run's identity.
func methodFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "compress", Value: "4x", Usage: "how many times smaller, at least"},
		&cli.StringFlag{Name: "compress-basis", Value: "achieved", Usage: "achieved (bytes of weights and all that stands for them), nominal or file"},
		&cli.StringFlag{Name: "method", Value: "mqat", Usage: "mqat, uniform, hawq or ptq"},
		&cli.StringFlag{Name: "quantizer", Value: "lsq", Usage: "lsq, inq or inq-pow2"},
		&cli.StringFlag{Name: "planner", Value: "measured", Usage: "ilp takes the optimum of the integer program; measured tries the assignments that fit on held-out data and takes the best, with --compress-basis achieved"},
		&cli.StringFlag{Name: "bits", Value: "2,4,8", Usage: "widths to choose from"},
		&cli.StringFlag{Name: "activations", Value: "8", Usage: "8 bits, or none to leave them float"},
		&cli.StringFlag{Name: "granularity", Value: "auto", Usage: "what gets a width of its own: module, layer, or auto for the better of the two before training; layers need --planner measured and --compress-basis achieved"},
		&cli.BoolFlag{Name: "equalize", Value: true, Usage: "scale activations by channel, and the weights around them inversely, so that they suit 8 bits"},
		&cli.StringFlag{Name: "placement", Value: "measured", Usage: "measured leaves activations float whose quantization costs most, with at most a tenth of the work; all quantizes all that the target can"},
		&cli.StringSliceFlag{Name: "assign", Usage: "width of a module by name or role, as backbone=8; 32 keeps it float"},
		&cli.BoolFlag{Name: "per-tensor", Usage: "one scale for each weight tensor instead of one per output channel"},
		&cli.BoolFlag{Name: "probe", Usage: "run 2-bit probes of every module; the default where the task has labels (--probe=false leaves them out)"},
		&cli.Float64Flag{Name: "epochs", Usage: "passes over the data in each stage; 0 takes as many as ten minutes on two cores allow, at most 16"},
		&cli.IntFlag{Name: "batch", Value: 8, Usage: "images in a step"},
		&cli.Float64Flag{Name: "lr", Usage: "learning rate, taken as it is; 0 tries the optimizer's default before each training and lowers it where that makes things worse"},
		&cli.StringFlag{Name: "optimizer", Value: "adam", Usage: "adam (rates relative to the size of each tensor), adamw, sgd or nesterov"},
		&cli.IntFlag{Name: "probes", Usage: "Hessian probes at most; 0 takes 32, fewer for large networks"},
		&cli.StringFlag{Name: "sensitivity", Usage: "FILE that sensitivity -o wrote, or weights, which takes every layer as equally sensitive; by default the Hessian is measured", TakesFile: true},
		lossFlag,
		&cli.StringFlag{Name: "metric", Usage: "what decides on held-out data: cosine, relative-error or loss; for poses ad_0.1d, add_0.1d, add_0.5d, adi_0.1d or adi_0.5d. By default the first"},
		&cli.StringFlag{Name: "target", Value: "onnxruntime", Usage: "onnxruntime, tensorrt or weights"},
		augmentFlag, deviceFlag, lowerFlag,
		modulesFlag, headsFlag, seedFlag,
	}
}

func quantizeCommand() *cli.Command {
	return &cli.Command{
		Name: "quantize", Usage: "make a network smaller by modular quantization-aware training", ArgsUsage: "MODEL",
		Description: "Writes OUT/model.onnx with OUT/weights.bin, .json and .h, OUT/report.html and .json, and OUT/run, from which --resume goes on.\n" +
			"Data is a folder of images or a BOP dataset; cubesat:IMAGES[:SEED] renders the cube satellite in memory.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "training data", Required: true},
			&cli.StringFlag{Name: "eval-data", Usage: "data that results are measured on; every tenth training image where it is not given"},
			&cli.StringFlag{Name: "o", Usage: "output folder", Required: true},
			&cli.StringFlag{Name: "task", Usage: "what the network eats and is for: a name or FILE.yaml"},
			&cli.BoolFlag{Name: "resume", Usage: "go on with the run in the output folder"},
			&cli.BoolFlag{Name: "resume-anyway", Usage: "go on even if flags, input or library differ"},
			dumpFlag, stopFlag, configFlag, threadsFlag, ortLibFlag, shapeFlag, jsonFlag,
		}, methodFlags()...),
		Action: func(c *cli.Context) error {
			path, err := oneArg(c, "model")
			if err != nil {
				return err
			}
			cfg, err := quantizeConfig(c)
			if err != nil {
				return err
			}
			return quantizeModel(c, path, cfg)
		},
	}
}

// quantizeConfig reads the flags that say how.
func quantizeConfig(c *cli.Context) (mqat.Config, error) {
	cfg := mqat.Config{Method: c.String("method"), Quantizer: c.String("quantizer"), Basis: c.String("compress-basis"), PerTensor: c.Bool("per-tensor"),
		Target: c.String("target"), Probe: c.Bool("probe"), Epochs: c.Float64("epochs"), Batch: c.Int("batch"), LR: c.Float64("lr"),
		Optimizer: c.String("optimizer"), Probes: c.Int("probes"), Sensitivity: c.String("sensitivity"), Planner: c.String("planner"), NoEqualize: !c.Bool("equalize"), Placement: c.String("placement"), Granularity: c.String("granularity"), Seed: c.Uint64("seed"), Threads: c.Int("threads"), Device: c.String("device"), Lower: c.Bool("lower")}
	if err := quantizeNames(c); err != nil {
		return cfg, err
	}
	var err error
	if cfg.Compress, err = parseCompress(c.String("compress")); err != nil {
		return cfg, err
	}
	for _, s := range strings.Split(c.String("bits"), ",") {
		b, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil {
			return cfg, usagef("--bits %q: write widths as 2,4,8", c.String("bits"))
		}
		cfg.Bits = append(cfg.Bits, b)
	}
	switch c.String("activations") {
	case "8":
		cfg.Activations = 8
	case "none":
	default:
		return cfg, usagef("--activations %q: 8 or none", c.String("activations"))
	}
	if cfg.Assign, err = parseAssign(c.StringSlice("assign")); err != nil {
		return cfg, err
	}
	if err := cfg.Check(); err != nil {
		return cfg, usageError(err)
	}
	if s := cfg.Sensitivity; s != "" && s != plan.Weights {
		if _, cfg.Given, err = plan.ReadSensitivity(s); err != nil {
			return cfg, withHint(fmt.Errorf("quantize: %w", err), sensitivityHint)
		}
	}
	return cfg, nil
}

// quantizeNames refuses names that no table has, before any work is done.
func quantizeNames(c *cli.Context) error {
	if _, err := quant.Find(c.String("quantizer")); err != nil {
		return usageError(err)
	}
	if _, err := target.Find(c.String("target")); err != nil {
		return usageError(err)
	}
	for _, f := range []struct {
		name  string
		known []string
	}{
		{"method", []string{"mqat", "uniform", "hawq", "ptq"}}, {"optimizer", step.Optimizers()},
		{"compress-basis", []string{plan.Achieved, plan.Nominal, plan.File}}, {"heads", []string{"joined", "split"}},
		{"placement", mqat.Placements}, {"granularity", mqat.Granularities}, {"planner", mqat.Planners},
	} {
		if v := c.String(f.name); !slices.Contains(f.known, v) {
			return usagef("--%s %q: one of %s", f.name, v, strings.Join(f.known, ", "))
		}
	}
	return nil
}

func parseCompress(s string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "x"), 64)
	if err != nil || !(v >= 1 && v <= 1000) {
		return 0, usagef("--compress %q: write 4x, from 1x to 1000x", s)
	}
	return v, nil
}

func parseAssign(list []string) (map[string]int, error) {
	out := map[string]int{}
	for _, s := range list {
		name, bits, ok := strings.Cut(s, "=")
		b, err := strconv.Atoi(bits)
		if !ok || err != nil {
			return nil, usagef("--assign %q: write MODULE=BITS, as backbone=8", s)
		}
		if !(b >= 1 && b <= 8) && b != plan.Float {
			return nil, usagef("--assign %s: widths are 1 to 8, or %d for float", s, plan.Float)
		}
		out[name] = b
	}
	return out, nil
}

// identity is what the bytes of a run's result depend on.
func identity(c *cli.Context, sha string) rundir.Identity {
	id := machine(c, c.Bool("lower"))
	id["input"] = sha
	for _, f := range append(methodFlags(), &cli.StringFlag{Name: "data"}, &cli.StringFlag{Name: "eval-data"}, &cli.StringFlag{Name: "task"}, shapeFlag) {
		name := f.Names()[0]
		id[name] = fmt.Sprint(c.Value(name))
	}
	id["loss"] = lossID(c)
	for _, f := range []string{"modules", "task", "sensitivity"} {
		if file := c.String(f); file != "" {
			if sum, err := fileSHA256(file); err == nil {
				id[f] = sum
			}
		}
	}
	return id
}

// machine is what the bytes of any run's result depend on beside its input and flags. Kernels divide sums among threads.
func machine(c *cli.Context, lowered bool) rundir.Identity {
	threads := c.Int("threads")
	if threads <= 0 {
		threads = runtime.NumCPU()
	}
	id := rundir.Identity{"runtime": libraryID(), "cpu": cpuFeatures(), "threads": fmt.Sprint(threads)}
	if m, err := fit.Machine(c.String("device")); err == nil && lowered {
		id["block"] = fmt.Sprint(m.Block)
	}
	return id
}

// cpuFeatures names what onnxruntime's kernels choose by.
func cpuFeatures() string {
	out := runtime.GOARCH
	for _, f := range []struct {
		name string
		has  bool
	}{{"avx2", cpu.X86.HasAVX2}, {"fma", cpu.X86.HasFMA}, {"avx512f", cpu.X86.HasAVX512F}, {"vnni", cpu.X86.HasAVX512VNNI}, {"dotprod", cpu.ARM64.HasASIMDDP}} {
		if f.has {
			out += " " + f.name
		}
	}
	return out
}

// bringIn loads and prepares a model for training: cleaned up, batch freed where batches is set, folded, divided into modules, with the
// values that post-processing selects from as further outputs.
func bringIn(c *cli.Context, path string, batches bool, later ...string) (*frontend.Front, error) {
	o, err := frontOptions(c, later...)
	if err != nil {
		return nil, err
	}
	o.Rebatch = batches
	f, err := frontend.Load(c.Context, path, o)
	if err != nil {
		return nil, frontError(o, err)
	}
	if f.Stopped {
		return f, nil
	}
	if err := f.Expose(); err != nil {
		_ = f.Close() // the first error counts
		return nil, err
	}
	return f, nil
}

func quantizeModel(c *cli.Context, path string, cfg mqat.Config) error {
	start := time.Now()
	out := c.String("o")
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 && !c.Bool("resume") && !c.Bool("resume-anyway") {
		return withHint(fmt.Errorf("quantize: %s: %w", out, rundir.ErrNotEmpty), "name a new folder with -o, or add --resume to go on with the run in it")
	}
	if err := openRuntime(c); err != nil {
		return err
	}
	if err := checkDevice(c); err != nil {
		return err
	}
	p := newProgress(c.App.ErrWriter)
	defer p.Close()
	// Freeing the batch takes a proof that runs the network; what neither trains nor measures gradients has no use for it.
	batches := cfg.Method != "ptq" || cfg.Sensitivity == ""
	f, err := bringIn(c, path, batches, "equalize", "quant", "emit")
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Stopped {
		tellStopped(c)
		return nil
	}
	if err := plan.CheckAssign(f.Partition, cfg.Assign); err != nil {
		return usageError(err)
	}
	spec, err := taskOf(c, f.Source.Model)
	if err != nil {
		return err
	}
	name, err := chooseTuningLoss(c, &spec)
	if err != nil {
		return err
	}
	if err := problem.CheckMetric(spec, c.String("metric")); err != nil {
		return usagef("--metric: %w", err)
	}
	if len(f.Raw) > 0 && c.String("metric") == problem.MeanLoss {
		return usagef("--metric loss: a network that selects its detections itself is trained on what it selects from, which its file does not give: take %s or %s",
			problem.Cosine, problem.RelativeError)
	}
	if err := checkAugment(c, spec); err != nil {
		return err
	}
	if err := checkSensitivity(cfg.Given, f); err != nil {
		return withHint(fmt.Errorf("quantize: %s: %w", c.String("sensitivity"), err), sensitivityHint)
	}
	prob, err := openProblem(c, f.Model, problem.Options{Task: spec, Loss: name, Metric: c.String("metric"), Raw: f.Raw, Device: c.String("device"), Augment: c.String("augment")})
	if err != nil {
		return err
	}
	defer prob.Close()
	if !c.IsSet("probe") {
		cfg.Probe = prob.Describe().Labels
	}
	sum, err := f.Source.Digest()
	if err != nil {
		return err
	}
	d, resumed, err := rundir.Open(out, identity(c, sum), rundir.Options{Resume: c.Bool("resume") || c.Bool("resume-anyway"), ResumeAnyway: c.Bool("resume-anyway")})
	var mismatch *rundir.MismatchError
	if errors.As(err, &mismatch) {
		return withHint(fmt.Errorf("quantize: %w", err), "use the same flags, input and library, or --resume-anyway")
	}
	if err != nil {
		return withHint(fmt.Errorf("quantize: %w", err), "name a new folder with -o, or add --resume to go on with the run in it")
	}
	defer d.Close()
	if resumed {
		p.Line("going on with the run in %s", out)
	}
	if cfg.Forms, err = formsOf(c, filepath.Join(out, "run", formsFile), p); err != nil {
		return err
	}
	job := mqat.Job{Name: filepath.Base(path), Net: network(f), Problem: prob, Task: spec, Dir: d, Out: out, Config: cfg, Watch: p,
		SourceBytes: f.Source.Bytes, PayloadBefore: f.PayloadBefore, Notes: f.Notes(), Passes: f}
	introduce(p, f, prob)
	res, err := mqat.Quantize(c.Context, job)
	if errors.Is(err, frontend.ErrStopped) {
		tellStopped(c)
		return nil
	}
	if err != nil {
		return quantizeFailed(err)
	}
	p.Line("done in %s", time.Since(start).Round(time.Second))
	if c.Bool("json") {
		return printJSON(c.App.Writer, res.Report)
	}
	return printResult(c, out, res)
}

// network is a front as the compiler takes it.
func network(f *frontend.Front) mqat.Network {
	return mqat.Network{Model: f.Model, Partition: f.Partition, Single: fixedBatch(f.Model), Raw: f.Raw}
}

// fixedBatch reports a network that takes one image at a time.
func fixedBatch(m *ir.Model) bool {
	for _, v := range m.Graph.Inputs() {
		if s := v.Shape(); !v.IsInitializer() && len(s) > 0 && s[0].Known() {
			return true
		}
	}
	return false
}

func introduce(p *progress, f *frontend.Front, prob problem.Problem) {
	desc := prob.Describe()
	p.Line("input %s", desc.Preproc)
	p.Line("data  %d images to train on, %d held out (%s)", desc.Train, desc.Held, desc.HeldOut)
	names := []string{}
	for _, m := range f.Partition.Modules {
		names = append(names, fmt.Sprintf("%s %d", m.Name, m.Params))
	}
	p.Line("modules by %s: %s", f.Partition.Method, strings.Join(names, ", "))
	for _, n := range f.Notes() {
		p.Line("note  %s", n)
	}
	if fixedBatch(f.Model) {
		p.Line("note  the batch of 1 stays: gradients are summed image by image")
	}
}

func quantizeFailed(err error) error {
	var inf *mqat.InfeasibleError
	switch {
	case errors.As(err, &inf):
		return withHint(&exitError{3, fmt.Errorf("quantize: %w", err)}, "ask for less with --compress, or allow smaller widths with --bits")
	}
	return fmt.Errorf("quantize: %w", err)
}

func printResult(c *cli.Context, out string, res *mqat.Result) error {
	r := res.Report
	w := table(c.App.Writer)
	less, digits := "", "%.4f"
	if r.LowerIsBetter {
		less, digits = " (less is better)", "%.4g"
	}
	fmt.Fprintf(w, "method\t%s%s\tweights\ton disk\tsmaller\tbits\tflow\n", r.Metric, less)
	for _, m := range r.Methods {
		disk := ""
		if m.Disk > 0 {
			disk = fmt.Sprint(m.Disk)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%.2f\t%s\t%s\n", m.Name, fmt.Sprintf(digits, m.Metric), m.Bytes, disk, m.Achieved, m.WidthText(), strings.Join(m.Flow, " > "))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "\n%.2f times smaller in weights, %.2f on disk; agrees at every optimization level\n", r.Size.Achieved, r.Size.File)
	fmt.Fprintf(c.App.Writer, "%s\n%s\n", filepath.Join(out, mqat.ModelFile), filepath.Join(out, "report.html"))
	return nil
}
