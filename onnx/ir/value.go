package ir

// Use is one input slot of a node.
type Use struct {
	Node  *Node
	Index int
}

// Value is an edge of the graph: a graph input, an initializer, or one output of a node.
type Value struct {
	name     string
	graph    *Graph
	producer *Node
	index    int
	uses     []Use
	init     *Tensor
	sparse   *Sparse
	input    bool
	outputs  int // how often it stands in the graph's outputs

	Type  Type
	Doc   string
	Meta  Meta
	Extra []byte // unknown protobuf fields of ValueInfoProto
	// Quant is the ONNX TensorAnnotation of this value: parameter kind to name of the value that holds it.
	Quant Meta
}

// Name is the value's name, unique in its graph.
func (v *Value) Name() string { return v.name }

// Graph is the graph that owns the value.
func (v *Value) Graph() *Graph { return v.graph }

// Producer is the node whose output the value is; nil for graph inputs and initializers.
func (v *Value) Producer() *Node { return v.producer }

// OutputIndex is the position among the producer's outputs.
func (v *Value) OutputIndex() int { return v.index }

// Uses lists the node inputs that read the value, those in subgraphs included, in order of creation. The caller must not change it.
func (v *Value) Uses() []Use { return v.uses }

// Init is the constant of an initializer; nil otherwise.
func (v *Value) Init() *Tensor { return v.init }

// SparseInit is the constant of a sparse initializer; nil otherwise.
func (v *Value) SparseInit() *Sparse { return v.sparse }

// IsInput reports whether the value is a graph input (old models list initializers as inputs too).
func (v *Value) IsInput() bool { return v.input }

// IsOutput reports whether the value is a graph output.
func (v *Value) IsOutput() bool { return v.outputs > 0 }

// IsInitializer reports whether the value is a constant of the graph.
func (v *Value) IsInitializer() bool { return v.init != nil || v.sparse != nil }

// Used reports whether a node or the graph's outputs read the value.
func (v *Value) Used() bool { return len(v.uses) > 0 || v.outputs > 0 }

// Shape is the shape of a tensor value, nil when unknown.
func (v *Value) Shape() Shape { return v.Type.Shape }

// StaticDims returns the sizes when all are known.
func (v *Value) StaticDims() ([]int64, bool) { return v.Type.Shape.Static() }

// DType is the element type of a tensor value.
func (v *Value) DType() DType { return v.Type.Elem }

func (v *Value) dropUse(n *Node, index int) {
	for i, u := range v.uses {
		if u.Node == n && u.Index == index {
			v.uses = append(v.uses[:i], v.uses[i+1:]...)
			return
		}
	}
}

// Node is one operation.
type Node struct {
	graph      *Graph
	prev, next *Node
	inputs     []*Value // nil stands for an absent optional input
	outputs    []*Value // an absent optional output is a Value with the name ""
	attrs      []Attr

	Name     string
	Op       string
	Domain   string // "" is the default domain
	Overload string
	Doc      string
	Meta     Meta
	Extra    []byte
	Pass     string // the pass that made the node; empty for nodes of the file
}

// Graph is the graph that holds the node.
func (n *Node) Graph() *Graph { return n.graph }

// Next is the following node in graph order.
func (n *Node) Next() *Node { return n.next }

// Prev is the preceding node in graph order.
func (n *Node) Prev() *Node { return n.prev }

// Inputs lists the inputs; nil marks an absent optional one. The caller must not change it.
func (n *Node) Inputs() []*Value { return n.inputs }

// Outputs lists the outputs. The caller must not change it.
func (n *Node) Outputs() []*Value { return n.outputs }

// Input is input i, nil when it is absent.
func (n *Node) Input(i int) *Value {
	if i < 0 || i >= len(n.inputs) {
		return nil
	}
	return n.inputs[i]
}

// Output is output i, nil when it is absent.
func (n *Node) Output(i int) *Value {
	if i < 0 || i >= len(n.outputs) || n.outputs[i].name == "" {
		return nil
	}
	return n.outputs[i]
}

// Is reports whether the node is an operator op of the default domain.
func (n *Node) Is(op string) bool { return n.Op == op && n.Domain == "" }

// Attrs lists the attributes in file order. The caller must not change it.
func (n *Node) Attrs() []Attr { return n.attrs }

// Attr returns the attribute called name, nil when absent.
func (n *Node) Attr(name string) *Attr {
	for i := range n.attrs {
		if n.attrs[i].Name == name {
			return &n.attrs[i]
		}
	}
	return nil
}

// SetAttr adds or replaces an attribute; graphs in it become subgraphs of the node.
func (n *Node) SetAttr(a Attr) {
	for _, g := range a.subgraphs() {
		g.parent = n
		g.enter(n.graph)
	}
	if old := n.Attr(a.Name); old != nil {
		*old = a
		return
	}
	n.attrs = append(n.attrs, a)
}

// RemoveAttr deletes an attribute if it is there.
func (n *Node) RemoveAttr(name string) {
	for i := range n.attrs {
		if n.attrs[i].Name == name {
			n.attrs = append(n.attrs[:i], n.attrs[i+1:]...)
			return
		}
	}
}

// Int is an int attribute or def.
func (n *Node) Int(name string, def int64) int64 {
	if a := n.Attr(name); a != nil && a.Kind == AttrInt {
		return a.I
	}
	return def
}

// Float is a float attribute or def.
func (n *Node) Float(name string, def float32) float32 {
	if a := n.Attr(name); a != nil && a.Kind == AttrFloat {
		return a.F
	}
	return def
}

// Str is a string attribute or def.
func (n *Node) Str(name, def string) string {
	if a := n.Attr(name); a != nil && a.Kind == AttrString {
		return string(a.S)
	}
	return def
}

// Ints is an attribute of ints, nil when absent.
func (n *Node) Ints(name string) []int64 {
	if a := n.Attr(name); a != nil && a.Kind == AttrInts {
		return a.Ints
	}
	return nil
}

// Subgraphs lists the graphs among the attributes.
func (n *Node) Subgraphs() []*Graph {
	var out []*Graph
	for i := range n.attrs {
		out = append(out, n.attrs[i].subgraphs()...)
	}
	return out
}

func (a *Attr) subgraphs() []*Graph {
	if a.G != nil {
		return append([]*Graph{a.G}, a.Graphs...)
	}
	return a.Graphs
}

// String names the node for messages: its operator and its name or first output.
func (n *Node) String() string {
	op := n.Op
	if n.Domain != "" {
		op = n.Domain + "." + op
	}
	if n.Name != "" {
		return op + " " + n.Name
	}
	for _, o := range n.outputs {
		if o.name != "" {
			return op + " -> " + o.name
		}
	}
	return op
}
