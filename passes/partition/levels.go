package partition

import (
	"fmt"
	"maps"
	"slices"

	"mqatc/onnx/ir"
)

// extra moves additional pyramid levels into the aggregation: convolutions outside the trunk that go deeper than it and do not
// share weights with other levels (P6 and P7 of a RetinaNet-like pyramid).
func (f *flow) extra(label map[*ir.Node]string) {
	deeper := map[*ir.Node]bool{}
	for _, n := range f.order {
		if label[n] == Head && f.weighty[n] && f.live[n] && factor(n) > 1 && !f.shared[n] && f.hasShared() {
			deeper[n] = true
		}
	}
	for n := range deeper {
		label[n] = FPN
	}
	for n := range f.ancestors(deeper, func(x *ir.Node) bool { return label[x] == Head || deeper[x] }) {
		label[n] = FPN
	}
}

func (f *flow) hasShared() bool { return len(f.shared) > 0 }

// smoothing moves what stands between the last merge of a level and the heads into the aggregation: everything before weights
// that the levels share, or, where none are shared, a unit like the one that the other levels have behind their merge, or one
// dense convolution without activation that a convolution follows.
func (f *flow) smoothing(label map[*ir.Node]string, core, merges map[*ir.Node]bool, u unit) {
	inHead := func(n *ir.Node) bool { return label[n] == Head }
	entry := map[*ir.Node]bool{}
	for _, n := range f.order {
		if !inHead(n) {
			continue
		}
		for _, p := range f.producers(n) {
			if label[p] == FPN {
				entry[n] = true
			}
		}
	}
	if f.hasShared() {
		sharedHead := map[*ir.Node]bool{}
		for n := range f.shared {
			if inHead(n) {
				sharedHead[n] = true
			}
		}
		if len(sharedHead) > 0 {
			up := f.ancestors(sharedHead, inHead)
			down := f.descendants(sharedHead, inHead)
			for n := range up {
				if !down[n] {
					label[n] = FPN
				}
			}
			return
		}
	}
	if f.lastUnits(label, core, merges) {
		return
	}
	for _, e := range f.order {
		if !entry[e] || !inHead(e) {
			continue
		}
		if n := f.matchUnit(e, label, core, u.post); n != nil {
			for _, x := range n {
				label[x] = FPN
			}
			continue
		}
		if f.linearSmoothing(e) {
			label[e] = FPN
		}
	}
}

// matchUnit returns the chain of nodes from e on whose weighted operators are those of post, when e reads a merge of the finest
// level directly (the levels below have the unit inside the core already).
func (f *flow) matchUnit(e *ir.Node, label map[*ir.Node]string, core map[*ir.Node]bool, post []string) []*ir.Node {
	if len(post) == 0 {
		return nil
	}
	reads := false
	for _, p := range f.producers(e) {
		reads = reads || (core[p] && merging(p))
	}
	if !reads || len(f.entriesOf(e)) > 1 {
		return nil
	}
	var chain []*ir.Node
	i := 0
	for n := e; n != nil && label[n] == Head; {
		if f.weighty[n] {
			if s := unitSignature(n); s != "" {
				if i == len(post) {
					return chain
				}
				if s != post[i] {
					return nil
				}
				i++
			}
		}
		chain = append(chain, n)
		next := f.consumers(n)
		if len(next) != 1 {
			if i == len(post) {
				return chain
			}
			return nil
		}
		n = next[0]
	}
	return nil
}

// entriesOf lists the nodes that read the same merge as e.
func (f *flow) entriesOf(e *ir.Node) []*ir.Node {
	seen := map[*ir.Node]bool{}
	var out []*ir.Node
	for _, p := range f.producers(e) {
		for _, c := range f.consumers(p) {
			if !seen[c] {
				seen[c] = true
				out = append(out, c)
			}
		}
	}
	return out
}

// linearSmoothing reports a dense convolution of more than one tap whose output goes straight into convolutions or pools.
func (f *flow) linearSmoothing(n *ir.Node) bool {
	if !n.Is("Conv") || n.Int("group", 1) != 1 {
		return false
	}
	w := n.Input(1)
	if w == nil || w.Init() == nil || len(w.Init().Dims()) != 4 || w.Init().Dims()[2] < 2 {
		return false
	}
	cs := f.consumers(n)
	for _, c := range cs {
		if !c.Is("Conv") && !c.Is("MaxPool") {
			return false
		}
	}
	return len(cs) > 0
}

// splitHeads divides each role of heads by the outputs that its nodes reach, outputs of one kind at several levels taken together:
// a kind is the number of channels of the last layer before the output.
func (f *flow) splitHeads(label map[*ir.Node]string) {
	kinds := map[*ir.Node]map[string]bool{}
	for i := len(f.order) - 1; i >= 0; i-- {
		n := f.order[i]
		if !f.data[n] {
			continue
		}
		k := map[string]bool{}
		for _, c := range f.consumers(n) {
			for x := range kinds[c] {
				k[x] = true
			}
		}
		if len(k) == 0 && f.layer[n] && n.Input(1) != nil && n.Input(1).Init() != nil {
			d := n.Input(1).Init().Dims()
			if n.Is("Conv") || n.Is("Gemm") {
				k[fmt.Sprint(d[0])] = true
			} else {
				k[fmt.Sprint(d[len(d)-1])] = true
			}
		}
		kinds[n] = k
	}
	number := map[string]map[string]int{} // role, kinds
	of := map[*ir.Node]int{}
	for _, n := range f.order {
		if ps := f.producers(n); len(kinds[n]) == 0 && len(ps) > 0 {
			kinds[n] = kinds[ps[0]]
		}
		r := label[n]
		if !isHead(r) {
			continue
		}
		key := fmt.Sprint(slices.Sorted(maps.Keys(kinds[n])))
		if number[r] == nil {
			number[r] = map[string]int{}
		}
		if number[r][key] == 0 {
			number[r][key] = len(number[r]) + 1
		}
		of[n] = number[r][key]
	}
	for n, k := range of {
		if len(number[label[n]]) > 1 {
			label[n] += fmt.Sprint(k)
		}
	}
}
