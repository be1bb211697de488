package grad

import (
	"fmt"

	"mqatc/onnx/ir"
)

// padSource is the element of a dimension that padding copies to position p.
func padSource(mode string, p, dim int64) (int64, error) {
	if dim < 1 {
		return 0, fmt.Errorf("mode %s on an empty dimension", mode)
	}
	switch mode {
	case "edge":
		return min(max(p, 0), dim-1), nil
	case "wrap":
		return (p%dim + dim) % dim, nil
	case "reflect":
		if dim == 1 {
			return 0, nil
		}
		period := 2 * (dim - 1)
		p = (p%period + period) % period
		return min(p, period-p), nil
	}
	return 0, fmt.Errorf("mode %q", mode)
}

// gatherBack is the transpose of a Gather of single elements along an axis of size dim with constant indices idx: g has len(idx)
// along the axis. Every source element gathers its copies and adds them, so the result does not depend on the order in which a
// runtime scatters, and can be differentiated as a Gather. Where one element is copied far more often than the others it is a
// ScatterElements instead.
func (c *call) gatherBack(g *ir.Value, idx []int64, axis, dim int64) *ir.Value {
	if c.Err() != nil {
		return g
	}
	d := c.dims(g)
	if c.Err() != nil {
		return g
	}
	places := make([][]int64, dim)
	most := 0
	for p, q := range idx {
		if q < 0 || q >= dim {
			return c.fail("index %d is out of range for size %d", q, dim)
		}
		places[q] = append(places[q], int64(p))
		most = max(most, len(places[q]))
	}
	if most == 0 {
		out := append([]int64{}, d...)
		out[axis] = dim
		return c.filled(0, out...)
	}
	n := int64(len(idx))
	if n == 1 {
		lo, hi := repeat(0, len(d)), repeat(0, len(d))
		lo[axis], hi[axis] = idx[0], dim-1-idx[0]
		return c.pad(g, lo, hi)
	}
	if dim*int64(most) > 4*(dim+n) {
		return c.scatterAdd(g, c.Int64s(idx...), axis, dim)
	}
	table, holes := make([]int32, 0, dim*int64(most)), false
	for _, ps := range places {
		for k := 0; k < most; k++ {
			if k < len(ps) {
				table = append(table, int32(ps[k]))
				continue
			}
			table, holes = append(table, int32(n)), true
		}
	}
	if holes {
		z := append([]int64{}, d...)
		z[axis] = 1
		g = c.Op("Concat", []*ir.Value{g, c.expand0(z)}, ir.AInt("axis", axis))
	}
	dims := []int64{dim, int64(most)}
	if most == 1 {
		dims = dims[:1]
	}
	t, err := ir.FromInt32s(table, dims...)
	if err != nil {
		return c.Fail(err)
	}
	g = c.Op("Gather", []*ir.Value{g, c.Const(t)}, ir.AInt("axis", axis))
	if most == 1 {
		return g
	}
	return c.sum(g, false, axis+1)
}

// expand0 is zeros of shape dims.
func (c *call) expand0(dims []int64) *ir.Value {
	return c.op("Expand", c.num(0), c.Int64s(dims...))
}

// scatterAdd adds the slices of g along an axis to a tensor of zeros of size dim there, at run-time indices of rank 1.
func (c *call) scatterAdd(g, idx *ir.Value, axis, dim int64) *ir.Value {
	d := c.dims(g)
	if c.Err() != nil {
		return g
	}
	out := append([]int64{}, d...)
	out[axis] = dim
	line := repeat(1, len(d))
	line[axis] = d[axis]
	at := c.op("Expand", c.reshape(idx, line...), c.Int64s(d...))
	return c.accumulated("ScatterElements", c.expand0(out), at, g, ir.AInt("axis", axis))
}

func vjpGather(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	x, idx := c.in(0), c.in(1)
	axis := c.axis(c.n.Int("axis", 0), c.rank(x))
	xd, yd := c.dims(x), c.dims(c.out(0))
	if c.Err() != nil {
		return nil
	}
	r := len(yd) - len(xd) + 1 // rank of the indices
	n := product(yd[axis : int(axis)+r])
	flat := append(append(append([]int64{}, xd[:axis]...), n), xd[axis+1:]...)
	g := c.reshape(c.dy(), flat...)
	if at, ok := constInts(idx); ok {
		from := make([]int64, len(at))
		for k, a := range at {
			from[k] = a
			if a < 0 {
				from[k] += xd[axis]
			}
		}
		return c.gatherBack(g, from, axis, xd[axis])
	}
	return c.scatterAdd(g, c.reshape(c.int64(idx), n), axis, xd[axis])
}

func (c *call) int64(v *ir.Value) *ir.Value {
	if v.DType() == ir.Int64 {
		return v
	}
	return c.Op("Cast", []*ir.Value{v}, ir.AInt("to", int64(ir.Int64)))
}

func vjpGatherElements(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	return c.accumulated("ScatterElements", c.zeros(c.in(0)), c.in(1), c.dy(), ir.AInt("axis", c.n.Int("axis", 0)))
}

func vjpTopK(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	return c.accumulated("ScatterElements", c.zeros(c.in(0)), c.out(1), c.dy(), ir.AInt("axis", c.n.Int("axis", -1)))
}

// vjpOneHot gives the values off and on the sums of the cotangents where they stand.
func vjpOneHot(c *call, i int) *ir.Value {
	if i != 2 {
		return nil
	}
	at := c.n.Int("axis", -1)
	hot := c.Op("OneHot", []*ir.Value{c.in(0), c.in(1), c.floats([]float64{0, 1}, 2)}, ir.AInt("axis", at))
	on := c.reshape(c.sum(c.mul(c.dy(), hot), false, seq(0, c.rank(c.dy()))...), 1)
	off := c.sub(c.reshape(c.sum(c.dy(), false, seq(0, c.rank(c.dy()))...), 1), on)
	return c.Op("Concat", []*ir.Value{off, on}, ir.AInt("axis", 0))
}

// vjpReverseSequence: reversing again puts every element back.
func vjpReverseSequence(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	return c.Op("ReverseSequence", []*ir.Value{c.dy(), c.in(1)},
		ir.AInt("batch_axis", c.n.Int("batch_axis", 1)), ir.AInt("time_axis", c.n.Int("time_axis", 0)))
}

// vjpGatherND turns each index tuple into one index of the flattened leading dimensions.
func vjpGatherND(c *call, i int) *ir.Value {
	if i != 0 {
		return nil
	}
	xd, id := c.dims(c.in(0)), c.dims(c.in(1))
	b := int(c.n.Int("batch_dims", 0))
	if c.Err() != nil || len(id) == 0 {
		return c.fail("indices of shape %v", c.in(1).Shape())
	}
	q := int(id[len(id)-1])
	if b+q > len(xd) || b >= len(id) {
		return c.fail("index tuples of length %d with batch_dims %d for an input of shape %v", q, b, c.in(0).Shape())
	}
	tuples := product(id[:len(id)-1])
	lead, rest := product(xd[:b+q]), product(xd[b+q:])
	g := c.reshape(c.dy(), tuples, rest)
	if at, ok := constInts(c.in(1)); ok {
		return c.reshape(c.gatherBack(g, flatTuples(at, xd, id, b), 0, lead), xd...)
	}
	return c.reshape(c.scatterAdd(g, c.lateTuples(xd, id, b), 0, lead), xd...)
}

func flatTuples(at, xd, id []int64, b int) []int64 {
	q := int(id[len(id)-1])
	tuples, batches := product(id[:len(id)-1]), product(id[:b])
	out := make([]int64, tuples)
	for t := range out {
		f := int64(0)
		if batches > 0 {
			f = int64(t) / (tuples / batches)
		}
		for k := 0; k < q; k++ {
			a := at[t*q+k]
			if a < 0 {
				a += xd[b+k]
			}
			f = f*xd[b+k] + a
		}
		out[t] = f
	}
	return out
}

// lateTuples is flatTuples at run time.
func (c *call) lateTuples(xd, id []int64, b int) *ir.Value {
	q := id[len(id)-1]
	tuples, batches := product(id[:len(id)-1]), product(id[:b])
	strides, sizes := make([]int64, q), make([]int64, q)
	f := int64(1)
	for k := q - 1; k >= 0; k-- {
		strides[k], sizes[k] = f, xd[int64(b)+k]
		f *= sizes[k]
	}
	at := c.reshape(c.int64(c.in(1)), tuples, q)
	neg := c.op("Less", at, c.Const(ir.ScalarInt64(0)))
	at = c.op("Where", neg, c.add(at, c.Int64s(sizes...)), at)
	flat := c.sum(c.mul(at, c.Int64s(strides...)), false, 1)
	if b == 0 {
		return flat
	}
	base := make([]int64, tuples)
	for t := range base {
		base[t] = int64(t) / (tuples / batches) * f
	}
	return c.add(flat, c.Int64s(base...))
}

// compress gathers the elements, or the slices along an axis, that a condition chooses.
func compress(c *call) *ir.Value {
	x := c.in(0)
	axis := int64(0)
	if a := c.n.Attr("axis"); a != nil {
		axis = c.axis(a.I, c.rank(x))
	} else {
		x = c.reshape(x, -1)
	}
	var chosen *ir.Value
	if flags, ok := constInts(c.in(1)); ok {
		var at []int64
		for i, f := range flags {
			if f != 0 {
				at = append(at, int64(i))
			}
		}
		chosen = c.Int64s(at...)
	} else {
		chosen = c.op("Squeeze", c.op("NonZero", c.in(1)), c.Int64s(0))
	}
	return c.Op("Gather", []*ir.Value{x, chosen}, ir.AInt("axis", axis))
}
