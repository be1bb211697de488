package importance

import (
	"fmt"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/mapped"
	"mqatc/passes/lower"
	"mqatc/passes/memory"
	"mqatc/runtime/ort"
)

// keepBytes bounds what is kept between probes of the values that only a batch decides.
const keepBytes = 1 << 30

// products runs the graph of Hessian-vector products in three parts, each of them as seldom as its inputs allow: what the weights
// alone decide (their blocked forms), what a batch decides (the network and its first gradient), and what a probe decides.
type products struct {
	layers []string
	batch  *ort.Session   // nil where a batch decides nothing by itself
	lanes  []*ort.Session // what a probe decides
	feeds  [3][]string    // what each part reads
	fixed  map[string]*ir.Tensor

	mu   sync.Mutex                    // guards what follows
	kept map[int]map[string]*ir.Tensor // by batch
	size int64                         // bytes in kept
}

// hessianWork is about how many training steps a Hessian product costs.
const hessianWork = 2

// newProducts loads the graph, of which so many batches are to be measured.
func newProducts(m *ir.Model, loss string, layers []string, mach lower.Machine, batches int, o Options) (*products, error) {
	h, err := Graph(m, loss, layers, mach)
	if err != nil {
		return nil, err
	}
	models, err := divide(h, layers)
	if err != nil {
		return nil, fmt.Errorf("hessian: %w", err)
	}
	p := &products{layers: layers, kept: map[int]map[string]*ir.Tensor{}}
	var group errgroup.Group
	for i, part := range models {
		if part != nil {
			group.Go(mapped.Guarded(func() error { return p.load(i, models, batches, o) }))
		}
	}
	if err := group.Wait(); err != nil {
		p.close()
		return nil, fmt.Errorf("hessian: %w", err)
	}
	return p, nil
}

// load loads a part, or computes it where it is constant.
func (p *products) load(i int, models [3]*ir.Model, batches int, o Options) error {
	g := models[i].Graph
	for _, v := range g.Inputs() {
		p.feeds[i] = append(p.feeds[i], v.Name())
	}
	raw, err := format.Marshal(models[i])
	if err != nil {
		return err
	}
	level := ort.LevelFor(len(g.Nodes()), hessianWork*float64(o.MACs)*float64(o.MaxProbes))
	// Idle threads that spin would take the cores of other sessions.
	so := ort.SessionOptions{OptLevel: level, Threads: o.Threads, DisableQDQ: true, Config: map[string]string{"session.force_spinning_stop": "1"}}
	switch i {
	case constant:
		so.OptLevel = ort.DisableAll // the optimizer would compute it all, to have it computed again
		s, err := ort.NewSession(raw, so)
		if err != nil {
			return err
		}
		if p.fixed, err = s.Run(nil, nil); err != nil {
			s.Close()
			return err
		}
		return s.Close()
	case byBatch:
		p.batch, err = ort.NewSession(raw, so)
	case byProbe:
		err = p.open(raw, probeBytes(models, batches), so, o)
	}
	return err
}

// probeBytes is what a probe takes for itself: what it computes and its signs, and what its batch decides where that is not kept.
func probeBytes(models [3]*ir.Model, batches int) int64 {
	g := models[byProbe].Graph
	out := memory.Of(g).Peak
	for _, v := range g.Inputs() {
		if strings.HasSuffix(v.Name(), probeSuffix) {
			out += memory.Size(v)
		}
	}
	if b := models[byBatch]; b != nil {
		if size := memory.Of(b.Graph).Outputs; size > keepBytes/int64(batches) {
			out += size
		}
	}
	return out
}

// open loads what a probe decides into a session for each lane; lanes of one thread share one, as their runs keep to their own threads.
func (p *products) open(raw []byte, bytes int64, so ort.SessionOptions, o Options) error {
	threads := o.Threads
	if threads <= 0 {
		threads = runtime.NumCPU()
	}
	lanes, each := lanesFor(threads, o.MaxProbes, bytes)
	so.NoMemoryPattern = true // each lane would have twice what its values take
	so.Profile = o.Profile
	if lanes > 1 {
		so.Threads = each
	}
	if lanes > 1 && each > 1 {
		// Without a folder for temporary files each lane optimizes for itself.
		if optimized, err := ort.Optimize(raw, so); err == nil {
			raw, so.OptLevel = optimized, ort.DisableAll
		}
	}
	p.lanes = make([]*ort.Session, lanes)
	for i := range p.lanes {
		if i > 0 && each == 1 {
			p.lanes[i] = p.lanes[0]
			continue
		}
		var err error
		if p.lanes[i], err = ort.NewSession(raw, so); err != nil {
			return err
		}
		so.Profile = ""
	}
	return nil
}

func (p *products) close() {
	for _, s := range append(p.lanes, p.batch) {
		if s != nil {
			s.Close()
		}
	}
}

// base is what the batch with the given number decides. It is safe for concurrent use.
func (p *products) base(number int, batch map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
	if p.batch == nil {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if base := p.kept[number]; base != nil {
		return base, nil
	}
	base, err := p.batch.Run(p.collect(byBatch, batch), nil)
	if err != nil {
		return nil, err
	}
	size := int64(0)
	for _, t := range base {
		size += int64(len(t.Raw()))
	}
	if p.size+size <= keepBytes {
		p.kept[number] = base
		p.size += size
	}
	return base, nil
}

// run gives v . (Hv) for each layer, of the batch with the given number. Lanes may run side by side.
func (p *products) run(lane, number int, batch, probe map[string]*ir.Tensor) ([]float64, error) {
	base, err := p.base(number, batch)
	if err != nil {
		return nil, err
	}
	got, err := p.lanes[lane].Run(p.collect(byProbe, batch, base, probe), nil)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(p.layers))
	for i, l := range p.layers {
		f, err := got[l+curveSuffix].Floats()
		if err != nil {
			return nil, err
		}
		if len(f) != 1 {
			return nil, fmt.Errorf("layer %s: %d numbers instead of one", l, len(f))
		}
		out[i] = f[0]
	}
	return out, nil
}

// collect is what a part reads, from the weights' values and the sources.
func (p *products) collect(part int, sources ...map[string]*ir.Tensor) map[string]*ir.Tensor {
	out := map[string]*ir.Tensor{}
	for _, name := range p.feeds[part] {
		out[name] = p.fixed[name]
		for _, s := range sources {
			if t := s[name]; t != nil {
				out[name] = t
			}
		}
	}
	return out
}
