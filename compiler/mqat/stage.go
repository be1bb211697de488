package mqat

import (
	"fmt"
	"math"
	"slices"

	"mqatc/compiler/fit"
	"mqatc/compiler/problem"
	"mqatc/onnx/ir"
	"mqatc/passes/quant"
	"mqatc/passes/step"
	"mqatc/runtime/task/score"
	"mqatc/runtime/train"
)

// stored is what the run directory keeps of a finished training beside its tensors.
type stored struct {
	Info  TrainInfo `json:"info"`
	Curve []float64 `json:"curve"`
}

// once runs a training, or takes its result from the run directory.
func (b *Bench) once(name string, f func(path, key string) (map[string]*ir.Tensor, TrainInfo, []float64, error)) (map[string]*ir.Tensor, TrainInfo, error) {
	name = b.prefix + name
	values, err := b.dir.File(name + ".values")
	if err != nil {
		return nil, TrainInfo{}, err
	}
	var s stored
	ok, err := b.dir.Load(name, &s)
	if err != nil {
		return nil, TrainInfo{}, err
	}
	if ok {
		c, err := train.ReadCheckpoint(values)
		if err != nil {
			return nil, TrainInfo{}, err
		}
		b.curves[name] = s.Curve
		return c.Tensors, s.Info, nil
	}
	path, err := b.dir.File(name + ".checkpoint")
	if err != nil {
		return nil, TrainInfo{}, err
	}
	if err := b.dir.Event("train", map[string]any{"unit": name}); err != nil {
		return nil, TrainInfo{}, err
	}
	tensors, info, curve, err := f(path, name)
	if err != nil {
		return nil, TrainInfo{}, err
	}
	if err := b.dir.Event("trained", map[string]any{"unit": name, "steps": info.Steps, "loss_from": info.LossFrom, "loss_to": info.LossTo}); err != nil {
		return nil, TrainInfo{}, err
	}
	if err := (&train.Checkpoint{Key: name, Step: info.Steps, Tensors: tensors}).Write(values); err != nil {
		return nil, TrainInfo{}, err
	}
	if err := b.dir.Store(name, stored{info, curve}); err != nil {
		return nil, TrainInfo{}, err
	}
	b.curves[name] = curve
	return tensors, info, b.dir.Discard(name + ".checkpoint")
}

// A rate of Config.LR is meant for weights whose rounding changes them by usualError of their size, as 4 bits do. One stage's rate follows
// the error at hand, within bounds, so that training does not cost more than rounding did: rounding costs loss as the square of the
// error, and so does Adam, whose steps have the size of the rate; the noise of SGD costs in proportion to its rate.
const (
	usualError = 0.1
	leastRate  = 0.05
)

// rate is the learning rate for a training of a module, or of the whole network where module is empty.
func (b *Bench) rate(v *variant, module string, r *quant.Report) (float64, error) {
	diff, all := 0.0, 0.0
	for _, ins := range r.Weights {
		if v.done[ins.Name] || (module != "" && b.home[ins.Name] != module) {
			continue
		}
		q, err := quant.Find(ins.Quantizer)
		if err != nil {
			return 0, err
		}
		grid, err := q.Grid(ins.Bits)
		if err != nil {
			return 0, err
		}
		w, err := b.value(v, ins.Name).Float32s()
		if err != nil {
			return 0, err
		}
		c := quant.Codes{Dims: ins.Dims, Axis: ins.Axis, Bits: ins.Bits, Grid: grid, Scale: v.scales[ins.Name], Q: make([]int16, len(w))}
		for i, x := range w {
			c.Q[i] = grid.Nearest(x / c.Scale[c.Channel(i)])
		}
		for i, x := range c.Values() {
			diff += float64(x-w[i]) * float64(x-w[i])
			all += float64(w[i]) * float64(w[i])
		}
	}
	part := leastRate
	if all > 0 {
		part = math.Sqrt(diff/all) / usualError
	}
	if !b.relative() {
		part *= part
	}
	return b.cfg.LR * math.Min(math.Max(part, leastRate), 1), nil
}

// fit trains v for a number of steps and returns the new values of trained tensors; there are none, and no steps, where every
// learning rate makes things worse.
func (b *Bench) fit(v *variant, name, module string, steps int, path, key string) (map[string]*ir.Tensor, TrainInfo, []float64, error) {
	m, r, _, err := b.build(v)
	if err != nil {
		return nil, TrainInfo{}, nil, err
	}
	q, err := quant.Find(b.cfg.Quantizer)
	if err != nil {
		return nil, TrainInfo{}, nil, err
	}
	lr, err := b.rate(v, module, r)
	if err != nil {
		return nil, TrainInfo{}, nil, err
	}
	var first float64
	o := fit.Options{
		Model: m, Problem: b.prob, Params: b.trainable(v, r), Steps: steps, Batch: b.cfg.Batch, Single: b.net.Single, Seed: b.cfg.Seed,
		Threads: b.cfg.Threads, Device: b.cfg.Device, Lower: b.cfg.Lower, Forms: b.cfg.Forms, MACs: work(b.net.Model), Late: true, Path: path, Key: key, State: map[string]*ir.Tensor{},
		Optimizer: step.Optimizer{Name: b.cfg.Optimizer, Momentum: 0.9, ClipNorm: float32(b.cfg.ClipNorm)},
		Progress: func(g train.Progress) {
			b.watch.Update(name, g.Step, g.Steps, fmt.Sprintf("loss %.4g, rate at first %.2g", g.Mean, first))
		},
	}
	schedule := func(lr float64) error {
		first = lr
		o.Rate = train.Cosine(lr, 0.05, 0)
		if q.Masked {
			return b.freezing(&o, v, r, q, lr)
		}
		return nil
	}
	if err := schedule(lr); err != nil {
		return nil, TrainInfo{}, nil, err
	}
	if steps >= leastTried && b.cfg.tryRates {
		tried, ok, err := b.tryRate(o, lr)
		if err != nil {
			return nil, TrainInfo{}, nil, err
		}
		// Weights that are frozen bit by bit are not finished without their training.
		if !ok && !q.Masked {
			return nil, TrainInfo{}, nil, nil
		}
		if err := schedule(tried); err != nil {
			return nil, TrainInfo{}, nil, err
		}
	}
	res, err := fit.Run(b.ctx, o)
	if err != nil {
		return nil, TrainInfo{}, nil, err
	}
	return res.Values, TrainInfo{Steps: res.Steps, LossFrom: res.LossFrom, LossTo: res.LossTo}, res.Curve, nil
}

// rateTrials is how many rates there are to take, each an eighth of the one before; a training of fewer steps than leastTried, such
// as a probe, would take less time than its trials.
const (
	rateTrials = 4
	rateFactor = 8
	leastTried = 24
)

// tryRate finds a rate of at most lr at which o's training does not begin by making things worse; ok is false, and the rate the
// least, where none is found.
func (b *Bench) tryRate(o fit.Options, lr float64) (rate float64, ok bool, err error) {
	rates := make([]float64, rateTrials)
	for k := range rates {
		rates[k] = lr / math.Pow(rateFactor, float64(k))
	}
	rate, ok, err = fit.Rate(b.ctx, o, rates)
	switch {
	case err != nil:
	case !ok:
		rate = rates[rateTrials-1]
		b.watch.Line("the loss rises at every learning rate from %.2g down to %.2g", lr, rate)
	case rate < lr:
		b.watch.Line("learning rate %.2g instead of %.2g, at which the loss rises", rate, lr)
	}
	return rate, ok, err
}

// freezing sets a training up that freezes weights bit by bit: all free at first, more of them on the grid at each event of the
// quantizer's schedule, which also sets the rate.
func (b *Bench) freezing(o *fit.Options, v *variant, r *quant.Report, q quant.Quantizer, base float64) error {
	events := q.Schedule.Stretch(o.Steps)
	var open []quant.Inserted
	for _, ins := range r.Weights {
		if v.done[ins.Name] {
			continue
		}
		open = append(open, ins)
		free := make([]bool, ins.Elements())
		for i := range free {
			free[i] = true
		}
		t, err := ir.FromBools(free, ins.Dims...)
		if err != nil {
			return err
		}
		o.State[ins.Name+step.Mask] = t
	}
	o.Before = func(e *train.Engine, s int) error {
		for _, ev := range events {
			if ev.Step != s || ev.Fraction <= 0 {
				continue
			}
			for _, ins := range open {
				w, mask := e.Buffer(ins.Name), e.Buffer(ins.Name+step.Mask)
				if w == nil || mask == nil {
					return fmt.Errorf("the step graph lacks %q or its mask", ins.Name)
				}
				if _, err := quant.Freeze(ins.Site, ins.Scale, w.Float32s(), mask.Bools(), ev.Fraction); err != nil {
					return err
				}
			}
			e.ResetOptimizer()
		}
		return nil
	}
	o.Rate = func(s, _ int) float64 {
		rate := base
		for _, ev := range events {
			if ev.Step <= s {
				rate = base * ev.Rate
			}
		}
		return rate
	}
	return nil
}

// measure runs a variant, rounded, over part of the data.
func (b *Bench) measure(v *variant, part problem.Part, name string) (*score.Score, error) {
	m, err := b.baked(v)
	if err != nil {
		return nil, err
	}
	run, done, err := problem.Runner(m, b.session())
	if err != nil {
		return nil, err
	}
	defer done()
	return b.prob.Score(b.ctx, part, run, func(n, total int) { b.watch.Update("measure "+name, n, total, "") })
}

// calibrationImages is how many training images activation ranges are taken from: fewer, but leastCalibration at least, where they
// took more than calibrationWork multiply-accumulates together.
const (
	calibrationImages = 32
	leastCalibration  = 8
	calibrationWork   = 5e11
)

// observe counts the values at the points of pl, on the float network. All points that there can be are counted at once: which of
// them are outputs decides what onnxruntime fuses, and a resumed run begins with others than the one that was killed.
func (b *Bench) observe(pl *quant.Placement) error {
	if b.obs == nil {
		b.obs = quant.Observations{}
	}
	missing := func(p quant.ActivationPoint) bool { return b.obs[p.Value] == nil }
	if !slices.ContainsFunc(pl.Points, missing) {
		return nil
	}
	rest, err := b.tgt.Leaving().Place(b.net.Model, b.inModules())
	if err != nil {
		return err
	}
	for _, p := range pl.Points {
		if !slices.ContainsFunc(rest.Points, func(o quant.ActivationPoint) bool { return o.Value == p.Value }) {
			rest.Points = append(rest.Points, p)
		}
	}
	rest.Points = slices.DeleteFunc(rest.Points, func(p quant.ActivationPoint) bool { return !missing(p) })
	return b.calibrate(rest, b.obs.Add)
}

// calibrate runs the float network over calibration images and hands on the values at the points of pl one by one. They are views that
// hold until add returns.
func (b *Bench) calibrate(pl *quant.Placement, add func(name string, t *ir.Tensor) error) error {
	m, names, err := quant.Observers(b.net.Model, pl)
	if err != nil {
		return err
	}
	s, err := problem.Session(m, b.session())
	if err != nil {
		return fmt.Errorf("calibration: %w", err)
	}
	defer s.Close()
	feeds, err := b.prob.Calibration(b.affordable(calibrationImages, leastCalibration, calibrationWork))
	if err != nil {
		return err
	}
	for i, f := range feeds {
		b.watch.Update("calibrate", i, len(feeds), "")
		if len(m.Graph.Outputs()) > 0 {
			if err := s.Visit(f, nil, add); err != nil {
				return fmt.Errorf("calibration: %w", err)
			}
		}
		for _, name := range names {
			if t := f[name]; t != nil {
				if err := add(name, t); err != nil {
					return err
				}
			}
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// ranges are the calibrated ranges of a placement, chosen once for each set of points.
func (b *Bench) ranges(pl *quant.Placement) (map[string]quant.Range, error) {
	if err := b.observe(pl); err != nil {
		return nil, err
	}
	return quant.Ranges(b.obs, pl, quant.MSE)
}
