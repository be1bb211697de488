package grad

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

// input is one input of a case's node.
type input struct {
	dims   []int64
	lo, hi float64
	kinks  []float64 // values keep their distance from these
	vals   []float64 // given values instead of random ones
	kind   string    // "" differentiated, "const" float constant, "ints" int64 constant, "late" int64 known at run time, "int32", "int8" and "uint8" constants, "bool", "flag" bool constant, "absent"
}

// ruleCase is a node, whose gradients by every differentiated input are checked, first and second order.
type ruleCase struct {
	op, name string
	in       []input
	attrs    []ir.Attr
	nout     int   // outputs in all; 1 when 0
	ste      bool  // rounding counts as the identity
	opset    int64 // 17 when 0
	lacking  bool  // onnxruntime does not have the operator
	// make builds the operator where a node of op with these inputs does not
	make func(b *ir.Builder, in []*ir.Value) []*ir.Value
}

func x(dims ...int64) input               { return input{dims: dims, lo: -2, hi: 2, kinks: []float64{0}} }
func in(lo, hi float64, d ...int64) input { return input{dims: d, lo: lo, hi: hi} }
func (i input) off(kinks ...float64) input {
	i.kinks = append(append([]float64{}, i.kinks...), kinks...)
	return i
}
func num(v ...float64) input {
	return input{dims: []int64{int64(len(v))}, vals: v, kind: "const"}
}
func scalar(v float64) input { return input{dims: []int64{}, vals: []float64{v}, kind: "const"} }
func ints(v ...int64) input {
	i := input{dims: []int64{int64(len(v))}, kind: "ints"}
	for _, k := range v {
		i.vals = append(i.vals, float64(k))
	}
	return i
}
func (i input) shaped(d ...int64) input { i.dims = d; return i }
func (i input) late() input             { i.kind = "late"; return i }

var absent = input{kind: "absent"}

func (i input) values(r *rand.Rand) []float64 {
	if i.vals != nil {
		return i.vals
	}
	v := make([]float64, product(i.dims))
	for k := range v {
	again:
		v[k] = float64(float32(i.lo + (i.hi-i.lo)*r.Float64()))
		for _, q := range i.kinks {
			if math.Abs(v[k]-q) < 0.05 {
				goto again
			}
		}
	}
	return v
}

func inner(a, b *arr) float64 {
	s := 0.0
	for i := range a.v {
		s += a.v[i] * b.v[i]
	}
	return s
}

func norm(a []float64) float64 {
	s := 0.0
	for _, x := range a {
		s += x * x
	}
	return math.Sqrt(s)
}

// closeTo fails when got differs from want by more than rel of the larger norm.
func closeTo(t *testing.T, what string, got, want []float64, rel, floor float64) {
	t.Helper()
	d := make([]float64, len(want))
	for i := range d {
		d[i] = got[i] - want[i]
	}
	e := norm(d)
	if size := math.Max(norm(got), norm(want)); size > 1e-6 {
		worst.note(what, t.Name(), e/size)
	}
	if !(e <= rel*math.Max(norm(got), norm(want))+floor) {
		t.Errorf("%s: off by %g of %g (limit %g)\n got %.6g\nwant %.6g", what, e, norm(want), rel, head(got), head(want))
	}
}

// worst remembers the largest relative differences.
var worst record

type record struct {
	sync.Mutex
	by   map[string]string
	e    map[string]float64
	byOp map[string]map[string]float64 // of TestRules alone
}

func (r *record) note(what, test string, e float64) {
	kind, _, _ := strings.Cut(what, " ")
	r.Lock()
	defer r.Unlock()
	if r.e == nil {
		r.by, r.e, r.byOp = map[string]string{}, map[string]float64{}, map[string]map[string]float64{}
	}
	if rest, ok := strings.CutPrefix(test, "TestRules/"); ok {
		op, _, _ := strings.Cut(rest, "/")
		if r.byOp[kind] == nil {
			r.byOp[kind] = map[string]float64{}
		}
		r.byOp[kind][op] = max(r.byOp[kind][op], e)
	}
	if e > r.e[kind] {
		r.by[kind], r.e[kind] = test, e
	}
}

func (r *record) log(t *testing.T) {
	for _, kind := range slices.Sorted(maps.Keys(r.e)) {
		t.Logf("%-12s largest relative difference %.2g in %s", kind, r.e[kind], r.by[kind])
	}
}

func head(v []float64) []float64 { return v[:min(len(v), 12)] }

func (e *evaluator) orZero(v, like *ir.Value) *arr {
	if a := e.get(v); a != nil {
		return a
	}
	d, _ := like.StaticDims()
	return newArr(d...)
}

func TestRules(t *testing.T) {
	t.Cleanup(func() {
		worst.log(t)
		if *update && !t.Failed() {
			worst.writeTable(t)
		}
	})
	for i, c := range ruleCases {
		t.Run(c.op+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(7, uint64(i)))
			s, err := build(c, r)
			if err != nil {
				t.Fatal(err)
			}
			s.checkDifferences(t, c)
			if !t.Failed() && !c.lacking {
				s.checkRuntime(t, 2e-4, 1e-6)
			}
		})
	}
}

const stepSize = 1e-5

func (s *subject) checkDifferences(t *testing.T, c ruleCase) {
	base := s.eval(t, c.ste, s.feeds)
	up, down := s.eval(t, c.ste, s.moved(stepSize)), s.eval(t, c.ste, s.moved(-stepSize))
	slope, got, size := 0.0, 0.0, 0.0
	for i, y := range s.y {
		fd := newArr(up.get(y).shape...)
		for k := range fd.v {
			fd.v[k] = (up.get(y).v[k] - down.get(y).v[k]) / (2 * stepSize)
		}
		u := base.vals[s.m.Graph.Value(fmt.Sprintf("u%d", y.OutputIndex()))]
		slope += inner(fd, u)
		size += norm(fd.v) * norm(u.v)
		closeTo(t, fmt.Sprintf("Jacobian product of output %d", i), base.orZero(s.jac[i], y).v, fd.v, 1e-3, 1e-9)
	}
	for i, w := range s.wrt {
		got += inner(base.orZero(s.grads[i], w), s.feeds[fmt.Sprintf("v%d", i)])
	}
	if math.Abs(got-slope) > 1e-3*math.Max(math.Abs(slope), 1e-3*size)+1e-9 {
		t.Errorf("gradient along v: %g, central difference %g", got, slope)
	}
	for i, w := range s.wrt {
		a, b := up.orZero(s.grads[i], w), down.orZero(s.grads[i], w)
		fd := make([]float64, len(a.v))
		for k := range fd {
			fd[k] = (a.v[k] - b.v[k]) / (2 * stepSize)
		}
		h := base.orZero(s.hess[i], w)
		closeTo(t, fmt.Sprintf("Hessian product by input %d", i), h.v, fd, 5e-3, 1e-7*(1+norm(a.v)))
	}
}

var openOnce sync.Once

// checkRuntime runs the same graph in onnxruntime, in single precision, against the evaluator.
func (s *subject) checkRuntime(t *testing.T, rel, floor float64) {
	openOnce.Do(func() { orttest.TestLibrary(t) })
	raw, err := format.Marshal(s.m)
	if err != nil {
		t.Fatal(err)
	}
	sess, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatalf("onnxruntime: %v", err)
	}
	defer sess.Close()
	feeds := map[string]*ir.Tensor{}
	for _, v := range s.m.Graph.Inputs() {
		feeds[v.Name()] = tensorOf(t, v.DType(), s.feeds[v.Name()])
	}
	for _, in := range s.m.Graph.Inputs() {
		if !in.Used() {
			delete(feeds, in.Name())
		}
	}
	for _, v := range sess.Inputs() {
		if feeds[v.Name] == nil {
			feeds[v.Name] = tensorOf(t, v.Type.Elem, s.feeds[v.Name])
		}
	}
	got, err := sess.Run(feeds, nil)
	if err != nil {
		t.Fatalf("onnxruntime: %v", err)
	}
	want := s.eval(t, false, s.feeds)
	for _, o := range s.m.Graph.Outputs() {
		f, err := got[o.Name()].Floats()
		if err != nil {
			t.Fatal(err)
		}
		if !equal(got[o.Name()].Dims(), want.get(o).shape) {
			t.Errorf("%s: onnxruntime gives shape %v, evaluator %v", o.Name(), got[o.Name()].Dims(), want.get(o).shape)
			continue
		}
		closeTo(t, "onnxruntime, "+o.Name(), f, want.get(o).v, rel, floor)
	}
}

func tensorOf(t *testing.T, d ir.DType, a *arr) *ir.Tensor {
	t.Helper()
	var r *ir.Tensor
	var err error
	switch d {
	case ir.Float32:
		f := make([]float32, len(a.v))
		for i := range f {
			f[i] = float32(a.v[i])
		}
		r, err = ir.FromFloat32s(f, a.shape...)
	case ir.Float16:
		r, err = floatTensor(d, a.v, a.shape)
	case ir.Int64:
		r, err = ir.FromInt64s(a.ints(), a.shape...)
	case ir.Bool:
		b := make([]bool, len(a.v))
		for i := range b {
			b[i] = a.v[i] != 0
		}
		r, err = ir.FromBools(b, a.shape...)
	default:
		t.Fatalf("input of type %v", d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryRowIsExercised(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range ruleCases {
		seen[c.op] = true
		if _, ok := table[c.op]; !ok {
			t.Errorf("case %s/%s has no row", c.op, c.name)
		}
	}
	for name, r := range table {
		if r.vjp != nil && !seen[name] {
			t.Errorf("no case exercises %s", name)
		}
	}
}

// TestRowsWithoutGradient lets each operator stand between x and y: y depends on x through nothing else.
func TestRowsWithoutGradient(t *testing.T) {
	for name, r := range table {
		if r.vjp != nil {
			continue
		}
		g := ir.NewGraph(name)
		v, _ := g.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(3)))
		n, err := g.Append(ir.NodeSpec{Op: name, Inputs: []*ir.Value{v}, Outputs: []string{"m"}})
		if err != nil {
			t.Fatal(err)
		}
		n.Output(0).Type = ir.TensorType(ir.Float32, ir.StaticShape(3))
		y, _ := g.Append(ir.NodeSpec{Op: "Relu", Inputs: []*ir.Value{n.Output(0)}, Outputs: []string{"y"}})
		y.Output(0).Type = n.Output(0).Type
		before := g.NumNodes()
		gr, err := Gradients(g, []Seed{{y.Output(0), n.Output(0)}}, []*ir.Value{v}, Options{})
		if err != nil || gr[0] != nil || g.NumNodes() != before {
			t.Errorf("%s: gradient %v, error %v, %d new nodes", name, gr, err, g.NumNodes()-before)
		}
	}
}

// lackingHalf are operators that onnxruntime's CPU provider does not have in float16, or not as the cases use them.
var lackingHalf = map[string]bool{"Celu": true, "QuantizeLinear": true, "DequantizeLinear": true, "ScatterElements": true, "ScatterND": true, "Resize": true}

// TestHalf differentiates every case in float16: the gradients are of that type, and onnxruntime's are near the evaluator's.
func TestHalf(t *testing.T) {
	orttest.TestLibrary(t)
	for i, c := range ruleCases {
		if c.make != nil {
			continue
		}
		t.Run(c.op+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			s, err := buildOf(ir.Float16, c, rand.New(rand.NewPCG(7, uint64(i))))
			if err != nil {
				t.Fatal(err)
			}
			for _, vs := range [][]*ir.Value{s.grads, s.hess} {
				for k, v := range vs {
					if v != nil && v.DType() != ir.Float16 {
						t.Errorf("derivative %d is of type %v", k, v.DType())
					}
				}
			}
			if !t.Failed() && !c.lacking && !lackingHalf[c.op] {
				s.checkRuntime(t, 2e-2, 1e-2)
			}
		})
	}
}
