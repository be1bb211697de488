package partition

import (
	"fmt"
	"slices"
	"strings"

	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// Names of the parts that lie outside the modules: what no module comes before, what none comes after, and the rest.
const (
	Before  = "before"
	Between = "between"
	After   = "after"
)

// Part is a piece of a network that runs as a whole: a module, one of the runs of nodes that a module falls into where it needs what a
// later module computes, or nodes outside the modules.
type Part struct {
	Module    *Module // nil outside the modules
	Name      string  // of the module, or Before, Between or After
	Index, Of int     // place among the parts of this name, from 1, and their number
	Model     *ir.Model
}

// Parts are pieces of a network in an order in which they can run. A value keeps its name everywhere, so that each input of a part is
// an input of the network or an output of an earlier part, and each output of the network is one of those as well.
type Parts struct {
	Inputs, Outputs []*ir.Value // of the network; inputs without default
	List            []Part
}

// Split cuts m, the model that p divides, into parts whose computations in turn are those of m, node by node. The number of parts is
// the least there is for networks of a few modules. Shape arithmetic and other integers that no module owns go with the first module
// that reads them. It is an error if a value where the network is cut has no type.
func (p *Partition) Split(m *ir.Model) (*Parts, error) {
	g := m.Graph
	s, err := p.splitter(g)
	if err != nil {
		return nil, err
	}
	runs := s.runs()
	home := map[*ir.Node]int{}
	for i, r := range runs {
		for _, n := range r.nodes {
			home[n] = i
		}
	}
	out := &Parts{Outputs: slices.Clone(g.Outputs())}
	for _, v := range g.Inputs() {
		if !v.IsInitializer() {
			out.Inputs = append(out.Inputs, v)
		}
	}
	for i, r := range runs {
		leaving := s.leaving(r.nodes, i, home)
		if i == len(runs)-1 {
			for _, v := range g.Outputs() {
				if v.IsInitializer() && !slices.Contains(leaving, v) {
					leaving = append(leaving, v)
				}
			}
		}
		if len(leaving) == 0 {
			continue
		}
		model, err := m.Extract(r.nodes, leaving)
		if err != nil {
			return nil, fmt.Errorf("partition: %w", err)
		}
		if err := typed(model.Graph); err != nil {
			return nil, err
		}
		part := Part{Model: model}
		if r.color > 0 {
			part.Module = p.Modules[r.color-1]
			part.Name = part.Module.Name
		} else {
			part.Name = outsideName(runs, i)
		}
		out.List = append(out.List, part)
	}
	out.number()
	return out, nil
}

func (p *Partition) splitter(g *ir.Graph) (*splitter, error) {
	s := &splitter{f: newFlow(g, weights.Find(g)), color: map[*ir.Node]int{}, colors: len(p.Modules) + 1}
	for i, mod := range p.Modules {
		for _, n := range mod.Nodes {
			if n.Graph() != g {
				return nil, fmt.Errorf("partition: module %s is not one of this model", mod.Name)
			}
			s.color[n] = i + 1
		}
	}
	s.adopt()
	return s, nil
}

func outsideName(runs []run, i int) string {
	module := func(r run) bool { return r.color > 0 }
	switch {
	case !slices.ContainsFunc(runs[:i], module):
		return Before
	case !slices.ContainsFunc(runs[i:], module):
		return After
	}
	return Between
}

// number counts the parts of each name. A module may have the name of a part outside.
func (p *Parts) number() {
	key := func(x Part) string { return fmt.Sprint(x.Module != nil, x.Name) }
	total := map[string]int{}
	for i := range p.List {
		k := key(p.List[i])
		total[k]++
		p.List[i].Index = total[k]
	}
	for i := range p.List {
		p.List[i].Of = total[key(p.List[i])]
	}
}

// typed makes sure that what a part takes and gives has a type, without which no runtime takes it.
func typed(g *ir.Graph) error {
	for _, v := range append(slices.Clone(g.Inputs()), g.Outputs()...) {
		if v.Type.Kind == ir.KindUnknown || v.Type.Kind == ir.KindTensor && v.Type.Elem == ir.Undefined {
			return hint.Errorf("mqatc inspect MODEL shows what is known of the model; another division, by --modules FILE, may not cut there",
				"partition: the network cannot be cut at %q: its type is not known", v.Name())
		}
	}
	return nil
}

// splitter colors nodes by module, 0 outside, and orders them.
type splitter struct {
	f      *flow
	color  map[*ir.Node]int
	colors int
	preds  map[*ir.Node][]*ir.Node
}

// run is a set of nodes of one color.
type run struct {
	color int
	nodes []*ir.Node
}

// adopt gives nodes outside the modules that carry no data to the first module that reads them.
func (s *splitter) adopt() {
	for i := len(s.f.order) - 1; i >= 0; i-- {
		n := s.f.order[i]
		if s.color[n] > 0 || s.f.data[n] {
			continue
		}
		for _, o := range n.Outputs() {
			for _, u := range o.Uses() {
				if c := s.color[s.f.owner[u.Node]]; c > 0 && (s.color[n] == 0 || c < s.color[n]) {
					s.color[n] = c
				}
			}
		}
	}
}

// leaving lists the values that nodes of run i compute and that another run or the outputs read, in graph order.
func (s *splitter) leaving(nodes []*ir.Node, i int, home map[*ir.Node]int) []*ir.Value {
	var out []*ir.Value
	for _, n := range nodes {
		for _, o := range n.Outputs() {
			leaves := o.IsOutput()
			for _, u := range o.Uses() {
				leaves = leaves || home[s.f.owner[u.Node]] != i
			}
			if leaves {
				out = append(out, o)
			}
		}
	}
	return out
}

// progress is a set of finished nodes and the runs that led to it.
type progress struct {
	done  map[*ir.Node]bool
	last  int
	prev  *progress
	nodes []*ir.Node // of the last run
}

// runs finds the shortest sequence of runs. Taking all nodes of a color that are ready is never worse than taking some, so a
// breadth-first search over colors finds it; where modules are many it goes on from the furthest sets alone.
func (s *splitter) runs() []run {
	const beam = 64
	s.preds = map[*ir.Node][]*ir.Node{}
	for _, n := range s.f.order {
		s.preds[n] = s.reads(n)
	}
	front := []*progress{{done: map[*ir.Node]bool{}, last: -1}}
	for {
		var next []*progress
		seen := map[string]bool{}
		for _, p := range front {
			if len(p.done) == len(s.f.order) {
				return p.runs()
			}
			for c := range s.colors {
				if c == p.last {
					continue
				}
				nodes := s.ready(p.done, c)
				if len(nodes) == 0 {
					continue
				}
				done := make(map[*ir.Node]bool, len(p.done)+len(nodes))
				for n := range p.done {
					done[n] = true
				}
				for _, n := range nodes {
					done[n] = true
				}
				if k := s.key(done); !seen[k] {
					seen[k] = true
					next = append(next, &progress{done, c, p, nodes})
				}
			}
		}
		slices.SortStableFunc(next, func(a, b *progress) int { return len(b.done) - len(a.done) })
		front = next[:min(len(next), beam)]
	}
}

func (p *progress) runs() []run {
	var out []run
	for ; p.prev != nil; p = p.prev {
		out = append(out, run{p.last, p.nodes})
	}
	slices.Reverse(out)
	return out
}

func (s *splitter) key(done map[*ir.Node]bool) string {
	var b strings.Builder
	for _, n := range s.f.order {
		if done[n] {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return b.String()
}

// ready lists the nodes of color c that need nothing but finished nodes and one another, in graph order.
func (s *splitter) ready(done map[*ir.Node]bool, c int) []*ir.Node {
	var out []*ir.Node
	in := map[*ir.Node]bool{}
	for _, n := range s.f.order {
		if done[n] || s.color[n] != c {
			continue
		}
		ok := true
		for _, p := range s.preds[n] {
			ok = ok && (done[p] || in[p])
		}
		if ok {
			in[n] = true
			out = append(out, n)
		}
	}
	return out
}

// reads lists the nodes of the graph whose outputs n or its subgraphs read.
func (s *splitter) reads(n *ir.Node) []*ir.Node {
	var out []*ir.Node
	add := func(x *ir.Node) {
		for _, v := range x.Inputs() {
			if v != nil && v.Graph() == s.f.g && v.Producer() != nil {
				out = append(out, v.Producer())
			}
		}
	}
	var walk func(x *ir.Node)
	walk = func(x *ir.Node) {
		add(x)
		for _, sub := range x.Subgraphs() {
			for _, y := range sub.Nodes() {
				walk(y)
			}
		}
	}
	walk(n)
	return out
}
