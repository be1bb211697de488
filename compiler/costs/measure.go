package costs

import (
	"math"
	"math/rand/v2"
	"time"

	"mqatc/onnx/ir"
	"mqatc/passes/lower"
	"mqatc/runtime/ort"
)

// Forms are timed one after the other, each with no other session beside it, whose idle threads would spin: visits times at most,
// runs runs each. One that is slower than the fastest by the factor hopeless after a visit is not visited again.
const (
	visits   = 3
	runs     = 3
	hopeless = 1.3
)

// measure is the least time of a run of each of s's forms, in seconds.
func measure(s lower.Site, threads int) (map[string]float64, error) {
	buffers := map[string]*ort.Buffer{}
	defer func() {
		for _, b := range buffers {
			b.Close()
		}
	}()
	seconds := map[string]float64{}
	fastest := math.Inf(1)
	for visit := range visits {
		for _, f := range s.Forms {
			if visit > 0 && seconds[f] > hopeless*fastest {
				continue
			}
			least, err := visited(s, f, threads, buffers)
			if err != nil {
				return nil, err
			}
			if visit == 0 || least < seconds[f] {
				seconds[f] = least
			}
			fastest = min(fastest, least)
		}
	}
	return seconds, nil
}

// visited is the least time of some runs of a form.
func visited(s lower.Site, form string, threads int, buffers map[string]*ort.Buffer) (float64, error) {
	run, stop, err := load(s, form, threads, buffers)
	if err != nil {
		return 0, err
	}
	defer stop()
	if err := run(); err != nil { // memory is taken in the first run
		return 0, err
	}
	least := math.Inf(1)
	for range runs {
		start := time.Now()
		if err := run(); err != nil {
			return 0, err
		}
		least = min(least, max(time.Since(start).Seconds(), 1e-9))
	}
	return least, nil
}

// load makes a form ready to run on buffers that forms share.
func load(s lower.Site, form string, threads int, buffers map[string]*ort.Buffer) (run func() error, stop func(), err error) {
	m, err := s.Model(form)
	if err != nil {
		return nil, nil, err
	}
	session, err := ort.Load(m, ort.SessionOptions{OptLevel: ort.DisableAll, Threads: threads})
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			session.Close()
		}
	}()
	in, out := map[string]*ort.Buffer{}, map[string]*ort.Buffer{}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, v := range m.Graph.Inputs() {
		if buffers[v.Name()] == nil {
			d, _ := v.StaticDims()
			if buffers[v.Name()], err = ort.NewBuffer(ir.Float32, d...); err != nil {
				return nil, nil, err
			}
			for i, x := 0, buffers[v.Name()].Float32s(); i < len(x); i++ {
				x[i] = rng.Float32()
			}
		}
		in[v.Name()] = buffers[v.Name()]
	}
	y := m.Graph.Outputs()[0]
	d, _ := y.StaticDims()
	b, err := ort.NewBuffer(ir.Float32, d...)
	if err != nil {
		return nil, nil, err
	}
	out[y.Name()] = b
	bound, err := session.Bind(in, out)
	if err != nil {
		b.Close()
		return nil, nil, err
	}
	return bound.Run, func() {
		bound.Close()
		session.Close()
		b.Close()
	}, nil
}
