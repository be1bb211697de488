package grad

import (
	"strings"
	"testing"

	"mqatc/onnx/ir"
)

// TestLimits: what cannot be unrolled or expanded is an error that says what and why.
func TestLimits(t *testing.T) {
	hidden := ir.AInt("hidden_size", 2)
	for _, c := range []struct {
		name  string
		op    string
		in    [][]int64 // -1 is a size that is not known
		attrs []ir.Attr
		want  []string
	}{
		{"steps that are not known", "LSTM", [][]int64{{-1, 2, 3}, {1, 8, 3}, {1, 8, 2}}, []ir.Attr{hidden}, []string{"LSTM", "static size", "axis 0"}},
		{"too many steps", "RNN", [][]int64{{longest + 1, 2, 3}, {1, 2, 3}, {1, 2, 2}}, []ir.Attr{hidden}, []string{"1025 steps", "1024"}},
		{"activations", "GRU", [][]int64{{4, 2, 3}, {1, 6, 3}, {1, 6, 2}}, []ir.Attr{hidden, {Name: "activations", Kind: ir.AttrStrings, Strings: [][]byte{[]byte("Tanh")}}},
			[]string{"1 activations for 1 directions of 2"}},
		{"an activation", "RNN", [][]int64{{4, 2, 3}, {1, 2, 3}, {1, 2, 2}}, []ir.Attr{hidden, {Name: "activations", Kind: ir.AttrStrings, Strings: [][]byte{[]byte("Wave")}}},
			[]string{`activation "Wave"`}},
		{"large determinants", "Det", [][]int64{{5, 5}}, nil, []string{"size 5", "1 to 4"}},
		{"deformed lines", "DeformConv", [][]int64{{1, 2, 5}, {3, 2, 2}, {1, 2, 4}}, nil, []string{"DeformConv", "images"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(t)
			n.m.IRVersion = 10
			n.m.SetOpset("", 19)
			var in []*ir.Value
			for i, dims := range c.in {
				s := ir.Shape{}
				for _, d := range dims {
					if d < 0 {
						s = append(s, ir.Sym("T"))
					} else {
						s = append(s, ir.D(d))
					}
				}
				v, err := n.m.Graph.AddInput("x"+string(rune('0'+i)), ir.TensorType(ir.Float32, s))
				if err != nil {
					t.Fatal(err)
				}
				in = append(in, v)
			}
			y := n.b.Node(ir.NodeSpec{Op: c.op, Inputs: in, Attrs: c.attrs}, 1)[0]
			if err := n.b.Err(); err != nil {
				t.Fatal(err)
			}
			before := n.m.Graph.NumNodes()
			_, err := Gradients(n.m.Graph, []Seed{{y, y}}, in, Options{})
			if err == nil {
				t.Fatalf("no error, %d nodes made", n.m.Graph.NumNodes()-before)
			}
			for _, p := range c.want {
				if !strings.Contains(err.Error(), p) {
					t.Errorf("error %q lacks %q", err, p)
				}
			}
		})
	}
}
