package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// broadcast is the common shape of a and b under ONNX multidirectional broadcasting.
func broadcast(a, b ir.Shape) (ir.Shape, error) {
	if a == nil || b == nil {
		return nil, nil
	}
	if len(b) > len(a) {
		a, b = b, a
	}
	out := a.Clone()
	off := len(a) - len(b)
	for i, d := range b {
		r, err := broadcastDim(a[off+i], d)
		if err != nil {
			return nil, fmt.Errorf("shapes %v and %v do not broadcast: %w", a, b, err)
		}
		out[off+i] = r
	}
	return out, nil
}

func broadcastDim(a, b ir.Dim) (ir.Dim, error) {
	switch {
	case a.Known() && a.Size == 1:
		return b, nil
	case b.Known() && b.Size == 1:
		return a, nil
	case a.Known() && b.Known():
		if a.Size != b.Size {
			return a, fmt.Errorf("%v is not %v", a, b)
		}
		return a, nil
	case a.Known():
		return a, nil
	case b.Known():
		return b, nil
	case a.Symbol == b.Symbol:
		return a, nil
	}
	return ir.UnknownDim(), nil
}

func (c *Ctx) broadcastAll() (ir.Shape, error) {
	out := c.Shape(0)
	for i := 1; i < c.NumIn(); i++ {
		s, err := c.alignedAt(out, c.Shape(i))
		if err != nil {
			return nil, err
		}
		if out, err = broadcast(out, s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// alignedAt appends ones to b, so that its first axis comes under the one of a that attribute axis names (opset 1 to 6).
func (c *Ctx) alignedAt(a, b ir.Shape) (ir.Shape, error) {
	at := c.Node.Attr("axis")
	if at == nil || !c.run.legacy() || a == nil || b == nil {
		return b, nil
	}
	k, err := axis(at.I, len(a))
	if err != nil {
		return nil, err
	}
	if k+len(b) > len(a) {
		return nil, fmt.Errorf("shape %v at axis %d goes beyond %v", b, k, a)
	}
	out := b.Clone()
	for len(out) < len(a)-k {
		out = append(out, ir.D(1))
	}
	return out, nil
}

func (c *Ctx) allInputs() []int {
	in := make([]int, c.NumIn())
	for i := range in {
		in[i] = i
	}
	return in
}

// inferBroadcast gives the inputs' element type and their common shape.
func inferBroadcast(c *Ctx) error {
	in := c.allInputs()
	if err := c.sameElem(in...); err != nil {
		return err
	}
	s, err := c.broadcastAll()
	if err != nil {
		return err
	}
	c.Out(0, c.elemOf(in...), s)
	return nil
}

// inferFirstElem is inferBroadcast for operators whose other inputs may be of another element type.
func inferFirstElem(c *Ctx) error {
	s, err := c.broadcastAll()
	if err != nil {
		return err
	}
	c.Out(0, c.Elem(0), s)
	return nil
}

// inferCompare gives bools of the common shape.
func inferCompare(c *Ctx) error {
	if err := c.sameElem(0, 1); err != nil {
		return err
	}
	s, err := c.broadcastAll()
	if err != nil {
		return err
	}
	c.Out(0, ir.Bool, s)
	return nil
}

// inferOnto broadcasts the other inputs onto input 0, whose shape stays.
func inferOnto(c *Ctx) error {
	for i := 1; i < c.NumIn(); i++ {
		s, err := broadcast(c.Shape(0), c.Shape(i))
		if err != nil {
			return err
		}
		if s != nil && len(s) > len(c.Shape(0)) {
			return fmt.Errorf("shape %v of input %d does not broadcast onto %v", c.Shape(i), i, c.Shape(0))
		}
	}
	c.Out(0, c.Elem(0), c.Shape(0))
	return nil
}

// inferPRelu takes a slope that broadcasts onto the input, or, from opset 1 to 6, one per channel.
func inferPRelu(c *Ctx) error {
	x, s := c.Shape(0), c.Shape(1)
	if !c.run.legacy() || len(s) != 1 || len(x) < 2 || s[0].Known() && s[0].Size == 1 {
		return inferOnto(c)
	}
	if _, err := meet(x[1], s[0]); err != nil {
		return fmt.Errorf("slopes %v for the channels of %v: %w", s, x, err)
	}
	return inferSame(c)
}

func inferWhere(c *Ctx) error {
	if e := c.Elem(0); e != ir.Undefined && e != ir.Bool {
		return fmt.Errorf("the condition is %v, must be bool", e)
	}
	if err := c.sameElem(1, 2); err != nil {
		return err
	}
	s, err := c.broadcastAll()
	if err != nil {
		return err
	}
	c.Out(0, c.elemOf(1, 2), s)
	return nil
}

// inferSame gives input 0's type.
func inferSame(c *Ctx) error {
	c.OutType(0, c.In(0))
	return nil
}

// inferSameBool gives bools of input 0's shape.
func inferSameBool(c *Ctx) error {
	c.Out(0, ir.Bool, c.Shape(0))
	return nil
}

// inferAlongAxis is inferSame for operators with an attribute axis.
func inferAlongAxis(c *Ctx) error {
	if a := c.Node.Attr("axis"); a != nil && c.Shape(0) != nil {
		rank := len(c.Shape(0))
		if _, err := axis(a.I, rank); err != nil && !(rank == 0 && a.I >= -1 && a.I <= 0) && a.I != int64(rank) {
			return err
		}
	}
	return inferSame(c)
}
