package ir

// AttrKind says which field of an Attr counts; its numbers are those of ONNX AttributeProto.AttributeType.
type AttrKind int32

// Kinds of attributes.
const (
	AttrUndefined AttrKind = iota
	AttrFloat
	AttrInt
	AttrString
	AttrTensor
	AttrGraph
	AttrFloats
	AttrInts
	AttrStrings
	AttrTensors
	AttrGraphs
	AttrSparse
	AttrSparses
	AttrType
	AttrTypes
)

// Sparse is a sparse tensor in coordinate form (ONNX SparseTensorProto).
type Sparse struct {
	Values, Indices *Tensor
	Dims            []int64
}

// Attr is a node's attribute.
type Attr struct {
	Name    string
	Kind    AttrKind
	F       float32
	I       int64
	S       []byte
	T       *Tensor
	G       *Graph
	Sparse  *Sparse
	Type    *Type
	Floats  []float32
	Ints    []int64
	Strings [][]byte
	Tensors []*Tensor
	Graphs  []*Graph
	Sparses []*Sparse
	Types   []*Type
	Ref     string // ref_attr_name, inside functions
	Doc     string
	Extra   []byte // unknown protobuf fields
}

// AFloat makes a float attribute.
func AFloat(name string, v float32) Attr { return Attr{Name: name, Kind: AttrFloat, F: v} }

// AInt makes an int attribute.
func AInt(name string, v int64) Attr { return Attr{Name: name, Kind: AttrInt, I: v} }

// AString makes a string attribute.
func AString(name, v string) Attr { return Attr{Name: name, Kind: AttrString, S: []byte(v)} }

// AInts makes an attribute of several ints.
func AInts(name string, v ...int64) Attr {
	return Attr{Name: name, Kind: AttrInts, Ints: append([]int64{}, v...)}
}

// AFloats makes an attribute of several floats.
func AFloats(name string, v ...float32) Attr {
	return Attr{Name: name, Kind: AttrFloats, Floats: append([]float32{}, v...)}
}

// ATensor makes a tensor attribute.
func ATensor(name string, t *Tensor) Attr { return Attr{Name: name, Kind: AttrTensor, T: t} }

// AGraph makes a graph attribute; the graph becomes a subgraph of the node that gets it.
func AGraph(name string, g *Graph) Attr { return Attr{Name: name, Kind: AttrGraph, G: g} }

// KV is one entry of a Meta.
type KV struct{ Key, Value string }

// Meta is a list of key-value pairs in file order (ONNX metadata_props).
type Meta []KV

// Get returns the value of key and whether it is there.
func (m Meta) Get(key string) (string, bool) {
	for _, e := range m {
		if e.Key == key {
			return e.Value, true
		}
	}
	return "", false
}

// Set replaces or appends an entry.
func (m *Meta) Set(key, value string) {
	for i := range *m {
		if (*m)[i].Key == key {
			(*m)[i].Value = value
			return
		}
	}
	*m = append(*m, KV{key, value})
}

// Clone copies the list.
func (m Meta) Clone() Meta { return append(Meta(nil), m...) }
