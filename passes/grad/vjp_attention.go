package grad

import (
	"math"

	"mqatc/onnx/ir"
)

// masked is added to scores of keys that must not be attended to.
const masked = -1e30

// heads turns [N, T, heads*d] into [N, heads, T, d].
func (c *call) heads(v *ir.Value, n int64) *ir.Value {
	d := c.dims(v)
	if c.Err() != nil || len(d) != 3 || n < 1 || d[2]%n != 0 {
		return c.fail("%d heads in a value of shape %v", n, v.Shape())
	}
	return c.transpose(c.reshape(v, d[0], d[1], n, d[2]/n), 0, 2, 1, 3)
}

// merged turns [N, heads, T, d] into [N, T, heads*d].
func (c *call) merged(v *ir.Value) *ir.Value {
	d := c.dims(v)
	if c.Err() != nil {
		return v
	}
	return c.reshape(c.transpose(v, 0, 2, 1, 3), d[0], d[2], d[1]*d[3])
}

// attend is softmax(q k^T * scale + bias) v for q [N, heads, T, d], k [N, heads, S, d] and v [N, heads, S, e].
func (c *call) attend(q, k, v *ir.Value, scale float64, bias []*ir.Value, softcap float64) *ir.Value {
	s := c.op("MatMul", c.scale(q, scale), c.transpose(k, 0, 1, 3, 2))
	for _, b := range bias {
		s = c.add(s, b)
	}
	if softcap != 0 {
		s = c.scale(c.op("Tanh", c.scale(s, 1/softcap)), softcap)
	}
	return c.op("MatMul", c.Op("Softmax", []*ir.Value{s}, ir.AInt("axis", -1)), v)
}

// causal is a [T, S] constant that lets query i see the keys to offset+i.
func (c *call) causal(t, s, offset int64) *ir.Value {
	m := make([]float64, t*s)
	for i := range t {
		for j := range s {
			if j > i+offset {
				m[i*s+j] = masked
			}
		}
	}
	return c.floats(m, t, s)
}

// repeated gives each of the heads of v [N, kv, S, d] to as many queries' heads in a row as make n.
func (c *call) repeated(v *ir.Value, n int64) *ir.Value {
	d := c.dims(v)
	if c.Err() != nil || n == d[1] {
		return v
	}
	if d[1] < 1 || n%d[1] != 0 {
		return c.fail("%d heads of keys for %d of queries", d[1], n)
	}
	v = c.op("Expand", c.op("Unsqueeze", v, c.Int64s(2)), c.Int64s(d[0], d[1], n/d[1], d[2], d[3]))
	return c.reshape(v, d[0], n, d[2], d[3])
}

// attention is ONNX's Attention with its three first outputs; a window, nonpad_kv_seqlen, and softcap together with a mask have
// no rule.
func attention(c *call) []*ir.Value {
	q, k, v, mask := c.in(0), c.in(1), c.in(2), c.in(3)
	flat := c.rank(q) == 3
	if flat {
		q, k, v = c.heads(q, c.n.Int("q_num_heads", 0)), c.heads(k, c.n.Int("kv_num_heads", 0)), c.heads(v, c.n.Int("kv_num_heads", 0))
	}
	past := int64(0)
	if p := c.in(4); p != nil && c.in(5) != nil && c.Err() == nil {
		past = c.along(p, 2)
		k = c.Op("Concat", []*ir.Value{p, k}, ir.AInt("axis", 2))
		v = c.Op("Concat", []*ir.Value{c.in(5), v}, ir.AInt("axis", 2))
	}
	qd, kd := c.dims(q), c.dims(k)
	softcap := float64(c.n.Float("softcap", 0))
	causal := c.n.Int("is_causal", 0) != 0
	switch {
	case c.Err() != nil:
		return nil
	case c.in(6) != nil:
		c.fail("nonpad_kv_seqlen")
		return nil
	case c.n.Int("left_window_size", -1) >= 0 || c.n.Int("right_window_size", -1) >= 0:
		c.fail("a window")
		return nil
	case softcap != 0 && (mask != nil || causal):
		c.fail("softcap together with a mask")
		return nil
	}
	present := []*ir.Value{k, v}
	var bias []*ir.Value
	if causal {
		bias = append(bias, c.causal(qd[2], kd[2], past))
	}
	if mask != nil {
		if d := c.dims(mask); c.Err() != nil || d[len(d)-1] != kd[2] {
			c.fail("mask of shape %v for %d keys", mask.Shape(), kd[2])
			return nil
		}
		if mask.DType() == ir.Bool {
			mask = c.op("Where", mask, c.num(0), c.num(masked))
		}
		bias = append(bias, mask)
	}
	scale := float64(c.n.Float("scale", 0))
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(qd[3]))
	}
	y := c.attend(q, c.repeated(k, qd[1]), c.repeated(v, qd[1]), scale, bias, softcap)
	if flat {
		y = c.merged(y)
	}
	return append([]*ir.Value{y}, present...)
}

// multiHead is onnxruntime's MultiHeadAttention, with queries, keys and values apart or packed, a bias of all three, an additive
// bias of the scores and a padding mask [N, S].
func multiHead(c *call) []*ir.Value {
	n := c.n.Int("num_heads", 0)
	q, k, v, ok := c.unpacked(n)
	if !ok || c.Err() != nil {
		return nil
	}
	if p := c.in(6); p != nil && c.in(7) != nil {
		k = c.Op("Concat", []*ir.Value{p, k}, ir.AInt("axis", 2))
		v = c.Op("Concat", []*ir.Value{c.in(7), v}, ir.AInt("axis", 2))
	}
	qd, kd := c.dims(q), c.dims(k)
	if c.Err() != nil {
		return nil
	}
	var bias []*ir.Value
	if m := c.in(4); m != nil {
		md := c.dims(m)
		if c.Err() != nil || len(md) != 2 || md[0] != qd[0] || md[1] != kd[2] {
			c.fail("key_padding_mask of shape %v", m.Shape())
			return nil
		}
		keep := c.Op("Cast", []*ir.Value{m}, ir.AInt("to", int64(c.dt)))
		off := c.scale(c.sub(c.num(1), keep), float64(c.n.Float("mask_filter_value", -10000)))
		bias = append(bias, c.reshape(off, md[0], 1, 1, md[1]))
	}
	if b := c.in(5); b != nil {
		bias = append(bias, b)
	}
	if c.n.Int("unidirectional", 0) != 0 {
		bias = append(bias, c.causal(qd[2], kd[2], kd[2]-qd[2]))
	}
	scale := float64(c.n.Float("scale", 0))
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(qd[3]))
	}
	return []*ir.Value{c.merged(c.attend(q, k, v, scale, bias, 0)), k, v}
}

// unpacked gives queries, keys and values as [N, heads, T, d].
func (c *call) unpacked(n int64) (q, k, v *ir.Value, ok bool) {
	pick := func(v *ir.Value, i int64) *ir.Value { // [N, T, heads, parts, d]
		v = c.op("Squeeze", c.slice(v, []int64{i}, []int64{i + 1}, []int64{3}, []int64{1}), c.Int64s(3))
		return c.transpose(v, 0, 2, 1, 3)
	}
	switch {
	case c.rank(c.in(0)) == 5 && c.in(3) == nil:
		return pick(c.in(0), 0), pick(c.in(0), 1), pick(c.in(0), 2), true
	case c.in(1) == nil:
		c.fail("query of shape %v without keys", c.in(0).Shape())
		return nil, nil, nil, false
	}
	parts := []*ir.Value{c.in(0), c.in(1), c.in(2)}
	if b := c.in(3); b != nil {
		from := int64(0)
		for i, p := range parts {
			if p == nil || c.rank(p) != 3 {
				c.fail("a bias with keys and values that are packed")
				return nil, nil, nil, false
			}
			size := c.along(p, 2)
			parts[i] = c.add(p, c.slice(b, []int64{from}, []int64{from + size}, []int64{0}, []int64{1}))
			from += size
		}
	}
	q = c.heads(parts[0], n)
	switch c.rank(parts[1]) {
	case 5:
		return q, pick(parts[1], 0), pick(parts[1], 1), true
	case 4:
		return q, parts[1], parts[2], parts[2] != nil
	}
	if parts[2] == nil {
		c.fail("keys without values")
		return nil, nil, nil, false
	}
	return q, c.heads(parts[1], n), c.heads(parts[2], n), true
}

// rotary turns pairs of elements of each head by the angles whose cosines and sines are given, by position or at position_ids.
func rotary(c *call) *ir.Value {
	x := c.in(0)
	flat := c.rank(x) == 3
	beside := int64(1) // the axis of the heads
	if flat {
		n := c.n.Int("num_heads", 0)
		if size := c.along(x, 2); n < 1 || size%n != 0 {
			return c.fail("%d heads in a value of shape %v", n, x.Shape())
		}
		x, beside = c.reshape(x, c.free(x), c.along(x, 1), n, c.along(x, 2)/n), 2
	}
	if c.rank(x) != 4 {
		return c.fail("input of shape %v", x.Shape())
	}
	size := c.along(x, 3)
	turned := c.n.Int("rotary_embedding_dim", 0)
	if turned == 0 {
		turned = size
	}
	if c.Err() != nil || turned > size || turned%2 != 0 {
		return c.fail("rotary_embedding_dim %d in heads of %d", turned, size)
	}
	angle := func(i int) *ir.Value {
		v := c.in(i)
		if at := c.in(3); at != nil {
			v = c.Op("Gather", []*ir.Value{v, at}, ir.AInt("axis", 0))
		}
		return c.op("Unsqueeze", v, c.Int64s(beside))
	}
	cos, sin := angle(1), angle(2)
	part := func(from, to, step int64) *ir.Value {
		if from == 0 && to == size && step == 1 {
			return x
		}
		return c.slice(x, []int64{from}, []int64{to}, []int64{3}, []int64{step})
	}
	between := c.n.Int("interleaved", 0) != 0
	a, b := part(0, turned/2, 1), part(turned/2, turned, 1)
	if between {
		a, b = part(0, turned, 2), part(1, turned, 2)
	}
	re, im := c.sub(c.mul(cos, a), c.mul(sin, b)), c.add(c.mul(sin, a), c.mul(cos, b))
	var y *ir.Value
	if between {
		y = c.joined([]*ir.Value{c.op("Unsqueeze", re, c.Int64s(4)), c.op("Unsqueeze", im, c.Int64s(4))}, 4)
		y = c.reshape(y, c.free(x), c.along(x, 1), c.along(x, 2), turned)
	} else {
		y = c.joined([]*ir.Value{re, im}, 3)
	}
	if turned < size {
		y = c.joined([]*ir.Value{y, part(turned, size, 1)}, 3)
	}
	if flat {
		y = c.reshape(y, c.free(x), c.along(x, 1), c.along(x, 2)*size)
	}
	return y
}
