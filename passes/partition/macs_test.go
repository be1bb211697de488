package partition_test

import (
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/partition"
)

// TestMACs counts by hand what operators beside plain convolutions and products cost an image or a sequence.
func TestMACs(t *testing.T) {
	for _, c := range []struct {
		op    string
		in    [][]int64
		attrs []ir.Attr
		want  int64
		known bool
	}{
		{"LSTM", [][]int64{{7, 2, 3}, {2, 16, 3}, {2, 16, 4}}, []ir.Attr{ir.AInt("hidden_size", 4), ir.AString("direction", "bidirectional")}, 7 * 2 * 16 * (3 + 4), true},
		{"GRU", [][]int64{{2, 7, 3}, {1, 12, 3}, {1, 12, 4}}, []ir.Attr{ir.AInt("hidden_size", 4), ir.AInt("layout", 1)}, 7 * 12 * (3 + 4), true},
		{"RNN", [][]int64{{-1, 2, 3}, {1, 4, 3}, {1, 4, 4}}, []ir.Attr{ir.AInt("hidden_size", 4)}, 0, false},
		{"DeformConv", [][]int64{{2, 4, 5, 5}, {6, 4, 2, 2}, {2, 8, 4, 4}}, nil, 6 * 4 * 4 * 4 * 2 * 2, true},
		{"Relu", [][]int64{{2, 4, 5, 5}}, nil, 0, true},
	} {
		m := ir.NewModel("m", 19)
		var in []*ir.Value
		for i, dims := range c.in {
			s := ir.StaticShape(dims...)
			if dims[0] < 0 {
				s[0] = ir.Sym("T")
			}
			v, err := m.Graph.AddInput(string(rune('a'+i)), ir.TensorType(ir.Float32, s))
			if err != nil {
				t.Fatal(err)
			}
			in = append(in, v)
		}
		b := ir.NewBuilder(m.Graph, "", op.InferNode)
		y := b.Op(c.op, in, c.attrs...)
		if err := b.Err(); err != nil {
			t.Fatal(err)
		}
		if got, ok := partition.MACs(y.Producer()); ok != c.known || ok && got != c.want {
			t.Errorf("%s: %d, %v; want %d, %v", c.op, got, ok, c.want, c.known)
		}
	}
}
