package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"mqatc/bench/turns"
	"mqatc/compiler/frontend"
	"mqatc/onnx/ir"
	"mqatc/passes/grad"
	"mqatc/passes/partition"
	"mqatc/passes/step"
)

// modulewise writes what a step takes that trains one module, beside one that trains all: the medians of the times, and how many
// multiply-accumulates there are.
func modulewise(dir string, networks []network, lsq bool, how setting, rounds, steps int, only string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "network\ttrained\tms\tof all\tGMAC\tof all\t\n")
	for _, n := range networks {
		if only != "" && !slices.Contains(strings.Split(only, ","), n.Name) {
			continue
		}
		src, err := frontend.Read(filepath.Join(dir, n.File))
		if err != nil {
			return err
		}
		f, err := frontend.Prepare(context.Background(), src, frontend.Options{})
		if err != nil {
			return err
		}
		names := []string{""}
		for _, m := range f.Partition.Modules {
			names = append(names, m.Name)
		}
		f.Close()
		var commands []*exec.Cmd
		for _, name := range names {
			how.module = name
			c, err := ours(dir, n, lsq, how)
			if err != nil {
				return err
			}
			commands = append(commands, c)
		}
		answers, err := takeTurns(commands, rounds, steps)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		all := answers[0]
		for i, a := range answers {
			name := names[i]
			if name == "" {
				name = "everything"
			}
			t, whole := turns.Median(a.Seconds), turns.Median(all.Seconds)
			fmt.Fprintf(w, "%s\t%s\t%.1f\t%.2f\t%.2f\t%.2f\t\n", n.Name, name, 1e3*t, t/whole, a.MACs/1e9, a.MACs/all.MACs)
		}
	}
	return w.Flush()
}

// within are the params of a module.
func within(p *partition.Partition, module string, params []step.Param) (out []step.Param, err error) {
	for _, m := range p.Modules {
		if m.Name != module {
			continue
		}
		mine := map[string]bool{}
		for _, v := range m.Initializers {
			mine[v.Name()] = true
		}
		for _, q := range params {
			if mine[q.Name] {
				out = append(out, q)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("there is nothing to train in module %q", module)
	}
	return out, nil
}

// work counts the multiply-accumulates of a step before it is lowered.
func work(g *ir.Graph) float64 {
	sum := 0.0
	for _, n := range g.Nodes() {
		var large, small []int64 // each element of large is a sum of products, or one times, the elements of small but the first axis
		switch {
		case n.Is("Conv"):
			large, _ = n.Output(0).StaticDims()
			small, _ = n.Input(1).StaticDims()
		case n.Domain == grad.Domain && n.Op == grad.ConvWeightGrad:
			large, _ = n.Input(1).StaticDims()
			small, _ = n.Output(0).StaticDims()
		case n.Domain == grad.Domain && n.Op == grad.ConvInputGrad:
			large, _ = n.Input(0).StaticDims()
			small, _ = n.Input(1).StaticDims()
		case n.Is("Gemm"), n.Is("MatMul"):
			large, _ = n.Output(0).StaticDims()
			x, _ := n.Input(0).StaticDims()
			if len(x) > 0 {
				small = []int64{1, x[len(x)-1]}
				if n.Int("transA", 0) != 0 {
					small[1] = x[0]
				}
			}
		}
		if len(large) > 0 && len(small) > 1 {
			sum += count(large) * count(small[1:])
		}
	}
	return sum
}

func count(dims []int64) float64 {
	n := 1.0
	for _, d := range dims {
		n *= float64(d)
	}
	return n
}
