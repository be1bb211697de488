package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"mqatc/bench/turns"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort"
)

// operators writes what part of the machine's matrix products a step reaches, and how its time divides among operators.
func operators(dir string, networks []network, lsq bool, how setting, rounds, steps int, only string) error {
	type row struct {
		name, shares  string
		seconds, work float64
	}
	var all []row
	fast := 0.0 // the best of several times: other work on the machine only takes from it
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "network\tms\tGFLOP\tGFLOP/s\tof peak\tby operator, %\n")
	for _, n := range networks {
		if only != "" && !slices.Contains(strings.Split(only, ","), n.Name) {
			continue
		}
		c, err := ours(dir, n, lsq, how)
		if err != nil {
			return err
		}
		a, err := takeTurns([]*exec.Cmd{c}, rounds, steps)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		shares, err := profiled(dir, n, lsq, how, steps)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		rate, err := peak()
		if err != nil {
			return err
		}
		fast = max(fast, rate)
		all = append(all, row{n.Name, shares, turns.Median(a[0].Seconds), 2 * a[0].MACs})
	}
	for _, r := range all {
		fmt.Fprintf(w, "%s\t%.1f\t%.2f\t%.0f\t%.2f\t%s\n", r.name, 1e3*r.seconds, r.work/1e9, r.work/r.seconds/1e9, r.work/r.seconds/fast, r.shares)
	}
	fmt.Printf("matrix products: %.0f GFLOP/s\n", fast/1e9)
	return w.Flush()
}

// peak is the best rate of a product of two matrices of 1024 x 1024, in operations a second.
func peak() (float64, error) {
	const n = 1024
	if err := ort.Open(context.Background(), ort.Options{}); err != nil {
		return 0, err
	}
	threads, err := threadsOf()
	if err != nil {
		return 0, err
	}
	m := ir.NewModel("product", 17)
	in := make([]*ir.Value, 2)
	feeds := map[string]*ort.Buffer{}
	for i, name := range []string{"a", "b"} {
		if in[i], err = m.Graph.AddInput(name, ir.TensorType(ir.Float32, ir.StaticShape(n, n))); err != nil {
			return 0, err
		}
		if feeds[name], err = ort.NewBuffer(ir.Float32, n, n); err != nil {
			return 0, err
		}
		defer feeds[name].Close()
		for i := range feeds[name].Float32s() {
			feeds[name].Float32s()[i] = float32(i%7) - 3 // memory that was never written has one page for all
		}
	}
	b := ir.NewBuilder(m.Graph, "", op.InferNode)
	y := b.Op("MatMul", in)
	if err := b.Err(); err != nil {
		return 0, err
	}
	if err := m.Graph.AddOutput(y); err != nil {
		return 0, err
	}
	s, err := ort.Load(m, ort.SessionOptions{Threads: threads})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	out, err := ort.NewBuffer(ir.Float32, n, n)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	bound, err := s.Bind(feeds, map[string]*ort.Buffer{y.Name(): out})
	if err != nil {
		return 0, err
	}
	defer bound.Close()
	best := math.Inf(1)
	for range 50 {
		start := time.Now()
		if err := bound.Run(); err != nil {
			return 0, err
		}
		best = min(best, time.Since(start).Seconds())
	}
	return 2 * n * n * n / best, nil
}

// profiled runs some steps under onnxruntime's profiler and lists operators with their parts of the time of all.
func profiled(dir string, n network, lsq bool, how setting, steps int) (string, error) {
	tmp, err := os.MkdirTemp("", "mqatc-step-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	c, err := ours(dir, n, lsq, how)
	if err != nil {
		return "", err
	}
	c.Args = append(c.Args, "-profile", filepath.Join(tmp, "profile"))
	c.Stdin, c.Stderr = strings.NewReader(fmt.Sprintln(steps)), os.Stderr
	if _, err := c.Output(); err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(tmp, "profile*.json"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("no profile: %v", err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		return "", err
	}
	var events []struct {
		Name, Cat string
		Dur       float64
		Args      struct {
			Op string `json:"op_name"`
		}
	}
	if err := json.Unmarshal(raw, &events); err != nil {
		return "", err
	}
	spent, all := map[string]float64{}, 0.0
	for _, e := range events {
		if e.Cat == "Node" && strings.HasSuffix(e.Name, "_kernel_time") {
			spent[e.Args.Op] += e.Dur
			all += e.Dur
		}
	}
	var list []string
	rest := 100.0
	for _, name := range slices.SortedFunc(maps.Keys(spent), func(a, b string) int { return int(spent[b] - spent[a]) }) {
		if part := 100 * spent[name] / all; part >= 1.5 {
			list, rest = append(list, fmt.Sprintf("%s %.0f", name, part)), rest-part
		}
	}
	return strings.Join(append(list, fmt.Sprintf("others %.0f", rest)), ", "), nil
}
