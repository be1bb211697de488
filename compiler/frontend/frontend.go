// Package frontend brings a model in: it reads the file, brings its operators up, infers shapes, runs the passes that every later
// stage builds on, and divides the network into modules. What it remembers of the file as read (sizes, digest, names) is what
// compressions are measured against.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mqatc/onnx/format"
	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes"
	"mqatc/passes/clean"
	"mqatc/passes/fold"
	"mqatc/passes/partition"
	"mqatc/passes/pass"
	"mqatc/passes/rebatch"
	"mqatc/passes/weights"
	"mqatc/runtime/task/distill"
)

// LowestOpset is the opset that operators are brought up to at least.
const LowestOpset = 17

// Options of Load.
type Options struct {
	InputShapes map[string][]int64 // sizes for inputs by name; -1 keeps the file's
	Env         pass.Env           // without an evaluator constants are left that only running them would tell
	Dump        string             // folder for the model after each pass that changed it; empty dumps nothing
	StopAfter   string             // pass after which the run ends; empty for none
	Later       []string           // passes that the caller runs through Front.Run; StopAfter may name them
	Repro       string             // folder for what reproduces a failing pass; empty writes nothing
	Rebatch     bool               // free a batch of 1 that the exporter baked in
	NoFold      bool               // leave constants and normalizations as they are
	Seed        uint64             // of the images that prove Rebatch right
	Modules     *partition.File    // division into modules by hand, by the names of the file; nil finds it
	Split       bool               // one module for each group of heads instead of one for all
	Count       int                // merges or divides the modules that are found to this many; 0 leaves them
}

// Front is a model that is ready to be planned, trained or emitted.
type Front struct {
	Source *Source
	// Model is the model after all passes so far.
	Model *ir.Model
	// AsRead divides the model as it came, constants made initializers: trained tensors have the names of the file.
	AsRead *partition.Partition
	// ReadModel is the model that AsRead divides; no pass runs over it, unless all weights are computed from constants: then it is Model.
	ReadModel *ir.Model
	// Partition divides Model in the same way.
	Partition *partition.Partition
	// Copies are weights.Copies before the clean-up joins equal computations.
	Copies map[string]int64
	// PayloadBefore is the bytes of the trained tensors as read, each once: weights, biases, normalization parameters.
	PayloadBefore int64
	// Batch says whether Model takes any batch; nil when Options.Rebatch was not set.
	Batch *rebatch.Report
	Log   []passes.Record
	// Inferred holds the notes of shape inference.
	Inferred []string
	// Raw names the outputs that Expose added to Model.
	Raw []string
	// Stopped says that StopAfter ended the run; Partition may be nil then.
	Stopped bool

	dump *passes.Dump
	o    Options
}

// UnknownPassError says that there is no pass to stop after.
type UnknownPassError struct {
	Name  string
	Known []string
}

// Error lists the passes there are.
func (e *UnknownPassError) Error() string {
	return fmt.Sprintf("there is no pass %q to stop after; this run has %s", e.Name, strings.Join(e.Known, ", "))
}

// Load reads the model at path and brings it to the form that everything later works on: opset 17 at least, types inferred,
// cleaned up, batch freed if asked for, constants and normalizations folded, divided into modules. Close ends the dump.
func Load(ctx context.Context, path string, o Options) (*Front, error) {
	if err := o.checkStop(); err != nil {
		return nil, err
	}
	src, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Prepare(ctx, src, o)
}

// Prepare is Load for a model that is in memory; src.Model is left as it is.
func Prepare(ctx context.Context, src *Source, o Options) (_ *Front, err error) {
	if err := o.checkStop(); err != nil {
		return nil, err
	}
	f := &Front{Source: src, o: o}
	if f.Model, err = src.Model.Clone(); err != nil {
		return nil, err
	}
	if f.Inferred, err = Infer(f.Model, o.InputShapes); err != nil {
		return nil, fmt.Errorf("%s: %w", src.Path, err)
	}
	if o.Dump != "" {
		if f.dump, err = passes.NewDump(o.Dump); err != nil {
			return nil, hint.Errorf("name a folder that can be written with --dump-passes", "%w", err)
		}
	}
	defer func() {
		if err != nil {
			_ = f.Close() // the first error counts
		}
	}()
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// Expose makes what post-processing selects from outputs of Model, so that training and measurements see it.
func (f *Front) Expose() error {
	for _, v := range distill.Raw(f.Model.Graph) {
		if err := f.Model.Graph.AddOutput(v); err != nil {
			return err
		}
		f.Raw = append(f.Raw, v.Name())
	}
	return nil
}

// Infer brings m, its functions included, up to LowestOpset where it is below, and infers all types with the given input sizes. Shapes of
// the file that contradict the graph are forgotten; the notes tell of it.
func Infer(m *ir.Model, shapes map[string][]int64) (notes []string, err error) {
	if m.Opset("") < LowestOpset || len(m.Functions) > 0 {
		if err := format.Upgrade(m, LowestOpset); err != nil {
			return nil, err
		}
	}
	stale, err := op.InferAnew(m, shapes)
	if err != nil {
		return nil, hint.Errorf("mqatc inspect shows the model's inputs and operators; --input-shape NAME=1x3x640x640 gives an input its size", "%w", err)
	}
	if stale != nil {
		notes = append(notes, fmt.Sprintf("the file's shapes are outdated (%q is %s there, %s by the graph): all are inferred anew",
			stale.Value, stale.File, stale.Inferred))
	}
	return notes, nil
}

func (o Options) names() []string {
	out := []string{clean.Info.Name}
	if o.Rebatch {
		out = append(out, rebatch.Info.Name)
	}
	if !o.NoFold {
		out = append(out, fold.Info.Name)
	}
	return append(out, o.Later...)
}

func (o Options) checkStop() error {
	if known := o.names(); o.StopAfter != "" && !slices.Contains(known, o.StopAfter) {
		return &UnknownPassError{o.StopAfter, known}
	}
	return nil
}

func (f *Front) run(ctx context.Context) error {
	f.Copies = weights.Copies(f.Model.Graph)
	if err := f.apply(ctx, f.Model, clean.New()); err != nil {
		return err
	}
	asRead, err := f.Model.Clone()
	if err != nil {
		return err
	}
	f.PayloadBefore = Payload(asRead)
	if f.Stopped {
		return nil
	}
	var list []pass.Pass
	if f.o.Rebatch {
		f.Batch = &rebatch.Report{}
		list = append(list, rebatch.New(rebatch.Options{InputShapes: f.o.InputShapes, Seed: f.o.Seed}, f.Batch))
	}
	if !f.o.NoFold {
		list = append(list, fold.New())
	}
	if len(list) > 0 {
		if err := f.apply(ctx, f.Model, list...); err != nil {
			return err
		}
	}
	how := partition.Options{File: f.o.Modules, Split: f.o.Split, Count: f.o.Count}
	f.ReadModel = asRead
	if f.AsRead, err = partition.Find(asRead, how); errors.Is(err, partition.ErrNothing) {
		// All weights are computed from constants: they are there only after folding.
		f.PayloadBefore, f.ReadModel = Payload(f.Model), f.Model
		f.AsRead, err = partition.Find(f.Model, how)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Source.Path, err)
	}
	f.Partition = f.AsRead.Carry(f.Model)
	return nil
}

// ErrStopped is returned by Front.Run once StopAfter has ended the run.
var ErrStopped = errors.New("stopped where it was told to")

// Run runs further passes over m as part of the same run: same environment, dump and log.
func (f *Front) Run(ctx context.Context, m *ir.Model, list ...pass.Pass) error {
	if !f.Stopped {
		if err := f.apply(ctx, m, list...); err != nil {
			return err
		}
	}
	if f.Stopped {
		return ErrStopped
	}
	return nil
}

func (f *Front) apply(ctx context.Context, m *ir.Model, list ...pass.Pass) error {
	p := passes.Pipeline{Passes: list, Env: f.o.Env, Dump: f.dump, Repro: f.o.Repro}
	if slices.ContainsFunc(list, func(x pass.Pass) bool { return x.Name == f.o.StopAfter }) {
		p.StopAfter = f.o.StopAfter
		f.Stopped = true
	}
	res, err := p.Run(ctx, m)
	f.Log = append(f.Log, res.Log...)
	return err
}

// Notes lists what shape inference, the passes, each with its name, and the division into modules had to say.
func (f *Front) Notes() []string {
	out := slices.Clone(f.Inferred)
	for _, r := range f.Log {
		for _, n := range r.Notes {
			out = append(out, r.Pass+": "+n)
		}
	}
	if f.AsRead != nil && f.AsRead.Note != "" {
		out = append(out, f.AsRead.Note)
	}
	return out
}

// Close ends the dump.
func (f *Front) Close() error {
	if f.dump == nil {
		return nil
	}
	d := f.dump
	f.dump = nil
	return d.Close()
}

// Payload is the bytes of m's trained tensors, each once. Constants must be initializers and types inferred.
func Payload(m *ir.Model) int64 {
	n := int64(0)
	for _, p := range weights.Find(m.Graph) {
		n += int64(len(p.Value.Init().Raw()))
	}
	return n
}
