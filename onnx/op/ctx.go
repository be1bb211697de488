package op

import (
	"fmt"
	"strings"

	"mqatc/onnx/ir"
)

// Ctx is what an operator's inference sees of one node: its attributes, the types of its inputs and the values of those inputs
// that are small constants. Results are given with Out.
type Ctx struct {
	Node *ir.Node

	run   *run
	types []ir.Type
}

// run is one inference: the memory of evaluated constants, and the ways back to the table, which rows cannot name themselves.
type run struct {
	opset  int64 // 0 when not known
	parts  map[*ir.Value]*part
	depth  int
	lookup func(domain, name string) *Schema
	graph  func(*run, *ir.Graph) error
	local  map[funcKey]*ir.Function // operators that are functions of the model
	calls  int                      // functions being inferred, each called by the one before
	inside int                      // nodes of function bodies inferred so far
	merge  bool                     // keep the types of the file, and refuse contradictions
}

// firstExact is the opset from which rows describe all attributes. Models of older ones are read and shaped as far as that goes.
const firstExact = 7

// legacy reports a model of an opset before 7, where operators have attributes that no row lists, and broadcast by attribute.
func (r *run) legacy() bool { return r.opset > 0 && r.opset < firstExact }

// NumIn is the number of input slots, absent ones included.
func (c *Ctx) NumIn() int { return len(c.Node.Inputs()) }

// NumOut is the number of output slots, absent ones included.
func (c *Ctx) NumOut() int { return len(c.Node.Outputs()) }

// Has reports whether input i is present.
func (c *Ctx) Has(i int) bool { return c.Node.Input(i) != nil }

// In is the type of input i; an unknown one when it is absent.
func (c *Ctx) In(i int) ir.Type {
	if v := c.Node.Input(i); v != nil {
		return v.Type
	}
	return ir.Type{}
}

// Elem is the element type of input i.
func (c *Ctx) Elem(i int) ir.DType { return c.In(i).Elem }

// Shape is the shape of input i, nil when its rank is unknown.
func (c *Ctx) Shape(i int) ir.Shape { return c.In(i).Shape }

// Out sets the type of output i to a dense tensor's.
func (c *Ctx) Out(i int, elem ir.DType, shape ir.Shape) { c.OutType(i, ir.TensorType(elem, shape)) }

// OutType sets the type of output i.
func (c *Ctx) OutType(i int, t ir.Type) {
	if i >= 0 && i < len(c.types) {
		c.types[i] = t.Clone()
	}
}

// Ints is the value of input i if all of its integers are known.
func (c *Ctx) Ints(i int) ([]int64, bool) {
	p := c.run.part(c.Node.Input(i))
	if p == nil {
		return nil, false
	}
	return p.ints()
}

// Floats is the value of input i if all of its numbers are known.
func (c *Ctx) Floats(i int) ([]float64, bool) {
	p := c.run.part(c.Node.Input(i))
	if p == nil {
		return nil, false
	}
	return p.floats()
}

// nums is the value of an integer input as far as it is known; nil when not even its length is.
func (c *Ctx) nums(i int) []num {
	p := c.run.part(c.Node.Input(i))
	if p == nil || p.v == nil {
		return nil
	}
	return p.v
}

// vectorLen is the number of elements of a rank-1 input, -1 when unknown.
func (c *Ctx) vectorLen(i int) int64 {
	if p := c.run.part(c.Node.Input(i)); p != nil {
		return int64(p.len())
	}
	if s := c.Shape(i); len(s) == 1 && s[0].Known() {
		return s[0].Size
	}
	return -1
}

// axesArg reads axes from attribute name or, where the node has it, from input i. given reports whether there are any, ok
// whether their values are known.
func (c *Ctx) axesArg(i int, name string) (axes []int64, given, ok bool) {
	if a := c.Node.Attr(name); a != nil {
		return a.Ints, true, true
	}
	if !c.Has(i) {
		return nil, false, true
	}
	axes, ok = c.Ints(i)
	return axes, true, ok
}

// axis turns an axis of a tensor of the given rank into one in [0, rank).
func axis(a int64, rank int) (int, error) {
	if a < int64(-rank) || a >= int64(rank) {
		return 0, fmt.Errorf("axis %d is out of range for rank %d", a, rank)
	}
	if a < 0 {
		a += int64(rank)
	}
	return int(a), nil
}

// axisSet turns axes of a tensor of the given rank into a membership list; a repeated axis is an error.
func axisSet(axes []int64, rank int) ([]bool, error) {
	set := make([]bool, rank)
	for _, a := range axes {
		k, err := axis(a, rank)
		if err != nil {
			return nil, err
		}
		if set[k] {
			return nil, fmt.Errorf("axis %d is given twice in %v", a, axes)
		}
		set[k] = true
	}
	return set, nil
}

func unknownShape(rank int) ir.Shape {
	s := make(ir.Shape, rank)
	for i := range s {
		s[i] = ir.UnknownDim()
	}
	return s
}

// maxRank bounds the rank of an inferred shape.
const maxRank = 64

// rankFrom is a shape of unknown dimensions whose number is the length of the vector in input i; nil when that is unknown.
func (c *Ctx) rankFrom(i int) ir.Shape {
	if n := c.vectorLen(i); n >= 0 && n <= maxRank {
		return unknownShape(int(n))
	}
	return nil
}

// needRank reports an input of known rank outside [lo, hi].
func (c *Ctx) needRank(i, lo, hi int) error {
	s := c.Shape(i)
	if s == nil || len(s) >= lo && len(s) <= hi {
		return nil
	}
	if lo == hi {
		return fmt.Errorf("input %d has shape %v, rank %d is needed", i, s, lo)
	}
	return fmt.Errorf("input %d has shape %v, rank %d or more is needed", i, s, lo)
}

// sameElem reports inputs of different element types among those given.
func (c *Ctx) sameElem(in ...int) error {
	first := -1
	for _, i := range in {
		if !c.Has(i) || c.Elem(i) == ir.Undefined {
			continue
		}
		if first >= 0 && c.Elem(i) != c.Elem(first) {
			return fmt.Errorf("input %d is %v, input %d is %v", first, c.Elem(first), i, c.Elem(i))
		}
		if first < 0 {
			first = i
		}
	}
	return nil
}

// elemOf is the first known element type among inputs.
func (c *Ctx) elemOf(in ...int) ir.DType {
	for _, i := range in {
		if e := c.Elem(i); e != ir.Undefined {
			return e
		}
	}
	return ir.Undefined
}

// meet is a dimension that is both a and b; an error when they are different numbers.
func meet(a, b ir.Dim) (ir.Dim, error) {
	switch {
	case a.Known() && b.Known():
		if a.Size != b.Size {
			return a, fmt.Errorf("dimension %v is not %v", a, b)
		}
		return a, nil
	case a.Known():
		return a, nil
	case b.Known() || a.Symbol == "":
		return b, nil
	}
	return a, nil
}

// describe lists the types of the node's inputs.
func describe(n *ir.Node) string {
	var b strings.Builder
	for i, v := range n.Inputs() {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == 8 {
			fmt.Fprintf(&b, "and %d more", len(n.Inputs())-i)
			break
		}
		if v == nil {
			b.WriteByte('-')
			continue
		}
		b.WriteString(v.Name() + " " + v.Type.String())
	}
	return b.String()
}
