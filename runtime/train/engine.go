// Package train runs training-step graphs on onnxruntime: state in two sets of buffers that are swapped, batches made ahead of
// time by several goroutines, schedules, checkpoints.
//
// Everything is a function of the seed and the step number: the order and the content of batches do not depend on how many
// goroutines make them, and a run continued from a checkpoint gives the same bits as one that was not interrupted.
package train

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/runtime/ort"
)

// Names that the contract of step graphs fixes.
const (
	lossName  = "loss"
	rateName  = "lr"
	stepName  = "step"
	countName = "count"
	newSuffix = ".new"
	sumSuffix = ".sum"
)

// Feeds are tensors by input name.
type Feeds map[string]*ir.Tensor

// Config describes an engine.
type Config struct {
	Step []byte // serialized step graph
	// Apply is the graph that updates from sums where the step graph only sums gradients; nil otherwise.
	Apply []byte
	// State are the first values of states (inputs X with an output X.new) and of inputs that stay from step to step, such as
	// masks. Optimizer states that are missing start at zero; a trained tensor that is missing is an error.
	State map[string]*ir.Tensor
	// Threads inside an operator; 0 leaves it to onnxruntime.
	Threads int
	// Layout, if set, says where the values of the step graph stand. Step is then what ort.Optimize made of it.
	Layout *Layout
	// Parts, if set, are the stages that compute what Step updates from; Step is then the last stage.
	Parts *Parts
	// Session sets further session options; Threads above wins. OptimizedModelPath receives the step graph.
	Session ort.SessionOptions
}

// Layout puts what a step computes into one block of memory.
type Layout struct {
	Bytes   int64            // size of the block
	At      map[string]int64 // offset of each output of the step graph that is there for its place only
	InPlace []string         // states whose new content may be written over the old
	// In names, of other outputs that are there for their place only, the state of InPlace in whose memory each stands for a while.
	In map[string]string
}

// ErrDiverged is wrapped by the error that Step returns when the loss is not a finite number. States that Layout.InPlace lists are
// lost then, until Restore; all others are those before the step.
var ErrDiverged = errors.New("the loss is not finite")

// Engine executes steps. It is not safe for concurrent use.
type Engine struct {
	step, apply *ort.Session
	states      []string                  // sorted
	bufs        [2]map[string]*ort.Buffer // states; [cur] holds the present ones
	sums        [2]map[string]*ort.Buffer // gradient sums by W.sum
	feeds       map[string]*ort.Buffer    // all other inputs of both graphs
	pinned      map[string]bool           // feeds that the host has set: part of the state
	outs        map[string]*ort.Buffer    // loss and emitted values
	stepRuns    [2][2]*ort.Binding        // by present set of states, of sums
	applyRuns   [2][2]*ort.Binding
	carried     []string // states that the step graph itself hands on where another graph updates: they are among the sums
	cur, curSum int
	steps       int64
	thread      *thread
	team        *team // where the step is divided
	layout      Layout
	block       *ort.Buffer
	views       map[string]*ort.Buffer // outputs in block, or in states
}

// New loads the graphs, allocates all buffers and sets the state.
func New(cfg Config) (_ *Engine, err error) {
	cfg.Session.Threads = cfg.Threads
	cfg.Session.NoMemoryPattern = true
	e := &Engine{feeds: map[string]*ort.Buffer{}, pinned: map[string]bool{}, outs: map[string]*ort.Buffer{}, views: map[string]*ort.Buffer{}, thread: newThread()}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if cfg.Parts != nil {
		if cfg.Apply != nil {
			return nil, fmt.Errorf("train: a divided step does not sum gradients")
		}
		cfg.Session = quiet(cfg.Session)
		if e.team, err = newTeam(cfg); err != nil {
			return nil, err
		}
		cfg.Session.Profile = ""
	}
	first := cfg.Session
	if cfg.Layout != nil {
		first.OptLevel, e.layout = ort.DisableAll, *cfg.Layout
	}
	if e.step, err = ort.NewSession(cfg.Step, first); err != nil {
		return nil, fmt.Errorf("train: step graph: %w", err)
	}
	if cfg.Apply != nil {
		cfg.Session.OptimizedModelPath = "" // of the step graph
		if e.apply, err = ort.NewSession(cfg.Apply, cfg.Session); err != nil {
			return nil, fmt.Errorf("train: apply graph: %w", err)
		}
	}
	if err := e.allocate(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	if e.team != nil {
		if err := e.team.allocate(e, cfg.Parts); err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
	}
	if err := e.bind(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	return e, e.start(cfg.State)
}

// updating is the session that makes new states.
func (e *Engine) updating() *ort.Session {
	if e.apply != nil {
		return e.apply
	}
	return e.step
}

func (e *Engine) start(state map[string]*ir.Tensor) error {
	for _, name := range sortedKeys(state) {
		if e.Buffer(name) == nil {
			return fmt.Errorf("train: the step graph has no input %q to start from", name)
		}
		if err := e.Set(name, state[name]); err != nil {
			return err
		}
	}
	for _, name := range e.states {
		if state[name] == nil && !e.isOptimizerState(name) {
			return fmt.Errorf("train: no value for the trained tensor %q", name)
		}
	}
	return nil
}

// optimizerStates are the suffixes of states that start at zero.
var optimizerStates = []string{".momentum", ".m", ".v"}

// isOptimizerState reports whether name is W.S for a state W and an optimizer's S.
func (e *Engine) isOptimizerState(name string) bool {
	for _, s := range optimizerStates {
		if w, ok := strings.CutSuffix(name, s); ok && e.bufs[0][w] != nil {
			return true
		}
	}
	return false
}

// Step runs one training step and returns the loss. A step graph that updates takes one set of feeds; one that sums gradients
// takes several, and the loss is their mean. Inputs that the host has Set need not be fed.
func (e *Engine) Step(lr float64, micro ...Feeds) (float64, error) {
	if len(micro) == 0 || (len(micro) > 1 && e.apply == nil) {
		return 0, fmt.Errorf("train: %d batches for one step; only an accumulating step graph takes several", len(micro))
	}
	e.scalar(rateName, float32(lr))
	e.scalar(stepName, float32(e.steps+1))
	e.scalar(countName, float32(len(micro)))
	for name, b := range e.sums[e.curSum] {
		if !slices.Contains(e.carried, name) {
			clear(b.Bytes())
		}
	}
	total := 0.0
	for _, f := range micro {
		if err := e.feed(f); err != nil {
			return 0, err
		}
		if e.team != nil {
			if err := e.team.run(e.cur); err != nil {
				return 0, fmt.Errorf("train: step %d: %w", e.steps+1, err)
			}
		}
		if err := e.thread.run(e.stepRuns[e.cur][e.curSum]); err != nil {
			return 0, fmt.Errorf("train: step %d: %w", e.steps+1, err)
		}
		loss := float64(e.outs[lossName].Float32s()[0])
		if math.IsNaN(loss) || math.IsInf(loss, 0) {
			return loss, fmt.Errorf("train: step %d: loss %v: %w (a smaller learning rate, or gradient clipping, may help)", e.steps+1, loss, ErrDiverged)
		}
		total += loss
		if e.apply != nil {
			e.curSum = 1 - e.curSum
		}
	}
	if e.apply != nil {
		if err := e.thread.run(e.applyRuns[e.cur][e.curSum]); err != nil {
			return 0, fmt.Errorf("train: step %d: update: %w", e.steps+1, err)
		}
	}
	e.cur = 1 - e.cur
	e.steps++
	return total / float64(len(micro)), nil
}

func (e *Engine) scalar(name string, v float32) {
	if b := e.feeds[name]; b != nil {
		if f := b.Float32s(); len(f) == 1 {
			f[0] = v
		}
	}
}

func (e *Engine) feed(f Feeds) error {
	for _, name := range sortedKeys(f) {
		if e.team != nil {
			if ok, err := e.team.feed(name, f[name]); err != nil {
				return fmt.Errorf("train: input %q: %w", name, err)
			} else if ok {
				continue
			}
		}
		b := e.feeds[name]
		if b == nil {
			return fmt.Errorf("train: the step graph has no input %q", name)
		}
		if err := b.Set(f[name]); err != nil {
			return fmt.Errorf("train: input %q: %w", name, err)
		}
	}
	for name := range e.feeds {
		if f[name] == nil && !e.pinned[name] && name != rateName && name != stepName && name != countName {
			return fmt.Errorf("train: input %q of the step graph is not fed", name)
		}
	}
	if e.team != nil {
		for name := range e.team.divided {
			if f[name] == nil {
				return fmt.Errorf("train: input %q of the step graph is not fed", name)
			}
		}
	}
	return nil
}

// Steps is the number of steps done.
func (e *Engine) Steps() int { return int(e.steps) }

// States lists the tensors that steps change, sorted: trained tensors and states of optimizer and quantizers.
func (e *Engine) States() []string { return append([]string{}, e.states...) }

// IsState reports a tensor that steps change.
func (e *Engine) IsState(name string) bool { return slices.Contains(e.states, name) }

// Buffer is the present content of a state or of an input that stays, for reading and writing in place between two steps; the
// next step makes another buffer the present one. It is nil where there is no such input.
func (e *Engine) Buffer(name string) *ort.Buffer {
	if b := e.bufs[e.cur][name]; b != nil {
		return b
	}
	if b := e.sums[e.curSum][name]; b != nil && slices.Contains(e.carried, name) {
		return b
	}
	return e.feeds[name]
}

// Output is what the last step left in an output of the step graph that is no state: the loss, or an emitted gradient.
func (e *Engine) Output(name string) *ort.Buffer { return e.outs[name] }

// Get copies a state or an input that stays.
func (e *Engine) Get(name string) (*ir.Tensor, error) {
	b := e.Buffer(name)
	if b == nil {
		return nil, fmt.Errorf("train: no state %q", name)
	}
	return b.Tensor()
}

// Set changes a state, or an input that then stays from step to step.
func (e *Engine) Set(name string, t *ir.Tensor) error {
	b := e.Buffer(name)
	if b == nil {
		return fmt.Errorf("train: no state %q", name)
	}
	if err := b.Set(t); err != nil {
		return fmt.Errorf("train: state %q: %w", name, err)
	}
	if e.feeds[name] != nil {
		e.pinned[name] = true
	}
	return nil
}

// Snapshot copies every state and every input that the host has set.
func (e *Engine) Snapshot() (map[string]*ir.Tensor, error) {
	out := map[string]*ir.Tensor{}
	for _, name := range append(e.States(), sortedKeys(e.pinned)...) {
		t, err := e.Get(name)
		if err != nil {
			return nil, err
		}
		out[name] = t
	}
	return out, nil
}

// Restore sets the state from a snapshot, which must hold every state, and the number of steps done.
func (e *Engine) Restore(state map[string]*ir.Tensor, steps int) error {
	for _, name := range e.states {
		if state[name] == nil {
			return fmt.Errorf("train: the snapshot lacks %q", name)
		}
	}
	for _, name := range sortedKeys(state) {
		if err := e.Set(name, state[name]); err != nil {
			return err
		}
	}
	e.steps = int64(steps)
	return nil
}

// ResetOptimizer sets the optimizer's states to zero.
func (e *Engine) ResetOptimizer() {
	for _, name := range e.states {
		if e.isOptimizerState(name) {
			clear(e.bufs[e.cur][name].Bytes())
		}
	}
}

// EndProfile stops onnxruntime's profile of the step graph, of a divided one that of the first part, where Config.Session.Profile asked for one, and returns its path.
func (e *Engine) EndProfile() (string, error) {
	if e.team != nil {
		return e.team.images[0].session.EndProfile()
	}
	return e.step.EndProfile()
}

// Close frees sessions and buffers.
func (e *Engine) Close() error {
	e.thread.close()
	var errs []error
	for p := range 2 {
		for s := range 2 {
			for _, b := range []*ort.Binding{e.stepRuns[p][s], e.applyRuns[p][s]} {
				if b != nil {
					errs = append(errs, b.Close())
				}
			}
		}
	}
	errs = append(errs, e.team.close()...)
	for _, set := range []map[string]*ort.Buffer{e.bufs[0], e.bufs[1], e.sums[0], e.sums[1], e.feeds, e.outs, e.views, {"": e.block}} {
		for _, b := range set {
			if b != nil {
				errs = append(errs, b.Close())
			}
		}
	}
	for _, s := range []*ort.Session{e.step, e.apply} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

func sortedKeys[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
