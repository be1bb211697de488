package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/frontend"
	"mqatc/runtime/task"
	"mqatc/runtime/task/loss"
)

var lossFlag = &cli.StringFlag{Name: "loss", TakesFile: true,
	Usage: "what is trained on: distill, wdr, wdr-distill, " + strings.Join(loss.Names(), ", ") + ", FILE.onnx, or several as distill=1,FILE.onnx=0.1; by default the task's, with quantize and sensitivity wdr-distill instead of wdr"}

// chooseLoss applies --loss: distill and wdr become the task's; the name of another loss is returned.
func chooseLoss(c *cli.Context, t *task.Task) (string, error) {
	name := c.String("loss")
	if parts, several, err := loss.Parts(name); err != nil {
		return "", usagef("--%w", err)
	} else if several {
		for _, p := range parts {
			if err := checkPart(p.Name, t); err != nil {
				return "", err
			}
		}
		return name, nil
	}
	switch {
	case name == "":
		return "", nil
	case name == task.LossDistill || name == task.LossWDR:
		t.Loss = name
		if err := t.Check(); err != nil {
			return "", usageError(err)
		}
		return "", nil
	case name == task.LossWDRDistill:
		if t.Loss != task.LossWDR {
			return "", usagef("--loss %s: the task %s is not measured by poses", name, t.Name)
		}
		return name, nil
	case loss.IsFile(name) || slices.Contains(loss.Names(), name):
		return name, nil
	}
	return "", usagef("--loss %q: one of %s, %s, %s, or FILE.onnx", name, task.LossDistill, task.LossWDR, strings.Join(loss.Names(), ", "))
}

// checkPart refuses one of several losses that the task does not have.
func checkPart(name string, t *task.Task) error {
	switch {
	case loss.IsFile(name), slices.Contains(loss.Names(), name), name == task.LossDistill:
		return nil
	case name == task.LossWDR, name == task.LossWDRDistill:
		if t.Loss == task.LossWDR {
			return nil
		}
		return usagef("--loss %s: the task %s is not measured by poses", name, t.Name)
	}
	return usagef("--loss %q: one of %s, %s, %s, %s, or FILE.onnx", name, task.LossDistill, task.LossWDR, task.LossWDRDistill, strings.Join(loss.Names(), ", "))
}

// chooseTuningLoss is chooseLoss for what starts from a trained network: a network of poses is trained towards its own float answers
// where the user names no loss.
func chooseTuningLoss(c *cli.Context, t *task.Task) (string, error) {
	if c.String("loss") == "" && t.Loss == task.LossWDR {
		return task.LossWDRDistill, nil
	}
	return chooseLoss(c, t)
}

// lossID is what a run depends on by --loss: its name, or the content of its file.
func lossID(c *cli.Context) string {
	name := c.String("loss")
	parts, several, err := loss.Parts(name)
	if err != nil || !several {
		return lossDigest(name)
	}
	id := ""
	for _, p := range parts {
		id += fmt.Sprintf("%s=%g,", lossDigest(p.Name), p.Weight)
	}
	return id
}

func lossDigest(name string) string {
	if loss.IsFile(name) {
		if s, err := frontend.Read(name); err == nil {
			if sum, err := s.Digest(); err == nil {
				return sum
			}
		}
	}
	return name
}
