package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"

	"mqatc/bench/turns"
	"mqatc/onnx/format"
	"mqatc/runtime/train"
	"mqatc/testmodels/cubesat"
)

// setting is how a process of ours trains.
type setting struct {
	name             string
	lower, recompute bool
	measured         bool   // forms are chosen by what they cost, as trainings of some length do
	parts            bool   // the images of a step are divided among threads, where forms are chosen
	module           string // all that is trained; empty for everything
}

var settings = []setting{{name: "default", lower: true, measured: true, parts: true}, {name: "standard"}, {name: "lower", lower: true}, {name: "recompute", recompute: true}, {name: "lower recompute", lower: true, recompute: true}}

// memories writes the memory that each way of training takes, each in a process of its own: MB above what the process held once its
// libraries were loaded, and as a part of the least of PyTorch's; whole processes; and what was foreseen before the first step.
func memories(dir string, networks []network, lsq bool, rivals []string, only string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "MB\ttaken\tpart\tby steps\tprocess\tforeseen\toff\t\n")
	for _, n := range networks {
		if only != "" && !slices.Contains(strings.Split(only, ","), n.Name) {
			continue
		}
		least := int64(0)
		row := func(name string, a answer) {
			fmt.Fprintf(w, "%s, %s\t%d\t%.2f\t%d\t%d\t", n.Name, name, a.Bytes>>20, float64(a.Bytes)/float64(least), a.Steps>>20, a.Process>>20)
			if a.Foreseen > 0 {
				fmt.Fprintf(w, "%d\t%+.1f %%\t\n", a.Foreseen>>20, 100*(float64(a.Foreseen)/float64(a.Taken)-1))
			} else {
				fmt.Fprint(w, "\t\t\n")
			}
		}
		var answers []answer
		for _, r := range rivals {
			a, err := memoryOf(rival(n, r, lsq))
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			answers = append(answers, a)
			if least == 0 || a.Bytes < least {
				least = a.Bytes
			}
		}
		for i, a := range answers {
			row("PyTorch "+rivals[i], a)
		}
		for _, s := range settings {
			if err := measuredFirst(dir, n, lsq, s); err != nil {
				return err
			}
			c, err := ours(dir, n, lsq, s)
			if err != nil {
				return err
			}
			a, err := memoryOf(c)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", n.Name, s.name, err)
			}
			row(s.name, a)
		}
	}
	return w.Flush()
}

// memoryOf runs some steps: what the first ones take stays in their allocators.
func memoryOf(c *exec.Cmd) (a answer, err error) {
	p, err := turns.Start(c)
	if err != nil {
		return a, err
	}
	defer p.Stop()
	for range 2 {
		if err = p.Ask(4, &a); err != nil {
			return a, err
		}
	}
	return a, nil
}

// ours is this command as a process that trains n.
func ours(dir string, n network, lsq bool, s setting) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(self, "-serve", filepath.Join(dir, n.File), "-batch", fmt.Sprint(n.Batch), fmt.Sprintf("-lsq=%v", lsq),
		fmt.Sprintf("-lower=%v", s.lower), fmt.Sprintf("-recompute=%v", s.recompute), fmt.Sprintf("-measured=%v", s.measured), fmt.Sprintf("-parts=%v", s.parts), "-module", s.module), nil
}

// measuredFirst has a process of its own measure forms, so that this takes no time and memory of the one that is looked at.
func measuredFirst(dir string, n network, lsq bool, s setting) error {
	if !s.lower || !s.measured {
		return nil
	}
	first, err := ours(dir, n, lsq, s)
	if err != nil {
		return err
	}
	if out, err := first.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// rival is a process in which PyTorch trains n.
func rival(n network, how string, lsq bool) *exec.Cmd {
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	flag := "0"
	if lsq {
		flag = "1"
	}
	_, source, _, _ := runtime.Caller(0)
	return exec.Command(python, filepath.Join(filepath.Dir(source), "export.py"), "--serve", n.Name, how, flag)
}

// meter reads the memory of this process.
type meter struct {
	before, least  int64 // resident before the network is made, and once the C library has given back what it kept of freed memory
	ready, process int64
}

// start begins to measure steps.
func (m *meter) start() {
	debug.FreeOSMemory()
	m.ready, m.process = status("VmRSS"), status("VmHWM")
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // VmHWM begins anew
}

// status is a figure of /proc/self/status in bytes, 0 where there is none.
func status(key string) int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		if rest, ok := strings.CutPrefix(in.Text(), key+":"); ok {
			var kb int64
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb << 10
			}
		}
	}
	return 0
}

// fill puts the figures into a.
func (m meter) fill(a *answer) {
	peak := status("VmHWM")
	a.Bytes, a.Taken, a.Steps, a.Process = peak-m.before, peak-m.least, peak-m.ready, max(peak, m.process)
}

// networksOf reads what export.py wrote.
func networksOf(dir string) (torch string, networks []network, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return "", nil, err
	}
	var index struct {
		Torch    string    `json:"torch"`
		Networks []network `json:"networks"`
	}
	err = json.Unmarshal(raw, &index)
	return index.Torch, index.Networks, err
}

// warm trains a small network for a step: what the library takes once.
func warm(ctx context.Context, lsq bool, how setting) error {
	how.module = ""
	m, err := cubesat.Network(1, 64, 0.25)
	if err != nil {
		return err
	}
	if err := m.Graph.SetOutputs(m.Graph.Outputs()[0]); err != nil {
		return err
	}
	raw, err := format.Marshal(m)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mqatc-step-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "small.onnx")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return err
	}
	e, feeds, _, err := engine(ctx, path, 1, lsq, how, train.Config{Threads: 2})
	if err != nil {
		return err
	}
	defer debug.FreeOSMemory()
	defer e.Close()
	_, err = e.Step(1e-4, feeds)
	return err
}
