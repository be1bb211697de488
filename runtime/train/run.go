package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Progress tells how far a run is.
type Progress struct {
	Step, Steps     int     // steps done, and in all
	Epoch           float64 // passes over the data so far
	Loss            float64 // of the last step
	Mean            float64 // of the steps since the last report
	Rate            float64 // learning rate of the last step
	ImagesPerSecond float64 // since the last report
	Left            time.Duration
}

// Run trains an engine for a number of steps.
type Run struct {
	Engine  *Engine
	Source  Source
	Steps   int // in all, those before a resumed checkpoint included
	Batch   int
	Micro   int // samples per set of feeds; 0 means Batch
	Seed    uint64
	Workers int // goroutines that make batches
	Rate    Schedule

	// Feeds gives tensors that do not belong to samples, such as an annealed constant of the loss; may be nil.
	Feeds func(step, steps int) (Feeds, error)
	// Before works on the engine's state before step; it must be a function of state and step alone. May be nil.
	Before func(step int) error
	// After is called after each step with the number of steps done, for evaluation; may be nil. What it decides must follow from
	// the state and Values.
	After func(done int) error

	Path   string        // of the checkpoint; empty means none
	Key    string        // identifies the run in the checkpoint
	Every  time.Duration // between checkpoints; 0 means one minute
	Values map[string]float64

	Progress func(Progress) // may be nil
	Report   time.Duration  // between calls of Progress; 0 means two seconds
}

// Resume restores the engine from the checkpoint at Path. It reports false where there is none, and fails where the checkpoint
// belongs to another run.
func (r *Run) Resume() (bool, error) {
	c, err := ReadCheckpoint(r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if c.Key != r.Key {
		return false, fmt.Errorf("checkpoint %s belongs to another run (%q, not %q)", r.Path, c.Key, r.Key)
	}
	if err := r.Engine.Restore(c.Tensors, c.Step); err != nil {
		return false, fmt.Errorf("checkpoint %s: %w", r.Path, err)
	}
	r.Values = c.Values
	return true, nil
}

// Save writes the checkpoint to Path.
func (r *Run) Save() error {
	state, err := r.Engine.Snapshot()
	if err != nil {
		return err
	}
	c := Checkpoint{Key: r.Key, Step: r.Engine.Steps(), Values: r.Values, Tensors: state}
	return c.Write(r.Path)
}

// Do runs the steps that are left. When ctx ends it writes the checkpoint and returns ctx's error.
func (r *Run) Do(ctx context.Context) error {
	first := r.Engine.Steps()
	if first >= r.Steps {
		return nil
	}
	if r.Rate == nil {
		return errors.New("train: no schedule")
	}
	l, err := NewLoader(r.Source, LoaderOptions{Batch: r.Batch, Micro: r.Micro, Seed: r.Seed, Workers: r.Workers}, first)
	if err != nil {
		return err
	}
	defer l.Close()
	rep := r.newReporter(first)
	saved := time.Now()
	for step := first; step < r.Steps; step++ {
		if ctx.Err() != nil {
			return r.interrupt(ctx.Err())
		}
		batch, err := l.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return r.interrupt(err)
			}
			return fmt.Errorf("train: batch of step %d: %w", step+1, err)
		}
		if err := r.one(step, batch, rep); err != nil {
			return err
		}
		if r.Path != "" && (step+1 == r.Steps || time.Since(saved) >= orDuration(r.Every, time.Minute)) {
			if err := r.Save(); err != nil {
				return err
			}
			saved = time.Now()
		}
	}
	return nil
}

func (r *Run) one(step int, batch []Feeds, rep *reporter) error {
	if r.Before != nil {
		if err := r.Before(step); err != nil {
			return err
		}
	}
	if r.Feeds != nil {
		extra, err := r.Feeds(step, r.Steps)
		if err != nil {
			return err
		}
		for i := range batch {
			f := Feeds{}
			for k, v := range batch[i] {
				f[k] = v
			}
			for k, v := range extra {
				f[k] = v
			}
			batch[i] = f
		}
	}
	rate := r.Rate(step, r.Steps)
	loss, err := r.Engine.Step(rate, batch...)
	if err != nil {
		return err
	}
	rep.step(step+1, loss, rate)
	if r.After != nil {
		return r.After(step + 1)
	}
	return nil
}

func (r *Run) interrupt(err error) error {
	if r.Path == "" {
		return err
	}
	return errors.Join(err, r.Save())
}

func orDuration(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// reporter turns steps into Progress now and then.
type reporter struct {
	r            *Run
	first, since int
	start, last  time.Time
	sum          float64
	count        int
}

func (r *Run) newReporter(first int) *reporter {
	now := time.Now()
	return &reporter{r: r, first: first, since: first, start: now, last: now}
}

func (p *reporter) step(done int, loss, rate float64) {
	p.sum += loss
	p.count++
	now := time.Now()
	if p.r.Progress == nil || (done != p.r.Steps && now.Sub(p.last) < orDuration(p.r.Report, 2*time.Second)) {
		return
	}
	each := now.Sub(p.start) / time.Duration(done-p.first)
	p.r.Progress(Progress{
		Step: done, Steps: p.r.Steps, Loss: loss, Mean: p.sum / float64(p.count), Rate: rate,
		Epoch:           float64(done) / float64(StepsPerEpoch(p.r.Source.Len(), p.r.Batch)),
		ImagesPerSecond: float64((done-p.since)*p.r.Batch) / max(1e-9, now.Sub(p.last).Seconds()),
		Left:            each * time.Duration(p.r.Steps-done),
	})
	p.last, p.since, p.sum, p.count = now, done, 0, 0
}
