package op_test

import (
	"slices"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

func TestUniqueIsEvaluated(t *testing.T) {
	const big = 1 << 53
	for _, c := range []struct {
		x     []int64
		dims  []int64
		attrs []ir.Attr
		want  [4][]int64
		typ   string
	}{
		{[]int64{2, 1, 1, 3, 4, 3}, []int64{6}, nil, [4][]int64{{1, 2, 3, 4}, {1, 0, 3, 4}, {1, 0, 0, 2, 3, 2}, {2, 1, 2, 1}}, "int64[4]"},
		{[]int64{2, 1, 1, 3, 4, 3}, []int64{6}, attrs(aInt("sorted", 0)), [4][]int64{{2, 1, 3, 4}, {0, 1, 3, 4}, {0, 1, 1, 2, 3, 2}, {1, 2, 2, 1}}, "int64[4]"},
		{[]int64{2, 1, 1, 2}, []int64{2, 2}, nil, [4][]int64{{1, 2}, {1, 0}, {1, 0, 0, 1}, {2, 2}}, "int64[2]"},
		{[]int64{1, 0, 0, 1, 0, 0, 2, 3, 4}, []int64{3, 3}, attrs(aInt("axis", 0)), [4][]int64{{1, 0, 0, 2, 3, 4}, {0, 2}, {0, 0, 1}, {2, 1}}, "int64[2,3]"},
		{[]int64{5, 1, 5, 6, 2, 6}, []int64{2, 3}, attrs(aInt("axis", -1)), [4][]int64{{1, 5, 2, 6}, {1, 0}, {1, 0, 1}, {1, 2}}, "int64[2,2]"},
		{[]int64{big, big + 1}, []int64{2}, nil, [4][]int64{{big, big + 1}, {0, 1}, {0, 1}, {1, 1}}, "int64[2]"},
	} {
		x, err := ir.FromInt64s(c.x, c.dims...)
		if err != nil {
			t.Fatal(err)
		}
		_, b, _ := graphOf(t)
		out := b.Node(ir.NodeSpec{Op: "Unique", Inputs: vals(b.Const(x)), Attrs: c.attrs}, 4)
		if b.Err() != nil {
			t.Fatal(b.Err())
		}
		if out[0].Type.String() != c.typ {
			t.Errorf("of %v %v: %v, want %s", c.dims, c.x, out[0].Type, c.typ)
		}
		for i, o := range out {
			if got, ok := op.ConstInts(o); !ok || !slices.Equal(got, c.want[i]) {
				t.Errorf("output %d of %v %v is %v, want %v", i, c.dims, c.x, got, c.want[i])
			}
		}
	}
}
