package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// microsoftAttentionTable lists what onnxruntime's optimizer and exporters make of transformers. Attributes that no size depends on
// are left out; nodes may have them.
var microsoftAttentionTable = []Schema{
	{Domain: microsoft, Name: "SkipLayerNormalization", Versions: []int64{1}, MinIn: 3, MaxIn: 5, MinOut: 1, MaxOut: 4, Infer: inferSkipNorm, Attrs: []AttrSpec{
		optional(ir.AttrFloat, "epsilon")}},
	{Domain: microsoft, Name: "SkipSimplifiedLayerNormalization", Versions: []int64{1}, MinIn: 3, MaxIn: 4, MinOut: 1, MaxOut: 4, Infer: inferSkipNorm, Attrs: []AttrSpec{
		optional(ir.AttrFloat, "epsilon")}},
	{Domain: microsoft, Name: "BiasGelu", Versions: []int64{1}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferOnto},
	{Domain: microsoft, Name: "FastGelu", Versions: []int64{1}, MinIn: 1, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferOnto},
	{Domain: microsoft, Name: "MatMulNBits", Versions: []int64{1}, MinIn: 3, MaxIn: 6, MinOut: 1, MaxOut: 1, Infer: inferMatMulNBits, Attrs: []AttrSpec{
		required(ir.AttrInt, "K"), required(ir.AttrInt, "N"), intAttr("bits", 4), required(ir.AttrInt, "block_size")}},
	{Domain: microsoft, Name: "Attention", Versions: []int64{1}, MinIn: 2, MaxIn: 7, MinOut: 1, MaxOut: 2, Infer: inferPackedAttention(4, 0), Attrs: []AttrSpec{
		required(ir.AttrInt, "num_heads"), intAttr("past_present_share_buffer", 0), optional(ir.AttrInts, "qkv_hidden_sizes")}},
	{Domain: microsoft, Name: "QAttention", Versions: []int64{1}, MinIn: 5, MaxIn: 9, MinOut: 1, MaxOut: 2, Infer: inferPackedAttention(8, 3), Attrs: []AttrSpec{
		required(ir.AttrInt, "num_heads"), intAttr("past_present_share_buffer", 0)}},
	{Domain: microsoft, Name: "MultiHeadAttention", Versions: []int64{1}, MinIn: 1, MaxIn: 10, MinOut: 1, MaxOut: 4, Infer: inferMultiHead, Attrs: []AttrSpec{
		required(ir.AttrInt, "num_heads")}},
	{Domain: microsoft, Name: "GroupQueryAttention", Versions: []int64{1}, MinIn: 1, MaxIn: 17, MinOut: 1, MaxOut: 4, Infer: inferGroupQuery, Attrs: []AttrSpec{
		optional(ir.AttrInt, "kv_cache_bit_width"), required(ir.AttrInt, "kv_num_heads"), required(ir.AttrInt, "num_heads")}},
}

// inferSkipNorm gives the normalized sum of x and skip, two outputs that only training fills, and the sum.
func inferSkipNorm(c *Ctx) error {
	if err := c.needRank(0, 2, maxRank); err != nil {
		return err
	}
	c.Out(0, c.Elem(0), c.Shape(0))
	c.Out(3, c.Elem(0), c.Shape(0))
	return nil
}

// inferMatMulNBits gives [..., N] for [..., K] and weights in blocks of a few bits each.
func inferMatMulNBits(c *Ctx) error {
	n, k := c.Node.Int("N", 0), c.Node.Int("K", 0)
	x := c.Shape(0)
	if n <= 0 || k <= 0 {
		return fmt.Errorf("N %d and K %d are not positive", n, k)
	}
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if len(x) == 0 {
		return fmt.Errorf("a scalar cannot be multiplied as a matrix")
	}
	last := len(x) - 1
	if _, err := meet(x[last], ir.D(k)); err != nil {
		return fmt.Errorf("inner %w", err)
	}
	out := x.Clone()
	out[last] = ir.D(n)
	c.Out(0, c.Elem(0), out)
	return nil
}

func (c *Ctx) heads(name string) (int64, error) {
	n := c.Node.Int(name, 0)
	if n <= 0 {
		return 0, fmt.Errorf("%s %d is not positive", name, n)
	}
	return n, nil
}

// inferPackedAttention serves x [N, T, d] with the weights of queries, keys and values in one matrix [d, q+k+v]: the result is
// [N, T, v], of the element type of input elem, and the cache [2, N, heads, past+T, k/heads].
func inferPackedAttention(pastIn, elem int) func(*Ctx) error {
	return func(c *Ctx) error {
		heads, err := c.heads("num_heads")
		if err != nil {
			return err
		}
		if err := c.needRank(0, 3, 3); err != nil {
			return err
		}
		if err := c.needRank(1, 2, 2); err != nil {
			return err
		}
		x := c.Shape(0)
		if x == nil {
			x = unknownShape(3)
		}
		key, value := unknown, unknown
		if sizes := c.Node.Ints("qkv_hidden_sizes"); len(sizes) == 3 {
			key, value = known(sizes[1]), known(sizes[2])
		} else if w := c.Shape(1); w != nil {
			value = floorDiv(fromDim(w[1]), 3)
			key = value
		}
		c.Out(0, c.Elem(elem), ir.Shape{x[0], x[1], value.dim()})
		if c.Node.Int("past_present_share_buffer", 0) != 0 && c.Has(pastIn) {
			c.Out(1, c.Elem(elem), c.Shape(pastIn))
			return nil
		}
		steps := fromDim(x[1])
		if c.Has(pastIn) {
			past := unknown
			if p := c.Shape(pastIn); len(p) == 5 {
				past = fromDim(p[3])
			}
			steps = add(past, steps)
		}
		c.Out(1, c.Elem(elem), ir.Shape{ir.D(2), x[0], ir.D(heads), steps.dim(), floorDiv(key, heads).dim()})
		return nil
	}
}

// inferMultiHead serves queries [N, T, heads*d] with keys and values beside them, or all packed as [N, T, heads, 3, d].
func inferMultiHead(c *Ctx) error {
	heads, err := c.heads("num_heads")
	if err != nil {
		return err
	}
	q, k, v := c.Shape(0), c.Shape(1), c.Shape(2)
	if q != nil && len(q) != 3 && len(q) != 5 {
		return fmt.Errorf("query has shape %v, rank 3 or 5 is needed", q)
	}
	out := unknownShape(3)
	if q != nil {
		out[0], out[1] = q[0], q[1]
	}
	size, steps := unknown, unknown
	switch {
	case len(q) == 5:
		size, steps = fromDim(q[4]), fromDim(q[1])
		out[2] = mul(size, known(heads)).dim()
	case len(k) == 5:
		size, steps = fromDim(k[4]), fromDim(k[1])
		out[2] = mul(size, known(heads)).dim()
	case len(k) == 3 && len(v) == 3:
		size, steps = floorDiv(fromDim(k[2]), heads), fromDim(k[1])
		out[2] = v[2]
	case len(v) == 4:
		out[2] = mul(fromDim(v[3]), known(heads)).dim()
	}
	c.Out(0, c.Elem(0), out)
	present := ir.Shape{out[0], ir.D(heads), ir.UnknownDim(), size.dim()}
	if !c.Has(6) && !c.Has(8) {
		present[2] = steps.dim()
	} else if p := c.Shape(6); len(p) == 4 && !c.Has(8) {
		present[2] = add(fromDim(p[2]), steps).dim()
	}
	c.Out(1, c.Elem(0), present)
	present = present.Clone()
	present[3] = floorDiv(fromDim(out[2]), heads).dim()
	c.Out(2, c.Elem(0), present)
	return nil
}

// inferGroupQuery serves queries [N, T, heads*d], or packed ones [N, T, (heads+2*kv_heads)*d]. How long the caches are depends on
// whether past and present share a buffer.
func inferGroupQuery(c *Ctx) error {
	heads, err := c.heads("num_heads")
	if err != nil {
		return err
	}
	kv, err := c.heads("kv_num_heads")
	if err != nil {
		return err
	}
	if err := c.needRank(0, 3, 3); err != nil {
		return err
	}
	q := c.Shape(0)
	if q == nil {
		q = unknownShape(3)
	}
	parts := heads
	if !c.Has(1) {
		parts += 2 * kv
	}
	size := floorDiv(fromDim(q[2]), parts)
	c.Out(0, c.Elem(0), ir.Shape{q[0], q[1], mul(size, known(heads)).dim()})
	elem := c.Elem(0)
	if c.Has(3) {
		elem = c.Elem(3)
	}
	if c.Node.Int("kv_cache_bit_width", 0) != 0 {
		size = unknown
		if !c.Has(3) {
			elem = ir.Undefined
		}
	}
	for i := 1; i < 3; i++ {
		c.Out(i, elem, ir.Shape{q[0], ir.D(kv), ir.UnknownDim(), size.dim()})
	}
	return nil
}
