package problem

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/step"
	"mqatc/runtime/data/npy"
	"mqatc/runtime/task"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/task/loss"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/score"
	"mqatc/runtime/train"
)

// goal is a loss other than the task's own, and where its inputs come from.
type goal struct {
	loss    *loss.Loss
	teacher []string // outputs of the float network that it reads as OUTPUT.teacher
	own     []string // targets that the task's own source makes
	arrays  *arrays  // targets from files; nil where there are none
}

// openGoal makes the loss that o names fit the network m. own are the task's own targets, images the names of the training images;
// it returns nil where the task's own loss is to be used. Everything that can be found wrong before a training is found here.
func openGoal(m *ir.Model, in *prep.Input, o Options, own []*ir.Value, images []string) (*goal, error) {
	if o.Loss == "" {
		return nil, nil
	}
	l, err := named(m, o.Loss, nil)
	if err != nil {
		return nil, err
	}
	return newGoal(m, in, o, l, own, images)
}

// named is the loss that --loss names: one of the table, a file, one of the task's own, or several with their weights.
func named(m *ir.Model, name string, own map[string]func() (*ir.Model, error)) (*loss.Loss, error) {
	parts, several, err := loss.Parts(name)
	switch {
	case err != nil:
		return nil, err
	case several:
		var all []*loss.Loss
		var weights []float64
		for _, p := range parts {
			l, err := named(m, p.Name, own)
			if err != nil {
				return nil, err
			}
			all, weights = append(all, l), append(weights, p.Weight)
		}
		return loss.Weighted(all, weights)
	case loss.IsFile(name):
		return loss.Read(name)
	case name == task.LossDistill:
		l, err := distill.Loss(m.Graph.Outputs())
		return &loss.Loss{Name: name, Model: l}, err
	case own[name] != nil:
		l, err := own[name]()
		return &loss.Loss{Name: name, Model: l}, err
	}
	return loss.Named(name, m.Graph.Outputs())
}

// exposed is m with further values among its outputs, for a loss that compares them with the float network's.
func exposed(m *ir.Model, names []string) (*ir.Model, error) {
	if len(names) == 0 {
		return m, nil
	}
	c, err := m.Clone()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		v := c.Graph.Value(name)
		switch {
		case v == nil || v.Producer() == nil:
			return nil, hint.Errorf("mqatc partition MODEL --json lists the values between modules", "distill: the network computes no value %q", name)
		case v.DType() != ir.Float32 || len(v.Shape()) == 0:
			return nil, fmt.Errorf("distill: value %q is %v; float values of a batch are compared", name, v.Type)
		case v.IsOutput():
			return nil, fmt.Errorf("distill: %q is an output, which counts anyway", name)
		}
		if err := c.Graph.AddOutput(v); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// newGoal is openGoal for a loss at hand.
func newGoal(m *ir.Model, in *prep.Input, o Options, l *loss.Loss, own []*ir.Value, images []string) (*goal, error) {
	g := &goal{loss: l}
	if err := g.resolve(m, in, o, own, images); err != nil {
		return nil, err
	}
	reach := "every trained weight must reach the loss through differentiable operators; mqatc step MODEL --loss FILE.onnx -o step.onnx shows the training step"
	if err := g.infer(); err != nil {
		return nil, hint.Errorf(reach, "loss %s: %w", l.Name, err)
	}
	// A step graph that can be built now can be built when the training begins.
	if _, err := step.Build(m, step.Options{Loss: l.Model, Batch: 1, Params: step.Trainable(m), Optimizer: step.Optimizer{Name: "sgd"}}); err != nil {
		return nil, hint.Errorf(reach, "loss %s: %w", l.Name, err)
	}
	return g, nil
}

// resolve finds what each input of the loss is and gives it the type that it will be fed.
func (g *goal) resolve(m *ir.Model, in *prep.Input, o Options, own []*ir.Value, images []string) error {
	graph := g.loss.Model.Graph
	batch := ir.Sym("N")
	if s := m.Graph.Value(in.Name).Shape(); len(s) > 0 && s[0].Known() {
		batch = ir.D(1)
	}
	var files []*ir.Value
	var lost []string
	for _, v := range slices.Clone(graph.Inputs()) {
		if v.IsInitializer() {
			continue
		}
		if !v.Used() {
			if err := graph.RemoveInput(v); err != nil {
				return err
			}
			continue
		}
		name, isTeacher := strings.CutSuffix(v.Name(), distill.Teacher)
		var of *ir.Value
		x := m.Graph.Value(v.Name())
		switch {
		case x != nil && (x.IsOutput() || x.IsInput()):
			of = x
		case isTeacher && output(m, name) != nil && output(m, name).DType() == ir.Float32:
			of = output(m, name)
			g.teacher = append(g.teacher, name)
		default:
			if i := slices.IndexFunc(own, func(x *ir.Value) bool { return x.Name() == v.Name() }); i >= 0 {
				of = own[i]
				g.own = append(g.own, v.Name())
			}
		}
		switch {
		case of != nil:
			if err := fits(v.Type, of.Type); err != nil {
				return hint.Errorf("declare the input as the network does; mqatc inspect MODEL shows its outputs", "loss %s: input %q: %w", g.loss.Name, v.Name(), err)
			}
			v.Type = of.Type.Clone()
		case o.Data == "" || isTeacher || !haveFolder(o.Data, v.Name()):
			lost = append(lost, fmt.Sprintf("%q", v.Name()))
		default:
			files = append(files, v)
		}
	}
	if len(lost) > 0 {
		where := "there is no folder for it in DATA/" + TargetsDir
		if o.Data == "" {
			where = "rendered data has no files of targets"
		}
		return hint.Errorf(targetsHint, "loss %s: no source of input %s: neither an output nor an input of the network, nor OUTPUT%s of a float output, and %s; the outputs are %s",
			g.loss.Name, strings.Join(lost, ", "), distill.Teacher, where, outputNames(m))
	}
	if len(files) == 0 {
		return nil
	}
	g.arrays = (&arrays{}).in(o.Data)
	for _, v := range files {
		a, err := g.array(v, batch, images[0])
		if err != nil {
			return hint.Errorf(targetsHint, "loss %s: target %q: %w", g.loss.Name, v.Name(), err)
		}
		g.arrays.list = append(g.arrays.list, a)
	}
	return g.arrays.check(images)
}

// array describes a target from files; sizes that the loss leaves open are those of the first image's array.
func (g *goal) array(v *ir.Value, batch ir.Dim, first string) (array, error) {
	a := array{name: v.Name(), folder: targetFolder(v.Name()), dtype: v.DType()}
	if b, ok := g.loss.Bounds[v.Name()]; ok {
		a.bounds = &b
	}
	s := v.Type.Shape.Clone()
	if s[0].Known() && s[0].Size != 1 {
		return a, fmt.Errorf("its first dimension is the batch and must be open, not %d", s[0].Size)
	}
	s[0] = batch
	if _, ok := s[1:].Static(); !ok {
		path := g.arrays.path(a, first)
		x, err := npy.ReadFile(path)
		if err != nil {
			return a, err
		}
		dims, err := inner(x.Shape, len(s))
		if err != nil {
			return a, fmt.Errorf("%s: %w", path, err)
		}
		for i, d := range dims {
			if !s[i+1].Known() {
				s[i+1] = ir.D(d)
			}
		}
	}
	a.dims, _ = s[1:].Static()
	v.Type.Shape = s
	return a, nil
}

// infer infers the loss's types from those of its inputs.
func (g *goal) infer() error {
	op.ClearTypes(g.loss.Model.Graph)
	if err := op.InferModel(g.loss.Model, nil); err != nil {
		return err
	}
	return g.loss.CheckOutput()
}

// fits compares the type that a loss declares with what the network has. The first dimension is the batch: 1 stands for any.
func fits(have, want ir.Type) error {
	ok := have.Elem == want.Elem && (!want.Shape.HasRank() || len(have.Shape) == len(want.Shape))
	for i := 0; ok && want.Shape.HasRank() && i < len(have.Shape); i++ {
		h, w := have.Shape[i], want.Shape[i]
		ok = !h.Known() || !w.Known() && (i > 0 || h.Size == 1) || w.Known() && h.Size == w.Size
	}
	if !ok {
		return fmt.Errorf("the loss declares %v, the network has %v", have, want)
	}
	return nil
}

func haveFolder(data, name string) bool {
	f := targetFolder(name)
	return strings.Trim(f, ".") != "" && isDir(filepath.Join(data, TargetsDir, f))
}

func output(m *ir.Model, name string) *ir.Value {
	if v := m.Graph.Value(name); v != nil && v.IsOutput() {
		return v
	}
	return nil
}

func outputNames(m *ir.Model) string {
	var names []string
	for _, v := range m.Graph.Outputs() {
		names = append(names, fmt.Sprintf("%q", v.Name()))
	}
	return strings.Join(names, ", ")
}

// teach adds the float network's outputs that the loss reads.
func (g *goal) teach(f train.Feeds, teacher score.Runner, x train.Feeds) error {
	if len(g.teacher) == 0 {
		return nil
	}
	out, err := teacher(x)
	if err != nil {
		return fmt.Errorf("float network: %w", err)
	}
	for _, name := range g.teacher {
		f[name+distill.Teacher] = out[name]
	}
	return nil
}

// value is the loss of one image, given what the network was fed, its outputs, the float network's, and the image's targets.
func value(run score.Runner, l *ir.Model, feeds, got, want, targets map[string]*ir.Tensor) (float64, error) {
	f := map[string]*ir.Tensor{}
	for _, v := range l.Graph.Inputs() {
		if v.IsInitializer() {
			continue
		}
		name, isTeacher := strings.CutSuffix(v.Name(), distill.Teacher)
		switch {
		case got[v.Name()] != nil:
			f[v.Name()] = got[v.Name()]
		case feeds[v.Name()] != nil:
			f[v.Name()] = feeds[v.Name()]
		case isTeacher && want[name] != nil:
			f[v.Name()] = want[name]
		default:
			f[v.Name()] = targets[v.Name()]
		}
		if f[v.Name()] == nil {
			return 0, fmt.Errorf("metric loss: nothing to feed as %q", v.Name())
		}
	}
	out, err := run(f)
	if err != nil {
		return 0, fmt.Errorf("metric loss: %w", err)
	}
	t := out[loss.Output]
	if t == nil || t.Len() != 1 {
		return 0, fmt.Errorf("metric loss: the loss is no scalar")
	}
	v, err := t.Float32s()
	if err != nil {
		return 0, err
	}
	if v[0]-v[0] != 0 {
		return 0, fmt.Errorf("metric loss: the loss is %v", v[0])
	}
	return float64(v[0]), nil
}
