package mqat

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"mqatc/compiler/problem"
	"mqatc/compiler/rundir"
	"mqatc/onnx/ir"
	"mqatc/onnx/mapped"
	"mqatc/passes/partition"
	"mqatc/passes/quant"
	"mqatc/passes/target"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/train"
)

// Placements say which activations are quantized: all that the target can, or all but the few that cost most.
var Placements = []string{"measured", "all"}

const (
	placementImages = 6
	// floatShare bounds the multiply-accumulates of layers that run in float because of activations left float, as a part of those of
	// all layers with quantized inputs.
	floatShare = 0.1
	// leastPart is the part of the summed error below which an activation is not worth leaving float.
	leastPart = 0.03
)

// PlacementError is what quantizing one activation alone does to the network.
type PlacementError struct {
	Value string `json:"value"`
	// Error is 1 - cosine of the outputs with the float network's, mean over outputs and images.
	Error float64 `json:"error"`
	Float bool    `json:"float"`
}

// placementChoice is what choosePlacement found, the largest error first.
type placementChoice struct {
	Points []PlacementError `json:"points"`
	// Share of the multiply-accumulates, in 0..1, that run in float because of it.
	Share float64 `json:"share"`
	// GivenBack are activations that would have stayed float, had the optimization levels then agreed.
	GivenBack []string `json:"given_back,omitempty"`
}

// choosePlacement measures what quantizing each activation alone does to the outputs, on training images, and leaves float those
// that do most, as long as the layers around them are a small part of the work.
func (b *Bench) choosePlacement() error {
	if b.tgt.Activation == ir.Undefined || b.cfg.Placement != "measured" {
		return nil
	}
	c, err := rundir.Once(b.dir, b.prefix+"placement", b.measurePlacement)
	if err != nil {
		return fmt.Errorf("placement: %w", err)
	}
	b.placement = c
	b.tgt = b.tgt.Leaving(c.float()...)
	return nil
}

func (c *placementChoice) float() []string {
	var out []string
	for _, p := range c.Points {
		if p.Float {
			out = append(out, p.Value)
		}
	}
	return out
}

// inModules are the weights in modules: those that can be quantized.
func (b *Bench) inModules() map[string]bool {
	out := map[string]bool{}
	for name := range b.weight {
		if b.home[name] != "" {
			out[name] = true
		}
	}
	return out
}

func (b *Bench) measurePlacement() (*placementChoice, error) {
	placed := b.inModules()
	pl, err := b.tgt.Place(b.net.Model, placed)
	if err != nil {
		return nil, err
	}
	c := &placementChoice{}
	if len(pl.Points) == 0 {
		return c, nil
	}
	if c.Points, err = b.pointErrors(pl); err != nil {
		return nil, err
	}
	total := 0.0
	for _, p := range c.Points {
		total += p.Error
	}
	slices.SortStableFunc(c.Points, func(x, y PlacementError) int { return cmp.Compare(y.Error, x.Error) })
	whole := b.quantizedMACs(pl)
	for i := range c.Points {
		p := &c.Points[i]
		if p.Error < leastPart*total || p.Error <= 0 {
			break
		}
		p.Float = true
		share, err := b.floatPart(c, placed, whole)
		if err != nil {
			return nil, err
		}
		p.Float = share <= floatShare
	}
	if err := b.agreeing(c, b.agreesAtEight); err != nil {
		return nil, err
	}
	c.Share, err = b.floatPart(c, placed, whole)
	return c, err
}

// floatPart is the part of whole multiply-accumulates that run in float by the choice c.
func (b *Bench) floatPart(c *placementChoice, placed map[string]bool, whole float64) (float64, error) {
	left := c.float()
	if len(left) == 0 {
		return 0, nil
	}
	less, err := b.tgt.Leaving(left...).Place(b.net.Model, placed)
	if err != nil {
		return 0, err
	}
	return 1 - b.quantizedMACs(less)/max(whole, 1), nil
}

// Least cosine and most steps, in the mean, between optimization levels that a choice of activations must leave at 8 bits: stricter
// than what verification asks of the trained network, which is another.
const (
	agreeingCosine = 0.9995
	agreeingSteps  = 0.3
)

// settlePlacement gives choices back with which the trained network would not be the same function at every optimization level.
func (b *Bench) settlePlacement(v *variant) error {
	if b.placement == nil || len(b.placement.float()) == 0 {
		return nil
	}
	c, err := rundir.Once(b.dir, b.prefix+"placement-trained", func() (*placementChoice, error) {
		c := &placementChoice{Points: slices.Clone(b.placement.Points), GivenBack: slices.Clone(b.placement.GivenBack)}
		if err := b.agreeing(c, func() (bool, error) { return b.agrees(v, false) }); err != nil {
			return nil, err
		}
		b.tgt = b.tgt.Leaving()
		placed := b.inModules()
		pl, err := b.tgt.Place(b.net.Model, placed)
		if err != nil {
			return nil, err
		}
		c.Share, err = b.floatPart(c, placed, b.quantizedMACs(pl))
		return c, err
	})
	if err != nil {
		return fmt.Errorf("placement: %w", err)
	}
	if n := len(c.GivenBack) - len(b.placement.GivenBack); n > 0 {
		b.watch.Line("%d of %d activations left float are quantized after all: the optimization levels would differ", n, len(b.placement.float()))
	}
	b.placement = c
	b.tgt = b.tgt.Leaving(c.float()...)
	return nil
}

// agreeing keeps choices, the most important first, as long as test says that the network is the same function at every
// optimization level, and gives the others back: layers that run in float add up in another order from level to level, and where a
// network is chaotic the quantizers behind them blow that up.
func (b *Bench) agreeing(c *placementChoice, test func() (bool, error)) error {
	whole := b.tgt.Leaving()
	was := b.tgt
	defer func() { b.tgt = was }()
	wanted := c.float()
	if len(wanted) == 0 {
		return nil
	}
	// Mostly all of them will do, which takes one look.
	b.tgt = whole.Leaving(wanted...)
	if ok, err := test(); err != nil || ok {
		return err
	}
	for i := range c.Points {
		c.Points[i].Float = false
	}
	for i := range c.Points {
		p := &c.Points[i]
		if !slices.Contains(wanted, p.Value) {
			continue
		}
		p.Float = true
		b.watch.Update("placement by levels", i, len(wanted), "")
		b.tgt = whole.Leaving(c.float()...)
		ok, err := test()
		if err != nil {
			return err
		}
		if !ok {
			p.Float = false
			c.GivenBack = append(c.GivenBack, p.Value)
		}
	}
	return nil
}

// agreesAtEight rounds all weights in modules to 8 bits and compares the optimization levels.
func (b *Bench) agreesAtEight() (bool, error) {
	defer b.plainly()()
	v, err := b.eightBits()
	if err != nil {
		return false, err
	}
	return b.agrees(v, true)
}

// agrees compares the optimization levels on v as it would be emitted; well says that they must agree better than verification asks.
func (b *Bench) agrees(v *variant, well bool) (bool, error) {
	if b.tgt.Bytes {
		return true, nil
	}
	fake, r, pl, err := b.rounded(v)
	if err != nil {
		return false, err
	}
	codes, err := quant.Collect(fake, r)
	if err != nil {
		return false, err
	}
	e, err := b.tgt.Emit(fake, r, codes, pl, target.EmitOptions{})
	if err != nil {
		return false, err
	}
	feeds, err := b.prob.Calibration(verifyImages)
	if err != nil {
		return false, err
	}
	var inputs []map[string]*ir.Tensor
	for _, f := range feeds {
		inputs = append(inputs, f)
	}
	found, err := b.tgt.Verify(levels{b.cfg.Threads}, fake, e, e.Model, inputs)
	var differ *target.DisagreementError
	if err != nil && !errors.As(err, &differ) {
		return false, err
	}
	for _, a := range found.Agreements {
		if !well {
			break
		}
		if !(a.Cosine >= agreeingCosine) || !(a.Steps <= agreeingSteps) && a.Against == target.DisableAll.String() {
			return false, nil
		}
	}
	return err == nil, nil
}

// eightBits is the float network with all weights in modules at 8 bits, not rounded yet, and all activations quantized.
func (b *Bench) eightBits() (*variant, error) {
	bits := map[string]int{}
	for name := range b.inModules() {
		bits[name] = 8
	}
	v, err := b.assign(b.Float().(*variant), bits)
	if err != nil {
		return nil, err
	}
	for _, m := range b.modules {
		v.active[m.Name] = true
	}
	return v, nil
}

// plainly makes rounding use integers until the function it returns is called: a codebook of 8 bits need not be such.
func (b *Bench) plainly() func() {
	was := b.cfg.Quantizer
	if q, err := quant.Find(was); err == nil && q.Masked {
		b.cfg.Quantizer = "ptq"
	}
	return func() { b.cfg.Quantizer = was }
}

// quantizedMACs counts the multiply-accumulates of layers that read quantized activations.
func (b *Bench) quantizedMACs(pl *quant.Placement) float64 {
	total := 0.0
	for _, p := range pl.Points {
		v := b.net.Model.Graph.Value(p.Value)
		if v == nil {
			continue
		}
		for _, u := range v.Uses() {
			o := u.Node.Output(0)
			if u.Index != 0 || o == nil || slices.Contains(p.Except, o.Name()) || !slices.Contains(b.tgt.Layers, u.Node.Op) {
				continue
			}
			if k, ok := partition.MACs(u.Node); ok {
				total += float64(k)
			}
		}
	}
	return total
}

// pointErrors quantizes one activation at a time.
func (b *Bench) pointErrors(pl *quant.Placement) ([]PlacementError, error) {
	ranges, err := b.ranges(pl)
	if err != nil {
		return nil, err
	}
	specs := make([]quant.Spec, len(pl.Points))
	for i, p := range pl.Points {
		specs[i] = quant.Spec{Ranges: ranges, Activations: &quant.Placement{Type: pl.Type, Exact: pl.Exact, Points: []quant.ActivationPoint{p}}}
	}
	errs, err := b.errorsOf("placement", b.net.Model, specs, placementImages)
	if err != nil {
		return nil, err
	}
	out := make([]PlacementError, len(pl.Points))
	for i, p := range pl.Points {
		out[i] = PlacementError{Value: p.Value, Error: errs[i]}
	}
	return out, nil
}

// errorsOf quantizes m by each of specs in turn and measures, over some training images, how far the outputs move: 1 - cosine, mean
// over outputs and images.
func (b *Bench) errorsOf(what string, m *ir.Model, specs []quant.Spec, images int) ([]float64, error) {
	feeds, err := b.prob.Calibration(images)
	if err != nil {
		return nil, err
	}
	want, err := b.outputs(m, feeds)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(specs))
	var mu sync.Mutex
	done := 0
	group, ctx := errgroup.WithContext(b.ctx)
	workers := b.cfg.Threads
	if workers <= 0 {
		workers = runtime.NumCPU()
	}
	group.SetLimit(workers)
	for i, spec := range specs {
		group.Go(mapped.Guarded(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			c, err := m.Clone()
			if err != nil {
				return err
			}
			if _, err := quant.Insert(c, spec); err != nil {
				return err
			}
			got, err := b.outputs(c, feeds)
			if err != nil {
				return err
			}
			if out[i], err = disagreement(got, want); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			b.watch.Update(what, done, len(out), "")
			return nil
		}))
	}
	return out, group.Wait()
}

// outputs runs a model over feeds.
func (b *Bench) outputs(m *ir.Model, feeds []train.Feeds) ([]map[string]*ir.Tensor, error) {
	run, done, err := problem.Runner(m, b.session())
	if err != nil {
		return nil, err
	}
	defer done()
	var out []map[string]*ir.Tensor
	for _, f := range feeds {
		if err := b.ctx.Err(); err != nil {
			return nil, err
		}
		r, err := run(f)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// disagreement is 1 - cosine, mean over the float outputs and over the runs.
func disagreement(got, want []map[string]*ir.Tensor) (float64, error) {
	columns := map[string][]distill.Sums{}
	for i := range want {
		for name, t := range want[i] {
			if t.DType() != ir.Float32 || got[i][name] == nil {
				continue
			}
			a, err := got[i][name].Float32s()
			if err != nil {
				return 0, err
			}
			w, err := t.Float32s()
			if err != nil {
				return 0, err
			}
			s, err := distill.SumsOf(a, w)
			if err != nil {
				return 0, err
			}
			columns[name] = append(columns[name], s)
		}
	}
	sum := 0.0
	// In order, since the bits of a sum of floats depend on it.
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		cosine, _ := distill.Agree(columns[name])
		sum += 1 - cosine
	}
	return sum / float64(max(len(columns), 1)), nil
}
