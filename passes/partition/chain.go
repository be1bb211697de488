package partition

import (
	"math"
	"slices"

	"mqatc/onnx/ir"
)

// cutAt ends the trunk at n; what it loses is added to lost.
func (f *flow) cutAt(n *ir.Node, trunk, lost map[*ir.Node]bool) map[*ir.Node]bool {
	kept := f.ancestors(map[*ir.Node]bool{n: true}, func(x *ir.Node) bool { return trunk[x] })
	for x := range trunk {
		if !kept[x] {
			lost[x] = true
		}
	}
	return kept
}

// context finds where a network looks at a wider surrounding (ASPP, LR-ASPP): the node whose global average is spread again over layers
// that read the same node. In a squeeze-and-excitation block the average scales the node itself. nil where there is none, or several.
func (f *flow) context() *ir.Node {
	var found *ir.Node
	for _, g := range f.order {
		if !f.live[g] || !averages(g) {
			continue
		}
		ps := f.producers(g)
		if len(ps) != 1 || f.stride[ps[0]] == 0 {
			continue
		}
		below, beside := f.descendants(map[*ir.Node]bool{g: true}, all), f.descendants(map[*ir.Node]bool{ps[0]: true}, all)
		for _, n := range f.order {
			if !below[n] || f.stride[n] == 0 {
				continue
			}
			for _, p := range f.producers(n) {
				if below[p] || !beside[p] {
					continue
				}
				between := f.ancestors(map[*ir.Node]bool{p: true}, func(x *ir.Node) bool { return beside[x] && x != ps[0] })
				if len(f.signature(between)) > 0 {
					if found != nil && found != ps[0] {
						return nil
					}
					found = ps[0]
				}
			}
			break
		}
	}
	return found
}

func averages(n *ir.Node) bool {
	switch n.Op {
	case "GlobalAveragePool", "GlobalMaxPool", "ReduceMean":
		return factor(n) == 0
	}
	return false
}

// lastTap finds where a trunk ends that single convolutions without growth continue to levels of a pyramid: a tap behind
// another, after which there is one layer a halving at most, as wide as the lateral of that tap.
func (f *flow) lastTap(trunk, lateral map[*ir.Node]bool, deepest float64) *ir.Node {
	taps := 0
	for _, t := range f.order {
		if !trunk[t] || f.stride[t] == 0 {
			continue
		}
		width := int64(0)
		for _, c := range f.consumers(t) {
			if lateral[c] && !trunk[c] {
				width = f.width(c)
			}
		}
		if width == 0 {
			continue
		}
		if taps++; taps == 1 {
			continue
		}
		behind := f.descendants(map[*ir.Node]bool{t: true}, func(x *ir.Node) bool { return trunk[x] })
		delete(behind, t)
		halvings, layers := math.Log2(deepest/f.stride[t]), 0
		narrow := true
		for x := range behind {
			if f.layer[x] {
				layers++
				narrow = narrow && f.width(x) == width
			}
		}
		if halvings >= 1 && narrow && layers > 0 && float64(layers) <= halvings {
			return t
		}
	}
	return nil
}

// bottomReduction finds the pointwise convolution before the first enlargement that narrows as those before all others do.
func (f *flow) bottomReduction(trunk, feeds, ups map[*ir.Node]bool) map[*ir.Node]bool {
	ratio := 0.0
	for u := range ups {
		for _, p := range f.producers(u) {
			if feeds[p] {
				continue
			}
			r := f.narrows(f.layerBefore(p))
			if r <= 1 || ratio > 0 && !same(r, ratio) {
				return nil
			}
			ratio = r
		}
	}
	neck := map[*ir.Node]bool{}
	for p := range feeds {
		if l := f.layerBefore(p); ratio > 1 && trunk[l] && same(f.narrows(l), ratio) {
			for n := range f.descendants(map[*ir.Node]bool{l: true}, func(n *ir.Node) bool { return trunk[n] }) {
				neck[n] = true
			}
		}
	}
	return neck
}

// layerBefore walks back along a path without merges; nil where it meets one first.
func (f *flow) layerBefore(n *ir.Node) *ir.Node {
	for n != nil && !f.layer[n] {
		n = f.before(n)
	}
	return n
}

// before is the only node that n reads, an activation and what it gates taken as one; nil where there are several or none.
func (f *flow) before(n *ir.Node) *ir.Node {
	if ps := f.producers(n); len(ps) == 1 {
		return ps[0]
	}
	return f.gated(n)
}

// branches reports whether several nodes read n, an activation and what it gates taken as one.
func (f *flow) branches(n *ir.Node) bool {
	cs := f.consumers(n)
	for _, c := range cs {
		if f.gated(c) == n {
			return len(cs) > 2
		}
	}
	return len(cs) > 1
}

// gated is the node whose output n multiplies with an activation of it, as SiLU does; nil for any other node.
func (f *flow) gated(n *ir.Node) *ir.Node {
	ps := f.producers(n)
	switch {
	case !n.Is("Mul") || len(ps) != 2:
	case f.gates(ps[1], ps[0]):
		return ps[0]
	case f.gates(ps[0], ps[1]):
		return ps[1]
	}
	return nil
}

// gates reports gate to be an activation of x alone, as in x * sigmoid(x).
func (f *flow) gates(gate, x *ir.Node) bool {
	ps := f.producers(gate)
	return len(ps) == 1 && ps[0] == x && !f.weighty[gate]
}

// narrows is by how much a pointwise convolution reduces the channels, 0 for anything else.
func (f *flow) narrows(n *ir.Node) float64 {
	if n == nil || f.width(n) == 0 || n.Int("group", 1) != 1 || unitSignature(n) != "Conv 1 1" {
		return 0
	}
	d := n.Input(1).Init().Dims()
	return float64(d[1]) / float64(d[0])
}

// width is the number of output channels of a convolution, 0 of anything else.
func (f *flow) width(n *ir.Node) int64 {
	if !n.Is("Conv") || n.Input(1) == nil || n.Input(1).Init() == nil {
		return 0
	}
	return n.Input(1).Init().Dims()[0]
}

// oneWay recognizes a decoder: aggregation and head are one chain up. Every merge has a stride of its own, only the last is read from
// outside, and what follows keeps its stride and ends in one layer.
func (f *flow) oneWay(label map[*ir.Node]string, core, merges map[*ir.Node]bool) bool {
	exits := map[*ir.Node]bool{}
	seen := map[float64]bool{}
	for _, n := range f.order {
		if merges[n] {
			if seen[f.stride[n]] {
				return false
			}
			seen[f.stride[n]] = true
		}
		for _, c := range f.consumers(n) {
			if core[n] && !core[c] {
				exits[n] = true
			}
		}
	}
	inHead := func(n *ir.Node) bool { return label[n] == Head }
	if len(exits) > 1 || len(f.last(inHead)) > 1 {
		return false
	}
	for e := range exits {
		for _, n := range f.order {
			if inHead(n) && f.live[n] && !same(f.stride[n], f.stride[e]) {
				return false
			}
		}
	}
	for n, l := range label {
		if l == FPN || l == Head {
			label[n] = Decoder
		}
	}
	return true
}

// decoder serves encoder-decoder networks without taps: everything from the first enlargement on. What else reads the backbone is a
// head, and so is what reads the decoder where the strides go down again behind it.
func (f *flow) decoder(trunk, after map[*ir.Node]bool) map[*ir.Node]string {
	downs := map[*ir.Node]bool{}
	for _, n := range f.order {
		if k := factor(n); after[n] && (f.live[n] || f.layer[n]) && (k > 1 || k == 0) {
			downs[n] = true
		}
	}
	again := f.descendants(downs, all)
	label := map[*ir.Node]string{}
	decoding := 0
	for _, n := range f.order {
		switch {
		case !f.data[n]:
		case trunk[n]:
			label[n] = Backbone
		case again[n] || !after[n]:
			label[n] = Head
		default:
			label[n] = Decoder
			if f.layer[n] {
				decoding++
			}
		}
	}
	switch {
	case decoding == 0:
		for n, l := range label {
			if l == Head {
				label[n] = Decoder
			}
		}
	case len(again) == 0:
		f.outputTowers(label)
	}
	return f.checkRoles(label)
}

// outputTowers makes heads of what only one of several last layers of a decoder needs.
func (f *flow) outputTowers(label map[*ir.Node]string) {
	decodes := func(n *ir.Node) bool { return label[n] == Decoder }
	last := f.last(decodes)
	if len(last) < 2 {
		return
	}
	reached := f.reached(last)
	for n := range label {
		if decodes(n) && reached[n] < 2 {
			label[n] = Head
		}
	}
}

// reached counts for each node how many of some nodes need it.
func (f *flow) reached(last []*ir.Node) map[*ir.Node]int {
	out := map[*ir.Node]int{}
	for _, l := range last {
		for n := range f.ancestors(map[*ir.Node]bool{l: true}, all) {
			out[n]++
		}
	}
	return out
}

// tail serves networks of one path that keep their spatial extent to the end: the backbone ends where a context module begins or,
// without one, with the last of its residual blocks.
func (f *flow) tail() map[*ir.Node]string {
	last := f.last(all)
	if len(last) != 1 || f.stride[last[0]] == 0 {
		return nil
	}
	cut := f.context()
	if cut == nil {
		blocks, layers := 0, 0
		for _, n := range f.order {
			if f.layer[n] {
				layers++
			}
			if n.Is("Add") && f.live[n] && len(f.producers(n)) == 2 {
				blocks++
				cut = n
			}
		}
		if blocks < 3 {
			return nil
		}
		behind := f.signature(f.descendants(map[*ir.Node]bool{cut: true}, all))
		if len(behind) < 2 || 4*len(behind) > layers {
			return nil
		}
	}
	behind := f.descendants(map[*ir.Node]bool{cut: true}, all)
	label := map[*ir.Node]string{}
	for _, n := range f.order {
		switch {
		case !f.data[n]:
		case behind[n] && n != cut:
			label[n] = Head
		default:
			label[n] = Backbone
		}
	}
	return f.checkRoles(label)
}

// lastMerge reports a merge that layers precede and none follows.
func (f *flow) lastMerge(n *ir.Node) bool {
	for _, p := range f.producers(n) {
		if f.live[p] || f.layer[p] {
			return true
		}
	}
	return false
}

// lastUnits moves what follows the last merge of a level into the aggregation where it looks like what the other levels have between
// their merge and the point where they are read.
func (f *flow) lastUnits(label map[*ir.Node]string, core, merges map[*ir.Node]bool) bool {
	post := f.postUnit(core, merges)
	if len(post) == 0 {
		return false
	}
	inHead := func(n *ir.Node) bool { return label[n] == Head }
	moved := false
	for _, m := range f.order {
		if !merges[m] || f.readsCore(m, core) {
			continue
		}
		behind := f.descendants(map[*ir.Node]bool{m: true}, func(n *ir.Node) bool { return n == m || inHead(n) })
		for _, end := range f.order {
			if !behind[end] || end == m {
				continue
			}
			region := f.ancestors(map[*ir.Node]bool{end: true}, func(n *ir.Node) bool { return behind[n] && n != m })
			if slices.Equal(f.signature(region), post) && f.closed(region, end) {
				for n := range region {
					label[n] = FPN
				}
				moved = true
				break
			}
		}
	}
	return moved
}

func (f *flow) readsCore(n *ir.Node, core map[*ir.Node]bool) bool {
	for _, c := range f.consumers(n) {
		if core[c] {
			return true
		}
	}
	return false
}

// closed reports whether a region is left through end alone.
func (f *flow) closed(region map[*ir.Node]bool, end *ir.Node) bool {
	for n := range region {
		for _, c := range f.consumers(n) {
			if n != end && !region[c] {
				return false
			}
		}
	}
	return true
}

// postUnit is the signature of what stands in the core between a merge and the node that both the core and the outside read.
func (f *flow) postUnit(core, merges map[*ir.Node]bool) []string {
	for _, m := range f.order {
		if !merges[m] || !f.readsCore(m, core) {
			continue
		}
		level := f.descendants(map[*ir.Node]bool{m: true}, func(n *ir.Node) bool {
			return n == m || core[n] && !merges[n] && same(f.stride[n], f.stride[m])
		})
		for _, e := range f.order {
			if !level[e] || e == m || !f.readsCore(e, core) {
				continue
			}
			for _, c := range f.consumers(e) {
				if core[c] || !f.live[c] {
					continue
				}
				if s := f.signature(f.ancestors(map[*ir.Node]bool{e: true}, func(n *ir.Node) bool { return level[n] && n != m })); len(s) > 0 {
					return s
				}
			}
		}
	}
	return nil
}
