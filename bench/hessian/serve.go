package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"mqatc/compiler/frontend"
	"mqatc/compiler/importance"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
)

// serve estimates the trace of a network of dir: for each line N of standard input with N probes, answered by a line of JSON.
func serve(dir, name, profile string) error {
	threads := 2
	if s := os.Getenv("THREADS"); s != "" {
		var err error
		if threads, err = strconv.Atoi(s); err != nil {
			return err
		}
	}
	n, err := find(dir, name)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := ort.Open(ctx, ort.Options{}); err != nil {
		return err
	}
	src, err := frontend.Read(filepath.Join(dir, name+".onnx"))
	if err != nil {
		return err
	}
	f, err := frontend.Prepare(ctx, src, frontend.Options{NoFold: true})
	if err != nil {
		return err
	}
	defer f.Close()
	batch, err := n.feeds(dir)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		probes, err := strconv.Atoi(in.Text())
		if err != nil {
			return err
		}
		var a answer
		start := time.Now()
		last := start
		loss, err := crossEntropy(f.Model)
		if err != nil {
			return err
		}
		m, err := step.WithLoss(f.Model, loss, n.Batch)
		if err != nil {
			return err
		}
		r, err := importance.Trace(m, step.Loss, n.Layers, []map[string]*ir.Tensor{batch}, importance.Options{
			MinProbes: probes, MaxProbes: probes, Tolerance: 1e-30, Seed: 1, Threads: threads, Profile: profile,
			Progress: func(int, int, float64) {
				now := time.Now()
				a.Probes, last = append(a.Probes, now.Sub(last).Seconds()), now
			}})
		if err != nil {
			return err
		}
		a.Seconds = time.Since(start).Seconds()
		for _, l := range r.Layers {
			a.Samples = append(a.Samples, l.Samples)
		}
		if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

// feeds are the images and labels that export.py wrote.
func (n network) feeds(dir string) (map[string]*ir.Tensor, error) {
	images, err := os.ReadFile(filepath.Join(dir, n.Name+".images"))
	if err != nil {
		return nil, err
	}
	labels, err := os.ReadFile(filepath.Join(dir, n.Name+".labels"))
	if err != nil {
		return nil, err
	}
	x, err := ir.NewTensor(ir.Float32, []int64{n.Batch, 3, n.Side, n.Side}, images)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	t, err := ir.NewTensor(ir.Int64, []int64{n.Batch}, labels)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return map[string]*ir.Tensor{"image": x, "labels": t}, nil
}

// crossEntropy is the loss of the scores and labels, averaged over the batch.
func crossEntropy(m *ir.Model) (*ir.Model, error) {
	out := m.Graph.Outputs()[0]
	l := ir.NewModel("cross-entropy", 17)
	y, err := l.Graph.AddInput(out.Name(), out.Type.Clone())
	if err != nil {
		return nil, err
	}
	t, err := l.Graph.AddInput("labels", ir.TensorType(ir.Int64, out.Shape()[:1].Clone()))
	if err != nil {
		return nil, err
	}
	b := ir.NewBuilder(l.Graph, "loss", op.InferNode)
	loss := b.Op("SoftmaxCrossEntropyLoss", []*ir.Value{y, t})
	if err := b.Err(); err != nil {
		return nil, err
	}
	return l, l.Graph.SetOutputs(loss)
}
