package partition

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// piece is a set of weighted nodes that --modules auto:K merges with others or keeps.
type piece struct {
	name, role string
	origin     int   // place of the module that it was a part of
	first      int   // its first node's place in the graph
	size       int64 // quantizable elements
	nodes      []*ir.Node
	merged     []string // labels
}

// counted makes exactly k modules of the labels that were found. Where they are more, the smallest is merged with its smallest neighbour
// by data flow until k are left, with one of the same role before others. Where they are fewer, heads fall into those of --heads split
// and every other module into its resolution stages, and pieces of one module are merged in the same way until k are left: what is
// largest stays divided.
func (f *flow) counted(params []weights.Param, label map[*ir.Node]string, names map[string]string, method, note string, k int) (*Partition, error) {
	modules := f.pieces(params, label)
	for i := range modules {
		modules[i].origin = i
	}
	found := len(modules)
	list := modules
	if found < k {
		fine := f.finest(label)
		list = f.pieces(params, fine)
		for i := range list {
			l := label[list[i].nodes[0]]
			list[i].origin = slices.IndexFunc(modules, func(m *piece) bool { return m.name == l })
			list[i].role = modules[list[i].origin].role
		}
		if len(list) < k {
			return nil, hint.Errorf(fmt.Sprintf("ask for %d at most, or divide by hand: mqatc partition MODEL -o FILE writes a file to start from", len(list)),
				"partition: the network cannot be divided into %d modules: split heads and resolution stages give %d", k, len(list))
		}
	}
	list = f.merge(list, k, found < k)
	called := func(l string) string {
		if n := names[l]; n != "" {
			return n
		}
		return l
	}
	if found < k {
		list = numbered(list, modules, called)
	} else {
		for _, x := range list {
			var names []string
			for _, m := range modules {
				if slices.Contains(x.merged, m.name) {
					names = append(names, called(m.name))
				}
			}
			x.name = strings.Join(names, "+")
		}
	}
	out := map[*ir.Node]string{}
	role := map[string]string{}
	for _, x := range list {
		role[x.name] = x.role
		for _, n := range x.nodes {
			out[n] = x.name
		}
	}
	p := assemble(f.g, params, f, out, nil)
	p.Method, p.Note = method, note
	for _, m := range p.Modules {
		m.Role = role[m.Name]
	}
	return p, nil
}

// pieces collects the weighted nodes of each label, in graph order. Only labels that own a trained tensor count.
func (f *flow) pieces(params []weights.Param, label map[*ir.Node]string) []*piece {
	by := map[string]*piece{}
	size := map[*ir.Node]int64{}
	for _, w := range params {
		n := w.Nodes[0]
		if l := label[n]; l != "" && by[l] == nil {
			by[l] = &piece{name: l, role: roleOf(l), first: -1, merged: []string{l}}
		}
		if w.Kind == weights.Weight {
			size[n] += w.Elements()
		}
	}
	var out []*piece
	for i, n := range f.order {
		x := by[label[n]]
		if x == nil {
			continue
		}
		if x.first < 0 {
			x.first = i
			out = append(out, x)
		}
		x.size += size[n]
		x.nodes = append(x.nodes, n)
	}
	return out
}

// finest divides every module: heads by the kinds of outputs that they lead to, others by resolution.
func (f *flow) finest(label map[*ir.Node]string) map[*ir.Node]string {
	stage := f.stages()
	heads := map[*ir.Node]string{}
	for n, l := range label {
		heads[n] = class(l)
	}
	f.splitHeads(heads)
	out := map[*ir.Node]string{}
	for n, l := range label {
		switch {
		case l == "":
		case class(l) == Head:
			out[n] = l + "|" + heads[n]
		default:
			out[n] = l + "|" + stage[n]
		}
	}
	return out
}

// merge joins pieces, two at a time, until k are left; within says that only pieces of one module may be joined.
func (f *flow) merge(list []*piece, k int, within bool) []*piece {
	list = slices.Clone(list)
	touch := f.neighbours(list)
	for len(list) > k {
		var a, b *piece
		slices.SortFunc(list, func(x, y *piece) int { return cmp.Or(cmp.Compare(x.size, y.size), cmp.Compare(x.first, y.first)) })
		for _, x := range list {
			if y := partner(x, list, touch, within); y != nil {
				a, b = x, y
				break
			}
		}
		if b.first < a.first {
			a, b = b, a
		}
		if a.role != b.role && b.size > a.size {
			a.role = b.role
		}
		a.size += b.size
		a.nodes, a.merged = append(a.nodes, b.nodes...), append(a.merged, b.merged...)
		for y := range touch[b] {
			if y != a {
				touch[a][y], touch[y][a] = true, true
			}
			delete(touch[y], b)
		}
		list = slices.DeleteFunc(list, func(x *piece) bool { return x == b })
	}
	slices.SortFunc(list, func(x, y *piece) int { return x.first - y.first })
	return list
}

// partner is the smallest piece to join x with among the best there are: a neighbour of the same role, another head for a head, a
// neighbour of another role, any. list is in ascending order of size.
func partner(x *piece, list []*piece, touch map[*piece]map[*piece]bool, within bool) *piece {
	var best *piece
	rank := 0
	for _, y := range list {
		if y == x || within && y.origin != x.origin {
			continue
		}
		r := 1
		switch same := y.role == x.role; {
		case same && touch[x][y]:
			r = 4
		case same && class(x.role) == Head:
			r = 3
		case touch[x][y]:
			r = 2
		}
		if r > rank {
			best, rank = y, r
		}
	}
	return best
}

// neighbours tells which pieces read one another's data, directly or through nodes without weights.
func (f *flow) neighbours(list []*piece) map[*piece]map[*piece]bool {
	label := map[*ir.Node]string{}
	of := map[string]*piece{}
	touch := map[*piece]map[*piece]bool{}
	for i, x := range list {
		key := fmt.Sprint(i)
		of[key] = x
		touch[x] = map[*piece]bool{}
		for _, n := range x.nodes {
			label[n] = key
		}
	}
	owner := spread(f.g, f, label)
	for _, n := range f.order {
		for _, p := range f.producers(n) {
			if a, b := of[owner[n]], of[owner[p]]; a != nil && b != nil && a != b {
				touch[a][b], touch[b][a] = true, true
			}
		}
	}
	return touch
}

// numbered names the pieces that modules were divided into: the module's name, counted from 1 where there are several.
func numbered(list, modules []*piece, called func(string) string) []*piece {
	count, taken := map[int]int{}, map[string]bool{}
	for _, x := range list {
		count[x.origin]++
	}
	for i, m := range modules {
		if count[i] == 1 {
			taken[called(m.name)] = true
		}
	}
	next := map[int]int{}
	for _, x := range list {
		name := called(modules[x.origin].name)
		if count[x.origin] > 1 {
			next[x.origin]++
			for stem := name; ; {
				name = fmt.Sprint(stem, next[x.origin])
				if !taken[name] {
					break
				}
				stem += "_"
			}
			taken[name] = true
		}
		x.name = name
	}
	return list
}
