// Command step times training steps of the networks that export.py wrote, on onnxruntime and in PyTorch, and compares their memory.
//
// usage: go run ./bench/step [-lsq] [-memory | -modules | -operators] [-lower=false] [-recompute] [-measured=false] [-n ROUNDS] [-steps N] [-rivals eager,channels-last,compile] [-networks NAME,...] OUT
//
// Each runs in a process of its own; they take turns, so that one works while the others sleep. A ratio is the least median of the
// rivals over our median, medians taken over all steps of all rounds. PYTHON names an interpreter with torch and torchvision. THREADS
// are those of each side, 2 by default. With -memory no times are compared but the memory taken, of all our forms. With -modules and -operators
// no rivals run: steps are compared that train one module each, or looked at by operator.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"

	"mqatc/bench/turns"
)

type network struct {
	Name  string `json:"name"`
	File  string `json:"file"`
	Batch int64  `json:"batch"`
	Side  int64  `json:"side"`
}

// answer is what a process says after some steps.
type answer struct {
	Seconds []float64 `json:"seconds"`
	MACs    float64   `json:"macs"`  // multiply-accumulates of a step in convolutions, products of matrices and their gradients
	Bytes   int64     `json:"bytes"` // peak above what the process held before it made the network
	// For memories: peak above what the process held without what it had freed, which a foreseen peak is compared with; peak above what it
	// held before the first step, peak of the whole process, and what was foreseen.
	Taken    int64 `json:"taken"`
	Steps    int64 `json:"steps"`
	Process  int64 `json:"process"`
	Foreseen int64 `json:"foreseen"`
}

func main() {
	lsq := flag.Bool("lsq", false, "train fake-quantized weights and activations with their step sizes")
	rounds := flag.Int("n", 8, "rounds")
	steps := flag.Int("steps", 6, "steps in a round")
	rivals := flag.String("rivals", "eager,channels-last", "how PyTorch runs")
	names := flag.String("networks", "", "names; all where empty")
	serving := flag.String("serve", "", "file of the network to train (used by this command itself)")
	batch := flag.Int64("batch", 0, "images in a step of -serve")
	profile := flag.String("profile", "", "with -serve, prefix of onnxruntime's profile")
	lower := flag.Bool("lower", true, "lowered steps")
	recompute := flag.Bool("recompute", false, "values of the forward pass computed again")
	module := flag.String("module", "", "with -serve, the module that is trained; everything where empty")
	modules := flag.Bool("modules", false, "compare steps that train one module of a network each, the others frozen")
	byOperator := flag.Bool("operators", false, "what part of the machine's matrix products a step reaches, and where its time goes")
	measured := flag.Bool("measured", true, "forms of lowered steps are chosen by what they cost; -memory looks at both")
	parts := flag.Bool("parts", true, "the images of a step are divided among threads where that pays; not with -measured=false")
	memory := flag.Bool("memory", false, "compare the memory that steps take")
	flag.Parse()
	how := setting{lower: *lower, recompute: *recompute, measured: *measured, parts: *parts, module: *module}
	var err error
	switch {
	case *serving != "":
		err = serve(*serving, *batch, *lsq, how, *profile)
	case flag.NArg() != 1 || *rounds < 1 || *steps < 1:
		flag.Usage()
		os.Exit(2)
	case *byOperator:
		var networks []network
		if _, networks, err = networksOf(flag.Arg(0)); err == nil {
			err = operators(flag.Arg(0), networks, *lsq, how, *rounds, *steps, *names)
		}
	case *modules:
		var networks []network
		if _, networks, err = networksOf(flag.Arg(0)); err == nil {
			err = modulewise(flag.Arg(0), networks, *lsq, how, *rounds, *steps, *names)
		}
	case *memory:
		var networks []network
		if _, networks, err = networksOf(flag.Arg(0)); err == nil {
			err = memories(flag.Arg(0), networks, *lsq, strings.Split(*rivals, ","), *names)
		}
	default:
		err = table(flag.Arg(0), *lsq, how, *rounds, *steps, strings.Split(*rivals, ","), *names)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "step:", err)
		os.Exit(1)
	}
}

func table(dir string, lsq bool, how setting, rounds, steps int, rivals []string, only string) error {
	torch, networks, err := networksOf(dir)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "ms, torch %s\tbatch\tpixels\tmqatc\tbest\t", torch)
	for _, r := range rivals {
		fmt.Fprintf(w, "%s\tbest\t", r)
	}
	fmt.Fprint(w, "ratio\tMB\ttorch MB\tpart\t\n")
	product, count := 0.0, 0
	for _, n := range networks {
		if only != "" && !slices.Contains(strings.Split(only, ","), n.Name) {
			continue
		}
		r, err := compare(dir, n, lsq, how, rounds, steps, rivals)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t", n.Name, n.Batch, n.Side)
		best := math.Inf(1)
		for i, s := range r {
			fmt.Fprintf(w, "%.1f\t%.1f\t", 1e3*turns.Median(s.Seconds), 1e3*slices.Min(s.Seconds))
			if i > 0 {
				best = min(best, turns.Median(s.Seconds))
			}
		}
		least := slices.MinFunc(r[1:], func(a, b answer) int { return int(a.Bytes - b.Bytes) }).Bytes
		ratio := best / turns.Median(r[0].Seconds)
		fmt.Fprintf(w, "%.2f\t%d\t%d\t%.2f\t\n", ratio, r[0].Bytes>>20, least>>20, float64(r[0].Bytes)/float64(least))
		product, count = product+math.Log(ratio), count+1
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("geometric mean of %d ratios %.2f\n", count, math.Exp(product/float64(max(count, 1))))
	return nil
}

// compare lets us and the rivals take turns. The answers stand in this order.
func compare(dir string, n network, lsq bool, how setting, rounds, steps int, rivals []string) ([]answer, error) {
	c, err := ours(dir, n, lsq, how)
	if err != nil {
		return nil, err
	}
	if err := measuredFirst(dir, n, lsq, how); err != nil {
		return nil, err
	}
	commands := []*exec.Cmd{c}
	for _, r := range rivals {
		commands = append(commands, rival(n, r, lsq))
	}
	return takeTurns(commands, rounds, steps)
}

// takeTurns asks each command for steps, round by round.
func takeTurns(commands []*exec.Cmd, rounds, steps int) ([]answer, error) {
	players, stop, err := turns.StartAll(commands)
	if err != nil {
		return nil, err
	}
	defer stop()
	out := make([]answer, len(players))
	for round := range rounds + 1 {
		for i, p := range players {
			var a answer
			if err := p.Ask(max(2, steps*min(round, 1)), &a); err != nil {
				return nil, err
			}
			if round > 0 { // the first one warms up
				out[i].Seconds = append(out[i].Seconds, a.Seconds...)
			}
			out[i].Bytes, out[i].MACs = a.Bytes, a.MACs
		}
	}
	return out, nil
}
