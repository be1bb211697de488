package partition

import (
	"strings"

	"mqatc/onnx/ir"
)

// Roles of modules.
const (
	Backbone = "backbone"
	FPN      = "fpn"
	Decoder  = "decoder"
	Head     = "head"
	Rotation = "rotation" // a decoder whose dense maps a PnP head reads
	PnP      = "pnp"      // regresses a pose from dense maps
	RPN      = "rpn"      // proposes the regions that a second stage looks at
	RoI      = "roi"      // the second stage
)

// Heads and aggregations: roles of one family stand for each other where a network has one of them and a name says another.
var (
	headRoles        = []string{Head, PnP, RPN, RoI}
	aggregationRoles = []string{FPN, Decoder, Rotation}
)

// class is the role of a structural label: a role, followed by a number where --heads split divides it. "" for a resolution stage.
func class(label string) string {
	role := strings.TrimRight(label, "0123456789")
	for _, roles := range [][]string{{Backbone}, aggregationRoles, headRoles} {
		for _, r := range roles {
			if r == role {
				return r
			}
		}
	}
	return ""
}

func isHead(label string) bool {
	c := class(label)
	for _, r := range headRoles {
		if r == c {
			return true
		}
	}
	return false
}

// specialize tells the roles of chains and of two-stage detectors apart.
func (f *flow) specialize(label map[*ir.Node]string) {
	f.twoStages(label)
	f.densePose(label)
}

// twoStages divides the heads of a detector that cuts regions out of its features: what follows the cut is the second stage, what
// gives the regions the first.
func (f *flow) twoStages(label map[*ir.Node]string) {
	cuts := f.cuts()
	if len(cuts) == 0 {
		return
	}
	var regions []*ir.Value
	for n := range cuts {
		for _, x := range cutters(n) {
			regions = append(regions, x.Input(1))
		}
	}
	second := f.descendants(cuts, all)
	first := f.needed(regions)
	for n, l := range label {
		switch {
		case l != Head:
		case second[n]:
			label[n] = RoI
		case first[n]:
			label[n] = RPN
		}
	}
}

// cuts are the nodes that cut regions out of a map.
func (f *flow) cuts() map[*ir.Node]bool {
	cuts := map[*ir.Node]bool{}
	for _, n := range f.order {
		if f.data[n] && len(cutters(n)) > 0 {
			cuts[n] = true
		}
	}
	return cuts
}

// cutters lists n, or the nodes in its subgraphs, that cut regions out of a map.
func cutters(n *ir.Node) []*ir.Node {
	if n.Op == "RoiAlign" || n.Op == "MaxRoiPool" {
		return []*ir.Node{n}
	}
	var out []*ir.Node
	for _, s := range n.Subgraphs() {
		for _, x := range s.Nodes() {
			out = append(out, cutters(x)...)
		}
	}
	return out
}

// needed lists the nodes of the graph that values are computed from, by data, indices or shapes.
func (f *flow) needed(values []*ir.Value) map[*ir.Node]bool {
	out := map[*ir.Node]bool{}
	seen := map[*ir.Value]bool{}
	for len(values) > 0 {
		v := values[len(values)-1]
		values = values[:len(values)-1]
		if v == nil || seen[v] || v.Producer() == nil {
			continue
		}
		seen[v] = true
		n := v.Producer()
		if v.Graph() == f.g {
			out[n] = true
		}
		values = append(append(values, n.Inputs()...), f.captured(n, true)...)
	}
	return out
}

// densePose recognizes a network that goes down to a code, up to dense maps and, from these, down again to vectors.
func (f *flow) densePose(label map[*ir.Node]string) {
	has := map[string]bool{}
	for n, l := range label {
		if f.layer[n] {
			has[l] = true
		}
	}
	if !has[Decoder] || !has[Head] || has[FPN] {
		return
	}
	dense := map[*ir.Node]bool{}
	for n, l := range label {
		dense[n] = l == Decoder
	}
	behind := f.descendants(dense, all)
	for _, n := range f.last(func(n *ir.Node) bool { return label[n] == Head }) {
		if f.stride[n] != 0 || !behind[n] {
			return
		}
	}
	for n, l := range label {
		switch l {
		case Decoder:
			label[n] = Rotation
		case Head:
			label[n] = PnP
		}
	}
}
