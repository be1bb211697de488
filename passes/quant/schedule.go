package quant

import (
	"math"
	"slices"
)

// Schedule is a training schedule as data: what happens at which epoch of a stage of Epochs epochs.
type Schedule struct {
	Epochs float64
	Points []Point
}

// Point sets, from the start of an epoch on, the factor of the base learning rate and the cumulative fraction of each weight
// tensor that is frozen. A Fraction of 0 leaves it as it is.
type Point struct{ Epoch, Rate, Fraction float64 }

// Event is a Point at an optimizer step, counted from 0.
type Event struct {
	Step           int
	Rate, Fraction float64
}

// Stretch maps the schedule onto a stage of steps optimizer steps. Points that fall onto one step become one event with the last
// rate and the largest fraction; the last event comes before the last step, so that a final fraction of 1 is always reached.
func (s Schedule) Stretch(steps int) []Event {
	if steps < 1 {
		return nil
	}
	var out []Event
	for _, p := range s.Points {
		at := min(int(math.Floor(p.Epoch/s.Epochs*float64(steps)+0.5)), steps-1)
		if n := len(out); n > 0 && out[n-1].Step == at {
			out[n-1].Rate = p.Rate
			out[n-1].Fraction = max(out[n-1].Fraction, p.Fraction)
			continue
		}
		e := Event{Step: at, Rate: p.Rate, Fraction: p.Fraction}
		if n := len(out); n > 0 {
			e.Fraction = max(e.Fraction, out[n-1].Fraction)
		}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b Event) int { return a.Step - b.Step })
	return out
}
