// Command large measures what a model of 1.5 GB with external data costs: `mqatc inspect`, its time and peak memory, and cleaning the
// model up and saving it, beside cp of the same files. Linux counts memory in KiB, which this takes for granted.
//
// usage: go run ./bench/large [-layers 24] [-n ROUNDS] MQATC
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"mqatc/compiler/frontend"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// side of the square float32 matrices, 64 MiB each.
const side = 4096

func main() {
	layers := flag.Int("layers", 24, "matrices of 64 MiB")
	rounds := flag.Int("n", 3, "rounds")
	flag.Parse()
	if flag.NArg() != 1 || *layers < 1 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(os.Stdout, flag.Arg(0), *layers, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "large:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, mqatc string, layers, rounds int) error {
	dir, err := os.MkdirTemp("", "large")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "large.onnx")
	if err := write(path, layers); err != nil {
		return err
	}
	info, err := os.Stat(path + ".data")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d bytes of external data\n", info.Size())
	fmt.Fprintln(out, "round  inspect s  peak MB  clean and save s   cp s  allowed s")
	// A child's peak includes what its parent held when it was started: nothing is mapped here yet.
	took, peaks := make([]time.Duration, rounds), make([]int64, rounds)
	for k := range rounds {
		if took[k], peaks[k], err = inspect(mqatc, path); err != nil {
			return err
		}
	}
	for k := range rounds {
		start := time.Now()
		for _, name := range []string{path, path + ".data"} {
			if err := exec.Command("cp", name, name+".copy").Run(); err != nil {
				return fmt.Errorf("cp: %w", err)
			}
		}
		cp := time.Since(start)
		start = time.Now()
		f, err := frontend.Load(context.Background(), path, frontend.Options{StopAfter: "clean"})
		if err != nil {
			return err
		}
		if _, err := format.Save(f.Model, filepath.Join(dir, "saved.onnx"), format.SaveOptions{ExternalFile: "saved.onnx.data"}); err != nil {
			return err
		}
		saved := time.Since(start)
		if err := f.Close(); err != nil {
			return err
		}
		fmt.Fprintf(out, "%5d  %9.3f  %7d  %16.2f  %5.2f  %9.2f\n", k+1, took[k].Seconds(), peaks[k]>>20, saved.Seconds(), cp.Seconds(), 1.2*cp.Seconds()+1)
	}
	return nil
}

// write makes a chain of matrix products.
func write(path string, layers int) error {
	r := rand.New(rand.NewPCG(1, 2))
	raw := make([]byte, 4*(side*side+layers))
	for i := 3; i < len(raw); i += 4 {
		raw[i-3], raw[i-2], raw[i-1], raw[i] = byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), 0x3c
	}
	m := ir.NewModel("large", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, side)))
	if err != nil {
		return err
	}
	b := ir.NewBuilder(m.Graph, "large", op.InferNode)
	for k := range layers {
		t, err := ir.NewTensor(ir.Float32, []int64{side, side}, raw[4*k:][:4*side*side])
		if err != nil {
			return err
		}
		w, err := m.Graph.AddInitializer(fmt.Sprintf("layer%d.weight", k), t)
		if err != nil {
			return err
		}
		x = b.Op("MatMul", []*ir.Value{x, w})
	}
	if err := b.Err(); err != nil {
		return err
	}
	if err := m.Graph.AddOutput(x); err != nil {
		return err
	}
	_, err = format.Save(m, path, format.SaveOptions{ExternalFile: filepath.Base(path) + ".data"})
	return err
}

// inspect runs `mqatc inspect` and reports the most memory that it held, mapped file pages included.
func inspect(mqatc, path string) (took time.Duration, peak int64, err error) {
	c := exec.Command(mqatc, "inspect", path)
	c.Stderr = os.Stderr
	start := time.Now()
	if err := c.Run(); err != nil {
		return 0, 0, fmt.Errorf("inspect: %w", err)
	}
	took = time.Since(start)
	if u, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = int64(u.Maxrss) << 10
	}
	return took, peak, nil
}
