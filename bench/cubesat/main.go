// Command cubesat sums up the runs of compare.sh: each arm's mean over the seeds, and for each pair of arms the mean difference with
// its 95% interval (Student's t over paired seeds).
//
// usage: go run ./bench/cubesat OUT
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"text/tabwriter"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"mqatc/compiler/report"
)

// pairs are what is compared: the first should not be worse than the second.
var pairs = [][2]string{
	{"mqat-4x", "float"},
	{"mqat-8x", "float"},
	{"mqat-4x", "uniform-4x"},
	{"mqat-8x", "uniform-4x"},
	{"mqat-8x", "uniform-8x"},
	{"mqat-as-uniform-8x", "uniform-8x"},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: cubesat OUT")
		os.Exit(2)
	}
	if err := sum(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "cubesat:", err)
		os.Exit(1)
	}
}

var folder = regexp.MustCompile(`^(.+)-(\d+)$`)

func sum(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*", "report.json"))
	if err != nil {
		return err
	}
	scores := map[string]map[int]float64{}
	last := map[string]report.Method{}
	for _, f := range files {
		m := folder.FindStringSubmatch(filepath.Base(filepath.Dir(f)))
		if m == nil {
			continue
		}
		seed, err := strconv.Atoi(m[2])
		if err != nil {
			return err
		}
		raw, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		var r report.Report
		if err := json.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		for _, row := range r.Methods {
			arm := m[1]
			switch row.Name {
			case "float":
				arm = "float"
			case r.Method:
			default:
				arm += ", not trained"
			}
			if scores[arm] == nil {
				scores[arm] = map[int]float64{}
			}
			scores[arm][seed] = row.Metric
			last[arm] = row
		}
	}
	if len(scores) == 0 {
		return fmt.Errorf("%s holds no ARM-SEED/report.json", dir)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "arm\tseeds\tmean\teach\tsmaller\tbits (last seed)\n")
	var arms []string
	for arm := range scores {
		arms = append(arms, arm)
	}
	slices.Sort(arms)
	for _, arm := range arms {
		var each []float64
		text := ""
		for _, seed := range seeds(scores[arm]) {
			each = append(each, scores[arm][seed])
			text += fmt.Sprintf("%.4f ", scores[arm][seed])
		}
		fmt.Fprintf(w, "%s\t%d\t%.4f\t%s\t%.2f\t%s\n", arm, len(each), stat.Mean(each, nil), text, last[arm].Achieved, last[arm].WidthText())
	}
	fmt.Fprintf(w, "\npair\tseeds\tmean difference\t95%% interval\n")
	for _, p := range pairs {
		var d []float64
		for _, seed := range seeds(scores[p[0]]) {
			if b, ok := scores[p[1]][seed]; ok {
				d = append(d, scores[p[0]][seed]-b)
			}
		}
		if len(d) < 2 {
			continue
		}
		mean, std := stat.MeanStdDev(d, nil)
		n := float64(len(d))
		half := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile(0.975) * std / math.Sqrt(n)
		fmt.Fprintf(w, "%s - %s\t%d\t%+.4f\t%+.4f .. %+.4f\n", p[0], p[1], len(d), mean, mean-half, mean+half)
	}
	return w.Flush()
}

func seeds(m map[int]float64) []int {
	var out []int
	for s := range m {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}
