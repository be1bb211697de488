package partition

import (
	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// Carry divides m, which passes made from the model that p divides, in the same way. A trained tensor belongs to the module in
// which its name stood; one that a pass made, to the module of the node that gave the value its reader gives now.
func (p *Partition) Carry(m *ir.Model) *Partition {
	byTensor, byValue, role := map[string]string{}, map[string]string{}, map[string]string{}
	outside := map[string]bool{}
	for _, w := range p.Outside {
		outside[w.Value.Name()] = true
	}
	for _, mod := range p.Modules {
		role[mod.Name] = mod.Role
		for _, v := range mod.Initializers {
			byTensor[v.Name()] = mod.Name
		}
		for _, n := range mod.Nodes {
			for _, o := range n.Outputs() {
				byValue[o.Name()] = mod.Name
			}
		}
	}
	g := m.Graph
	params := weights.Find(g)
	label := map[*ir.Node]string{}
	for _, w := range params {
		if l := byTensor[w.Value.Name()]; l != "" && (label[w.Nodes[0]] == "" || w.Kind == weights.Weight) {
			label[w.Nodes[0]] = l
		}
	}
	for _, w := range params {
		n := w.Nodes[0]
		if label[n] != "" || outside[w.Value.Name()] {
			continue
		}
		for _, o := range n.Outputs() {
			if l := byValue[o.Name()]; l != "" {
				label[n] = l
			}
		}
	}
	otherReaders(params, label)
	c := assemble(g, params, newFlow(g, params), label, nil)
	c.Method, c.Note = p.Method, p.Note
	for _, mod := range c.Modules {
		mod.Role = role[mod.Name]
	}
	return c
}

// otherReaders gives the nodes that read a tensor after its first reader that one's label, unless a tensor of their own gave them one.
func otherReaders(params []weights.Param, label map[*ir.Node]string) {
	for _, w := range params {
		for _, n := range w.Nodes[1:] {
			if label[n] == "" {
				label[n] = label[w.Nodes[0]]
			}
		}
	}
}
