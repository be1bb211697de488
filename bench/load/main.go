// Command load times reading a model, inferring its shapes and writing it, against Python's onnx.load, infer_shapes and save: both in
// one run, turn by turn, the smallest time of each counts. Our save syncs the file to disk, Python's does not: "disk" is what writing,
// syncing and renaming as many bytes costs alone. PYTHON names an interpreter with the package onnx; the default is python3.
//
// usage: go run ./bench/load [-n ROUNDS] MODEL.onnx...
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"mqatc/compiler/frontend"
	"mqatc/onnx/format"
)

// peer reads a path a line and answers with the seconds of load, inference and save into the folder given first.
const peer = `
import sys, time, os
try:
    import onnx, onnx.shape_inference
except ImportError as e:
    print("missing", e, flush=True)
    sys.exit(0)
out = os.path.join(sys.argv[1], "peer.onnx")
print("onnx", onnx.__version__, flush=True)
for line in sys.stdin:
    a = time.perf_counter()
    m = onnx.load(line.strip())
    b = time.perf_counter()
    try:
        m = onnx.shape_inference.infer_shapes(m)
    except Exception:
        pass
    c = time.perf_counter()
    onnx.save(m, out)
    print(b - a, c - b, time.perf_counter() - c, flush=True)
`

// times are those of load, inference and save.
type times [3]time.Duration

// disk is the time that the bytes of path take to a file of the same folder: written, synced, renamed.
func disk(path string) (time.Duration, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Write(raw); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	err = os.Rename(path+".tmp", path)
	return time.Since(start), err
}

func (t *times) least(u times) {
	for i := range t {
		if t[i] == 0 || u[i] < t[i] {
			t[i] = u[i]
		}
	}
}

func (t times) sum() time.Duration { return t[0] + t[1] + t[2] }

func main() {
	rounds := flag.Int("n", 10, "rounds")
	flag.Parse()
	if flag.NArg() == 0 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(os.Stdout, *rounds, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, rounds int, models []string) error {
	dir, err := os.MkdirTemp("", "load")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := start(dir)
	if err != nil {
		fmt.Fprintln(out, "no comparison, our times alone:", err)
	} else {
		defer p.stop()
		fmt.Fprintln(out, "against", p.name)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "model\tload ms\tinfer\tsave\tdisk\tPython load\tinfer\tsave\tratio\t")
	for _, m := range models {
		path, err := filepath.Abs(m)
		if err != nil {
			return err
		}
		var own, other times
		least := time.Duration(1<<63 - 1)
		for range rounds {
			t, err := ours(path, filepath.Join(dir, "ours.onnx"))
			if err != nil {
				return err
			}
			own.least(t)
			d, err := disk(filepath.Join(dir, "ours.onnx"))
			if err != nil {
				return err
			}
			least = min(least, d)
			if p == nil {
				continue
			}
			if t, err = p.ask(path); err != nil {
				return fmt.Errorf("python, %s: %w", m, err)
			}
			other.least(t)
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f\t", filepath.Base(m), own, least.Seconds()*1e3)
		if p != nil {
			fmt.Fprintf(w, "%s\t%.2f\t", other, float64(other.sum())/float64(own.sum()))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func (t times) String() string {
	var s []string
	for _, d := range t {
		s = append(s, fmt.Sprintf("%.2f", d.Seconds()*1e3))
	}
	return strings.Join(s, "\t")
}

func ours(path, to string) (t times, err error) {
	a := time.Now()
	m, err := format.Load(path)
	if err != nil {
		return t, err
	}
	b := time.Now()
	if _, err := frontend.Infer(m, nil); err != nil {
		return t, err
	}
	c := time.Now()
	_, err = format.Save(m, to, format.SaveOptions{})
	return times{b.Sub(a), c.Sub(b), time.Since(c)}, err
}

// python is the peer's process.
type python struct {
	name string
	in   io.WriteCloser
	out  *bufio.Reader
	stop func()
}

func start(dir string) (*python, error) {
	interpreter := os.Getenv("PYTHON")
	if interpreter == "" {
		interpreter = "python3"
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, interpreter, "-c", peer, dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err == nil {
		var out io.ReadCloser
		if out, err = cmd.StdoutPipe(); err == nil {
			p := &python{in: in, out: bufio.NewReader(out)}
			p.stop = func() { in.Close(); cancel(); _ = cmd.Wait() }
			if err = cmd.Start(); err == nil {
				line, rerr := p.out.ReadString('\n')
				p.name = strings.TrimSpace(line)
				if rerr == nil && strings.HasPrefix(p.name, "onnx ") {
					return p, nil
				}
				p.stop()
				return nil, errors.New(interpreter + " has no package onnx: name one that has with PYTHON")
			}
		}
	}
	cancel()
	return nil, fmt.Errorf("%s cannot be run (%w): name a Python that has onnx with PYTHON", interpreter, err)
}

func (p *python) ask(path string) (t times, err error) {
	if _, err := fmt.Fprintln(p.in, path); err != nil {
		return t, err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return t, err
	}
	var s [3]float64
	if _, err := fmt.Sscan(line, &s[0], &s[1], &s[2]); err != nil {
		return t, err
	}
	for i := range t {
		t[i] = time.Duration(s[i] * float64(time.Second))
	}
	return t, nil
}
