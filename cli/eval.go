package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"mqatc/compiler/problem"
	"mqatc/runtime/pose"
	"mqatc/runtime/task/distill"
)

func evalCommand() *cli.Command {
	return &cli.Command{
		Name: "eval", Usage: "measure a network on data", ArgsUsage: "MODEL",
		Description: "A network whose task has labels is measured against them, any other against itself or, with --reference, against another network.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "folder of images or BOP dataset, or cubesat:IMAGES[:SEED]", Required: true},
			&cli.StringFlag{Name: "task", Usage: "what the network eats and is for: a name or FILE.yaml; by default what the model keeps"},
			&cli.StringFlag{Name: "reference", Usage: "float network to compare outputs with, where there are no labels", TakesFile: true},
			jsonFlag, threadsFlag, ortLibFlag, shapeFlag,
		},
		Action: func(c *cli.Context) error {
			path, err := oneArg(c, "model")
			if err != nil {
				return err
			}
			if err := openRuntime(c); err != nil {
				return err
			}
			return evaluate(c, path)
		},
	}
}

func evaluate(c *cli.Context, path string) error {
	m, _, err := readModel(c, path)
	if err != nil {
		return err
	}
	spec, err := taskOf(c, m)
	if err != nil {
		return err
	}
	float := m
	if ref := c.String("reference"); ref != "" {
		if float, _, err = readModel(c, ref); err != nil {
			return err
		}
	}
	data := c.String("data")
	prob, err := openProblemOn(c, float, problem.Options{Task: spec}, data, data)
	if err != nil {
		return err
	}
	defer prob.Close()
	if !prob.Describe().Labels && c.String("reference") == "" {
		return withHint(fmt.Errorf("eval: task %s has no labels to measure against", spec.Name), "name the float network with --reference FLOAT.onnx")
	}
	p := newProgress(c.App.ErrWriter)
	defer p.Close()
	s, err := measure(c.Context, prob, m, problem.Eval, p)
	if err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	p.Close()
	if c.Bool("json") {
		return printJSON(c.App.Writer, s.Detail)
	}
	return printScore(c, s)
}

func printScore(c *cli.Context, s *scoreResult) error {
	w := table(c.App.Writer)
	fmt.Fprintf(w, "images\t%d\n", s.Images)
	switch d := s.Detail.(type) {
	case *pose.Summary:
		fmt.Fprintf(w, "\tADD-0.1d\tADD-0.5d\tADI-0.1d\tADI-0.5d\n")
		row := func(name string, r pose.Score) {
			fmt.Fprintf(w, "%s\t%.4f\t%.4f\t%.4f\t%.4f\n", name, r.ADD01, r.ADD05, r.ADI01, r.ADI05)
		}
		row("all", d.Score)
		for _, r := range d.Depths {
			row(r.Range, r.Score)
		}
	case *distill.Agreement:
		fmt.Fprintf(w, "output\tcosine\trelative error\n")
		for _, o := range d.Outputs {
			fmt.Fprintf(w, "%s\t%.6f\t%.4f\n", o.Output, o.Cosine, o.RelativeError)
		}
		fmt.Fprintf(w, "mean\t%.6f\t%.4f\n", d.Cosine, d.RelativeError)
	default:
		fmt.Fprintf(w, "%s\t%.4f\n", s.Name, s.Value())
	}
	return w.Flush()
}
