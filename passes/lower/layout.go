package lower

import (
	"mqatc/onnx/ir"
)

// dims4 are the static sizes of a float value of rank 4.
func dims4(v *ir.Value) ([]int64, bool) {
	if v == nil || v.DType() != ir.Float32 {
		return nil, false
	}
	d, ok := v.StaticDims()
	return d, ok && len(d) == 4 && product(d) > 0
}

// toBlocked is the blocked form of v, channels filled up with zeros.
func (l *lowerer) toBlocked(v *ir.Value) *ir.Value {
	if b := l.blocked[v]; b != nil {
		return b
	}
	d, _ := v.StaticDims()
	x := v
	if !l.whole(d[1]) {
		x = l.padChannels(v, 1, l.up(d[1]))
	}
	b := l.nchwc("ReorderInput", []int64{d[0], l.up(d[1]), d[2], d[3]}, []*ir.Value{x})
	l.blocked[v] = b
	return b
}

// plain is the plain form, of the sizes of like, of a blocked value.
func (l *lowerer) plain(b, like *ir.Value) *ir.Value {
	d, _ := like.StaticDims()
	return l.nchwc("ReorderOutput", d, []*ir.Value{b}, ir.AInt("channels", d[1]))
}

// padChannels adds zeros at the end of an axis up to size n.
func (l *lowerer) padChannels(v *ir.Value, axis int, n int64) *ir.Value {
	d, _ := v.StaticDims()
	if d[axis] == n {
		return v
	}
	pads := make([]int64, 2*len(d))
	pads[len(d)+axis] = n - d[axis]
	return l.op("Pad", v, l.b.Int64s(pads...), l.b.Float(0))
}

// rows is v as [N, H*W, C].
func (l *lowerer) rows(v *ir.Value) *ir.Value {
	return l.once("rows "+v.Name(), func() *ir.Value {
		d, _ := v.StaticDims()
		n, c, hw := d[0], d[1], d[2]*d[3]
		if l.blocked[v] == nil && c < l.block {
			return l.reshape(l.transpose(v, 0, 2, 3, 1), n, hw, c)
		}
		x := l.nchwc("ReorderOutput", []int64{n, d[2], d[3], c}, []*ir.Value{l.toBlocked(v)}, ir.AInt("channels", c), ir.AInt("channels_last", 1))
		return l.reshape(x, n, hw, c)
	})
}

// matrix is rows as [N*H*W, C].
func (l *lowerer) matrix(v *ir.Value) *ir.Value {
	r := l.rows(v)
	d, _ := r.StaticDims()
	return l.reshape(r, d[0]*d[1], d[2])
}

// planes is v as [C, N*H*W].
func (l *lowerer) planes(v *ir.Value) *ir.Value {
	return l.once("planes "+v.Name(), func() *ir.Value {
		d, _ := v.StaticDims()
		x := v
		if b := l.blocked[v]; b != nil && l.gone[v] {
			x = l.plain(b, v)
		}
		x = l.reshape(x, d[0], d[1], d[2]*d[3])
		if d[0] > 1 {
			x = l.transpose(x, 1, 0, 2)
		}
		return l.reshape(x, d[1], d[0]*d[2]*d[3])
	})
}

func (l *lowerer) ones(dims ...int64) *ir.Value {
	x := make([]float32, product(dims))
	for i := range x {
		x[i] = 1
	}
	return l.b.Floats(x, dims...)
}

func (l *lowerer) zeros(dims ...int64) *ir.Value {
	return l.b.Floats(make([]float32, product(dims)), dims...)
}

// indices is a constant of int32, one for each key.
func (l *lowerer) indices(key string, make func() []int32, dims ...int64) *ir.Value {
	return l.once(key, func() *ir.Value {
		t, err := ir.FromInt32s(make(), dims...)
		if err != nil {
			return l.b.Fail(err)
		}
		return l.b.Const(t)
	})
}
