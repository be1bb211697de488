package fit

import (
	"fmt"
	"os"
	"runtime"
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

// Divide makes the step of m in as many parts as PartsOf says, and forms has on record, lowered for the CPU of this machine. It returns nil
// where one graph serves better: where the step mixes images, where gradients of all parts would take more memory than the values of the
// step, or where nothing is gained.
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
	s, err := step.Divide(m, o, n, step.Forms{
		Simplify: func(g *ir.Graph) error {
			whole = max(whole, memory.Of(g).Peak)
			return lower.Simplify(g)
		},
		Images: surveyed(mach, forms.With(partThreads(threads, n))),
		States: surveyed(mach, forms),
	})
	if err != nil {
		if os.Getenv("DIVERR") != "" { println(err.Error()) }
		return nil, nil // it is trained as one graph, which tells of what is wrong otherwise
	}
	var sums int64
	for _, v := range s.Images.Graph.Outputs() {
		sums += int64(n) * memory.Size(v)
	}
	if sums > whole {
		return nil, nil
	}
	return s, nil
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
	var total Memory
	known := (cfg.Session.Device == "" || cfg.Session.Device == "cpu") && orderKnown()
	load := func(m *ir.Model, threads, times int) ([]byte, *train.Layout, error) {
		raw, err := format.Marshal(m)
		if err != nil {
			return nil, nil, err
		}
		u := memory.Of(m.Graph)
		var l *train.Layout
		if known {
			a, err := arranged(raw, threads, cfg.Session)
			if err != nil {
				return nil, nil, err
			}
			if a != nil {
				raw, l, u = a.raw, a.layout, a.use
			}
		}
		total.add(memoryOf(u, m.Graph), times)
		return raw, l, nil
	}
	p := &train.Parts{Count: s.Count, Threads: partThreads(cfg.Threads, s.Count), Divided: s.Divided, Name: parts.Name}
	if s.Weights != nil {
		if p.Weights, p.WeightsLayout, err = load(s.Weights, cfg.Threads, 1); err != nil {
			return nil, err
		}
	}
	if p.Images, p.ImagesLayout, err = load(s.Images, p.Threads, s.Count); err != nil {
		return nil, err
	}
	if cfg.Step, cfg.Layout, err = load(s.Update, cfg.Threads, 1); err != nil {
		return nil, err
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
