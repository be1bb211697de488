package ir

import (
	"fmt"
	"slices"
	"strconv"
)

// Graph is a list of nodes in topological order with its inputs, outputs and initializers.
type Graph struct {
	first, last *Node
	count       int
	inputs      []*Value
	outputs     []*Value
	inits       []*Value
	values      map[string]*Value
	serial      map[string]int
	parent      *Node
	outer       *Graph
	inner       []*Graph // graphs that see this one's values; some may belong to no node any more

	Name  string
	Doc   string
	Meta  Meta
	Extra []byte
}

// NewGraph makes an empty graph.
func NewGraph(name string) *Graph {
	return &Graph{Name: name, values: map[string]*Value{}, serial: map[string]int{}}
}

// NewSubgraph makes an empty graph that sees the values of outer; Node.SetAttr with it gives it its parent node.
func NewSubgraph(name string, outer *Graph) *Graph {
	g := NewGraph(name)
	g.enter(outer)
	return g
}

func (g *Graph) enter(outer *Graph) {
	g.outer = outer
	if outer != nil && !slices.Contains(outer.inner, g) {
		outer.inner = append(outer.inner, g)
	}
}

// taken reports whether a value of g, of a graph around it or of one inside it has the name: onnxruntime refuses two that see each other.
func (g *Graph) taken(name string) bool { return g.Resolve(name) != nil || g.within(name) }

func (g *Graph) within(name string) bool {
	for _, s := range g.inner {
		if s.values[name] != nil || s.within(name) {
			return true
		}
	}
	return false
}

// Outer is the graph around a subgraph; nil for a main graph or a function body.
func (g *Graph) Outer() *Graph { return g.outer }

// Parent is the node whose attribute the graph is; nil for a main graph or a function body.
func (g *Graph) Parent() *Node { return g.parent }

// Inputs lists the graph inputs. The caller must not change it.
func (g *Graph) Inputs() []*Value { return g.inputs }

// Outputs lists the graph outputs. The caller must not change it.
func (g *Graph) Outputs() []*Value { return g.outputs }

// Initializers lists the constants, sparse ones included, in file order. The caller must not change it.
func (g *Graph) Initializers() []*Value { return g.inits }

// First is the first node.
func (g *Graph) First() *Node { return g.first }

// Last is the last node.
func (g *Graph) Last() *Node { return g.last }

// NumNodes is the number of nodes, subgraphs not included.
func (g *Graph) NumNodes() int { return g.count }

// Nodes returns a snapshot of the nodes in graph order, so that the graph may be changed while it is walked.
func (g *Graph) Nodes() []*Node {
	out := make([]*Node, 0, g.count)
	for n := g.first; n != nil; n = n.next {
		out = append(out, n)
	}
	return out
}

// Value finds a value of this graph by name; nil when there is none.
func (g *Graph) Value(name string) *Value { return g.values[name] }

// Resolve finds a value by name in this graph or the ones around it.
func (g *Graph) Resolve(name string) *Value {
	for ; g != nil; g = g.outer {
		if v := g.values[name]; v != nil {
			return v
		}
	}
	return nil
}

func (g *Graph) newValue(name string, t Type) (*Value, error) {
	if name == "" {
		return nil, fmt.Errorf("graph %q: a value needs a name", g.Name)
	}
	if g.values[name] != nil {
		return nil, fmt.Errorf("graph %q: two values are called %q", g.Name, name)
	}
	v := &Value{name: name, graph: g, Type: t}
	g.values[name] = v
	return v, nil
}

// FreshName derives a name from site, as "conv1.w_fq" or "conv1.w_fq_2", that is unused here, in graphs around this one and in those inside.
func (g *Graph) FreshName(site string) string {
	if site == "" {
		site = "v"
	}
	if !g.taken(site) && g.serial[site] == 0 {
		g.serial[site] = 1
		return site
	}
	for i := max(g.serial[site], 1) + 1; ; i++ {
		name := site + "_" + strconv.Itoa(i)
		if !g.taken(name) {
			g.serial[site] = i
			return name
		}
	}
}

// AddInput appends a graph input. An initializer of that name becomes an input as well (IR versions before 4).
func (g *Graph) AddInput(name string, t Type) (*Value, error) {
	if v := g.values[name]; v != nil && v.IsInitializer() && !v.input {
		v.input = true
		g.inputs = append(g.inputs, v)
		return v, nil
	}
	v, err := g.newValue(name, t)
	if err != nil {
		return nil, err
	}
	v.input = true
	g.inputs = append(g.inputs, v)
	return v, nil
}

// AddInitializer adds a constant. A graph input of that name gets it as its default value.
func (g *Graph) AddInitializer(name string, t *Tensor) (*Value, error) {
	if t == nil {
		return nil, fmt.Errorf("initializer %q has no tensor", name)
	}
	v := g.values[name]
	if v == nil || !v.input || v.init != nil {
		var err error
		if v, err = g.newValue(name, t.Type()); err != nil {
			return nil, err
		}
	}
	v.init = t
	g.inits = append(g.inits, v)
	return v, nil
}

// AddSparse adds a sparse constant.
func (g *Graph) AddSparse(name string, s *Sparse) (*Value, error) {
	if s == nil || s.Values == nil {
		return nil, fmt.Errorf("sparse initializer %q has no values", name)
	}
	v, err := g.newValue(name, TensorType(s.Values.DType(), StaticShape(s.Dims...)))
	if err != nil {
		return nil, err
	}
	v.sparse = s
	g.inits = append(g.inits, v)
	return v, nil
}

// SetInit replaces the constant of an initializer.
func (g *Graph) SetInit(v *Value, t *Tensor) error {
	if v == nil || v.graph != g || v.init == nil || t == nil {
		return fmt.Errorf("graph %q: no initializer to replace", g.Name)
	}
	v.init = t
	v.Type = t.Type()
	return nil
}

// RemoveInitializer deletes an unused constant.
func (g *Graph) RemoveInitializer(v *Value) error {
	if v == nil || v.graph != g || !v.IsInitializer() {
		return fmt.Errorf("graph %q: not an initializer of this graph", g.Name)
	}
	if v.Used() {
		return fmt.Errorf("initializer %q is in use", v.name)
	}
	g.inits = without(g.inits, v)
	if v.input {
		v.init, v.sparse = nil, nil
		return nil
	}
	delete(g.values, v.name)
	return nil
}

// RemoveInput deletes an unused graph input; one that has a constant remains an initializer.
func (g *Graph) RemoveInput(v *Value) error {
	if v == nil || v.graph != g || !v.input {
		return fmt.Errorf("graph %q: not an input of this graph", g.Name)
	}
	if v.IsInitializer() {
		v.input = false
		g.inputs = without(g.inputs, v)
		return nil
	}
	if v.Used() {
		return fmt.Errorf("input %q is in use", v.name)
	}
	v.input = false
	g.inputs = without(g.inputs, v)
	delete(g.values, v.name)
	return nil
}

// InputFromInitializer turns a constant into a graph input without default, keeping its uses and type.
func (g *Graph) InputFromInitializer(v *Value) error {
	if v == nil || v.graph != g || v.init == nil {
		return fmt.Errorf("graph %q: not a dense initializer of this graph", g.Name)
	}
	v.init = nil
	g.inits = without(g.inits, v)
	if !v.input {
		v.input = true
		g.inputs = append(g.inputs, v)
	}
	return nil
}

// InitializerFromInput turns a graph input into a constant, keeping its uses.
func (g *Graph) InitializerFromInput(v *Value, t *Tensor) error {
	if v == nil || v.graph != g || !v.input || t == nil {
		return fmt.Errorf("graph %q: not an input of this graph", g.Name)
	}
	v.input = false
	g.inputs = without(g.inputs, v)
	if !v.IsInitializer() {
		g.inits = append(g.inits, v)
	}
	v.init, v.sparse, v.Type = t, nil, t.Type()
	return nil
}

// AddOutput appends v to the graph's outputs.
func (g *Graph) AddOutput(v *Value) error {
	if v == nil {
		return fmt.Errorf("graph %q: output without a value", g.Name)
	}
	if v.graph != g {
		return fmt.Errorf("graph %q: output %q belongs to graph %q", g.Name, v.name, v.graph.Name)
	}
	v.outputs++
	g.outputs = append(g.outputs, v)
	return nil
}

// SetOutputs replaces the list of outputs.
func (g *Graph) SetOutputs(vs ...*Value) error {
	for _, v := range vs {
		if v == nil || v.graph != g {
			return fmt.Errorf("graph %q: an output is not a value of this graph", g.Name)
		}
	}
	for _, v := range g.outputs {
		v.outputs--
	}
	g.outputs = append([]*Value(nil), vs...)
	for _, v := range vs {
		v.outputs++
	}
	return nil
}

// Rename changes a value's name.
func (g *Graph) Rename(v *Value, name string) error {
	if v == nil || v.graph != g || name == "" {
		return fmt.Errorf("graph %q: cannot rename to %q", g.Name, name)
	}
	if v.name == name {
		return nil
	}
	if g.values[name] != nil {
		return fmt.Errorf("graph %q: two values would be called %q", g.Name, name)
	}
	delete(g.values, v.name)
	v.name = name
	g.values[name] = v
	return nil
}

func without(vs []*Value, v *Value) []*Value {
	out := make([]*Value, 0, len(vs))
	for _, x := range vs {
		if x != v {
			out = append(out, x)
		}
	}
	return out
}
