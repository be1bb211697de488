package train

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"mqatc/onnx/ir"
)

// Source makes training samples.
type Source interface {
	// Len is the number of samples.
	Len() int
	// Sample makes the tensors of sample i by input name, each with a leading dimension of 1. It is called from several
	// goroutines; rng is seeded by the sample's place in the run and is all the randomness there is.
	Sample(i int, rng *rand.Rand) (Feeds, error)
}

// LoaderOptions say how samples become batches.
type LoaderOptions struct {
	Batch   int // samples per step
	Micro   int // samples per set of feeds; 0 means Batch. It divides Batch.
	Seed    uint64
	Workers int // goroutines; 0 means 1
	Ahead   int // steps made ahead of time; 0 means 2 more than Workers
}

func (o LoaderOptions) withDefaults(n int) (LoaderOptions, error) {
	if o.Micro == 0 {
		o.Micro = o.Batch
	}
	if o.Workers <= 0 {
		o.Workers = 1
	}
	if o.Ahead <= 0 {
		o.Ahead = o.Workers + 2
	}
	if n <= 0 {
		return o, fmt.Errorf("train: there are no samples")
	}
	if o.Batch <= 0 || o.Batch%o.Micro != 0 {
		return o, fmt.Errorf("train: batch %d cannot be fed %d at a time", o.Batch, o.Micro)
	}
	return o, nil
}

// StepsPerEpoch is how many steps see n samples once: the rest that fills no batch is left out, and a set smaller than a batch is
// seen more than once in a step.
func StepsPerEpoch(n, batch int) int { return max(1, n/max(1, batch)) }

// order is the sequence of samples of a run; each epoch is a permutation of its own.
type order struct {
	n, batch int
	seed     uint64
	epoch    int
	perm     []int
}

// at lists the samples of a step, counted from 0.
func (o *order) at(step int) []int {
	per := StepsPerEpoch(o.n, o.batch)
	if e := step / per; e != o.epoch || o.perm == nil {
		o.epoch = e
		o.perm = rand.New(rand.NewPCG(o.seed, uint64(e)^0x65706f6368)).Perm(o.n)
	}
	idx := make([]int, o.batch)
	for i := range idx {
		idx[i] = o.perm[(step%per*o.batch+i)%o.n]
	}
	return idx
}

// Loader makes the batches of successive steps ahead of time. Their order and content do not depend on the number of workers.
type Loader struct {
	src    Source
	o      LoaderOptions
	queue  chan chan loaded
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

type job struct {
	idx  []int
	step int
	out  chan loaded
}

type loaded struct {
	feeds []Feeds
	err   error
}

// NewLoader starts making batches from step on. Close ends it.
func NewLoader(src Source, o LoaderOptions, step int) (*Loader, error) {
	o, err := o.withDefaults(src.Len())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Loader{src: src, o: o, queue: make(chan chan loaded, o.Ahead), cancel: cancel}
	jobs := make(chan job)
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		defer close(jobs)
		ord := &order{n: src.Len(), batch: o.Batch, seed: o.Seed}
		for ; ; step++ {
			j := job{ord.at(step), step, make(chan loaded, 1)}
			select {
			case l.queue <- j.out:
			case <-ctx.Done():
				return
			}
			select {
			case jobs <- j:
			case <-ctx.Done():
				return
			}
		}
	}()
	for range o.Workers {
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			for j := range jobs {
				feeds, err := l.make(j.idx, j.step)
				j.out <- loaded{feeds, err}
			}
		}()
	}
	return l, nil
}

// Next is the batch of the next step, in parts of LoaderOptions.Micro samples.
func (l *Loader) Next(ctx context.Context) ([]Feeds, error) {
	select {
	case out := <-l.queue:
		select {
		case b := <-out:
			return b.feeds, b.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close stops the goroutines and waits for them.
func (l *Loader) Close() {
	l.cancel()
	l.wg.Wait()
}

func (l *Loader) make(idx []int, step int) ([]Feeds, error) {
	var out []Feeds
	for at := 0; at < len(idx); at += l.o.Micro {
		var samples []Feeds
		for k, i := range idx[at : at+l.o.Micro] {
			place := uint64(step)*uint64(l.o.Batch) + uint64(at+k)
			s, err := l.src.Sample(i, rand.New(rand.NewPCG(l.o.Seed^0x73616d706c65, place)))
			if err != nil {
				return nil, err
			}
			samples = append(samples, s)
		}
		f, err := Collate(samples)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// Collate joins samples along their first dimension. All must have the same names, types and other sizes.
func Collate(samples []Feeds) (Feeds, error) {
	if len(samples) == 0 {
		return nil, fmt.Errorf("train: an empty batch")
	}
	if len(samples) == 1 {
		return samples[0], nil
	}
	out := Feeds{}
	for _, name := range sortedKeys(samples[0]) {
		first := samples[0][name]
		dims := append([]int64{}, first.Dims()...)
		if len(dims) == 0 {
			return nil, fmt.Errorf("train: %q has no dimension to batch along", name)
		}
		raw := make([]byte, 0, len(first.Raw())*len(samples))
		for i, s := range samples {
			t := s[name]
			if t == nil || len(s) != len(samples[0]) {
				return nil, fmt.Errorf("train: sample %d of the batch has other tensors than the first (%q)", i, name)
			}
			if t.DType() != first.DType() || !sameInner(t.Dims(), first.Dims()) {
				return nil, fmt.Errorf("train: %q is %v in one sample and %v in another", name, first.Type(), t.Type())
			}
			if i > 0 {
				dims[0] += t.Dims()[0]
			}
			raw = append(raw, t.Raw()...)
		}
		t, err := ir.NewTensor(first.DType(), dims, raw)
		if err != nil {
			return nil, fmt.Errorf("train: %q: %w", name, err)
		}
		out[name] = t
	}
	return out, nil
}

func sameInner(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 1; i < len(a); i++ {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Cached keeps samples of src in memory, as many as fit in limit bytes, for sources whose samples do not depend on rng.
func Cached(src Source, limit int64) Source {
	return &cached{src: src, left: limit, have: map[int]Feeds{}}
}

type cached struct {
	src  Source
	mu   sync.RWMutex
	left int64
	have map[int]Feeds
}

func (c *cached) Len() int { return c.src.Len() }

func (c *cached) Sample(i int, rng *rand.Rand) (Feeds, error) {
	c.mu.RLock()
	f := c.have[i]
	c.mu.RUnlock()
	if f != nil {
		return f, nil
	}
	f, err := c.src.Sample(i, rng)
	if err != nil {
		return nil, err
	}
	var size int64
	for _, t := range f {
		size += int64(len(t.Raw()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have[i] == nil && c.left >= size {
		c.have[i] = f
		c.left -= size
	}
	return f, nil
}
