package target

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"mqatc/onnx/ir"
)

// Level is a graph optimization level of onnxruntime.
type Level int

// Levels, the least first.
const (
	DisableAll Level = iota
	Basic
	Extended
	All
)

func (l Level) String() string {
	return [...]string{"disable_all", "basic", "extended", "all"}[min(max(l, 0), All)]
}

// Session is a loaded model; feeds and results go by name.
type Session interface {
	Run(feeds map[string]*ir.Tensor, outputs []string) (map[string]*ir.Tensor, error)
	Close() error
}

// DisagreementError says which outputs differ between optimization levels, or from the fake-quantized model, by more than they may.
type DisagreementError struct{ Problems []string }

// Error lists them.
func (e *DisagreementError) Error() string { return "verify: " + strings.Join(e.Problems, "; ") }

// Runner is what Verify needs of a runtime.
type Runner interface {
	Open(m *ir.Model, level Level) (Session, error)
	// Optimized returns m as the runtime rewrites it at level before it runs.
	Optimized(m *ir.Model, level Level) (*ir.Model, error)
}

// Agreement compares one output at one level with its reference over all feeds.
type Agreement struct {
	Level    string  `json:"level"`
	Output   string  `json:"output"`
	Against  string  `json:"against"` // what it is compared with
	Cosine   float64 `json:"cosine"`
	MaxError float64 `json:"max_error"`  // relative to the largest element of the reference
	Steps    float64 `json:"mean_steps"` // mean error in 1/255 of the reference's range
}

// Verification is what Verify found.
type Verification struct {
	Agreements []Agreement `json:"agreements"`
	// NotInteger names layers that were meant to run in integers and do not.
	NotInteger []string `json:"not_integer"`
	Integer    int      `json:"integer"` // layers that do
}

// Verify runs an emitted model, reloaded from its file, at every optimization level and compares it with the fake-quantized model
// it came from. With float activations every level must agree with it within 1e-4 of the largest element, or twice as far as that model
// is from itself. With quantized ones the model must agree with itself between DisableAll and Basic within 1e-5, and DisableAll with the fake-quantized model, and Extended
// and All with DisableAll, to a cosine of 0.999 and one step in the mean: integer kernels round sums where float ones do not.
// TensorRT's form is run at DisableAll alone. A level that fails to load or run, or disagrees, is an error; layers meant to run in
// integers that do not are named in the result.
func (t Target) Verify(run Runner, fake *ir.Model, e *Emitted, loaded *ir.Model, feeds []map[string]*ir.Tensor) (*Verification, error) {
	if len(feeds) == 0 {
		return nil, fmt.Errorf("verify: no inputs to compare on")
	}
	v := &Verification{}
	want, err := outputsOf(run, fake, DisableAll, feeds)
	if err != nil {
		return nil, fmt.Errorf("verify: the fake-quantized model: %w", err)
	}
	quantized := quantizesActivations(loaded)
	levels := []Level{DisableAll, Basic, Extended, All}
	if t.Bytes {
		levels = levels[:1]
	}
	var plain []map[string]*ir.Tensor
	var problems []string
	for _, level := range levels {
		got, err := outputsOf(run, loaded, level, feeds)
		if err != nil {
			return v, fmt.Errorf("verify: optimization level %v: %w", level, err)
		}
		ref, against := want, "fake-quantized"
		if level == DisableAll {
			plain = got
		} else if quantized {
			ref, against = plain, DisableAll.String()
		}
		for _, o := range loaded.Graph.Outputs() {
			a, err := compare(o.Name(), ref, got, floor(o))
			if err != nil {
				return v, fmt.Errorf("verify: optimization level %v: %w", level, err)
			}
			a.Level, a.Against = level.String(), against
			v.Agreements = append(v.Agreements, a)
			why := a.fault(level, quantized)
			if why != "" && !quantized {
				ok, err := t.asFar(run, fake, level, feeds, want, a, floor(o))
				if err != nil {
					return v, err
				}
				if ok {
					why = ""
				}
			}
			if why != "" {
				problems = append(problems, fmt.Sprintf("output %q at level %v against %s: %s", o.Name(), level, against, why))
			}
		}
	}
	if len(e.Integer) > 0 && !t.Bytes {
		if err := v.integers(run, e, loaded); err != nil {
			return v, err
		}
	}
	if len(problems) > 0 {
		return v, &DisagreementError{problems}
	}
	return v, nil
}

// mostChaos bounds what the float kernels of different levels may be apart.
const mostChaos = 0.01

// asFar reports whether the fake-quantized model is itself half as far, at least, from what it computes at DisableAll as a says:
// levels add up in different orders, and a chaotic network makes more of that than 1e-4.
func (t Target) asFar(run Runner, fake *ir.Model, level Level, feeds, want []map[string]*ir.Tensor, a Agreement, least float64) (bool, error) {
	own, err := outputsOf(run, fake, level, feeds)
	if err != nil {
		return false, fmt.Errorf("verify: the fake-quantized model at optimization level %v: %w", level, err)
	}
	b, err := compare(a.Output, want, own, least)
	return err == nil && a.MaxError <= min(2*b.MaxError, mostChaos), err
}

// fault says what is wrong with an agreement, "" if nothing.
func (a Agreement) fault(level Level, quantized bool) string {
	switch {
	case !quantized:
		if !(a.MaxError <= 1e-4) {
			return fmt.Sprintf("largest error %.3g of the largest element, allowed 1e-4", a.MaxError)
		}
	case level == Basic:
		if !(a.MaxError <= 1e-5) {
			return fmt.Sprintf("largest error %.3g of the largest element, allowed 1e-5", a.MaxError)
		}
	case !(a.Cosine >= 0.999) || !(a.Steps <= 1):
		return fmt.Sprintf("cosine %.6f and mean error %.3g steps, allowed 0.999 and 1", a.Cosine, a.Steps)
	}
	return ""
}

func outputsOf(run Runner, m *ir.Model, level Level, feeds []map[string]*ir.Tensor) (out []map[string]*ir.Tensor, err error) {
	s, err := run.Open(m, level)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = cerr
		}
	}()
	for _, f := range feeds {
		r, err := s.Run(f, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// leastPeak is what the largest element of a squashed output counts as at least. Kernels compute such functions to some 2e-7 of
// their range, which near zero is far more than 1e-5 of the value.
const leastPeak = 0.05

// floor is leastPeak for outputs in 0..1 that a squashing function makes, moved about or not, and 0 for others.
func floor(v *ir.Value) float64 {
	for range 8 {
		n := v.Producer()
		if n == nil || n.Input(0) == nil {
			return 0
		}
		switch n.Op {
		case "Sigmoid", "HardSigmoid", "Softmax":
			return leastPeak
		case "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Concat", "Identity":
			v = n.Input(0)
		default:
			return 0
		}
	}
	return 0
}

// compare measures output name of got against ref over all feeds. The largest element counts as least at least.
func compare(name string, ref, got []map[string]*ir.Tensor, least float64) (Agreement, error) {
	a := Agreement{Output: name}
	var dot, nr, ng, sum, top, worst float64
	lo, hi := math.Inf(1), math.Inf(-1)
	n := 0
	for i := range got {
		x, y := ref[i][name], got[i][name]
		if x == nil || y == nil {
			return a, fmt.Errorf("output %q is missing", name)
		}
		p, err := x.Floats()
		if err != nil {
			return a, fmt.Errorf("output %q: %w", name, err)
		}
		q, err := y.Floats()
		if err != nil || len(p) != len(q) {
			return a, fmt.Errorf("output %q has %d elements, its reference %d", name, len(q), len(p))
		}
		for k := range p {
			if p[k] == q[k] && math.IsInf(p[k], 0) {
				continue
			}
			d := math.Abs(p[k] - q[k])
			dot, nr, ng = dot+p[k]*q[k], nr+p[k]*p[k], ng+q[k]*q[k]
			sum, top, worst = sum+d, max(top, math.Abs(p[k])), max(worst, d)
			lo, hi = min(lo, p[k]), max(hi, p[k])
			n++
		}
	}
	a.Cosine = 1
	if nr > 0 || ng > 0 {
		a.Cosine = dot / math.Sqrt(nr*ng)
	}
	if worst > 0 {
		a.MaxError = worst / max(top, least)
		a.Steps = sum / float64(n) / (max(hi-lo, math.Abs(hi), math.Abs(lo), least) / 255)
	}
	return a, nil
}

// quantizesActivations reports a QuantizeLinear anywhere in the main graph.
func quantizesActivations(m *ir.Model) bool {
	for n := m.Graph.First(); n != nil; n = n.Next() {
		if n.Is("QuantizeLinear") {
			return true
		}
	}
	return false
}

// integerOps are the operators in which onnxruntime computes a layer in integers.
var integerOps = map[string]bool{
	"QLinearConv": true, "QLinearMatMul": true, "MatMulIntegerToFloat": true, "QGemm": true, "ConvInteger": true, "MatMulInteger": true,
}

// integers looks the layers meant to run in integers up in the model as the runtime rewrote it.
func (v *Verification) integers(run Runner, e *Emitted, loaded *ir.Model) error {
	opt, err := run.Optimized(loaded, Extended)
	if err != nil {
		return fmt.Errorf("verify: the optimized model: %w", err)
	}
	made := map[string]bool{}
	for n := opt.Graph.First(); n != nil; n = n.Next() {
		for _, o := range n.Outputs() {
			made[o.Name()] = integerOps[n.Op]
		}
	}
	for _, l := range e.Integer {
		ok := false
		for _, name := range results(loaded.Graph.Value(l.Output)) {
			ok = ok || made[name]
		}
		if ok {
			v.Integer++
			continue
		}
		v.NotInteger = append(v.NotInteger, fmt.Sprintf("%s %s (weight %q)", l.Op, l.Node, l.Weight))
	}
	return nil
}

// results lists the values that an integer operator in place of the layer that makes y may give: y, or what quantizes it, with an
// activation function between or not.
func results(y *ir.Value) []string {
	if y == nil {
		return nil
	}
	out := []string{y.Name()}
	for _, u := range y.Uses() {
		switch {
		case u.Node.Is("QuantizeLinear"):
			out = append(out, u.Node.Output(0).Name())
		case clipsAtZero(u.Node), bound(u.Node) > 0:
			for _, w := range u.Node.Output(0).Uses() {
				if w.Node.Is("QuantizeLinear") {
					out = append(out, w.Node.Output(0).Name())
				}
			}
		}
	}
	return out
}

// CheckPlan reports the first way in which an emitted model falls short of its plan: a weight planned for fewer than 32 bits that is
// float, nothing quantized at all, or files that are larger than those of the input (bytes; 0 skips that).
func CheckPlan(loaded *ir.Model, planned map[string]int, before, after int64) error {
	quantized := 0
	for _, v := range loaded.Graph.Initializers() {
		bits, ok := planned[v.Name()]
		if !ok || bits >= 32 || v.Init() == nil {
			continue
		}
		if v.Init().DType().IsFloat() {
			return fmt.Errorf("weight %q was planned for %d bits and is %v in the output", v.Name(), bits, v.Init().DType())
		}
		quantized++
	}
	if quantized == 0 {
		return fmt.Errorf("nothing was quantized")
	}
	for _, name := range slices.Sorted(maps.Keys(planned)) {
		if planned[name] < 32 && loaded.Graph.Value(name) == nil {
			return fmt.Errorf("weight %q was planned for %d bits and is not in the output", name, planned[name])
		}
	}
	if before > 0 && after > before {
		return fmt.Errorf("the output takes %d bytes, the input %d: nothing is gained", after, before)
	}
	return nil
}
