// Package lower gives training-step graphs the forms that a machine runs fastest. On onnxruntime's CPU provider these are the
// channel-blocked convolutions of the domain com.microsoft.nchwc, which take weights computed at run time if those are reordered.
//
// A blocked value of B channels a block has the sizes [N, C, H, W] of the plain one and the elements of [N, C/B, H, W, B]. Element by
// element, operators work on it as they are, so a layout is kept from one convolution to the next.
package lower

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
	"mqatc/passes/pass"
)

// Info describes the pass.
var Info = pass.Info{
	Name: "lower",
	Doc:  "A step graph's convolutions, and their gradients, take the forms that this machine runs fastest.",
	After: []pass.Order{
		{Pass: "step", Why: "differentiation needs standard operators"},
	},
	Exact: true,
}

// Domain is that of onnxruntime's channel-blocked operators.
const Domain = "com.microsoft.nchwc"

// Machine is what lowering needs to know of where the graph will run.
type Machine struct {
	// Block is the number of channels in a block of onnxruntime's blocked convolutions, 8 or 16; 0 where it has none.
	Block int64 `json:"block"`
	// Frugal takes less memory for some time: what is copied for a product of matrices is copied in smaller pieces.
	Frugal bool `json:"frugal,omitempty"`
	// Costs chooses among the forms of a node; nil takes the first ones, which are fastest on most machines.
	Costs Costs `json:"-"`
}

// Run lowers m for the machine. Operators of grad.Domain are gone afterwards. Values that no node needs any more stay behind.
func Run(m *ir.Model, mach Machine) error {
	if err := Simplify(m.Graph); err != nil {
		return err
	}
	if mach.Block > 0 {
		l := newLowerer(m, mach.Block)
		l.costs, l.frugal = mach.Costs, mach.Frugal
		if err := l.run(); err != nil {
			return fmt.Errorf("pass %s: %w", Info.Name, err)
		}
		l.imports(m)
	}
	if err := grad.Expand(m.Graph, mach.Frugal); err != nil {
		return err
	}
	if err := spellOut(m.Graph); err != nil {
		return fmt.Errorf("pass %s: %w", Info.Name, err)
	}
	return nil
}

// Simplify is what Run does first, on any machine: fewer passes over memory for backward graphs and fake quantization.
func Simplify(g *ir.Graph) error {
	if err := simplify(g); err != nil {
		return fmt.Errorf("pass %s: %w", Info.Name, err)
	}
	return nil
}

// New is Run for one machine.
func New(mach Machine) func(*ir.Model) error {
	return func(m *ir.Model) error { return Run(m, mach) }
}

type lowerer struct {
	b     *ir.Builder
	g     *ir.Graph
	block int64
	// frugal is Machine.Frugal.
	frugal bool
	// blocked holds the blocked form of plain values.
	blocked map[*ir.Value]*ir.Value
	// done lists nodes whose output is computed in blocked form, in graph order; gone are their outputs.
	done []*ir.Node
	gone map[*ir.Value]bool
	// fused are activations that a convolution computes.
	fused map[*ir.Node]bool
	memo  map[string]*ir.Value
	costs Costs
	opset int64
	// forced is the form that is taken of every node; empty chooses.
	forced string
	// used and fusedUsed say that operators of Domain, and FusedMatMul, are in the graph.
	used, fusedUsed bool
}

func newLowerer(m *ir.Model, block int64) *lowerer {
	return &lowerer{b: ir.NewBuilder(m.Graph, Info.Name, op.InferNode), g: m.Graph, block: block, opset: m.Opset(""), blocked: map[*ir.Value]*ir.Value{},
		gone: map[*ir.Value]bool{}, fused: map[*ir.Node]bool{}, memo: map[string]*ir.Value{}}
}

// imports has m import what was used.
func (l *lowerer) imports(m *ir.Model) {
	if l.used {
		m.SetOpset(Domain, 1)
	}
	if l.fusedUsed {
		m.SetOpset(microsoft, 1)
	}
}

// rule makes the blocked form of a node's only output, or what replaces it. It returns nil, and leaves nothing behind, for nodes that
// it cannot, or had better not, take.
type rule func(l *lowerer, n *ir.Node) *ir.Value

func (l *lowerer) run() error {
	for n := l.g.First(); n != nil; {
		next := n.Next()
		if len(n.Outputs()) == 1 && n.Output(0).DType() == ir.Float32 {
			if err := l.take(n); err != nil {
				return err
			}
		}
		n = next
	}
	for i := len(l.done) - 1; i >= 0; i-- {
		n := l.done[i]
		out := n.Output(0)
		if out.Used() {
			l.at(n)
			p := l.plain(l.blocked[out], out)
			if err := l.b.Err(); err != nil {
				return err
			}
			if err := l.g.ReplaceAllUses(out, p); err != nil {
				return err
			}
		}
		codes := from(n.Input(0), "QuantizeLinear")
		if err := l.g.Remove(n); err != nil {
			return err
		}
		if codes != nil && n.Op == "DequantizeLinear" && !codes.Output(0).Used() {
			if err := l.g.Remove(codes); err != nil {
				return err
			}
		}
	}
	return l.b.Err()
}

// take lowers n if a rule can.
func (l *lowerer) take(n *ir.Node) error {
	l.at(n)
	if n.Domain == grad.Domain && n.Op == grad.ConvWeightGrad {
		v := weightGrad(l, n)
		if err := l.b.Err(); err != nil || v == nil {
			return err
		}
		if err := l.g.ReplaceAllUses(n.Output(0), v); err != nil {
			return err
		}
		return l.g.Remove(n)
	}
	if n.Is("ReduceSum") {
		v := sum(l, n)
		if err := l.b.Err(); err != nil || v == nil {
			return err
		}
		if err := l.g.ReplaceAllUses(n.Output(0), v); err != nil {
			return err
		}
		return l.g.Remove(n)
	}
	if l.fused[n] {
		l.finish(n)
		return nil
	}
	r := ruleOf(n)
	if r == nil {
		return nil
	}
	if v := r(l, n); v != nil && l.b.Err() == nil {
		l.blocked[n.Output(0)] = v
		l.finish(n)
	}
	return l.b.Err()
}

// finish notes that n's output is computed in blocked form.
func (l *lowerer) finish(n *ir.Node) {
	l.done = append(l.done, n)
	l.gone[n.Output(0)] = true
}

func ruleOf(n *ir.Node) rule {
	switch {
	case n.Is("Conv"):
		return conv
	case n.Is("ConvTranspose"):
		return convTranspose
	case n.Domain == grad.Domain && n.Op == grad.ConvInputGrad:
		return inputGrad
	case n.Domain != "":
		return nil
	case unary[n.Op]:
		return elementwise
	case binary[n.Op]:
		return elementwise
	case n.Op == "DequantizeLinear":
		return requantized
	case n.Op == "Concat":
		return concat
	case n.Op == "MaxPool":
		return maxPool
	}
	return nil
}

func (l *lowerer) at(n *ir.Node) { l.b.Before, l.b.Site = n, n.Output(0).Name() }

func (l *lowerer) op(name string, in ...*ir.Value) *ir.Value { return l.b.Op(name, in) }

// nchwc adds a node of Domain whose output has the sizes dims.
func (l *lowerer) nchwc(name string, dims []int64, in []*ir.Value, attrs ...ir.Attr) *ir.Value {
	l.used = true
	v := l.b.Node(ir.NodeSpec{Op: name, Domain: Domain, Inputs: in, Attrs: attrs}, 1)[0]
	v.Type = ir.TensorType(ir.Float32, ir.StaticShape(dims...))
	return v
}

func (l *lowerer) reshape(v *ir.Value, dims ...int64) *ir.Value {
	if have, ok := v.StaticDims(); ok && slices.Equal(have, dims) {
		return v
	}
	return l.op("Reshape", v, l.b.Int64s(dims...))
}

func (l *lowerer) transpose(v *ir.Value, perm ...int64) *ir.Value {
	return l.b.Op("Transpose", []*ir.Value{v}, ir.AInts("perm", perm...))
}

// once makes a value at the first call with key.
func (l *lowerer) once(key string, f func() *ir.Value) *ir.Value {
	if v := l.memo[key]; v != nil {
		return v
	}
	v := f()
	l.memo[key] = v
	return v
}

// up rounds up to whole blocks.
func (l *lowerer) up(channels int64) int64 { return (channels + l.block - 1) / l.block * l.block }

func (l *lowerer) whole(channels int64) bool { return channels%l.block == 0 }

func product(v []int64) int64 {
	p := int64(1)
	for _, x := range v {
		p *= x
	}
	return p
}
