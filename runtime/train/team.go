package train

import (
	"fmt"
	"maps"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/runtime/ort"
)

// Parts divides a step by its images: what all images, and states, decide for all parts, then the sums of each part's images, side by
// side, then Config.Step, which updates from the sums of all parts.
type Parts struct {
	Shared  []Stage // in the order in which they run, each before the parts
	Images  Stage
	Count   int
	Threads int      // inside an operator of a part; 0 leaves it to onnxruntime
	Divided []string // inputs of Images that hold a part of the images, in their first dimension
	// Name is how Config.Step calls what part k gives for an output of Images.
	Name func(output string, k int) string
}

// Stage is a serialized graph, with a layout as Config.Layout or nil.
type Stage struct {
	Model  []byte
	Layout *Layout
}

// stage is a graph of a divided step on a thread of its own.
type stage struct {
	session *ort.Session
	layout  Layout
	block   *ort.Buffer
	views   map[string]*ort.Buffer // outputs that are there for their place only
	runs    [2]*ort.Binding        // by present set of states
	thread  *thread
}

func newStage(of Stage, o ort.SessionOptions) (*stage, error) {
	s := &stage{views: map[string]*ort.Buffer{}, thread: newThread()}
	if of.Layout != nil {
		o.OptLevel, s.layout = ort.DisableAll, *of.Layout
	}
	var err error
	if s.session, err = ort.NewSession(of.Model, o); err != nil {
		return s, err
	}
	for _, v := range s.session.Outputs() {
		at, ok := s.layout.At[v.Name]
		if !ok {
			continue
		}
		if s.views[v.Name], err = viewOf(&s.block, s.layout.Bytes, v, at); err != nil {
			return s, err
		}
	}
	return s, nil
}

// made are the outputs that are not there for their place only.
func (s *stage) made() []ort.ValueInfo {
	return slices.DeleteFunc(slices.Clone(s.session.Outputs()), func(v ort.ValueInfo) bool { return s.views[v.Name] != nil })
}

func (s *stage) close() (errs []error) {
	s.thread.close()
	for _, b := range s.runs {
		if b != nil {
			errs = append(errs, b.Close())
		}
	}
	for _, v := range s.views {
		if v != nil {
			errs = append(errs, v.Close())
		}
	}
	if s.block != nil {
		errs = append(errs, s.block.Close())
	}
	if s.session != nil {
		errs = append(errs, s.session.Close())
	}
	return errs
}

// team are the stages before the update.
type team struct {
	shared  []*stage
	images  []*stage
	divided map[string][]*ort.Buffer // feeds by part
	whole   map[string]*ort.Buffer   // those of them that a shared stage reads
	between map[string]*ort.Buffer   // what one stage hands to the next
}

// newTeam loads the stages; the buffers between them are to be made by allocate.
func newTeam(cfg Config) (t *team, err error) {
	p := cfg.Parts
	t = &team{divided: map[string][]*ort.Buffer{}, whole: map[string]*ort.Buffer{}, between: map[string]*ort.Buffer{}}
	o := cfg.Session
	o.Profile, o.OptimizedModelPath = "", ""
	for _, of := range p.Shared {
		s, err := newStage(of, o)
		t.shared = append(t.shared, s)
		if err != nil {
			return t, fmt.Errorf("train: graph for all parts: %w", err)
		}
		for _, v := range s.made() {
			t.between[v.Name] = nil
		}
	}
	for k := range p.Count {
		o.Threads, o.Profile = p.Threads, ""
		if k == 0 {
			o.Profile = cfg.Session.Profile
		}
		s, err := newStage(p.Images, o)
		t.images = append(t.images, s)
		if err != nil {
			return t, fmt.Errorf("train: graph of part %d: %w", k, err)
		}
		for _, v := range s.made() {
			t.between[p.Name(v.Name, k)] = nil
		}
	}
	return t, nil
}

// allocate makes the buffers that allocate of the engine, which knows states and feeds of the updating graph, left out, and binds all.
func (t *team) allocate(e *Engine, p *Parts) error {
	fill := func(name string, v ort.ValueInfo) error {
		if t.between[name] != nil {
			return nil
		}
		b, err := newBuffer(name, v.Type)
		t.between[name] = b
		return err
	}
	for _, s := range t.shared {
		for _, v := range s.made() {
			if err := fill(v.Name, v); err != nil {
				return err
			}
		}
		for _, v := range s.session.Inputs() {
			if !slices.Contains(p.Divided, v.Name) || t.whole[v.Name] != nil {
				continue
			}
			b, err := newBuffer(v.Name, v.Type)
			if err != nil {
				return err
			}
			t.whole[v.Name] = b
		}
	}
	for k, s := range t.images {
		for _, v := range s.made() {
			if err := fill(p.Name(v.Name, k), v); err != nil {
				return err
			}
		}
		for _, v := range s.session.Inputs() {
			if !slices.Contains(p.Divided, v.Name) {
				continue
			}
			b, err := newBuffer(v.Name, v.Type)
			if err != nil {
				return err
			}
			t.divided[v.Name] = append(t.divided[v.Name], b)
		}
	}
	for _, s := range t.shared {
		if err := t.bind(e, s, t.whole, func(name string) *ort.Buffer { return t.between[name] }); err != nil {
			return err
		}
	}
	for k, s := range t.images {
		feeds := map[string]*ort.Buffer{}
		for name, b := range t.divided {
			feeds[name] = b[k]
		}
		if err := t.bind(e, s, feeds, func(name string) *ort.Buffer { return t.between[p.Name(name, k)] }); err != nil {
			return err
		}
	}
	return nil
}

func (t *team) bind(e *Engine, s *stage, feeds map[string]*ort.Buffer, target func(string) *ort.Buffer) (err error) {
	out := map[string]*ort.Buffer{}
	for _, v := range s.session.Outputs() {
		if out[v.Name] = s.views[v.Name]; out[v.Name] == nil {
			out[v.Name] = target(v.Name)
		}
	}
	for set := range s.runs {
		in := map[string]*ort.Buffer{}
		for _, v := range s.session.Inputs() {
			for _, from := range []map[string]*ort.Buffer{e.bufs[set], feeds, t.between, e.feeds} {
				if b := from[v.Name]; b != nil {
					in[v.Name] = b
					break
				}
			}
			if in[v.Name] == nil { // a feed that the update does not read
				b, err := newBuffer(v.Name, v.Type)
				if err != nil {
					return err
				}
				e.feeds[v.Name], in[v.Name] = b, b
			}
		}
		if s.runs[set], err = s.session.Bind(in, out); err != nil {
			return err
		}
	}
	return nil
}

// feed gives each part its images of a feed; ok is false for feeds that are not divided.
func (t *team) feed(name string, x *ir.Tensor) (ok bool, err error) {
	all := t.divided[name]
	if all == nil {
		return false, nil
	}
	if b := t.whole[name]; b != nil {
		if err := b.Set(x); err != nil {
			return true, err
		}
	}
	d := slices.Clone(x.Dims())
	if len(d) == 0 || d[0]%int64(len(all)) != 0 {
		return true, fmt.Errorf("sizes %v in %d parts", d, len(all))
	}
	d[0] /= int64(len(all))
	size := len(x.Raw()) / len(all)
	for k, b := range all {
		part, err := ir.NewTensor(x.DType(), d, x.Raw()[k*size:(k+1)*size])
		if err != nil {
			return true, err
		}
		if err := b.Set(part); err != nil {
			return true, err
		}
	}
	return true, nil
}

// run computes the sums of all parts from a set of states.
func (t *team) run(set int) error {
	for _, s := range t.shared {
		if err := s.thread.run(s.runs[set]); err != nil {
			return err
		}
	}
	for _, s := range t.images {
		s.thread.calls <- s.runs[set]
	}
	var first error
	for _, s := range t.images {
		if err := <-s.thread.done; first == nil {
			first = err
		}
	}
	return first
}

func (t *team) close() (errs []error) {
	if t == nil {
		return nil
	}
	for _, s := range append(slices.Clone(t.shared), t.images...) {
		errs = append(errs, s.close()...)
	}
	for _, b := range t.whole {
		errs = append(errs, b.Close())
	}
	for _, all := range t.divided {
		for _, b := range all {
			errs = append(errs, b.Close())
		}
	}
	for _, b := range t.between {
		if b != nil {
			errs = append(errs, b.Close())
		}
	}
	return errs
}

// quiet has the idle threads of a session that takes turns with others let go of the processors.
func quiet(o ort.SessionOptions) ort.SessionOptions {
	c := map[string]string{"session.force_spinning_stop": "1"}
	maps.Copy(c, o.Config)
	o.Config = c
	return o
}

// isBetween reports an input of the updating graph that another stage computes.
func (t *team) isBetween(name string) bool {
	if t == nil {
		return false
	}
	_, ok := t.between[name]
	return ok
}
