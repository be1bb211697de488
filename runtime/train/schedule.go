package train

import (
	"fmt"
	"math"
	"sort"
)

// Schedule is the learning rate of a step, counted from 0, in a run of so many steps.
type Schedule func(step, steps int) float64

// Constant is the same rate throughout.
func Constant(lr float64) Schedule { return func(int, int) float64 { return lr } }

// Cosine rises linearly over the first part warmup (0..1) of the run and falls along half a cosine to final (Loshchilov and
// Hutter 2017, without restarts).
func Cosine(lr, warmup, final float64) Schedule {
	return func(step, steps int) float64 {
		p := float64(step) / float64(max(steps, 1))
		rise := 1.0
		if warmup > 0 {
			rise = min(1, (float64(step)+1)/max(1, warmup*float64(steps)))
		}
		fall := 0.5 * (1 + math.Cos(math.Pi*max(0, p-warmup)/max(1e-12, 1-warmup)))
		return final + (lr*rise-final)*fall
	}
}

// Decay multiplies the rate by factor at each of the parts (0..1) of the run.
func Decay(lr, factor float64, at ...float64) Schedule {
	return func(step, steps int) float64 {
		r := lr
		for _, a := range at {
			if float64(step) >= a*float64(steps) {
				r *= factor
			}
		}
		return r
	}
}

// Point is one row of a table: from part At (0..1) of the run on, the rate is Gamma times the base rate.
type Point struct{ At, Gamma float64 }

// Table looks the rate up in a table of factors; points stand in ascending order and the first at 0.
func Table(lr float64, points []Point) (Schedule, error) {
	if len(points) == 0 || points[0].At != 0 {
		return nil, fmt.Errorf("train: a table of rates starts at 0")
	}
	for i, p := range points {
		if p.Gamma < 0 || p.Gamma-p.Gamma != 0 || (i > 0 && p.At <= points[i-1].At) {
			return nil, fmt.Errorf("train: row %d of the table of rates (%v, %v) is out of order or range", i, p.At, p.Gamma)
		}
	}
	return func(step, steps int) float64 {
		p := float64(step) / float64(max(steps, 1))
		i := sort.Search(len(points), func(i int) bool { return points[i].At > p+1e-12 })
		return lr * points[max(i-1, 0)].Gamma
	}, nil
}

// Warm puts a linear rise over the first steps before another schedule.
func Warm(s Schedule, rise int) Schedule {
	return func(step, steps int) float64 {
		return s(step, steps) * min(1, float64(step+1)/float64(max(rise, 1)))
	}
}

// ParseSchedule reads "constant", "cosine", "cosine:WARMUP" (a part of the run) or "decay:F1,F2,..." (a tenth at each part).
func ParseSchedule(text string, lr float64) (Schedule, error) {
	if !(lr >= 0) || math.IsInf(lr, 0) {
		return nil, fmt.Errorf("train: learning rate %v", lr)
	}
	name, args, err := splitArgs(text)
	if err != nil {
		return nil, err
	}
	for _, a := range args {
		if !(a >= 0 && a < 1) {
			return nil, fmt.Errorf("train: schedule %q: %v is not a part of the run (0..1)", text, a)
		}
	}
	switch {
	case name == "constant" && len(args) == 0:
		return Constant(lr), nil
	case name == "cosine" && len(args) <= 1:
		warmup := 0.02
		if len(args) == 1 {
			warmup = args[0]
		}
		return Cosine(lr, warmup, 0), nil
	case name == "decay" && len(args) > 0:
		return Decay(lr, 0.1, args...), nil
	}
	return nil, fmt.Errorf("train: unknown schedule %q: constant, cosine[:WARMUP] or decay:PART,...", text)
}
