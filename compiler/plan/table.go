package plan

import (
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"mqatc/compiler/importance"
	"mqatc/onnx/ir"
	"mqatc/onnx/mapped"
	"mqatc/passes/partition"
	"mqatc/passes/quant"
	"mqatc/passes/target"
	"mqatc/passes/weights"
)

// Unit is what gets one width: a module, or a layer where each weight has its own.
type Unit struct {
	Name, Role string
	Weights    []weights.Param // those that are quantized
	Others     []weights.Param // biases and norm parameters
	Elements   int64           // of Weights
	Params     int64           // elements of all
	MACs       int64
}

// Modules are the units of a partition.
func Modules(p *partition.Partition) []Unit {
	var out []Unit
	for _, m := range p.Modules {
		u := Unit{Name: m.Name, Role: m.Role, Params: m.Params, MACs: m.MACs}
		for _, w := range m.Weights {
			if w.Kind == weights.Weight {
				u.Weights = append(u.Weights, w)
				u.Elements += w.Elements()
			} else {
				u.Others = append(u.Others, w)
			}
		}
		out = append(out, u)
	}
	return out
}

// Layers are the weights inside modules as units, each with the biases and norm parameters of the nodes that read it. What belongs to
// none of them goes to the layer before it.
func Layers(p *partition.Partition) []Unit {
	var out []Unit
	at := map[*ir.Node]int{}
	for _, m := range p.Modules {
		for _, w := range m.Quantizable() {
			u := Unit{Name: w.Value.Name(), Weights: []weights.Param{w}, Elements: w.Elements(), Params: w.Elements()}
			for _, n := range w.Nodes {
				at[n] = len(out)
				k, _ := partition.MACs(n)
				u.MACs += k
			}
			out = append(out, u)
		}
		for _, w := range m.Weights {
			if w.Kind == weights.Weight || len(out) == 0 {
				continue
			}
			i, ok := at[w.Nodes[0]]
			if !ok {
				i = len(out) - 1
			}
			out[i].Others = append(out[i].Others, w)
			out[i].Params += w.Elements()
		}
	}
	return out
}

// Option is one width of a unit.
type Option struct {
	Bits  int     `json:"bits"`
	Omega float64 `json:"omega"`
	Bytes int64   `json:"bytes"` // of the unit's trained tensors and all that stands for them
	// bits of the nominal figure, and bit operations
	nominal, bops int64
}

// Table is what each width of each unit costs and takes.
type Table struct {
	Units   []Unit
	Options [][]Option // by unit, ascending in width
	Fixed   int64      // bytes of trained tensors in no module

	in          Input
	sensitivity string
	elements    int64 // of the nominal figure
	outsideBits int64
}

// Measure computes the table. Widths that r.Assign fixes stand alone.
func Measure(in Input, s Sensitivity, r Request) (*Table, error) {
	widths, err := r.widths()
	if err != nil {
		return nil, err
	}
	if in.Quantizer == "" {
		in.Quantizer = "lsq"
	}
	if in.Starts == nil {
		in.Starts = &quant.Starts{}
	}
	t := &Table{in: in, sensitivity: s.Source, Units: Modules(in.Partition)}
	if s.Lambda == nil {
		t.sensitivity = Weights
	}
	if r.Layers {
		t.Units = Layers(in.Partition)
	}
	fixed, err := r.assigned(t.Units)
	if err != nil {
		return nil, err
	}
	for _, w := range in.Partition.Outside {
		t.Fixed += int64(len(w.Value.Init().Raw()))
		t.elements += w.Elements()
		t.outsideBits += Float * w.Elements()
	}
	integer, err := t.placed(fixed)
	if err != nil {
		return nil, err
	}
	t.Options = make([][]Option, len(t.Units))
	for i, u := range t.Units {
		list := widths
		if b, ok := fixed[u.Name]; ok {
			list = []int{b}
		} else if len(u.Weights) == 0 {
			list = []int{Float}
		}
		for _, b := range list {
			t.Options[i] = append(t.Options[i], Option{Bits: b})
		}
	}
	var eg errgroup.Group
	eg.SetLimit(runtime.GOMAXPROCS(0))
	for i := range t.Units {
		eg.Go(mapped.Guarded(func() error { return t.measure(i, s, r, integer) }))
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	for _, u := range t.Units {
		t.elements += t.counted(u, r)
	}
	return t, nil
}

// placed names the nodes that will run in integers, by first output value.
func (t *Table) placed(fixed map[string]int) (map[string]bool, error) {
	quantized := map[string]bool{}
	for _, u := range t.Units {
		for _, w := range u.Weights {
			quantized[w.Value.Name()] = fixed[u.Name] != Float
		}
	}
	pl, err := t.in.Target.Place(t.in.Model, quantized)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	out := map[string]bool{}
	for _, name := range pl.Integer {
		out[name] = true
	}
	return out, nil
}

// counted is the elements of a unit in the nominal figure.
func (t *Table) counted(u Unit, r Request) int64 {
	if !r.CountSharedPerUse {
		return u.Params
	}
	n := int64(0)
	for _, list := range [][]weights.Param{u.Weights, u.Others} {
		for _, w := range list {
			n += w.Elements() * max(w.Copies(), t.in.Copies[w.Value.Name()])
		}
	}
	return n
}

func (t *Table) measure(i int, s Sensitivity, r Request, integer map[string]bool) error {
	u := t.Units[i]
	lambda := make([]float64, len(u.Weights))
	sizes := make([]int64, len(u.Weights))
	data := make([][]float32, len(u.Weights))
	for k, w := range u.Weights {
		l, err := s.of(w.Value.Name())
		if err != nil {
			return err
		}
		lambda[k], sizes[k] = l, w.Elements()
		if data[k], err = t.content(w).Float32s(); err != nil {
			return fmt.Errorf("plan: weight %q: %w", w.Value.Name(), err)
		}
	}
	activation := int64(Float)
	if t.in.Target.Activation != ir.Undefined {
		activation = int64(t.in.Target.Activation.Bits())
	}
	if r.MaxBOPs > 0 && u.MACs == 0 && len(u.Weights) > 0 {
		return fmt.Errorf("plan: the multiply-accumulates of %s are not known, as the model has inputs without a size", u.Name)
	}
	for k := range t.Options[i] {
		o := &t.Options[i][k]
		act := activation
		if o.Bits == Float {
			act = Float
		}
		o.bops = u.MACs * int64(o.Bits) * act
		o.nominal = t.counted(u, r) * int64(o.Bits)
		err2 := make([]float64, len(u.Weights))
		for j, w := range u.Weights {
			if o.Bits == Float {
				continue
			}
			e, err := t.squaredError(w, data[j], o.Bits)
			if err != nil {
				return err
			}
			err2[j] = e
		}
		var err error
		if o.Omega, err = importance.Omega(lambda, sizes, err2); err != nil {
			return fmt.Errorf("plan: %s: %w", u.Name, err)
		}
		if o.Bytes, err = t.bytes(u, o.Bits, integer); err != nil {
			return fmt.Errorf("plan: %s at %d bits: %w", u.Name, o.Bits, err)
		}
	}
	return nil
}

// content is what Model holds under a trained tensor's name: the partition may be that of an earlier state of the network.
func (t *Table) content(p weights.Param) *ir.Tensor {
	if v := t.in.Model.Graph.Value(p.Value.Name()); v != nil && v.Init() != nil {
		return v.Init()
	}
	return p.Value.Init()
}

// squaredError is the sum of squares of what rounding changes in a weight.
func (t *Table) squaredError(p weights.Param, w []float32, bits int) (float64, error) {
	q, err := quant.Find(t.in.Quantizer)
	if err != nil {
		return 0, fmt.Errorf("plan: %w", err)
	}
	g, err := q.Grid(bits)
	if err != nil {
		return 0, fmt.Errorf("plan: quantizer %s: %w", q.Name, err)
	}
	site := quant.SiteOf(p, t.in.Target.WeightSpec(bits, q.Name, t.in.PerTensor))
	scale, err := t.in.Starts.Of(site, t.content(p))
	if err != nil {
		return 0, fmt.Errorf("plan: weight %q: %w", p.Value.Name(), err)
	}
	e, err := site.SquaredError(w, scale, g)
	if err != nil {
		return 0, fmt.Errorf("plan: weight %q: %w", p.Value.Name(), err)
	}
	return e, nil
}

// bytes is what emission writes for a unit: codes and scales, biases as float or, once for each layer that reads them, integers, norm
// parameters in float.
func (t *Table) bytes(u Unit, bits int, integer map[string]bool) (int64, error) {
	total := int64(0)
	levels := int64(0)
	for _, w := range u.Weights {
		if bits == Float {
			total += int64(len(w.Value.Init().Raw()))
			continue
		}
		site := quant.SiteOf(w, t.in.Target.WeightSpec(bits, t.in.Quantizer, t.in.PerTensor))
		n, err := t.in.Target.PayloadBytes(target.Weight{Dims: site.Dims, Bits: bits, Axis: site.Axis, Quantizer: t.in.Quantizer})
		if err != nil {
			return 0, fmt.Errorf("weight %q: %w", w.Value.Name(), err)
		}
		total += n
		levels = t.codebook(bits)
	}
	for _, w := range u.Others {
		float, n := len(w.Nodes) == 0, int64(0)
		for _, node := range w.Nodes {
			out := node.Output(0)
			if bits == Float || w.Kind != weights.Bias || out == nil || !integer[out.Name()] || !t.in.Target.IntegerBias {
				float = true
				continue
			}
			n += t.in.Target.BiasBytes(w.Elements(), true)
		}
		switch {
		case float && bits != Float && t.half(u, w):
			n += t.in.Target.BiasBytes(w.Elements(), true)
		case float:
			n += int64(len(w.Value.Init().Raw()))
		}
		total += n
	}
	return total + levels, nil
}

// half reports whether a bias is read by quantized layers of u alone and fits float16.
func (t *Table) half(u Unit, b weights.Param) bool {
	for _, use := range b.Value.Uses() {
		quantized := slices.ContainsFunc(u.Weights, func(w weights.Param) bool { return slices.Contains(w.Nodes, use.Node) })
		if !quantized || !quant.BiasInput(use) {
			return false
		}
	}
	f, err := t.content(b).Float32s()
	return err == nil && quant.FitsHalf(f)
}

// codebook is the bytes of the levels of a width whose codes are indices; the weights of a unit share them.
func (t *Table) codebook(bits int) int64 {
	q, err := quant.Find(t.in.Quantizer)
	if err != nil {
		return 0
	}
	g, err := q.Grid(bits)
	if err != nil {
		return 0
	}
	c := quant.Codes{Bits: bits, Grid: g}
	if _, _, uniform := c.Integers(); uniform {
		return 0
	}
	return 4 * int64(len(g.Levels))
}
