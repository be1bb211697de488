// Command hessian estimates the Hessian trace of the networks that export.py wrote, beside PyHessian, and compares values and time.
//
// usage: go run ./bench/hessian [-n ROUNDS] [-probes N] [-rivals eager,channels-last] [-networks NAME,...] OUT
//
// Each runs in a process of its own; they take turns, so that one works while the others sleep, and start anew in each round: building
// graphs and loading sessions count, reading the network does not. A ratio is the least median of the rivals over our median. Values agree
// where, for each layer and for the sum, the two means over the probes lie within four standard errors of their difference. PYTHON names
// an interpreter with torch, torchvision and pyhessian. THREADS are those of each side, 2 by default.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"gonum.org/v1/gonum/stat"

	"mqatc/bench/turns"
)

type network struct {
	Name   string   `json:"name"`
	Batch  int64    `json:"batch"`
	Side   int64    `json:"side"`
	Layers []string `json:"layers"`
}

// answer is what a process says after an estimate.
type answer struct {
	Seconds float64     `json:"seconds"`
	Probes  []float64   `json:"probes"`  // seconds from the end of the one before; our first includes what goes before
	Samples [][]float64 `json:"samples"` // by layer and probe
}

type index struct {
	Torch    string    `json:"torch"`
	Networks []network `json:"networks"`
}

func main() {
	rounds := flag.Int("n", 3, "rounds")
	probes := flag.Int("probes", 32, "probes of an estimate")
	rivals := flag.String("rivals", "eager,channels-last", "how PyTorch runs")
	names := flag.String("networks", "", "names; all where empty")
	serving := flag.String("serve", "", "network to estimate (used by this command itself)")
	profile := flag.String("profile", "", "with -serve, prefix of onnxruntime's profile of the probes")
	flag.Parse()
	if flag.NArg() != 1 || *rounds < 1 || *probes < 2 {
		flag.Usage()
		os.Exit(2)
	}
	var err error
	bad := 0
	if *serving != "" {
		err = serve(flag.Arg(0), *serving, *profile)
	} else {
		bad, err = table(flag.Arg(0), *rounds, *probes, strings.Split(*rivals, ","), *names)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hessian:", err)
		os.Exit(1)
	}
	if bad > 0 {
		fmt.Fprintf(os.Stderr, "hessian: %d values differ\n", bad)
		os.Exit(1)
	}
}

func read(dir string) (x index, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return x, err
	}
	return x, json.Unmarshal(raw, &x)
}

func find(dir, name string) (network, error) {
	x, err := read(dir)
	if err != nil {
		return network{}, err
	}
	for _, n := range x.Networks {
		if n.Name == name {
			return n, nil
		}
	}
	return network{}, fmt.Errorf("%s has no network %q", filepath.Join(dir, "index.json"), name)
}

func table(dir string, rounds, probes int, rivals []string, only string) (bad int, err error) {
	x, err := read(dir)
	if err != nil {
		return 0, err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "torch %s\tbatch\tpixels\tlayers\tmqatc s\tms a probe\t", x.Torch)
	for _, r := range rivals {
		fmt.Fprintf(w, "%s s\tms a probe\t", r)
	}
	fmt.Fprint(w, "ratio\tof probes\ttrace\t+-\ttheirs\t+-\tworst layer\t\n")
	for _, n := range x.Networks {
		if only != "" && !slices.Contains(strings.Split(only, ","), n.Name) {
			continue
		}
		r, err := compare(dir, n, rounds, probes, rivals)
		if err != nil {
			return bad, fmt.Errorf("%s: %w", n.Name, err)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t", n.Name, n.Batch, n.Side, len(n.Layers))
		whole, each := math.Inf(1), math.Inf(1)
		for i, a := range r {
			fmt.Fprintf(w, "%.2f\t%.0f\t", a.whole, 1e3*a.probe)
			if i > 0 {
				whole, each = min(whole, a.whole), min(each, a.probe)
			}
		}
		us, them := r[0].samples, r[1].samples
		trace, theirs := estimateOf(sum(us)), estimateOf(sum(them))
		worst := 0.0
		for i := range n.Layers {
			off := estimateOf(us[i]).off(estimateOf(them[i]))
			worst = max(worst, off)
			if off > 4 {
				fmt.Fprintf(os.Stderr, "%s: layer %s: %v, theirs %v\n", n.Name, n.Layers[i], estimateOf(us[i]), estimateOf(them[i]))
				bad++
			}
		}
		if trace.off(theirs) > 4 {
			bad++
		}
		fmt.Fprintf(w, "%.2f\t%.2f\t%.4g\t%.2g\t%.4g\t%.2g\t%.1f\t\n", whole/r[0].whole, each/r[0].probe,
			trace.mean, trace.err, theirs.mean, theirs.err, worst)
	}
	return bad, w.Flush()
}

// result has the medians over the rounds, of whole estimates and of mean times per probe.
type result struct {
	whole, probe float64
	samples      [][]float64
}

// compare lets us and the rivals take turns. The results stand in this order.
func compare(dir string, n network, rounds, probes int, rivals []string) ([]result, error) {
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	_, source, _, _ := runtime.Caller(0)
	commands := []*exec.Cmd{exec.Command(self, "-serve", n.Name, dir)}
	for _, r := range rivals {
		commands = append(commands, exec.Command(python, filepath.Join(filepath.Dir(source), "export.py"), "--serve", dir, n.Name, r))
	}
	players, stop, err := turns.StartAll(commands)
	if err != nil {
		return nil, err
	}
	defer stop()
	out := make([]result, len(players))
	whole, each := make([][]float64, len(players)), make([][]float64, len(players))
	for round := range rounds + 1 {
		for i, p := range players {
			many := probes
			if round == 0 { // warms up
				many = 2
			}
			var a answer
			if err := p.Ask(many, &a); err != nil {
				return nil, err
			}
			if len(a.Samples) != len(n.Layers) || len(a.Probes) != many {
				return nil, fmt.Errorf("%d layers and %d probes answered, %d and %d asked for", len(a.Samples), len(a.Probes), len(n.Layers), many)
			}
			if round > 0 {
				whole[i], each[i] = append(whole[i], a.Seconds), append(each[i], perProbe(a.Probes))
				out[i].samples = a.Samples
			}
		}
	}
	for i := range out {
		out[i].whole, out[i].probe = turns.Median(whole[i]), turns.Median(each[i])
	}
	return out, nil
}

// perProbe is the mean time of a probe after the first ones: up to four probes run side by side and end together.
func perProbe(seconds []float64) float64 {
	return stat.Mean(seconds[min(4, len(seconds)/2):], nil)
}

// estimate is a mean over probes with its standard error.
type estimate struct{ mean, err float64 }

func estimateOf(samples []float64) estimate {
	mean, sd := stat.MeanStdDev(samples, nil)
	return estimate{mean, stat.StdErr(sd, float64(len(samples)))}
}

// off is the distance in standard errors of the difference.
func (e estimate) off(f estimate) float64 { return math.Abs(e.mean-f.mean) / math.Hypot(e.err, f.err) }

func sum(layers [][]float64) []float64 {
	out := make([]float64, len(layers[0]))
	for _, l := range layers {
		for i, v := range l {
			out[i] += v
		}
	}
	return out
}
