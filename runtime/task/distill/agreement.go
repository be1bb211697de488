package distill

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"mqatc/onnx/ir"
	"mqatc/runtime/task/score"
)

// OutputAgreement compares one output with the float network's, over images: see Agree.
type OutputAgreement struct {
	Output        string  `json:"output"`
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

const (
	// singleFloor is what a single number counts as at least: below it, it says that something is not there.
	singleFloor = 0.05
	// nothingPart is the part of an output's largest mean square over images below which it says nothing of an image: a map of text
	// where there is none holds 1e-9 instead of 0.2, and whatever the float format makes of that.
	nothingPart = 1e-6
)

// Sums are those over the elements y of one output of one image and the elements t of the float network's.
type Sums struct {
	YY, TT, YT float64
	DD         float64 // of (y-t)^2
	Elements   int
}

// SumsOf is an error where the lengths differ or an element is not finite.
func SumsOf(y, t []float32) (Sums, error) {
	if len(y) != len(t) {
		return Sums{}, fmt.Errorf("distill: %d elements compared with %d", len(y), len(t))
	}
	s := Sums{Elements: len(y)}
	for i := range y {
		a, b := float64(y[i]), float64(t[i])
		s.YY += a * a
		s.TT += b * b
		s.YT += a * b
		s.DD += (a - b) * (a - b)
	}
	if math.IsNaN(s.YY+s.TT) || math.IsInf(s.YY+s.TT, 0) {
		return s, fmt.Errorf("distill: the outputs are not finite")
	}
	return s, nil
}

// Agree compares one output over images: the means of the cosine <y,t>/(|y||t|) and of the relative error |y-t|/|t|. They are 1 and 0
// where both are next to nothing, by mean square a millionth of the largest t. A single number has no angle:
// 1 - |y-t|/max(|y|,|t|,0.05) stands for its cosine.
func Agree(images []Sums) (cosine, relative float64) {
	nothing := 0.0
	for _, s := range images {
		nothing = max(nothing, nothingPart*s.TT/float64(max(s.Elements, 1)))
	}
	for _, s := range images {
		c, r := s.compare(nothing * float64(s.Elements))
		cosine += c / float64(len(images))
		relative += r / float64(len(images))
	}
	return cosine, relative
}

func (s Sums) compare(nothing float64) (cosine, relative float64) {
	switch {
	case s.Elements == 1 && s.TT > 0:
		return single(s.YY, s.TT, s.DD), math.Sqrt(s.DD / s.TT)
	case s.Elements == 1 && s.DD > 0:
		return single(s.YY, s.TT, s.DD), 1
	case s.YY <= nothing && s.TT <= nothing:
		return 1, 0
	case s.YY == 0 || s.TT == 0:
		return 0, 1
	}
	return s.YT / math.Sqrt(s.YY*s.TT), math.Sqrt(s.DD / s.TT)
}

// Each looks at image i: what the networks were fed and their outputs. It is called from several goroutines.
type Each func(i int, feeds, student, teacher map[string]*ir.Tensor) error

// Answers gives the outputs of the float network for image i, which is fed so. It is called from several goroutines.
type Answers func(i int, feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error)

// single compares two numbers by the squares of both and of their difference.
func single(yy, tt, dd float64) float64 {
	return 1 - math.Sqrt(dd)/max(math.Sqrt(yy), math.Sqrt(tt), singleFloor)
}

// Measure runs both networks over n images made by feed and compares their float outputs. Differing outputs are an error. each may
// be nil.
func Measure(ctx context.Context, n int, feed func(i int) (map[string]*ir.Tensor, error), student score.Runner, teacher Answers, workers int, progress func(done, total int), each Each) (*score.Score, error) {
	if n == 0 {
		return nil, fmt.Errorf("distill: no images")
	}
	rows := make([]map[string]Sums, n)
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
	a := &Agreement{Images: n}
	for _, name := range slices.Sorted(maps.Keys(rows[0])) {
		o := OutputAgreement{Output: name}
		var column []Sums
		for _, r := range rows {
			column = append(column, r[name])
		}
		o.Cosine, o.RelativeError = Agree(column)
		a.Outputs = append(a.Outputs, o)
	}
	for _, o := range a.Outputs {
		a.Cosine += o.Cosine / float64(len(a.Outputs))
		a.RelativeError += o.RelativeError / float64(len(a.Outputs))
	}
	return &score.Score{Images: n, Name: "cosine", Main: a.Cosine, Detail: a}, nil
}

func one(i int, f map[string]*ir.Tensor, student score.Runner, teacher Answers, each Each) (map[string]Sums, error) {
	want, err := teacher(i, f)
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
	out := map[string]Sums{}
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
		if out[name], err = SumsOf(yv, tv); err != nil {
			return nil, fmt.Errorf("output %q: %w", name, err)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("distill: the network has no float output")
	}
	return out, nil
}
