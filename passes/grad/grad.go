// Package grad is reverse-mode differentiation of ONNX graphs: it appends to a graph the nodes that compute gradients.
//
// Every rule is one row of the table in table.go and gives the cotangent of one input from the cotangents of the outputs; the
// engine in this file alone decides what is visited, reduces broadcast dimensions and adds up. Rules emit only operators of the
// default domain that have a rule themselves, so gradients can be differentiated again (Hessian-vector products).
//
// The nodes written mean the same in opsets 17 to 21.
package grad

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// Seed is a value to differentiate and the cotangent it starts from.
type Seed struct {
	Value *ir.Value
	// Cotangent has the shape of Value; nil means 1 and needs a Value of one element.
	Cotangent *ir.Value
}

// Options adjust Gradients.
type Options struct {
	// Pass is recorded in the nodes made; "grad" when empty.
	Pass string
	// Stop reports values through which no gradient flows: what they are computed from counts as constant.
	Stop func(*ir.Value) bool
	// Skip reports inputs of nodes through which no gradient flows, beside those of Stop; may be nil.
	Skip func(n *ir.Node, input int) bool
	// Opaque leaves parts of the gradients of convolutions as operators of Domain.
	Opaque bool
	// Frugal takes less memory for some time: weight gradients of convolutions copy what they multiply in smaller pieces. They keep their bits
	// on onnxruntime.
	Frugal bool
	// Cotangent is told of each computed value with a cotangent, once all of that is summed; may be nil.
	Cotangent func(v, ct *ir.Value)
}

// Gradients appends to g the nodes computing d(sum over outs of <Value, Cotangent>)/d(wrt[i]), of the shape of wrt[i]. Values of g
// must have types; static sizes give faster forms, and some rules need them. Two of the values returned may be one, and one may
// be a value that was there before, such as a cotangent.
//
// Only nodes on a path from wrt to outs are visited. A wrt no path leads from to outs gets nil: its gradient is zero. Along
// QuantizeLinear and DequantizeLinear the cotangent of an integer value is a float one (straight-through); other integer values
// carry none. Round is the identity, Floor, Ceil and Sign have gradient zero. Masks of kinked functions (Relu, Clip, Abs, Max)
// are steps: at a kink Relu and Clip give 0, Max and Min share equally.
//
// An error names the operator and the node without a rule, or what the rule lacks.
func Gradients(g *ir.Graph, outs []Seed, wrt []*ir.Value, opt Options) ([]*ir.Value, error) {
	if opt.Pass == "" {
		opt.Pass = "grad"
	}
	e := &engine{g: g, opt: opt, b: ir.NewBuilder(g, opt.Pass, op.InferNode),
		active: map[*ir.Value]bool{}, flows: map[*ir.Value]bool{}, parts: map[*ir.Value][]*ir.Value{}, shared: newShared()}
	for _, v := range wrt {
		if v == nil || v.Graph() != g {
			return nil, fmt.Errorf("pass %s: a value to differentiate by is not in graph %q", opt.Pass, g.Name)
		}
		if d := v.DType(); d != ir.Undefined && !d.IsFloat() {
			return nil, fmt.Errorf("pass %s: cannot differentiate by %q of type %v", opt.Pass, v.Name(), v.Type)
		}
		e.active[v] = true
	}
	nodes := g.Nodes()
	for _, n := range nodes {
		e.mark(n)
	}
	for _, s := range outs {
		if err := e.seed(s); err != nil {
			return nil, err
		}
	}
	for i := len(nodes) - 1; i >= 0; i-- {
		if err := e.visit(nodes[i]); err != nil {
			return nil, err
		}
	}
	res := make([]*ir.Value, len(wrt))
	for i, v := range wrt {
		e.b.Site = v.Name() + "_grad"
		res[i] = e.total(v)
	}
	if err := e.b.Err(); err != nil {
		return nil, err
	}
	return res, nil
}

type engine struct {
	g      *ir.Graph
	b      *ir.Builder
	opt    Options
	active map[*ir.Value]bool // depends on a wrt
	flows  map[*ir.Value]bool // active, and its producer is to be visited for it
	parts  map[*ir.Value][]*ir.Value
	shared *shared
}

func ruleOf(n *ir.Node) (row, bool) {
	r, ok := table[opName(n)]
	return r, ok
}

// mark finds out which outputs of n depend differentiably on a wrt.
func (e *engine) mark(n *ir.Node) {
	if !e.reads(n) {
		return
	}
	r, known := ruleOf(n)
	if known && r.vjp == nil {
		return
	}
	for _, o := range n.Outputs() {
		d := o.DType()
		if o.Name() == "" || (e.opt.Stop != nil && e.opt.Stop(o)) {
			continue
		}
		// An integer that takes part in integer arithmetic between quantization and dequantization: without a rule for it the
		// gradient is not zero but unknown.
		if d.IsFloat() || d == ir.Undefined || r.carry || r.quantizes || !known || e.readsInteger(n) {
			e.active[o], e.flows[o] = true, true
		}
	}
}

// readsInteger reports whether n reads an integer that carries a cotangent.
func (e *engine) readsInteger(n *ir.Node) bool {
	for _, v := range n.Inputs() {
		if v != nil && e.active[v] && v.DType() != ir.Undefined && !v.DType().IsFloat() {
			return true
		}
	}
	return false
}

// reads reports whether n, or a graph inside it, reads an active value.
func (e *engine) reads(n *ir.Node) bool {
	for _, v := range n.Inputs() {
		if v != nil && e.active[v] {
			return true
		}
	}
	for _, s := range n.Subgraphs() {
		for _, m := range s.Nodes() {
			if e.reads(m) {
				return true
			}
		}
		for _, o := range s.Outputs() {
			if e.active[o] {
				return true
			}
		}
	}
	return false
}

func (e *engine) seed(s Seed) error {
	v := s.Value
	if v == nil || v.Graph() != e.g {
		return fmt.Errorf("pass %s: a value to differentiate is not in graph %q", e.opt.Pass, e.g.Name)
	}
	if !e.active[v] {
		return nil
	}
	ct := s.Cotangent
	if ct == nil {
		dims, ok := v.StaticDims()
		if n, err := ir.NumElements(dims); !ok || err != nil || n != 1 {
			return fmt.Errorf("pass %s: %q has shape %v: a value of more than one element needs a cotangent", e.opt.Pass, v.Name(), v.Shape())
		}
		t, err := fill(v.DType(), 1, dims)
		if err != nil {
			return fmt.Errorf("pass %s: value %q: %w", e.opt.Pass, v.Name(), err)
		}
		e.b.Site = v.Name() + "_grad"
		ct = e.b.Const(t)
	} else if a, ok := v.StaticDims(); ok {
		if b, ok := ct.StaticDims(); ok && !equal(a, b) {
			return fmt.Errorf("pass %s: cotangent %q of shape %v given for %q of shape %v", e.opt.Pass, ct.Name(), ct.Shape(), v.Name(), v.Shape())
		}
	}
	e.parts[v] = append(e.parts[v], ct)
	return e.b.Err()
}

// total adds up the cotangents of v; nil when there are none.
func (e *engine) total(v *ir.Value) *ir.Value {
	ps := e.parts[v]
	if len(ps) == 0 {
		return nil
	}
	sum := ps[0]
	for _, p := range ps[1:] {
		sum = e.b.Op("Add", []*ir.Value{sum, p})
	}
	e.parts[v] = []*ir.Value{sum}
	return sum
}

func (e *engine) visit(n *ir.Node) error {
	if !e.reads(n) {
		return nil
	}
	c := &call{Builder: e.b, n: n, memo: map[string]*ir.Value{}, shared: e.shared, active: e.active, later: e.opt.Opaque, frugal: e.opt.Frugal}
	e.b.Site = siteOf(n)
	any := false
	for _, o := range n.Outputs() {
		var ct *ir.Value
		if e.flows[o] {
			ct = e.total(o)
		}
		if ct != nil {
			any = true
			c.dt = ct.DType()
			if e.opt.Cotangent != nil {
				e.opt.Cotangent(o, ct)
			}
		}
		c.cots = append(c.cots, ct)
	}
	if !any {
		return nil
	}
	r, ok := ruleOf(n)
	if !ok {
		return fmt.Errorf("pass %s: no gradient rule for operator %s (node %v)", e.opt.Pass, opName(n), n)
	}
	if r.branches {
		if err := e.branches(n, c.cots); err != nil {
			return fmt.Errorf("pass %s: gradient of node %v: %w", e.opt.Pass, n, err)
		}
		return nil
	}
	if r.parts != nil {
		c.inside = e.captured(n, nil)
	}
	for i, v := range n.Inputs() {
		if v == nil || !e.active[v] || (e.opt.Skip != nil && e.opt.Skip(n, i)) {
			continue
		}
		var ct *ir.Value
		if r.parts != nil {
			ct = c.part(r.parts, i)
		} else {
			ct = r.vjp(c, i)
		}
		if ct != nil && r.broadcast {
			ct = c.unbroadcast(ct, v)
		}
		if err := e.b.Err(); err != nil {
			return fmt.Errorf("pass %s: gradient of node %v by input %d (%q %v): %w", e.opt.Pass, n, i, v.Name(), v.Type, err)
		}
		if ct == nil {
			continue
		}
		if a, ok := v.StaticDims(); ok {
			if b, ok := ct.StaticDims(); ok && !equal(a, b) {
				return fmt.Errorf("pass %s: gradient of node %v by input %d (%q %v) came out as %v", e.opt.Pass, n, i, v.Name(), v.Type, ct.Type)
			}
		}
		e.parts[v] = append(e.parts[v], ct)
	}
	for _, v := range c.inside {
		if slices.Contains(n.Inputs(), v) {
			continue
		}
		ct := c.share(r.parts, v)
		if err := e.b.Err(); err != nil {
			return fmt.Errorf("pass %s: gradient of node %v by %q %v, which its body reads: %w", e.opt.Pass, n, v.Name(), v.Type, err)
		}
		if ct != nil {
			e.parts[v] = append(e.parts[v], ct)
		}
	}
	return nil
}

func opName(n *ir.Node) string {
	if n.Domain != "" && n.Domain != "ai.onnx" {
		return n.Domain + "." + n.Op
	}
	return n.Op
}

func siteOf(n *ir.Node) string {
	for _, o := range n.Outputs() {
		if o.Name() != "" {
			return o.Name() + "_grad"
		}
	}
	return "grad"
}
