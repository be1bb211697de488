package step

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// normalizes reports a BatchNormalization with running statistics in constants whose scale or shift is trained.
func normalizes(n *ir.Node, trained map[string]bool) bool {
	if !n.Is("BatchNormalization") || n.Int("training_mode", 0) != 0 {
		return false
	}
	for i := 1; i < 5; i++ {
		if v := n.Input(i); v == nil || v.Init() == nil || v.Init().DType() != ir.Float32 {
			return false
		}
	}
	return trained[n.Input(1).Name()] || trained[n.Input(2).Name()]
}

// Statistics lists the running statistics of m that a step graph with BatchStatistics updates: those of each BatchNormalization with a
// scale or shift among params.
func Statistics(m *ir.Model, params []Param) []string {
	var out []string
	trained := nameSet(params)
	seen := map[string]bool{}
	for n := m.Graph.First(); n != nil; n = n.Next() {
		if !normalizes(n, trained) {
			continue
		}
		for _, v := range []*ir.Value{n.Input(3), n.Input(4)} {
			if !seen[v.Name()] {
				seen[v.Name()] = true
				out = append(out, v.Name())
			}
		}
	}
	return out
}

func nameSet(params []Param) map[string]bool {
	out := map[string]bool{}
	for _, p := range params {
		out[p.Name] = true
	}
	return out
}

// batchStatistics normalizes with the mean and the variance of the batch, in operators that have gradients of every order and that
// onnxruntime's inference builds run, and returns what the running statistics become: old*momentum + batch*(1-momentum), as
// BatchNormalization's training mode has it.
func batchStatistics(g *ir.Graph, params []Param) ([]Update, error) {
	var out []Update
	trained := nameSet(params)
	b := ir.NewBuilder(g, Pass, op.InferNode)
	updated := map[string]bool{}
	for _, n := range g.Nodes() {
		if !normalizes(n, trained) {
			continue
		}
		x, scale, shift, mean, variance := n.Input(0), n.Input(1), n.Input(2), n.Input(3), n.Input(4)
		dims, ok := x.StaticDims()
		if !ok || len(dims) < 2 {
			return nil, fmt.Errorf("node %v: the statistics of a batch need an input of known size, not %v", n, x.Shape())
		}
		if updated[mean.Name()] || updated[variance.Name()] {
			return nil, fmt.Errorf("node %v: its running statistics %q belong to another normalization too; they cannot follow two batches", n, mean.Name())
		}
		updated[mean.Name()], updated[variance.Name()] = true, true
		b.Before, b.Site = n, n.Output(0).Name()+"_batch"
		var axes []int64
		count, wide := int64(1), make([]int64, len(dims))
		for i, d := range dims {
			wide[i] = 1
			if i == 1 {
				wide[i] = d
				continue
			}
			axes = append(axes, int64(i))
			count *= d
		}
		op := func(name string, in ...*ir.Value) *ir.Value { return b.Op(name, in) }
		average := func(v *ir.Value) *ir.Value {
			s := b.Op("ReduceSum", []*ir.Value{v, b.Int64s(axes...)}, ir.AInt("keepdims", 1))
			return op("Mul", s, b.Float(1/float32(count)))
		}
		reshaped := func(v *ir.Value) *ir.Value { return op("Reshape", v, b.Int64s(wide...)) }
		bm := average(x)
		away := op("Sub", x, bm)
		bv := average(op("Mul", away, away))
		root := op("Sqrt", op("Add", bv, b.Float(n.Float("epsilon", 1e-5))))
		y := op("Add", op("Mul", away, op("Div", reshaped(scale), root)), reshaped(shift))
		m := n.Float("momentum", 0.9)
		for _, s := range []struct{ old, now *ir.Value }{{mean, bm}, {variance, bv}} {
			next := op("Add", op("Mul", s.old, b.Float(m)), op("Mul", op("Reshape", s.now, b.Int64s(-1)), b.Float(1-m)))
			out = append(out, Update{s.old.Name(), next.Name()})
		}
		if err := b.Err(); err != nil {
			return nil, err
		}
		if err := g.ReplaceAllUses(n.Output(0), y); err != nil {
			return nil, err
		}
		if err := g.Remove(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}
