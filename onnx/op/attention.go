package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// attentionTable lists attention.
var attentionTable = []Schema{
	{Name: "Attention", Versions: []int64{23, 24, 25}, MinIn: 3, MaxIn: 7, MinOut: 1, MaxOut: 4, Infer: inferAttention, Attrs: []AttrSpec{
		intAttr("is_causal", 0), optional(ir.AttrInt, "kv_num_heads"), intAttr("left_window_size", -1),
		optional(ir.AttrInt, "q_num_heads"), intAttr("qk_matmul_output_mode", 0), intAttr("right_window_size", -1),
		optional(ir.AttrFloat, "scale"), floatAttr("softcap", 0.0), optional(ir.AttrInt, "softmax_precision"),
	}},
	{Name: "RotaryEmbedding", Versions: []int64{23}, MinIn: 3, MaxIn: 4, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		intAttr("interleaved", 0), optional(ir.AttrInt, "num_heads"), intAttr("rotary_embedding_dim", 0),
	}},
}

// inferAttention serves queries [N, heads, T, d] and, with the head counts as attributes, [N, T, heads*d].
func inferAttention(c *Ctx) error {
	q, k, v := c.Shape(0), c.Shape(1), c.Shape(2)
	if q == nil || k == nil || v == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if len(q) != len(k) || len(q) != len(v) || len(q) != 3 && len(q) != 4 {
		return fmt.Errorf("query %v, key %v and value %v must have equal rank of 3 or 4", q, k, v)
	}
	out := q.Clone()
	heads, kv := c.Node.Int("q_num_heads", 0), c.Node.Int("kv_num_heads", 0)
	if len(q) == 4 {
		out[3] = v[3]
	} else {
		if heads <= 0 || kv <= 0 {
			return fmt.Errorf("queries of rank 3 need q_num_heads and kv_num_heads")
		}
		out[2] = mul(floorDiv(fromDim(v[2]), kv), known(heads)).dim()
	}
	c.Out(0, c.Elem(0), out)
	past := ir.UnknownDim()
	if p := c.Shape(4); len(p) == 4 {
		past = p[2]
	}
	for i, s := range []ir.Shape{k, v} {
		if c.NumOut() <= i+1 {
			return nil
		}
		present := unknownShape(4)
		present[0] = s[0]
		steps := s[len(s)-2]
		if c.Has(4) {
			steps = add(fromDim(past), fromDim(steps)).dim()
		}
		present[2] = steps
		if len(s) == 4 {
			present[1], present[3] = s[1], s[3]
		} else {
			present[1], present[3] = ir.D(kv), floorDiv(fromDim(s[2]), kv).dim()
		}
		c.Out(i+1, c.elemOf(i+1), present)
	}
	if c.NumOut() > 3 {
		c.Out(3, c.Elem(0), unknownShape(4))
	}
	return nil
}
