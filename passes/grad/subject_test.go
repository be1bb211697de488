package grad

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// subject is a case built as a graph with its first and second derivatives.
type subject struct {
	dt    ir.DType // of floats
	m     *ir.Model
	feeds map[string]*arr
	y     []*ir.Value // float outputs
	wrt   []*ir.Value
	grads []*ir.Value // nil: zero
	hess  []*ir.Value // Hessian times v; nil: zero
	jac   []*ir.Value // Jacobian times v, per output; nil: zero
}

func (s *subject) input(name string, d ir.DType, a *arr) (*ir.Value, error) {
	s.feeds[name] = a
	return s.m.Graph.AddInput(name, ir.TensorType(d, ir.StaticShape(a.shape...)))
}

func randArr(r *rand.Rand, shape []int64) *arr {
	a := newArr(shape...)
	for i := range a.v {
		a.v[i] = float64(float32(r.NormFloat64()))
	}
	return a
}

func build(c ruleCase, r *rand.Rand) (*subject, error) { return buildOf(ir.Float32, c, r) }

func buildOf(dt ir.DType, c ruleCase, r *rand.Rand) (*subject, error) {
	opset := max(c.opset, 17)
	s := &subject{dt: dt, m: ir.NewModel(c.op, opset), feeds: map[string]*arr{}}
	if opset > 17 {
		s.m.IRVersion = 10
	}
	if opset > 21 {
		s.m.IRVersion = 11
	}
	domain, name := "", c.op
	if k := strings.LastIndex(c.op, "."); k >= 0 {
		domain, name = c.op[:k], c.op[k+1:]
		s.m.SetOpset(domain, 1)
	}
	g := s.m.Graph
	var ins []*ir.Value
	for i, p := range c.in {
		v, err := s.addInput(c, i, p, r)
		if err != nil {
			return nil, err
		}
		ins = append(ins, v)
	}
	b := ir.NewBuilder(g, "test", op.InferNode)
	first := name
	if c.op == "DequantizeLinear" {
		first = "QuantizeLinear"
	}
	var outs []*ir.Value
	if c.make != nil {
		outs = c.make(b, ins)
	} else {
		outs = b.Node(ir.NodeSpec{Op: first, Domain: domain, Inputs: ins, Attrs: c.attrs}, max(c.nout, 1))
	}
	if first == "QuantizeLinear" {
		outs = []*ir.Value{b.Op("DequantizeLinear", append([]*ir.Value{outs[0]}, ins[1:]...), c.attrs...)}
	}
	if err := b.Err(); err != nil {
		return nil, err
	}
	var seeds []Seed
	var us []*ir.Value
	for i, y := range outs {
		if !y.DType().IsFloat() {
			continue
		}
		dims, ok := y.StaticDims()
		if !ok {
			return nil, fmt.Errorf("output %s has type %v", y.Name(), y.Type)
		}
		u, err := s.input(fmt.Sprintf("u%d", i), s.dt, randArr(r, dims))
		if err != nil {
			return nil, err
		}
		s.y, us = append(s.y, y), append(us, u)
		seeds = append(seeds, Seed{y, u})
	}
	return s, s.differentiate(seeds, us, r)
}

func (s *subject) addInput(c ruleCase, i int, p input, r *rand.Rand) (*ir.Value, error) {
	name := fmt.Sprintf("x%d", i)
	g := s.m.Graph
	a := &arr{p.dims, nil}
	if p.kind != "absent" {
		a.v = p.values(r)
	}
	switch p.kind {
	case "absent":
		return nil, nil
	case "const":
		t, err := floatTensor(s.dt, a.v, p.dims)
		if err != nil {
			return nil, err
		}
		return g.AddInitializer(name, t)
	case "ints":
		t, err := ir.FromInt64s(a.ints(), p.dims...)
		if err != nil {
			return nil, err
		}
		return g.AddInitializer(name, t)
	case "int32":
		t, err := ir.PackInts(ir.Int32, a.ints(), p.dims...)
		if err != nil {
			return nil, err
		}
		return g.AddInitializer(name, t)
	case "int8", "uint8":
		d := ir.Int8
		if p.kind == "uint8" {
			d = ir.Uint8
		}
		t, err := ir.PackInts(d, a.ints(), p.dims...)
		if err != nil {
			return nil, err
		}
		return g.AddInitializer(name, t)
	case "flag":
		flags := make([]bool, len(a.v))
		for k := range flags {
			flags[k] = a.v[k] != 0
		}
		t, err := ir.FromBools(flags, p.dims...)
		if err != nil {
			return nil, err
		}
		return g.AddInitializer(name, t)
	case "late":
		return s.input(name, ir.Int64, a)
	case "bool":
		return s.input(name, ir.Bool, a)
	}
	v, err := s.input(name, s.dt, a)
	s.wrt = append(s.wrt, v)
	return v, err
}

// differentiate makes the gradients, and those of their product with the inputs v0, v1, ...
func (s *subject) differentiate(seeds []Seed, us []*ir.Value, r *rand.Rand) error {
	g := s.m.Graph
	var err error
	if s.grads, err = Gradients(g, seeds, s.wrt, Options{}); err != nil {
		return err
	}
	b := ir.NewBuilder(g, "test", op.InferNode)
	var sum *ir.Value
	for i, gr := range s.grads {
		dims, _ := s.wrt[i].StaticDims()
		v, err := s.input(fmt.Sprintf("v%d", i), s.dt, randArr(r, dims))
		if err != nil {
			return err
		}
		if gr == nil {
			continue
		}
		p := b.Op("ReduceSum", []*ir.Value{b.Op("Mul", []*ir.Value{gr, v})}, ir.AInt("keepdims", 0))
		if sum == nil {
			sum = p
		} else {
			sum = b.Op("Add", []*ir.Value{sum, p})
		}
	}
	if err := b.Err(); err != nil {
		return err
	}
	s.hess, s.jac = make([]*ir.Value, len(s.wrt)), make([]*ir.Value, len(us))
	if sum != nil {
		second, err := Gradients(g, []Seed{{Value: sum}}, append(append([]*ir.Value{}, s.wrt...), us...), Options{})
		if err != nil {
			return fmt.Errorf("second order: %w", err)
		}
		s.hess, s.jac = second[:len(s.wrt)], second[len(s.wrt):]
	}
	seen := map[*ir.Value]bool{}
	for _, vs := range [][]*ir.Value{s.y, s.grads, s.hess, s.jac} {
		for _, v := range vs {
			if v == nil || seen[v] {
				continue
			}
			seen[v] = true
			if v.Producer() == nil {
				continue
			}
			if err := g.AddOutput(v); err != nil {
				return err
			}
		}
	}
	return g.Verify()
}

func (s *subject) eval(t *testing.T, ste bool, feeds map[string]*arr) *evaluator {
	t.Helper()
	e := &evaluator{ste: ste}
	if err := e.run(s.m.Graph, feeds); err != nil {
		t.Fatalf("evaluator: %v", err)
	}
	return e
}

// moved are the feeds with every differentiated input x_i moved to x_i + h v_i.
func (s *subject) moved(h float64) map[string]*arr {
	out := map[string]*arr{}
	for k, a := range s.feeds {
		out[k] = a
	}
	for i, w := range s.wrt {
		a, v := s.feeds[w.Name()], s.feeds[fmt.Sprintf("v%d", i)]
		b := newArr(a.shape...)
		for k := range b.v {
			b.v[k] = a.v[k] + h*v.v[k]
		}
		out[w.Name()] = b
	}
	return out
}
