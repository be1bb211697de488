package partition

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// evidence is what the exporter left behind about the author's modules: a dotted path for some of the weighted nodes.
type evidence struct {
	method string // metadata, scopes or names
	label  map[*ir.Node]string
	below  map[*ir.Node]string // the component of the path behind the label
	weight map[*ir.Node]int64
}

// findEvidence takes the best kind of evidence that tells at least two parts of the network apart: scope metadata of today's
// PyTorch exporter, then scopes in node names, then dotted initializer names.
func findEvidence(g *ir.Graph, params []weights.Param) *evidence {
	weight := map[*ir.Node]int64{}
	initPath := map[*ir.Node][]string{}
	for _, p := range params {
		weight[p.Nodes[0]] += p.Elements()
		if p.Kind != weights.Weight {
			continue
		}
		for _, n := range p.Nodes {
			if path := dotted(p.Value.Name()); path != nil && initPath[n] == nil {
				initPath[n] = path
			}
		}
	}
	kinds := []struct {
		method string
		path   func(*ir.Node) []string
	}{
		{"metadata", metadataPath},
		{"scopes", func(n *ir.Node) []string { return scopePath(n.Name) }},
		{"names", func(n *ir.Node) []string { return initPath[n] }},
	}
	for _, k := range kinds {
		paths := map[*ir.Node][]string{}
		for n := g.First(); n != nil; n = n.Next() {
			if weight[n] == 0 {
				continue
			}
			if p := k.path(n); len(p) > 0 {
				paths[n] = p
			}
		}
		if l, b := topLabels(paths); l != nil && telling(l, weight) {
			return &evidence{k.method, l, b, weight}
		}
	}
	return nil
}

// telling reports whether labels say enough to be weighed: those that hold several nodes cover half of the elements, or at least two
// labels are words that authors use for modules.
func telling(label map[*ir.Node]string, weight map[*ir.Node]int64) bool {
	covered, total := int64(0), int64(0)
	roles, nodes := map[string]bool{}, map[string]int{}
	for n := range weight {
		nodes[label[n]]++
	}
	for n, w := range weight {
		total += w
		l := label[n]
		if l != "" && nodes[l] > 1 {
			covered += w
		}
		if r := keywordRole(l); r != "" {
			roles[r] = true
		}
	}
	return covered*2 >= total || len(roles) >= 2
}

// topLabels strips what all paths have in common and keeps the first component that differs, and the one below it; nil unless they
// tell parts apart.
func topLabels(paths map[*ir.Node][]string) (label, below map[*ir.Node]string) {
	if len(paths) < 2 {
		return nil, nil
	}
	depth := 0
	for {
		first, common, n := "", true, 0
		for _, p := range paths {
			if len(p) <= depth {
				common = false
				break
			}
			if n == 0 {
				first = p[depth]
			}
			common = common && p[depth] == first
			n++
		}
		if !common {
			break
		}
		depth++
	}
	label, below = map[*ir.Node]string{}, map[*ir.Node]string{}
	distinct := map[string]bool{}
	for n, p := range paths {
		if len(p) > depth {
			label[n] = p[depth]
			distinct[p[depth]] = true
		}
		if len(p) > depth+1 {
			below[n] = p[depth+1]
		}
	}
	if len(distinct) < 2 {
		return nil, nil
	}
	return label, below
}

// refine takes a part out of a label (the fpn inside a backbone) where both its name and the structure give it another role, or the
// structure alone where the label says nothing (net, model).
func (e *evidence) refine(f *flow, structure map[*ir.Node]string) {
	type part struct{ label, below string }
	whole, parts := map[string]map[string]int64{}, map[part]map[string]int64{}
	for _, n := range f.order {
		l := e.label[n]
		if l == "" || !f.weighty[n] {
			continue
		}
		p := part{l, e.below[n]}
		if whole[l] == nil {
			whole[l] = map[string]int64{}
		}
		if parts[p] == nil {
			parts[p] = map[string]int64{}
		}
		whole[l][class(structure[n])] += e.weight[n]
		parts[p][class(structure[n])] += e.weight[n]
	}
	taken := map[part]string{}
	has := rolesOf(structure)
	for p, v := range parts {
		r := most(v)
		if p.below == "" || r == most(whole[p.label]) {
			continue
		}
		if named := suited(keywordRole(p.below), has); r == named || named == "" && keywordRole(p.label) == "" && v[r]*20 >= sum(v)*19 {
			taken[p] = p.below
			if whole[p.below] != nil {
				taken[p] = p.label + "." + p.below
			}
		}
	}
	for n, l := range e.label {
		if t := taken[part{l, e.below[n]}]; t != "" {
			e.label[n] = t
		}
	}
}

// believed reports whether a role that a name says has a twentieth of the votes, or the structure is not sure of another.
func believed(v map[string]int64, role string) bool {
	all := sum(v)
	return v[role]*20 >= all || v[most(v)]*5 < all*4
}

func sum(v map[string]int64) int64 {
	all := int64(0)
	for _, n := range v {
		all += n
	}
	return all
}

// metadataPath reads the module path out of pkg.torch.onnx.name_scopes, a Python list of full dotted paths whose last entry is
// the call itself.
func metadataPath(n *ir.Node) []string {
	s, ok := n.Meta.Get("pkg.torch.onnx.name_scopes")
	if !ok {
		return nil
	}
	parts := strings.Split(strings.Trim(strings.TrimSpace(s), "[]"), ",")
	if len(parts) < 2 {
		return nil
	}
	last := strings.Trim(strings.TrimSpace(parts[len(parts)-2]), `'"`)
	if last == "" {
		return nil
	}
	return strings.Split(last, ".")
}

// scopePath reads /backbone/stages.1/stages.1.0/Conv as the path backbone, stages, 1, 0: a component repeats the ones before it that are
// called through no scope of their own.
func scopePath(name string) []string {
	if !strings.HasPrefix(name, "/") {
		return nil
	}
	parts := strings.Split(name[1:], "/")
	var path []string
	before := ""
	for _, c := range parts[:len(parts)-1] {
		path = append(path, strings.Split(strings.TrimPrefix(c, before+"."), ".")...)
		before = c
	}
	return path
}

// dotted reads backbone.stage1.0.weight as a path; names without dots, or of digits only, tell nothing.
func dotted(name string) []string {
	parts := strings.Split(name, ".")
	if len(parts) < 2 || parts[0] == "" || strings.ContainsAny(name, "/;: ") {
		return nil
	}
	return parts[:len(parts)-1]
}

// keywords are words that authors use for modules; the first that a label holds tells its role.
var keywords = []struct{ word, role string }{
	{"backbone", Backbone}, {"encoder", Backbone}, {"base_net", Backbone}, {"trunk", Backbone}, {"body", Backbone}, {"features", Backbone},
	{"rpn", RPN}, {"roi", RoI}, {"pnp", PnP}, {"rotation", Rotation}, {"rot_", Rotation},
	{"neck", FPN}, {"fpn", FPN}, {"pan", FPN}, {"pyramid", FPN}, {"aggreg", FPN}, {"decoder", Decoder}, {"aspp", Decoder},
	{"head", Head}, {"cls", Head}, {"classif", Head}, {"regress", Head}, {"bbox", Head},
}

func keywordRole(label string) string {
	l := strings.ToLower(label)
	for _, k := range keywords {
		if strings.Contains(l, k.word) {
			return k.role
		}
	}
	return ""
}

func rolesOf(structure map[*ir.Node]string) map[string]bool {
	has := map[string]bool{}
	for _, l := range structure {
		has[class(l)] = true
	}
	return has
}

// suited is the role that a name means in a network which has some roles: its own, or the only one of its family.
func suited(role string, has map[string]bool) string {
	for _, family := range [][]string{aggregationRoles, headRoles} {
		if !slices.Contains(family, role) || has[role] {
			continue
		}
		there := slices.DeleteFunc(slices.Clone(family), func(r string) bool { return !has[r] })
		switch len(there) {
		case 0:
			return family[0]
		case 1:
			return there[0]
		}
		return ""
	}
	return role
}

// reconcile weighs the evidence against the structure. Each evidence label takes the role its name says or, where it says
// nothing, the one that most of its elements have in the structure. Where under half of the labelled elements agree with the
// structure the evidence is not believed.
func (e *evidence) reconcile(f *flow, structure map[*ir.Node]string) (map[*ir.Node]string, map[string]string, bool) {
	votes, heads := map[string]map[string]int64{}, map[string]map[string]int64{} // by evidence label: roles, structural labels of heads
	has := rolesOf(structure)
	e.refine(f, structure)
	for _, n := range f.order {
		l := e.label[n]
		if l == "" || !f.weighty[n] {
			continue
		}
		if votes[l] == nil {
			votes[l], heads[l] = map[string]int64{}, map[string]int64{}
		}
		votes[l][class(structure[n])] += max(e.weight[n], 1)
		if s := structure[n]; isHead(s) {
			heads[l][s] += max(e.weight[n], 1)
		}
	}
	role := map[string]string{}
	agree, total := int64(0), int64(0)
	for l, v := range votes {
		for _, n := range v {
			total += n
		}
		role[l] = most(v)
		if k := suited(keywordRole(l), has); k != "" && believed(v, k) {
			role[l] = k
		}
		agree += v[role[l]]
	}
	if total == 0 || agree*2 < total {
		return nil, nil, false
	}
	out := map[*ir.Node]string{}
	members := map[string]map[string]bool{}
	for _, n := range f.order {
		if !f.weighty[n] {
			continue
		}
		out[n] = structure[n]
		l := e.label[n]
		if l == "" {
			continue
		}
		r := role[l]
		if isHead(r) && class(structure[n]) == r {
			r = structure[n]
		} else if isHead(r) {
			of := maps.Clone(heads[l])
			maps.DeleteFunc(of, func(s string, _ int64) bool { return class(s) != r })
			r = cmp.Or(most(of), r)
		}
		out[n] = r
		if members[r] == nil {
			members[r] = map[string]bool{}
		}
		members[r][l] = true
	}
	e.fill(f, structure, out)
	return out, moduleNames(renumber(f, out, members)), true
}

// renumber counts the heads of a role that are left from 1 in graph order; a single one is called by the role.
func renumber(f *flow, out map[*ir.Node]string, members map[string]map[string]bool) map[string]map[string]bool {
	to, count := map[string]string{}, map[string]int{}
	for _, n := range f.order {
		if l := out[n]; isHead(l) && to[l] == "" {
			count[class(l)]++
			to[l] = fmt.Sprint(class(l), count[class(l)])
		}
	}
	for l := range to {
		if count[class(l)] == 1 {
			to[l] = class(l)
		}
	}
	for n, l := range out {
		if to[l] != "" {
			out[n] = to[l]
		}
	}
	moved := map[string]map[string]bool{}
	for l, m := range members {
		moved[cmp.Or(to[l], l)] = m
	}
	return moved
}

// most is the key with the largest count, the first by name of several.
func most(v map[string]int64) string {
	best := ""
	for r, n := range v {
		if best == "" || n > v[best] || (n == v[best] && r < best) {
			best = r
		}
	}
	return best
}

// moduleNames calls a structural label by the author's name where that is one; heads that share a name keep their numbers.
func moduleNames(members map[string]map[string]bool) map[string]string {
	of, count := map[string]string{}, map[string]int{}
	for r, ls := range members {
		if len(ls) == 1 {
			for l := range ls {
				of[r] = l
				count[l]++
			}
		}
	}
	for r, l := range of {
		if count[l] > 1 {
			of[r] = l + strings.TrimPrefix(r, class(r))
		}
	}
	return of
}

// fill gives nodes without evidence the label of the labelled nodes before and behind them where the two agree, or where the
// structure would put the node in neither; otherwise the structure decides.
func (e *evidence) fill(f *flow, structure, out map[*ir.Node]string) {
	before := map[*ir.Node]string{}
	for _, n := range f.order {
		if !f.data[n] {
			continue
		}
		for _, p := range f.producers(n) {
			if before[n] == "" {
				before[n] = before[p]
			}
		}
		if e.label[n] != "" {
			before[n] = out[n]
		}
	}
	behind := map[*ir.Node]string{}
	for i := len(f.order) - 1; i >= 0; i-- {
		n := f.order[i]
		if !f.data[n] {
			continue
		}
		for _, c := range f.consumers(n) {
			if behind[n] == "" {
				behind[n] = behind[c]
			}
		}
		if e.label[n] != "" {
			behind[n] = out[n]
		}
	}
	for _, n := range f.order {
		if !f.weighty[n] || e.label[n] != "" {
			continue
		}
		a, b := before[n], behind[n]
		switch {
		case a != "" && a == b:
			out[n] = a
		case a != "" && b != "" && structure[n] != a && structure[n] != b:
			out[n] = a
		}
	}
}
