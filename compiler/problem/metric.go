package problem

import (
	"fmt"
	"slices"
	"strings"

	"mqatc/runtime/pose"
	"mqatc/runtime/task"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/task/score"
)

// Metrics that decide. Those of images compare outputs with the float network's or take the training loss, those of poses are
// fractions of poses with an error below a part of the diameter.
const (
	Cosine        = "cosine"
	RelativeError = "relative-error"
	MeanLoss      = "loss"
	AD01          = "ad_0.1d" // ADD, but ADI for symmetric objects
)

// metric is a choice of --metric.
type metric struct {
	name, title string
	lower       bool
	pose        func(s *pose.Summary) float64      // for pose problems
	image       func(a *distill.Agreement) float64 // for the others
}

// table holds the metrics; the first of each kind is the default.
var table = []metric{
	{name: AD01, title: "ADD(-S)-0.1d", pose: func(s *pose.Summary) float64 { return s.AD01 }},
	{name: "add_0.1d", title: "ADD-0.1d", pose: func(s *pose.Summary) float64 { return s.ADD01 }},
	{name: "add_0.5d", title: "ADD-0.5d", pose: func(s *pose.Summary) float64 { return s.ADD05 }},
	{name: "adi_0.1d", title: "ADI-0.1d", pose: func(s *pose.Summary) float64 { return s.ADI01 }},
	{name: "adi_0.5d", title: "ADI-0.5d", pose: func(s *pose.Summary) float64 { return s.ADI05 }},
	{name: Cosine, title: "cosine", image: func(a *distill.Agreement) float64 { return a.Cosine }},
	{name: RelativeError, title: "relative error", lower: true, image: func(a *distill.Agreement) float64 { return a.RelativeError }},
	{name: MeanLoss, title: "loss", lower: true, image: func(a *distill.Agreement) float64 { return *a.Loss }},
}

// Metrics lists the metrics that can decide on a task, the default first.
func Metrics(t task.Task) []string {
	var out []string
	for _, m := range table {
		if (m.pose != nil) == (t.Loss == task.LossWDR) {
			out = append(out, m.name)
		}
	}
	return out
}

// CheckMetric refuses a metric that the task does not have; "" is the default.
func CheckMetric(t task.Task, name string) error {
	_, err := findMetric(t, name)
	return err
}

func findMetric(t task.Task, name string) (metric, error) {
	known := Metrics(t)
	if name == "" {
		name = known[0]
	}
	i := slices.IndexFunc(table, func(m metric) bool { return m.name == name })
	if i < 0 || !slices.Contains(known, name) {
		return metric{}, fmt.Errorf("metric %q: task %s is measured by one of %s", name, t.Name, strings.Join(known, ", "))
	}
	return table[i], nil
}

// decide makes m the number that decides.
func (m metric) decide(s *score.Score) (*score.Score, error) {
	var v float64
	switch d := s.Detail.(type) {
	case *pose.Summary:
		v = m.pose(d)
	case *distill.Agreement:
		v = m.image(d)
	default:
		return nil, fmt.Errorf("metric %s: it cannot be taken from a measurement of %T", m.name, s.Detail)
	}
	s.Name, s.Lower, s.Main = m.name, m.lower, score.Natural(v, m.lower)
	return s, nil
}

// known is the float network's value where it need not be measured: what comparing a network with itself gives.
func (m metric) known() *float64 {
	v := 1.0
	switch m.name {
	case Cosine:
	case RelativeError:
		v = 0
	default:
		return nil
	}
	return &v
}
