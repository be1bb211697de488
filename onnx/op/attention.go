package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// preview is the domain of operators that ONNX tries out.
const preview = "ai.onnx.preview"

// attentionTable lists attention and the other operators of models of sequences.
var attentionTable = []Schema{
	{Name: "Attention", Versions: []int64{23, 24, 25}, MinIn: 3, MaxIn: 7, MinOut: 1, MaxOut: 4, Infer: inferAttention, Attrs: []AttrSpec{
		intAttr("is_causal", 0), optional(ir.AttrInt, "kv_num_heads"), intAttr("left_window_size", -1),
		optional(ir.AttrInt, "q_num_heads"), intAttr("qk_matmul_output_mode", 0), intAttr("right_window_size", -1),
		optional(ir.AttrFloat, "scale"), floatAttr("softcap", 0.0), optional(ir.AttrInt, "softmax_precision"),
	}},
	{Name: "RotaryEmbedding", Versions: []int64{23}, MinIn: 3, MaxIn: 4, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		intAttr("interleaved", 0), optional(ir.AttrInt, "num_heads"), intAttr("rotary_embedding_dim", 0),
	}},
	{Name: "LinearAttention", Versions: []int64{27}, MinIn: 3, MaxIn: 6, MinOut: 2, MaxOut: 2, Infer: inferLinearAttention, Attrs: []AttrSpec{
		intAttr("chunk_size", 64), required(ir.AttrInt, "kv_num_heads"), required(ir.AttrInt, "q_num_heads"), floatAttr("scale", 0),
		strAttr("update_rule", "gated_delta"),
	}},
	{Name: "CausalConvWithState", Versions: []int64{27}, MinIn: 2, MaxIn: 4, MinOut: 2, MaxOut: 2, Infer: inferCausalConv, Attrs: []AttrSpec{
		strAttr("activation", "none"),
	}},
	{Domain: preview, Name: "FlexAttention", Versions: []int64{1}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferFlexAttention, Attrs: []AttrSpec{
		optional(ir.AttrGraph, "prob_mod"), optional(ir.AttrFloat, "scale"), optional(ir.AttrGraph, "score_mod"),
		optional(ir.AttrInt, "softmax_precision"),
	}},
	{Name: "TensorScatter", Versions: []int64{24}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferTensorScatter, Attrs: []AttrSpec{
		intAttr("axis", -2), strAttr("mode", "linear"),
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
		steps := k[len(k)-2]
		if c.Has(4) {
			steps = add(fromDim(past), fromDim(steps)).dim()
		}
		rows, at := ir.D(heads), q[len(q)-2]
		if len(q) == 4 {
			rows = q[1]
		}
		c.Out(3, c.Elem(0), ir.Shape{q[0], rows, at, steps})
	}
	return nil
}

// inferFlexAttention gives [N, heads, T, e] for queries [N, heads, T, d] and values [N, kv_heads, S, e].
func inferFlexAttention(c *Ctx) error {
	for i := range 3 {
		if err := c.needRank(i, 4, 4); err != nil {
			return err
		}
	}
	out := unknownShape(4)
	if q := c.Shape(0); q != nil {
		copy(out, q[:3])
	}
	if v := c.Shape(2); v != nil {
		out[3] = v[3]
	}
	for _, g := range c.Node.Subgraphs() {
		if err := c.run.graph(c.run, g); err != nil {
			return fmt.Errorf("graph %q: %w", g.Name, err)
		}
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

// inferLinearAttention serves packed queries [N, T, q_heads*d], keys [N, T, kv_heads*d] and values [N, T, kv_heads*e]: the result is
// [N, T, q_heads*e], the state [N, kv_heads, d, e], whose element type only an earlier state tells.
func inferLinearAttention(c *Ctx) error {
	heads, kv := c.Node.Int("q_num_heads", 0), c.Node.Int("kv_num_heads", 0)
	if heads <= 0 || kv <= 0 {
		return fmt.Errorf("q_num_heads %d and kv_num_heads %d are not positive", heads, kv)
	}
	var in [3]ir.Shape
	for i := range in {
		if err := c.needRank(i, 3, 3); err != nil {
			return err
		}
		if in[i] = c.Shape(i); in[i] == nil {
			in[i] = unknownShape(3)
		}
	}
	q, k, v := in[0], in[1], in[2]
	for i, n := range []int64{heads, kv, kv} {
		if d := in[i][2]; d.Known() && d.Size%n != 0 {
			return fmt.Errorf("size %v of input %d does not divide by %d heads", d, i, n)
		}
	}
	width := floorDiv(fromDim(v[2]), kv)
	c.Out(0, c.Elem(0), ir.Shape{q[0], q[1], mul(width, known(heads)).dim()})
	c.Out(1, c.Elem(3), ir.Shape{q[0], ir.D(kv), floorDiv(fromDim(k[2]), kv).dim(), width.dim()})
	return nil
}

// inferCausalConv serves x [N, C, L] and weights [C, 1, k]: the result is like x, the state [N, C, k-1].
func inferCausalConv(c *Ctx) error {
	if err := c.sameElem(0, 1, 2, 3); err != nil {
		return err
	}
	for i := range 2 {
		if err := c.needRank(i, 3, 3); err != nil {
			return err
		}
	}
	x, w := c.Shape(0), c.Shape(1)
	if x == nil {
		x = unknownShape(3)
	}
	if w == nil {
		w = unknownShape(3)
	}
	channels, err := meet(x[1], w[0])
	if err != nil {
		return fmt.Errorf("channels of %v and weights %v: %w", x, w, err)
	}
	x = ir.Shape{x[0], channels, x[2]}
	c.Out(0, c.elemOf(0, 1), x)
	c.Out(1, c.elemOf(0, 1), ir.Shape{x[0], channels, sub(fromDim(w[2]), known(1)).dim()})
	return nil
}

func inferTensorScatter(c *Ctx) error {
	if err := c.sameElem(0, 1); err != nil {
		return err
	}
	x, up := c.Shape(0), c.Shape(1)
	if x != nil && up != nil {
		a, err := axis(c.Node.Int("axis", -2), len(x))
		if err != nil {
			return err
		}
		if len(up) != len(x) || up[a].Known() && x[a].Known() && up[a].Size > x[a].Size {
			return fmt.Errorf("update %v does not fit into %v along axis %d", up, x, a)
		}
	}
	return inferSame(c)
}
