package train

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
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

// Steps multiplies the rate by factor after every so many steps.
func Steps(lr float64, every int, factor float64) Schedule {
	return func(step, _ int) float64 { return lr * math.Pow(factor, float64(step/max(every, 1))) }
}

// Entry is one row of a table of rates: from step From on, counted from 0, the rate is Rate.
type Entry struct {
	From int
	Rate float64
}

// Rates looks the rate up in a table; rows stand in ascending order and the first at 0.
func Rates(rows []Entry) (Schedule, error) {
	if len(rows) == 0 || rows[0].From != 0 {
		return nil, fmt.Errorf("train: a table of rates starts at step 0")
	}
	for i, r := range rows {
		if !(r.Rate >= 0) || math.IsInf(r.Rate, 0) || i > 0 && r.From <= rows[i-1].From {
			return nil, fmt.Errorf("train: row %d of the table of rates (%d:%v) is out of order or range", i+1, r.From, r.Rate)
		}
	}
	return func(step, _ int) float64 {
		i := sort.Search(len(rows), func(i int) bool { return rows[i].From > step })
		return rows[max(i-1, 0)].Rate
	}, nil
}

// parseTable reads STEP:RATE,...
func parseTable(text string) (Schedule, error) {
	var rows []Entry
	for _, pair := range strings.Split(text, ",") {
		from, rate, _ := strings.Cut(pair, ":")
		f, err := strconv.Atoi(strings.TrimSpace(from))
		if err != nil {
			return nil, fmt.Errorf("train: schedule table:%s: %q is no STEP:RATE", text, pair)
		}
		r, err := strconv.ParseFloat(strings.TrimSpace(rate), 64)
		if err != nil {
			return nil, fmt.Errorf("train: schedule table:%s: %q is no STEP:RATE", text, pair)
		}
		rows = append(rows, Entry{f, r})
	}
	return Rates(rows)
}

// ParseSchedule reads "constant", "cosine", "cosine:WARMUP" (a part of the run), "decay:F1,F2,..." (a tenth at each part of the run),
// "step:N" or "step:N,FACTOR" (a tenth, or FACTOR, after every N steps), or "table:STEP:RATE,..." (rates in place of lr, from steps
// counted from 0 on).
func ParseSchedule(text string, lr float64) (Schedule, error) {
	if !(lr >= 0) || math.IsInf(lr, 0) {
		return nil, fmt.Errorf("train: learning rate %v", lr)
	}
	if rows, ok := strings.CutPrefix(text, "table:"); ok {
		return parseTable(rows)
	}
	name, args, err := splitArgs(text)
	if err != nil {
		return nil, err
	}
	if name == "step" && (len(args) == 1 || len(args) == 2) {
		factor := 0.1
		if len(args) == 2 {
			factor = args[1]
		}
		if n := args[0]; !(n >= 1 && n <= math.MaxInt32 && n == math.Trunc(n)) || !(factor >= 0 && factor <= 1) {
			return nil, fmt.Errorf("train: schedule %q: a number of steps, and a factor of 0..1", text)
		}
		return Steps(lr, int(args[0]), factor), nil
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
	return nil, fmt.Errorf("train: unknown schedule %q: constant, cosine[:WARMUP], decay:PART,..., step:N[,FACTOR] or table:STEP:RATE,...", text)
}
