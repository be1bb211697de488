package partition

import (
	"fmt"
	"slices"

	"mqatc/onnx/ir"
)

// structure labels every weighted node by role from the graph alone; a note tells that no modular structure was found and the
// labels are resolution stages.
func (f *flow) structure(split bool) (map[*ir.Node]string, string) {
	part := f.aggregate()
	if part == nil {
		part = f.trunk()
	}
	if part == nil {
		part = f.tail()
	}
	if part == nil {
		return f.stages(), "no modular structure found: one module per resolution stage"
	}
	label := map[*ir.Node]string{}
	for _, n := range f.order {
		if f.weighty[n] {
			label[n] = part[n]
		}
	}
	f.specialize(label)
	if split {
		f.splitHeads(label)
	}
	return label, ""
}

// trunk serves networks that never enlarge: what more than one of their last layers needs is the backbone, the rest are heads. Of two
// stages the backbone is what both read.
func (f *flow) trunk() map[*ir.Node]string {
	reached := map[*ir.Node]int{}
	if cuts := f.cuts(); len(cuts) > 0 {
		second := f.descendants(cuts, all)
		for n := range f.ancestors(cuts, func(n *ir.Node) bool { return !second[n] || cuts[n] }) {
			if !second[n] {
				reached[n] = 2
			}
		}
	} else {
		last := f.last(all)
		if len(last) < 2 {
			return nil
		}
		reached = f.reached(last)
	}
	label := map[*ir.Node]string{}
	backbone, heads := 0, 0
	for _, n := range f.order {
		if !f.data[n] {
			continue
		}
		label[n] = Head
		if reached[n] > 1 {
			label[n] = Backbone
		}
		if f.weighty[n] && label[n] == Backbone {
			backbone++
		} else if f.weighty[n] {
			heads++
		}
	}
	if backbone == 0 || heads == 0 {
		return nil
	}
	return label
}

// last lists the layers among keep that no other layer follows.
func (f *flow) last(keep func(*ir.Node) bool) []*ir.Node {
	leads := map[*ir.Node]bool{}
	var out []*ir.Node
	for i := len(f.order) - 1; i >= 0; i-- {
		n := f.order[i]
		for _, c := range f.consumers(n) {
			leads[n] = leads[n] || leads[c] || f.layer[c]
		}
		if f.layer[n] && f.data[n] && keep(n) && !leads[n] {
			out = append(out, n)
		}
	}
	return out
}

// stages labels by stride along the network; layers without spatial extent that scale a feature map count to it.
func (f *flow) stages() map[*ir.Node]string {
	at := map[*ir.Node]float64{}
	for i := len(f.order) - 1; i >= 0; i-- {
		n := f.order[i]
		at[n] = f.stride[n]
		for _, c := range f.consumers(n) {
			if at[n] == 0 {
				at[n] = at[c]
			}
		}
	}
	label := map[*ir.Node]string{}
	names := map[float64]string{}
	for _, n := range f.order {
		if !f.weighty[n] {
			continue
		}
		s := at[n]
		if names[s] == "" {
			names[s] = fmt.Sprintf("stage%d", len(names)+1)
		}
		label[n] = names[s]
	}
	return label
}

// aggregate serves networks that go down, up again and merge scales. nil where nothing enlarges a feature map.
func (f *flow) aggregate() map[*ir.Node]string {
	ups := map[*ir.Node]bool{}
	for _, n := range f.order {
		if f.raises(n) {
			ups[n] = true
		}
	}
	if len(ups) == 0 {
		return nil
	}
	after := f.descendants(ups, all)
	before := func(n *ir.Node) bool { return !after[n] }
	feeds := map[*ir.Node]bool{}
	deepest := 0.0
	for u := range ups {
		for _, p := range f.producers(u) {
			if !after[p] {
				feeds[p] = true
				deepest = max(deepest, f.stride[p])
			}
		}
	}
	if len(feeds) == 0 {
		return nil
	}
	enc := f.ancestors(feeds, before)
	bottom := map[*ir.Node]bool{}
	for n := range enc {
		if same(f.stride[n], deepest) {
			bottom[n] = true
		}
	}
	// The trunk leads to the first node of the deepest stride; the rest of that stride is divided below.
	trunk := f.ancestors(bottom, before)
	core, merges := f.core(after, ups)
	lateral := map[*ir.Node]bool{}
	if c := f.context(); trunk[c] {
		trunk = f.cutAt(c, trunk, lateral)
	}
	taps := map[*ir.Node]map[*ir.Node]bool{} // merge -> its lateral nodes
	for _, m := range f.order {
		if !core[m] || len(f.producers(m)) < 2 || ups[m] {
			continue
		}
		for _, p := range f.producers(m) {
			if after[p] {
				continue
			}
			region := f.ancestors(map[*ir.Node]bool{p: true}, func(n *ir.Node) bool { return before(n) && !trunk[n] })
			if taps[m] == nil {
				taps[m] = map[*ir.Node]bool{}
			}
			for n := range region {
				lateral[n] = true
				taps[m][n] = true
			}
		}
	}
	if t := f.lastTap(trunk, lateral, deepest); t != nil {
		trunk = f.cutAt(t, trunk, lateral)
	}
	units := f.units(core, ups, taps)
	neck := f.bottomUnit(trunk, feeds, deepest, units)
	if !f.reaches(trunk, neck, deepest) {
		neck = nil
	}
	if len(neck) == 0 {
		neck = f.bottomReduction(trunk, feeds, ups)
	}
	if len(taps) == 0 && len(neck) == 0 {
		return f.decoder(trunk, after)
	}
	label := map[*ir.Node]string{}
	for _, n := range f.order {
		switch {
		case !f.data[n]:
		case neck[n] || lateral[n] || core[n]:
			label[n] = FPN
		case trunk[n]:
			label[n] = Backbone
		default:
			label[n] = Head
		}
	}
	if f.oneWay(label, core, merges) {
		return f.checkRoles(label)
	}
	f.extra(label)
	f.smoothing(label, core, merges, units)
	return f.checkRoles(label)
}

// core is what mixes scales: every node behind the first enlargement that leads to a merge one of whose inputs changed scale.
func (f *flow) core(after, ups map[*ir.Node]bool) (core, merges map[*ir.Node]bool) {
	merges = map[*ir.Node]bool{}
	for _, n := range f.order {
		if !after[n] || !merging(n) || !f.live[n] && !f.lastMerge(n) {
			continue
		}
		ps := f.producers(n)
		if len(ps) < 2 && !f.readsImage(n) || f.gated(n) != nil {
			continue
		}
		for _, p := range ps {
			if f.changedScale(p, after) {
				merges[n] = true
			}
		}
	}
	return f.ancestors(merges, func(n *ir.Node) bool { return after[n] }), merges
}

// readsImage reports whether n reads an input of the graph at full resolution, which is a tap before any layer.
func (f *flow) readsImage(n *ir.Node) bool {
	for _, v := range n.Inputs() {
		if v != nil && v.IsInput() && v.Init() == nil && same(f.stride[n], 1) {
			return true
		}
	}
	return false
}

func merging(n *ir.Node) bool {
	switch n.Op {
	case "Add", "Sum", "Concat", "Mul", "Sub", "Max", "Mean":
		return n.Domain == ""
	}
	return false
}

// changedScale walks back from n to the next branching or merging and reports a change of scale on the way.
func (f *flow) changedScale(n *ir.Node, after map[*ir.Node]bool) bool {
	for i := 0; i < 64 && after[n]; i++ {
		if k := factor(n); k > 0 && k != 1 || resizes(n) {
			return true
		}
		if i > 0 && f.branches(n) {
			return false
		}
		if n = f.before(n); n == nil {
			return false
		}
	}
	return false
}

// unit is what the levels of a pyramid have in common.
type unit struct {
	lateral []string // between tap and merge
	post    []string // between a merge and the next change of scale
}

// units reads the signature of a level off the levels where both of its ends are certain.
func (f *flow) units(core, ups map[*ir.Node]bool, taps map[*ir.Node]map[*ir.Node]bool) unit {
	var u unit
	for _, m := range f.order {
		if region := taps[m]; region != nil && len(u.lateral) == 0 {
			u.lateral = f.signature(region)
		}
	}
	for _, n := range f.order {
		if !core[n] || !(merging(n) && len(f.producers(n)) > 1) {
			continue
		}
		down := f.descendants(map[*ir.Node]bool{n: true}, func(x *ir.Node) bool {
			return core[x] && !ups[x] && (same(f.stride[x], f.stride[n]) || f.stride[x] == 0)
		})
		leads := map[*ir.Node]bool{}
		for x := range down {
			for _, c := range f.consumers(x) {
				if ups[c] && core[c] {
					leads[x] = true
				}
			}
		}
		if len(leads) == 0 {
			continue
		}
		seg := f.ancestors(leads, func(x *ir.Node) bool { return down[x] })
		if s := f.signature(seg); len(s) > 0 {
			u.post = s
			break
		}
	}
	return u
}

// bottomUnit finds what belongs to the aggregation at the deepest stride: the shortest end of the trunk before the first
// enlargement that looks like a lateral followed by a post-merge unit of the other levels, or like a lateral alone behind a node that is
// a tap for others.
func (f *flow) bottomUnit(trunk, feeds map[*ir.Node]bool, deepest float64, u unit) map[*ir.Node]bool {
	want := append(append([]string{}, u.lateral...), u.post...)
	if len(want) == 0 {
		return nil
	}
	at := func(n *ir.Node) bool { return trunk[n] && same(f.stride[n], deepest) || trunk[n] && f.stride[n] == 0 }
	neck := map[*ir.Node]bool{}
	for n := range feeds {
		if !at(n) {
			continue
		}
		unit, cut := f.unitBefore(n, at, trunk, want)
		if unit == nil && len(u.lateral) > 0 {
			if unit, cut = f.unitBefore(n, at, trunk, u.lateral); !f.readOutside(cut, trunk) {
				unit = nil
			}
		}
		for x := range unit {
			neck[x] = true
		}
	}
	return neck
}

// readOutside reports whether something other than nodes of a trunk reads n.
func (f *flow) readOutside(n *ir.Node, trunk map[*ir.Node]bool) bool {
	if n == nil {
		return false
	}
	for _, c := range f.consumers(n) {
		if !trunk[c] {
			return true
		}
	}
	return false
}

// reaches reports whether a trunk without its neck still has layers at a stride.
func (f *flow) reaches(trunk, neck map[*ir.Node]bool, stride float64) bool {
	for n := range trunk {
		if f.layer[n] && !neck[n] && same(f.stride[n], stride) {
			return true
		}
	}
	return false
}

// unitBefore is the shortest end of the trunk before feed whose signature is want, and the node before it.
func (f *flow) unitBefore(feed *ir.Node, at func(*ir.Node) bool, trunk map[*ir.Node]bool, want []string) (unit map[*ir.Node]bool, before *ir.Node) {
	last := map[*ir.Node]bool{feed: true}
	whole := f.ancestors(last, at)
	for i := len(f.order) - 1; i >= 0; i-- {
		cut := f.order[i]
		if !trunk[cut] || !f.isCut(cut, whole, last) {
			continue
		}
		below := f.descendants(map[*ir.Node]bool{cut: true}, func(n *ir.Node) bool { return whole[n] || n == cut })
		delete(below, cut)
		sig := f.signature(below)
		if slices.Equal(sig, want) {
			return below, cut
		}
		if len(sig) > len(want) {
			break
		}
	}
	return nil, nil
}

// isCut reports whether every path inside whole that ends in last passes through n's output.
func (f *flow) isCut(n *ir.Node, whole, last map[*ir.Node]bool) bool {
	if last[n] {
		return false
	}
	behind := f.descendants(map[*ir.Node]bool{n: true}, func(x *ir.Node) bool { return whole[x] || x == n })
	if len(behind) < 2 {
		return false
	}
	for x := range behind {
		if x == n {
			continue
		}
		for _, p := range f.producers(x) {
			if !behind[p] {
				return false
			}
		}
	}
	for l := range last {
		if !behind[l] {
			return false
		}
	}
	return true
}

// checkRoles gives up where a division leaves no weights before or behind the cut.
func (f *flow) checkRoles(label map[*ir.Node]string) map[*ir.Node]string {
	n := map[string]int{}
	for _, x := range f.order {
		if f.weighty[x] {
			n[label[x]]++
		}
	}
	if n[Backbone] == 0 || n[FPN]+n[Decoder]+n[Head] == 0 {
		return nil
	}
	return label
}
