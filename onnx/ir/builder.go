package ir

import "fmt"

// Builder adds nodes to a graph for code that makes many of them: it names values, reuses equal constants, runs shape
// inference on each new node and keeps the first error, after which it does nothing more.
type Builder struct {
	G      *Graph
	Pass   string            // recorded in every node made
	Before *Node             // insertion point; nil appends
	Site   string            // stem of the names of new values
	Infer  func(*Node) error // sets the types of a new node's outputs; may be nil

	err    error
	consts map[string]*Value
}

// NewBuilder makes a builder that appends to g.
func NewBuilder(g *Graph, pass string, infer func(*Node) error) *Builder {
	return &Builder{G: g, Pass: pass, Infer: infer}
}

// Err is the first error.
func (b *Builder) Err() error { return b.err }

// Fail records an error unless there is one already, and returns a value that belongs to no graph.
func (b *Builder) Fail(err error) *Value {
	if b.err == nil {
		b.err = err
	}
	return &Value{name: "invalid"}
}

func (b *Builder) stem(op string) string {
	if b.Site == "" {
		return op
	}
	return b.Site + "_" + op
}

// Op adds a one-output node of the default domain.
func (b *Builder) Op(op string, in []*Value, attrs ...Attr) *Value {
	return b.Node(NodeSpec{Op: op, Inputs: in, Attrs: attrs}, 1)[0]
}

// Node adds a node with nout outputs. Outputs named in s keep their names; the others are derived from Site and the operator.
// It always returns nout values.
func (b *Builder) Node(s NodeSpec, nout int) []*Value {
	if b.err != nil {
		return b.invalid(nout)
	}
	named := len(s.Outputs)
	for i := named; i < nout; i++ {
		s.Outputs = append(s.Outputs, b.G.FreshName(b.stem(s.Op)))
	}
	if s.Pass == "" {
		s.Pass = b.Pass
	}
	if s.Name == "" && nout > 0 {
		s.Name = s.Outputs[0]
	}
	n, err := b.G.insert(s, b.Before)
	if err == nil && b.Infer != nil {
		err = b.Infer(n)
	}
	if err != nil {
		b.Fail(fmt.Errorf("pass %s: %s: %w", b.Pass, s.Op, err))
		return b.invalid(nout)
	}
	return append([]*Value(nil), n.outputs...)
}

func (b *Builder) invalid(n int) []*Value {
	out := make([]*Value, max(n, 1))
	for i := range out {
		out[i] = &Value{name: "invalid"}
	}
	return out
}

// Const adds a constant, or returns an equal one that this builder made before. Tensors over 64 kB are not compared.
func (b *Builder) Const(t *Tensor) *Value {
	if b.err != nil || t == nil {
		return b.Fail(fmt.Errorf("pass %s: constant without a tensor", b.Pass))
	}
	key := ""
	if len(t.raw) <= 1<<16 && t.dtype != String {
		key = fmt.Sprint(t.dtype, t.dims) + string(t.raw)
		if v := b.consts[key]; v != nil && v.graph == b.G && b.G.values[v.name] == v {
			return v
		}
	}
	v, err := b.G.AddInitializer(b.G.FreshName(b.stem("const")), t)
	if err != nil {
		return b.Fail(err)
	}
	if key != "" {
		if b.consts == nil {
			b.consts = map[string]*Value{}
		}
		b.consts[key] = v
	}
	return v
}

// Float adds a scalar float constant.
func (b *Builder) Float(v float32) *Value { return b.Const(ScalarFloat32(v)) }

// Int64s adds a rank-1 int64 constant.
func (b *Builder) Int64s(v ...int64) *Value { return b.Const(VectorInt64(append([]int64{}, v...)...)) }

// Floats adds a float constant of shape dims.
func (b *Builder) Floats(v []float32, dims ...int64) *Value {
	t, err := FromFloat32s(v, dims...)
	if err != nil {
		return b.Fail(err)
	}
	return b.Const(t)
}
