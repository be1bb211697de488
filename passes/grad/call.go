package grad

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/x448/float16"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// call is what a rule sees: the node, the cotangents of its outputs (nil where there is none) and a builder.
type call struct {
	*ir.Builder
	n      *ir.Node
	cots   []*ir.Value
	dt     ir.DType // element type of the cotangents
	memo   map[string]*ir.Value
	shared *shared
	active map[*ir.Value]bool
	cotIn  map[*ir.Value]*ir.Value // cotangents of the inputs of a decomposed operator, and of what its subgraphs read
	inside []*ir.Value             // active values that the node's subgraphs read
	later  bool                    // Options.Opaque
	frugal bool                    // Options.Frugal
}

// shared is what the rules of all nodes of a graph know of each other.
type shared struct {
	tables map[string]*ir.Value   // large constants that only depend on a geometry, by that geometry
	pooled map[*ir.Value]unpooled // by cotangents of what MaxPool read
}

func newShared() *shared {
	return &shared{map[string]*ir.Value{}, map[*ir.Value]unpooled{}}
}

func (c *call) in(i int) *ir.Value  { return c.n.Input(i) }
func (c *call) out(i int) *ir.Value { return c.n.Output(i) }

// dy is the cotangent of the first output.
func (c *call) dy() *ir.Value { return c.cots[0] }

func (c *call) fail(format string, a ...any) *ir.Value { return c.Fail(fmt.Errorf(format, a...)) }

// once makes a value at the first call with key and returns it at the later ones, for parts that several inputs' rules share.
func (c *call) once(key string, f func() *ir.Value) *ir.Value {
	if v := c.memo[key]; v != nil {
		return v
	}
	v := f()
	c.memo[key] = v
	return v
}

func (c *call) op(op string, in ...*ir.Value) *ir.Value { return c.Op(op, in) }
func (c *call) add(a, b *ir.Value) *ir.Value            { return c.op("Add", a, b) }
func (c *call) sub(a, b *ir.Value) *ir.Value            { return c.op("Sub", a, b) }
func (c *call) mul(a, b *ir.Value) *ir.Value            { return c.op("Mul", a, b) }
func (c *call) div(a, b *ir.Value) *ir.Value            { return c.op("Div", a, b) }
func (c *call) neg(a *ir.Value) *ir.Value               { return c.op("Neg", a) }
func (c *call) square(a *ir.Value) *ir.Value            { return c.op("Mul", a, a) }

// scale multiplies by a number.
func (c *call) scale(a *ir.Value, f float64) *ir.Value {
	if f == 1 {
		return a
	}
	return c.mul(a, c.num(f))
}

// num is a scalar of the cotangents' element type.
func (c *call) num(v float64) *ir.Value { return c.filled(v) }

// filled is a constant of shape dims with every element v.
func (c *call) filled(v float64, dims ...int64) *ir.Value {
	t, err := fill(c.dt, v, dims)
	if err != nil {
		return c.Fail(err)
	}
	return c.Const(t)
}

// floats is a constant of the cotangents' element type.
func (c *call) floats(v []float64, dims ...int64) *ir.Value {
	t, err := floatTensor(c.dt, v, dims)
	if err != nil {
		return c.Fail(err)
	}
	return c.Const(t)
}

func fill(d ir.DType, v float64, dims []int64) (*ir.Tensor, error) {
	n, err := ir.NumElements(dims)
	if err != nil {
		return nil, err
	}
	x := make([]float64, n)
	for i := range x {
		x[i] = v
	}
	return floatTensor(d, x, dims)
}

func floatTensor(d ir.DType, v []float64, dims []int64) (*ir.Tensor, error) {
	switch d {
	case ir.Float64:
		return ir.FromFloat64s(v, dims...)
	case ir.Float32:
		x := make([]float32, len(v))
		for i := range v {
			x[i] = float32(v[i])
		}
		return ir.FromFloat32s(x, dims...)
	case ir.Float16, ir.BFloat16:
		raw := make([]byte, 2*len(v))
		for i, x := range v {
			bits := uint16(float16.Fromfloat32(float32(x)))
			if d == ir.BFloat16 {
				u := math.Float32bits(float32(x))
				bits = uint16((u + 0x7fff + u>>16&1) >> 16)
			}
			binary.LittleEndian.PutUint16(raw[2*i:], bits)
		}
		return ir.NewTensor(d, dims, raw)
	}
	return nil, fmt.Errorf("no floating-point constant of type %v", d)
}

// step is 1 where x > 0 and 0 elsewhere. For float it is HardSigmoid with a huge slope, several times faster in onnxruntime than
// a comparison and a Cast; its rule knows it for a step.
func (c *call) step(x *ir.Value) *ir.Value {
	if x.DType() == ir.Float32 {
		return c.Op("HardSigmoid", []*ir.Value{x}, ir.AFloat("alpha", stepSlope), ir.AFloat("beta", 0))
	}
	return c.mask(c.op("Greater", x, c.num(0)))
}

// half is 1 where x > 0, 1/2 at 0 and 0 below.
func (c *call) half(x *ir.Value) *ir.Value {
	if x.DType() == ir.Float32 {
		return c.Op("HardSigmoid", []*ir.Value{x}, ir.AFloat("alpha", stepSlope), ir.AFloat("beta", 0.5))
	}
	return c.add(c.scale(c.op("Sign", x), 0.5), c.num(0.5))
}

// mask turns a bool value into 0 and 1.
func (c *call) mask(b *ir.Value) *ir.Value {
	return c.Op("Cast", []*ir.Value{b}, ir.AInt("to", int64(c.dt)))
}

// stepSlope is the slope from which on a HardSigmoid counts as a step function.
const stepSlope = 1e30

func (c *call) transpose(x *ir.Value, perm ...int64) *ir.Value {
	id := true
	for i, p := range perm {
		id = id && p == int64(i)
	}
	if id {
		return x
	}
	return c.Op("Transpose", []*ir.Value{x}, ir.AInts("perm", perm...))
}

// reshape gives x the sizes dims; nothing is emitted where it has them.
func (c *call) reshape(x *ir.Value, dims ...int64) *ir.Value {
	if have, ok := x.StaticDims(); ok && equal(have, dims) {
		return x
	}
	return c.Op("Reshape", []*ir.Value{x, c.Int64s(dims...)}, allowZero(dims)...)
}

func allowZero(dims []int64) []ir.Attr {
	for _, d := range dims {
		if d == 0 {
			return []ir.Attr{ir.AInt("allowzero", 1)}
		}
	}
	return nil
}

// like reshapes x to the shape of v.
func (c *call) like(x, v *ir.Value) *ir.Value {
	if dims, ok := v.StaticDims(); ok {
		return c.reshape(x, dims...)
	}
	return c.op("Reshape", x, c.op("Shape", v))
}

// shapeOf is the shape of v as an int64 value.
func (c *call) shapeOf(v *ir.Value) *ir.Value {
	if dims, ok := v.StaticDims(); ok {
		return c.Int64s(dims...)
	}
	return c.op("Shape", v)
}

// expand broadcasts x to the shape of v.
func (c *call) expand(x, v *ir.Value) *ir.Value {
	if a, ok := x.StaticDims(); ok {
		if b, ok := v.StaticDims(); ok && equal(a, b) {
			return x
		}
	}
	return c.op("Expand", x, c.shapeOf(v))
}

// zeros is a zero tensor of the shape of v.
func (c *call) zeros(v *ir.Value) *ir.Value { return c.expand(c.num(0), v) }

// sum reduces over axes; no axes leave x as it is.
func (c *call) sum(x *ir.Value, keep bool, axes ...int64) *ir.Value {
	if len(axes) == 0 {
		return x
	}
	k := int64(0)
	if keep {
		k = 1
	}
	return c.Op("ReduceSum", []*ir.Value{x, c.Int64s(axes...)}, ir.AInt("keepdims", k))
}

func (c *call) slice(x *ir.Value, starts, ends, axes, steps []int64) *ir.Value {
	return c.op("Slice", x, c.Int64s(starts...), c.Int64s(ends...), c.Int64s(axes...), c.Int64s(steps...))
}

// pad adds zeros before and after each dimension.
func (c *call) pad(x *ir.Value, lo, hi []int64) *ir.Value {
	if allZero(lo) && allZero(hi) {
		return x
	}
	return c.op("Pad", x, c.Int64s(append(append([]int64{}, lo...), hi...)...), c.num(0))
}

// dims are the static sizes of v; an error without.
func (c *call) dims(v *ir.Value) []int64 {
	d, ok := v.StaticDims()
	if !ok && c.Err() == nil {
		c.fail("needs the static shape of %q, which has %v", v.Name(), v.Shape())
	}
	return d
}

// rank is the number of dimensions of v; an error where it is not known.
func (c *call) rank(v *ir.Value) int {
	if v.Shape() == nil && c.Err() == nil {
		c.fail("needs the rank of %q", v.Name())
	}
	return len(v.Shape())
}

// axis counts a negative axis from the end; an error where it is out of range.
func (c *call) axis(a int64, rank int) int64 {
	if a < 0 {
		a += int64(rank)
	}
	if (a < 0 || a >= int64(rank)) && c.Err() == nil {
		c.fail("axis %d is out of range for rank %d", a, rank)
	}
	return a
}

// constInts are the elements of a constant integer input, or of one that follows from known shapes; ok is false when it is
// absent or known only when the graph runs.
func constInts(v *ir.Value) ([]int64, bool) {
	if v == nil {
		return nil, false
	}
	if t := constTensor(v); t != nil {
		x, err := t.Ints()
		return x, err == nil
	}
	return op.ConstInts(v)
}

// constFloats is constInts for numbers of any type.
func constFloats(v *ir.Value) ([]float64, bool) {
	if v == nil {
		return nil, false
	}
	if t := constTensor(v); t != nil {
		x, err := t.Floats()
		return x, err == nil
	}
	return op.ConstFloats(v)
}

// constTensor is the tensor of an initializer that no caller can override, or of a Constant node.
func constTensor(v *ir.Value) *ir.Tensor {
	if v == nil {
		return nil
	}
	if v.Init() != nil && !v.IsInput() {
		return v.Init()
	}
	if n := v.Producer(); n != nil && n.Is("Constant") {
		if a := n.Attr("value"); a != nil {
			return a.T
		}
		if a := n.Attr("value_ints"); a != nil {
			return ir.VectorInt64(a.Ints...)
		}
		if a := n.Attr("value_int"); a != nil {
			return ir.ScalarInt64(a.I)
		}
		if a := n.Attr("value_float"); a != nil {
			return ir.ScalarFloat32(a.F)
		}
	}
	return nil
}

// unbroadcast sums ct over the dimensions along which v was repeated.
func (c *call) unbroadcast(ct, v *ir.Value) *ir.Value {
	if c.Err() != nil {
		return ct
	}
	to, from := v.Shape(), ct.Shape()
	if to == nil || from == nil {
		return c.fail("needs the ranks of %q %v and its cotangent %v", v.Name(), v.Type, ct.Type)
	}
	lead := len(from) - len(to)
	if lead < 0 {
		return c.fail("cotangent of %v is of lower rank than %q %v", ct.Type, v.Name(), v.Type)
	}
	var axes []int64
	sure := true
	for i := range from {
		switch {
		case i < lead:
			axes = append(axes, int64(i))
		case to[i-lead].Known() && to[i-lead].Size == 1:
			if !from[i].Known() || from[i].Size != 1 {
				axes = append(axes, int64(i))
			}
		case to[i-lead].Known() || (to[i-lead].Symbol != "" && to[i-lead].Symbol == from[i].Symbol):
		default:
			sure = false
		}
	}
	if sure {
		if len(axes) == 0 {
			return c.grow(ct, v)
		}
		return c.grow(c.like(c.sum(ct, len(axes) > lead, axes...), v), v)
	}
	return c.unbroadcastLate(ct, v, lead)
}

// grow repeats ct where it is smaller than v, which happens when a rule returns a cotangent of size 1 along a dimension.
func (c *call) grow(ct, v *ir.Value) *ir.Value {
	a, okA := ct.StaticDims()
	b, okB := v.StaticDims()
	if okA && okB && !equal(a, b) {
		return c.expand(ct, v)
	}
	return ct
}

// unbroadcastLate finds the repeated dimensions when the graph runs.
func (c *call) unbroadcastLate(ct, v *ir.Value, lead int) *ir.Value {
	want := c.op("Shape", v)
	if lead > 0 {
		ones := make([]int64, lead)
		for i := range ones {
			ones[i] = 1
		}
		want = c.Op("Concat", []*ir.Value{c.Int64s(ones...), want}, ir.AInt("axis", 0))
	}
	differ := c.op("Not", c.op("Equal", want, c.op("Shape", ct)))
	axes := c.op("Squeeze", c.op("NonZero", differ), c.Int64s(0))
	s := c.Op("ReduceSum", []*ir.Value{ct, axes}, ir.AInt("keepdims", 1), ir.AInt("noop_with_empty_axes", 1))
	r := c.op("Reshape", s, c.op("Shape", v))
	if r.Shape() == nil && c.Err() == nil {
		r.Type = ir.TensorType(ct.DType(), v.Shape().Clone())
	}
	return r
}

func equal(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func allZero(v []int64) bool {
	for _, x := range v {
		if x != 0 {
			return false
		}
	}
	return true
}

func product(v []int64) int64 {
	p := int64(1)
	for _, x := range v {
		p *= x
	}
	return p
}

// seq lists from, from+1, ..., to-1.
func seq(from, to int) []int64 {
	var out []int64
	for i := from; i < to; i++ {
		out = append(out, int64(i))
	}
	return out
}

// repeat lists v n times.
func repeat(v int64, n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = v
	}
	return out
}
