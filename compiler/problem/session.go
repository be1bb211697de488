package problem

import (
	"sync"

	"mqatc/onnx/ir"
	"mqatc/passes/partition"
	"mqatc/runtime/ort"
	"mqatc/runtime/task/score"
)

// largeValue is the size in bytes of an image's largest value from which images are measured one by one, on all threads, as each takes
// a multiple of it.
const largeValue = 16 << 20

// oneByOne reports a network whose images take much memory.
func oneByOne(m *ir.Model) bool {
	for _, n := range m.Graph.Nodes() {
		for _, v := range n.Outputs() {
			if v == nil {
				continue
			}
			if k, ok := partition.PerImage(v.Shape()); ok && k*4 >= largeValue {
				return true
			}
		}
	}
	return false
}

// Session loads a network to be measured: one thread in a session that may be used from several goroutines, or all threads where an
// image takes much memory.
func Session(m *ir.Model, opts ort.SessionOptions) (*ort.Session, error) {
	threads := opts.Threads
	opts.Threads, opts.NoSpin = 1, true
	if oneByOne(m) {
		opts.Threads, opts.NoMemoryPattern = workers(threads), true
	}
	return ort.Load(m, opts)
}

// Runner is Session for measurements of outputs.
func Runner(m *ir.Model, opts ort.SessionOptions) (score.Runner, func() error, error) {
	s, err := Session(m, opts)
	if err != nil {
		return nil, nil, err
	}
	run := func(feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error) { return s.Run(feeds, nil) }
	return run, s.Close, nil
}

// resting is a session that is opened when it is first run, and again when it is run after Close.
type resting struct {
	m    *ir.Model
	opts ort.SessionOptions

	mu sync.RWMutex
	s  *ort.Session
}

// run may be called from several goroutines.
func (r *resting) run(feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.s == nil {
		return nil, ort.ErrClosed
	}
	return r.s.Run(feeds, nil)
}

func (r *resting) open() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.s == nil {
		r.s, err = Session(r.m, r.opts)
	}
	return err
}

// Close ends the session once its runs have ended.
func (r *resting) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.s == nil {
		return nil
	}
	err := r.s.Close()
	r.s = nil
	return err
}
