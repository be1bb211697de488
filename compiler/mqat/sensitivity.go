package mqat

import (
	"context"
	"fmt"

	"mqatc/compiler/importance"
	"mqatc/compiler/rundir"
	"mqatc/onnx/ir"
	"mqatc/passes/step"
	"mqatc/runtime/train"
)

const (
	hessianBatch   = 2 // images in a Hessian-vector product
	hessianBatches = 8 // different batches that probes take turns on
	hessianTol     = 0.1
)

// Sensitivity measures the Hessian trace of every weight of the float network of j and returns it with the module of each weight.
// The run directory of j may be nil: nothing is stored.
func Sensitivity(ctx context.Context, j Job) (*importance.Result, map[string]string, error) {
	cfg, err := j.Config.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	b, err := newBench(ctx, j.Net, j.Problem, j.Dir, j.Watch, cfg)
	if err != nil {
		return nil, nil, err
	}
	r, err := b.trace(b.Float().(*variant))
	return r, b.home, err
}

// sensitivity measures the Hessian trace of every weight that is still float in v, quantized ones being constants.
func (b *Bench) sensitivity(v *variant) (*importance.Result, error) {
	return rundir.Once(b.dir, b.prefix+"sensitivity", func() (*importance.Result, error) {
		r, err := b.trace(v)
		if err != nil {
			return nil, fmt.Errorf("sensitivity: %w", err)
		}
		return r, nil
	})
}

func (b *Bench) trace(v *variant) (*importance.Result, error) {
	still := v.clone()
	still.active = map[string]bool{}
	m, _, _, err := b.rounded(still)
	if err != nil {
		return nil, err
	}
	size := min(hessianBatch, b.cfg.Batch)
	if b.net.Single {
		size = 1
	}
	merged, err := step.WithLoss(m, b.prob.Loss(), int64(size))
	if err != nil {
		return nil, err
	}
	var layers []string
	for _, p := range b.params {
		name := p.Value.Name()
		if _, isWeight := b.weight[name]; !isWeight || v.bits[name] != 0 || b.home[name] == "" {
			continue
		}
		if val := merged.Graph.Value(name); val != nil && val.Init() != nil {
			layers = append(layers, name)
		}
	}
	if len(layers) == 0 {
		return &importance.Result{}, nil
	}
	batches, err := b.batches(size)
	if err != nil {
		return nil, err
	}
	return importance.Trace(merged, step.Loss, layers, batches, importance.Options{
		MaxProbes: b.cfg.Probes, Tolerance: hessianTol, Seed: b.cfg.Seed, Threads: b.cfg.Threads, MACs: int64(size) * work(b.net.Model),
		Progress: func(done, most int, rel float64) {
			b.watch.Update("sensitivity", done, most, fmt.Sprintf("standard error %.0f%%", 100*rel))
		},
	})
}

// batches are training batches of so many images with the targets of the end of training.
func (b *Bench) batches(size int) ([]map[string]*ir.Tensor, error) {
	src := b.prob.Source()
	extra, err := b.prob.Feeds(1, 1)
	if err != nil {
		return nil, err
	}
	var out []map[string]*ir.Tensor
	n := min(hessianBatches*size, max(src.Len()/size*size, size))
	for from := 0; from < n; from += size {
		var group []train.Feeds
		for i := from; i < from+size; i++ {
			f, err := src.Sample(i*src.Len()/n%src.Len(), nil)
			if err != nil {
				return nil, err
			}
			group = append(group, f)
		}
		batch, err := train.Collate(group)
		if err != nil {
			return nil, err
		}
		for k, t := range extra {
			batch[k] = t
		}
		out = append(out, batch)
	}
	return out, nil
}
