package fit

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/lower"
	"mqatc/passes/memory"
	"mqatc/passes/parts"
	"mqatc/passes/step"
	"mqatc/runtime/train"
)

// mostParts bounds the parts of a step: each holds gradients of all weights.
const mostParts = 4

// PartsOf is into how many parts a step of so many images is divided for so many threads, 0 for as many as there are processors: the largest
// power of two that divides the images; 1 leaves it whole.
func PartsOf(threads, batch int) int {
	if threads <= 0 {
		threads = runtime.NumCPU()
	}
	n := 1
	for 2*n <= min(threads, mostParts) && batch%(2*n) == 0 {
		n *= 2
	}
	return n
}

// Gradients of all parts, and weights computed for them, may take so much memory beside the values of a step: a part of theirs, or
// little, in bytes.
const (
	extra  = 0.4
	little = 8 << 20
)

// Divide makes the step of m in as many parts as PartsOf says, and forms has on record, lowered for the CPU of this machine. It returns nil
// where one graph serves better: where the step mixes images, where gradients of all parts would take much memory beside the
// values of the step, or where nothing is gained.
func Divide(m *ir.Model, o step.Options, threads int, forms Forms) (*parts.Stages, error) {
	if forms == nil || o.Recompute != 0 || o.Accumulate {
		return nil, nil
	}
	n, err := strconv.Atoi(forms.Keep(fmt.Sprintf("parts of %d images", o.Batch), strconv.Itoa(PartsOf(threads, int(o.Batch)))))
	if err != nil {
		return nil, fmt.Errorf("fit: the number of parts on record: %w", err)
	}
	if n < 2 {
		return nil, nil
	}
	mach, err := Machine("cpu")
	if err != nil || mach.Block == 0 {
		return nil, err
	}
	var whole int64
	s, err := step.Divide(m, o, n, func(g *ir.Graph) error {
		whole = max(whole, memory.Of(g).Peak)
		return lower.Simplify(g)
	})
	if err != nil {
		return nil, nil // it is trained as one graph, which tells of what is wrong otherwise
	}
	var sums int64
	for _, v := range s.Images.Graph.Outputs() {
		sums += int64(n) * memory.Size(v)
	}
	var shared int64
	if s.Weights != nil {
		for _, v := range s.Weights.Graph.Outputs() {
			shared += memory.Size(v)
		}
	}
	if float64(sums+shared) > max(little, extra*float64(whole)) {
		return nil, nil
	}
	return s, step.Complete(s, surveyed(mach, forms.With(partThreads(threads, n))), surveyed(mach, forms))
}

// partThreads are the threads of each of n parts.
func partThreads(threads, n int) int {
	if threads <= 0 {
		threads = runtime.NumCPU()
	}
	return max(1, threads/n)
}

// LoadStages is Load for a divided step.
func LoadStages(cfg train.Config, s *parts.Stages, foreseen func(Memory)) (_ *train.Engine, err error) {
	known := (cfg.Session.Device == "" || cfg.Session.Device == "cpu") && orderKnown()
	load := func(m *ir.Model, threads int) ([]byte, *train.Layout, Memory, error) {
		raw, err := format.Marshal(m)
		if err != nil {
			return nil, nil, Memory{}, err
		}
		u := memory.Of(m.Graph)
		var l *train.Layout
		if known {
			a, err := arranged(raw, threads, cfg.Session)
			if err != nil {
				return nil, nil, Memory{}, err
			}
			if a != nil {
				raw, l, u = a.raw, a.layout, a.use
			}
		}
		return raw, l, memoryOf(u, m.Graph), nil
	}
	p := &train.Parts{Count: s.Count, Threads: partThreads(cfg.Threads, s.Count), Divided: s.Divided, Name: parts.Name}
	var total, use Memory
	if cfg.Step, cfg.Layout, total, err = load(s.Update, cfg.Threads); err != nil {
		return nil, err
	}
	for _, m := range []*ir.Model{s.Batch, s.Weights} {
		if m == nil {
			continue
		}
		var st train.Stage
		if st.Model, st.Layout, use, err = load(m, cfg.Threads); err != nil {
			return nil, err
		}
		p.Shared = append(p.Shared, st)
		total.add(use, 1)
		for _, v := range m.Graph.Outputs() {
			if s.Update.Graph.Value(v.Name()) == nil {
				total.Feeds += memory.Size(v)
			}
		}
		for _, v := range m.Graph.Inputs() {
			if slices.Contains(s.Divided, v.Name()) {
				total.Feeds += memory.Size(v)
			}
		}
	}
	if p.Images.Model, p.Images.Layout, use, err = load(s.Images, p.Threads); err != nil {
		return nil, err
	}
	total.add(use, s.Count)
	for _, name := range s.Divided {
		total.Feeds += int64(s.Count) * memory.Size(s.Images.Graph.Value(name))
	}
	cfg.Parts = p
	e, err := train.New(cfg)
	if err != nil {
		return nil, err
	}
	if foreseen != nil {
		total.Parts = s.Count
		foreseen(total)
	}
	freed()
	return e, nil
}
