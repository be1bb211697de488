package fit

import (
	"context"
	"errors"

	"mqatc/runtime/train"
)

// Trial steps of Rate, the last of which count.
const (
	trialSteps = 12
	trialTail  = 4
	// trialRise is by what part the loss may rise: weights that change sides of a rounding make it noisy at any rate.
	trialRise = 0.05
)

// Rate finds the largest of rates, which stand in descending order, at which a few steps from the present values do not raise the loss
// by more than a twentieth over that of the same batches without any step; ok is false where all do. Nothing of o is changed.
func Rate(ctx context.Context, o Options, rates []float64) (rate float64, ok bool, err error) {
	o.Foreseen = nil
	e, err := o.engine(trialSteps * (1 + len(rates)))
	if err != nil {
		return 0, false, err
	}
	defer e.Close()
	start, err := e.Snapshot()
	if err != nil {
		return 0, false, err
	}
	tail := func(rate float64) (float64, error) {
		if err := e.Restore(start, 0); err != nil {
			return 0, err
		}
		sum := 0.0
		r := &train.Run{Engine: e, Source: o.Problem.Source(), Steps: trialSteps, Batch: o.Batch, Seed: o.Seed, Workers: o.Workers, Rate: train.Constant(rate),
			Feeds: func(int, int) (train.Feeds, error) { return o.Problem.Feeds(1, 1) },
			After: func(done int) error {
				if done > trialSteps-trialTail {
					sum += float64(e.Output("loss").Float32s()[0])
				}
				return nil
			}}
		r.Micro, _ = o.micro()
		err := r.Do(ctx)
		return sum, err
	}
	still, err := tail(0)
	if err != nil {
		return 0, false, err
	}
	for _, rate := range rates {
		loss, err := tail(rate)
		if err != nil && !errors.Is(err, train.ErrDiverged) {
			return 0, false, err
		}
		if err == nil && loss <= still*(1+trialRise) {
			return rate, true, nil
		}
	}
	return 0, false, nil
}
