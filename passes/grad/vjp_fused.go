package grad

import "mqatc/onnx/ir"

// fusedConv is onnxruntime's convolution with a sum and an activation.
func fusedConv(c *call) *ir.Value {
	var at []ir.Attr
	for _, a := range c.n.Attrs() {
		if a.Name != "activation" && a.Name != "activation_params" {
			at = append(at, a)
		}
	}
	in := []*ir.Value{c.in(0), c.in(1)}
	if b := c.in(2); b != nil {
		in = append(in, b)
	}
	y := c.Op("Conv", in, at...)
	if z := c.in(3); z != nil {
		y = c.add(y, z)
	}
	var p []float32
	if a := c.n.Attr("activation_params"); a != nil {
		p = a.Floats
	}
	return c.fused(y, p)
}

// fused applies the attribute activation with the parameters p.
func (c *call) fused(y *ir.Value, p []float32) *ir.Value {
	name := c.n.Str("activation", "")
	switch {
	case name == "":
		return y
	case name == "Clip" && len(p) == 2:
		return c.op("Clip", y, c.num(float64(p[0])), c.num(float64(p[1])))
	}
	next := func(def float64) float64 {
		if len(p) > 0 {
			def, p = float64(p[0]), p[1:]
		}
		return def
	}
	f := c.activation(name, next, next)
	if f == nil {
		return c.fail("activation %q", name)
	}
	return f(y)
}

// fusedGemm is onnxruntime's Gemm with an activation.
func fusedGemm(c *call) *ir.Value {
	var at []ir.Attr
	var p []float32
	for _, a := range c.n.Attrs() {
		switch a.Name {
		case "activation", "activation_gamma":
		case "activation_alpha", "activation_beta":
			p = append(p, a.F)
		default:
			at = append(at, a)
		}
	}
	in := []*ir.Value{c.in(0), c.in(1)}
	if b := c.in(2); b != nil {
		in = append(in, b)
	}
	return c.fused(c.Op("Gemm", in, at...), p)
}

// fusedMatMul is onnxruntime's product of operands that are transposed first: the first axis behind the other batch axes, then the last
// two.
func fusedMatMul(c *call) *ir.Value {
	operand := func(v *ir.Value, batch, last string) *ir.Value {
		n := c.rank(v)
		if n < 2 || c.Err() != nil {
			return v
		}
		perm := seq(0, n)
		if c.n.Int(batch, 0) != 0 {
			perm = append(append(seq(1, n-1), 0), int64(n-1))
		}
		if c.n.Int(last, 0) != 0 {
			perm[n-1], perm[n-2] = perm[n-2], perm[n-1]
		}
		return c.transpose(v, perm...)
	}
	y := c.op("MatMul", operand(c.in(0), "transBatchA", "transA"), operand(c.in(1), "transBatchB", "transB"))
	return c.scale(y, float64(c.n.Float("alpha", 1)))
}
