package rebatch

import (
	"math"
	"slices"

	"mqatc/onnx/ir"
)

// builder is the builder of nodes before the step's.
func (s *step) builder() *ir.Builder {
	s.b.Before = s.n
	s.b.Site = s.n.Name
	if s.b.Site == "" && s.n.Output(0) != nil {
		s.b.Site = s.n.Output(0).Name()
	}
	return s.b
}

// images is the number of images, int64[1], computed from the shape of input ref.
func (s *step) images(ref int) *ir.Value {
	v, t := s.n.Input(ref), s.in[ref]
	if n := s.batchOf[v]; n != nil {
		return n
	}
	b := s.builder()
	n := b.Op("Gather", []*ir.Value{b.Op("Shape", []*ir.Value{v}), b.Int64s(int64(t.axis))}, ir.AInt("axis", 0))
	if t.rows() != 1 {
		n = b.Op("Div", []*ir.Value{n, b.Int64s(t.rows())})
	}
	if b.Err() == nil {
		s.batchOf[v] = n
	}
	return n
}

// vector is the shape dims with rows times the number of images of input ref in dimension axis.
func (s *step) vector(dims []int64, axis int, rows int64, ref int) *ir.Value {
	n := s.images(ref)
	b := s.builder()
	if rows != 1 {
		n = b.Op("Mul", []*ir.Value{n, b.Int64s(rows)})
	}
	var parts []*ir.Value
	if axis > 0 {
		parts = append(parts, b.Int64s(dims[:axis]...))
	}
	parts = append(parts, n)
	if axis+1 < len(dims) {
		parts = append(parts, b.Int64s(dims[axis+1:]...))
	}
	if len(parts) == 1 {
		return n
	}
	return b.Op("Concat", parts, ir.AInt("axis", 0))
}

// lift repeats input i, which has no batch, for all images of input ref, in dimension axis, which has t's rows at batch 1 already.
func (s *step) lift(i, axis int, t state, ref int) error {
	dims := s.dims(i)
	if axis < 0 || axis >= len(dims) || dims[axis] != t.rows() || t.outer != 1 {
		return s.refuse("operand %d of shape %v holds no batch, the others have %d rows per image", i, dims, t.rows())
	}
	ones := slices.Repeat([]int64{1}, len(dims))
	by := s.vector(ones, axis, 1, ref)
	b := s.builder()
	op := "Tile"
	if t.inner == 1 {
		op = "Expand"
	}
	v := b.Op(op, []*ir.Value{s.n.Input(i), by})
	if err := b.Err(); err != nil {
		return err
	}
	s.mark(s.n)
	return s.n.Graph().SetInput(s.n, i, v)
}

// setOperand gives the node a constant of its own for integer operand i, or sets the attribute that older opsets have instead.
func (s *step) setOperand(attr string, i int, v []int64) error {
	s.mark(s.n)
	if attr != "" && s.n.Attr(attr) != nil {
		s.n.SetAttr(ir.AInts(attr, v...))
		return nil
	}
	d, site := ir.Int64, s.n.Op
	if old := s.n.Input(i); old != nil {
		d, site = old.DType(), old.Name()
	}
	if d == ir.Int32 {
		v = slices.Clone(v)
		for j := range v {
			v[j] = min(max(v[j], math.MinInt32), math.MaxInt32)
		}
	}
	t, err := ir.PackInts(d, v, int64(len(v)))
	if err != nil {
		return err
	}
	g := s.n.Graph()
	c, err := g.AddInitializer(g.FreshName(site+"_free"), t)
	if err != nil {
		return err
	}
	return g.SetInput(s.n, i, c)
}

// become turns the node into another operator of the default domain on its first input and, if not nil, operand.
func (s *step) become(op string, operand *ir.Value) error {
	for _, a := range slices.Clone(s.n.Attrs()) {
		s.n.RemoveAttr(a.Name)
	}
	g := s.n.Graph()
	for i := len(s.n.Inputs()) - 1; i > 0; i-- {
		if err := g.SetInput(s.n, i, nil); err != nil {
			return err
		}
	}
	s.mark(s.n)
	s.n.Op, s.n.Domain, s.n.Pass = op, "", s.c.Pass
	if operand == nil {
		return nil
	}
	return g.SetInput(s.n, 1, operand)
}
