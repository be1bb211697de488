package distill

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"mqatc/onnx/ir"
	"mqatc/runtime/task/score"
)

// OutputAgreement compares one output with the float network's, over images.
type OutputAgreement struct {
	Output string `json:"output"`
	// Cosine is the mean over images of <y,t>/(|y||t|), 1 where both are zero; RelativeError that of |y-t|/|t|. A single number has
	// no angle: 1 - |y-t|/max(|y|,|t|,0.05) stands for its cosine.
	Cosine        float64 `json:"cosine"`
	RelativeError float64 `json:"relative_error"`
}

// Agreement is how near a network comes to the float network.
type Agreement struct {
	Images int `json:"images"`
	// Loss is the mean of the training loss over images, where it was asked for.
	Loss          *float64          `json:"loss,omitempty"`
	Cosine        float64           `json:"cosine"` // mean over outputs and images
	RelativeError float64           `json:"relative_error"`
	Outputs       []OutputAgreement `json:"outputs"`
}

// singleFloor is what a single number counts as at least: below it, it says that something is not there.
const singleFloor = 0.05

// Compare is the cosine and the relative error of one output of one image.
func Compare(y, t []float32) (cosine, relative float64, err error) {
	if len(y) != len(t) {
		return 0, 0, fmt.Errorf("distill: %d elements compared with %d", len(y), len(t))
	}
	var yy, tt, yt, dd float64
	for i := range y {
		a, b := float64(y[i]), float64(t[i])
		yy += a * a
		tt += b * b
		yt += a * b
		dd += (a - b) * (a - b)
	}
	if math.IsNaN(yy+tt) || math.IsInf(yy+tt, 0) {
		return 0, 0, fmt.Errorf("distill: the outputs are not finite")
	}
	switch {
	case len(y) == 1 && tt > 0:
		return single(yy, tt, dd), math.Sqrt(dd / tt), nil
	case len(y) == 1 && dd > 0:
		return single(yy, tt, dd), 1, nil
	case yy == 0 && tt == 0:
		return 1, 0, nil
	case yy == 0 || tt == 0:
		return 0, 1, nil
	}
	return yt / math.Sqrt(yy*tt), math.Sqrt(dd / tt), nil
}

// Each looks at image i: what the networks were fed and their outputs. It is called from several goroutines.
type Each func(i int, feeds, student, teacher map[string]*ir.Tensor) error

// single compares two numbers by the squares of both and of their difference.
func single(yy, tt, dd float64) float64 {
	return 1 - math.Sqrt(dd)/max(math.Sqrt(yy), math.Sqrt(tt), singleFloor)
}

// Measure runs both networks over n images made by feed and compares their float outputs. Differing outputs are an error. each may
// be nil.
func Measure(ctx context.Context, n int, feed func(i int) (map[string]*ir.Tensor, error), student, teacher score.Runner, workers int, progress func(done, total int), each Each) (*score.Score, error) {
	if n == 0 {
		return nil, fmt.Errorf("distill: no images")
	}
	rows := make([][]OutputAgreement, n)
	group, ctx := errgroup.WithContext(ctx)
	var next, done atomic.Int64
	for range max(1, min(workers, n)) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				f, err := feed(i)
				if err != nil {
					return err
				}
				if rows[i], err = one(i, f, student, teacher, each); err != nil {
					return fmt.Errorf("image %d: %w", i+1, err)
				}
				if k := int(done.Add(1)); progress != nil {
					progress(k, n)
				}
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	a := &Agreement{Images: n, Outputs: slices.Clone(rows[0])}
	for k := range a.Outputs {
		o := &a.Outputs[k]
		o.Cosine, o.RelativeError = 0, 0
		for _, r := range rows {
			o.Cosine += r[k].Cosine / float64(n)
			o.RelativeError += r[k].RelativeError / float64(n)
		}
		a.Cosine += o.Cosine / float64(len(a.Outputs))
		a.RelativeError += o.RelativeError / float64(len(a.Outputs))
	}
	return &score.Score{Images: n, Name: "cosine", Main: a.Cosine, Detail: a}, nil
}

func one(i int, f map[string]*ir.Tensor, student, teacher score.Runner, each Each) ([]OutputAgreement, error) {
	want, err := teacher(f)
	if err != nil {
		return nil, err
	}
	got, err := student(f)
	if err != nil {
		return nil, err
	}
	if each != nil {
		if err := each(i, f, got, want); err != nil {
			return nil, err
		}
	}
	var out []OutputAgreement
	for name, t := range want {
		if t.DType() != ir.Float32 {
			continue
		}
		y := got[name]
		if y == nil {
			return nil, fmt.Errorf("distill: the network lacks the output %q", name)
		}
		tv, err := t.Float32s()
		if err != nil {
			return nil, err
		}
		yv, err := y.Float32s()
		if err != nil {
			return nil, fmt.Errorf("distill: output %q: %w", name, err)
		}
		c, r, err := Compare(yv, tv)
		if err != nil {
			return nil, fmt.Errorf("output %q: %w", name, err)
		}
		out = append(out, OutputAgreement{name, c, r})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("distill: the network has no float output")
	}
	slices.SortFunc(out, func(a, b OutputAgreement) int { return strings.Compare(a.Output, b.Output) })
	return out, nil
}
