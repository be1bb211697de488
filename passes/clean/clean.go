// Package clean brings a graph into the form that the other passes expect: constants as initializers, no nodes that do nothing,
// nothing computed twice or in vain.
package clean

import (
	"fmt"

	"mqatc/onnx/ir"
	"mqatc/passes/pass"
)

// Info is the pass's row in the table.
var Info = pass.Info{
	Name: "clean",
	Doc: "Constant nodes become initializers; Identity, inference Dropout, casts to the same type and repeated computations go; " +
		"so do nodes and initializers that nothing reads. Initializers are no longer listed as inputs. " +
		"A MaxPool without padding that reads a Pad of zeros says auto_pad=VALID.",
	Exact: true,
}

// New makes the pass.
func New() pass.Pass { return pass.Pass{Info: Info, Run: run} }

func run(c *pass.Ctx, m *ir.Model) (bool, error) {
	changed := dropDefaults(m)
	for {
		again := false
		for _, g := range pass.Graphs(m.Graph) {
			for _, step := range []func(*pass.Ctx, *ir.Graph) (bool, error){constants, noops, common, pooledPads} {
				did, err := step(c, g)
				if err != nil {
					return changed, fmt.Errorf("graph %q: %w", g.Name, err)
				}
				again = again || did
			}
		}
		dead, err := Dead(m.Graph)
		if err != nil {
			return changed, err
		}
		if !again && !dead {
			return changed, nil
		}
		changed = true
	}
}

// dropDefaults takes initializers off the list of inputs, where IR versions before 4 had to list them.
func dropDefaults(m *ir.Model) bool {
	changed := false
	for _, v := range append([]*ir.Value(nil), m.Graph.Inputs()...) {
		if v.IsInitializer() && m.Graph.RemoveInput(v) == nil {
			changed = true
		}
	}
	if changed && m.IRVersion < 4 {
		m.IRVersion = 4
	}
	return changed
}

// Dead removes nodes none of whose outputs is read, and initializers that nothing reads, in g and the graphs inside it.
func Dead(g *ir.Graph) (bool, error) {
	changed := false
	for n := g.Last(); n != nil; {
		prev := n.Prev()
		used := false
		for _, o := range n.Outputs() {
			used = used || o.Used()
		}
		if used {
			for _, s := range n.Subgraphs() {
				did, err := Dead(s)
				if err != nil {
					return changed, err
				}
				changed = changed || did
			}
		} else {
			if err := g.Remove(n); err != nil {
				return changed, err
			}
			changed = true
		}
		n = prev
	}
	named := map[string]bool{}
	for _, v := range quantified(g) {
		for _, kv := range v.Quant {
			named[kv.Value] = true
		}
	}
	for _, v := range append([]*ir.Value(nil), g.Initializers()...) {
		if v.Used() || v.IsInput() || named[v.Name()] {
			continue
		}
		if err := g.RemoveInitializer(v); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// quantified lists the values of g that carry quantization annotations, which name initializers.
func quantified(g *ir.Graph) []*ir.Value {
	var out []*ir.Value
	add := func(vs []*ir.Value) {
		for _, v := range vs {
			if len(v.Quant) > 0 {
				out = append(out, v)
			}
		}
	}
	add(g.Inputs())
	add(g.Initializers())
	for n := g.First(); n != nil; n = n.Next() {
		add(n.Outputs())
	}
	return out
}
