package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/costs"
	"mqatc/compiler/fit"
	"mqatc/compiler/frontend"
	"mqatc/passes/partition"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/task"
	"mqatc/runtime/task/augment"
	"mqatc/runtime/task/loss"
)

// Flags of how a network is trained.
var (
	emaFlag    = &cli.Float64Flag{Name: "ema", Usage: "decay of a running average of the weights, as 0.999, which is the result then; 0 keeps none"}
	deviceFlag = &cli.StringFlag{Name: "device", Value: "cpu", Usage: "what onnxruntime runs on: cpu, cuda, tensorrt, directml (each with :N for the Nth) or coreml"}
)

var lowerFlag = &cli.BoolFlag{Name: "lower", Value: true,
	Usage: "train in the forms that this machine's onnxruntime runs fastest, measured once and kept in the user's cache; --lower=false takes standard operators, results differ by rounding"}

// formsOf are the forms that the run in a folder takes, nil where --lower has no say.
func formsOf(c *cli.Context, record string, p *progress) (fit.Forms, error) {
	if d := c.String("device"); !c.Bool("lower") || d != "" && d != "cpu" {
		return nil, nil
	}
	t, err := costs.Open(costs.Options{Threads: c.Int("threads"), Library: libraryID(), Record: record, Line: p.Line,
		Update: func(done, total int) { p.Update("measure forms of operators", done, total, "") }})
	if err != nil {
		return nil, withHint(err, "begin the run anew in another folder, by -o")
	}
	return t, nil
}

// formsFile keeps the forms that a run took.
const formsFile = "forms.json"

var augmentFlag = &cli.StringFlag{Name: "augment", Value: "none",
	Usage: "random changes of training images: none, light, full, or a list of " + strings.Join(augment.Names(), ", ") + ", each as NAME or NAME=MOST"}

// checkAugment refuses changes that there are not, or that the task's labels do not bear.
func checkAugment(c *cli.Context, t task.Task) error {
	if _, err := augment.Parse(c.String("augment"), t.Loss == task.LossWDR); err != nil {
		return usageError(err)
	}
	return nil
}

// average reads --ema.
func average(c *cli.Context) (float32, error) {
	d := c.Float64("ema")
	if !(d >= 0 && d < 1) {
		return 0, usagef("--ema %g: a decay from 0 to below 1", d)
	}
	return float32(d), nil
}

// checkDevice refuses a device that the loaded library does not have.
func checkDevice(c *cli.Context) error {
	err := ort.CheckDevice(c.String("device"))
	if err == nil {
		return nil
	}
	inf, failed := ort.Info()
	if failed != nil || len(inf.Devices) == 0 {
		return usagef("--device: %w", err)
	}
	return withHint(usagef("--device: %w", err), "this library runs on %s; --ort-lib names another one", strings.Join(inf.Devices, ", "))
}

// distilled are the values of --distill.
func distilled(c *cli.Context, t task.Task, name string) ([]string, error) {
	if c.String("distill") == "" {
		return nil, nil
	}
	takes := name == "" && t.Loss == task.LossDistill
	parts, _, err := loss.Parts(name)
	if err != nil {
		return nil, usageError(err)
	}
	for _, p := range parts {
		takes = takes || p.Name == task.LossDistill
	}
	if !takes {
		return nil, usagef("--distill: the loss distill is not among what is trained on; --loss names it, as distill or wdr=1,distill=0.1")
	}
	var out []string
	for _, v := range strings.Split(c.String("distill"), ",") {
		if v = strings.TrimSpace(v); v == "" || slices.Contains(out, v) {
			return nil, usagef("--distill %q: values by name, each once, as VALUE,VALUE", c.String("distill"))
		}
		out = append(out, v)
	}
	return out, nil
}

// unfrozen leaves the tensors of the modules of --freeze out of params; left says in a line what is trained.
func unfrozen(c *cli.Context, src *frontend.Source, params []step.Param) (rest []step.Param, left string, err error) {
	if c.String("freeze") == "" {
		return params, "", nil
	}
	o, err := frontOptions(c)
	if err != nil {
		return nil, "", err
	}
	o.NoFold, o.StopAfter, o.Dump, o.Repro = true, "", "", ""
	f, err := frontend.Prepare(c.Context, src, o)
	if err != nil {
		return nil, "", frontError(o, err)
	}
	defer f.Close()
	frozen, names, err := chooseModules(f.AsRead, c.String("freeze"))
	if err != nil {
		return nil, "", err
	}
	for _, p := range params {
		if !frozen[p.Name] {
			rest = append(rest, p)
		}
	}
	if len(rest) == 0 {
		return nil, "", usagef("--freeze %s: nothing is left to train", c.String("freeze"))
	}
	if len(rest)+len(frozen) < len(params) || len(rest) == len(params) {
		return nil, "", fmt.Errorf("train: the tensors of %s are not initializers of the file under the names that modules have", strings.Join(names, ", "))
	}
	return rest, fmt.Sprintf("frozen: %s; %d of %d tensors are trained", strings.Join(names, ", "), len(rest), len(params)), nil
}

// chooseModules finds modules by name or role and returns their tensors.
func chooseModules(p *partition.Partition, list string) (tensors map[string]bool, names []string, err error) {
	tensors = map[string]bool{}
	var known []string
	for _, m := range p.Modules {
		known = append(known, m.Name)
	}
	for _, want := range strings.Split(list, ",") {
		want = strings.TrimSpace(want)
		found := false
		for _, m := range p.Modules {
			if m.Name != want && m.Role != want {
				continue
			}
			found = true
			if !slices.Contains(names, m.Name) {
				names = append(names, m.Name)
			}
			for _, v := range m.Initializers {
				tensors[v.Name()] = true
			}
		}
		if !found {
			return nil, nil, usagef("--freeze %q: no module is called that; there are %s", want, strings.Join(known, ", "))
		}
	}
	return tensors, names, nil
}
