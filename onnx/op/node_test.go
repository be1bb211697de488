package op_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// nodeCase is one node. Inputs are types as text ("float[N,3,?]"), []int64 and []float32 vectors, int scalars as int, or nil for
// an absent one. want has one type per output; a single string that begins with "error " asks for an error that contains the rest.
type nodeCase struct {
	op    string
	in    []any
	attrs []ir.Attr
	want  []string
}

func parseType(t testing.TB, s string) ir.Type {
	t.Helper()
	name, dims, ranked := strings.Cut(s, "[")
	elem, ok := ir.ParseDType(name)
	if !ok {
		t.Fatalf("no element type in %q", s)
	}
	if !ranked {
		return ir.TensorType(elem, ir.StaticShape())
	}
	dims = strings.TrimSuffix(dims, "]")
	if dims == "..." {
		return ir.TensorType(elem, nil)
	}
	shape := ir.Shape{}
	for _, d := range strings.Split(dims, ",") {
		n, err := strconv.ParseInt(d, 10, 64)
		switch {
		case err == nil:
			shape = append(shape, ir.D(n))
		case d == "?":
			shape = append(shape, ir.UnknownDim())
		default:
			shape = append(shape, ir.Sym(d))
		}
	}
	return ir.TensorType(elem, shape)
}

func constant(t testing.TB, x any) *ir.Tensor {
	t.Helper()
	var out *ir.Tensor
	var err error
	switch x := x.(type) {
	case *ir.Tensor:
		return x
	case []int64:
		out = ir.VectorInt64(x...)
	case int:
		out = ir.ScalarInt64(int64(x))
	case float32:
		out = ir.ScalarFloat32(x)
	case []float32:
		out, err = ir.FromFloat32s(x, int64(len(x)))
	default:
		t.Fatalf("no constant from %T", x)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// makeNode builds a graph of one node with nout outputs.
func makeNode(t testing.TB, c nodeCase, nout int) *ir.Node {
	t.Helper()
	g := ir.NewGraph("g")
	spec := ir.NodeSpec{Attrs: c.attrs}
	spec.Domain, spec.Op = "", c.op
	if i := strings.LastIndex(c.op, ":"); i >= 0 {
		spec.Domain, spec.Op = c.op[:i], c.op[i+1:]
	}
	for i, x := range c.in {
		var v *ir.Value
		var err error
		switch x := x.(type) {
		case nil:
		case string:
			v, err = g.AddInput(fmt.Sprintf("x%d", i), parseType(t, x))
		default:
			v, err = g.AddInitializer(fmt.Sprintf("c%d", i), constant(t, x))
		}
		if err != nil {
			t.Fatal(err)
		}
		spec.Inputs = append(spec.Inputs, v)
	}
	for i := 0; i < nout; i++ {
		spec.Outputs = append(spec.Outputs, fmt.Sprintf("y%d", i))
	}
	n, err := g.Append(spec)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func runCases(t *testing.T, cases []nodeCase) {
	t.Helper()
	for i, c := range cases {
		t.Run(fmt.Sprintf("%d_%s", i, c.op), func(t *testing.T) {
			n := makeNode(t, c, len(c.want))
			err := op.InferNode(n)
			if text, ok := strings.CutPrefix(c.want[0], "error "); ok {
				if err == nil {
					t.Fatalf("%s of %v is %v, want an error", c.op, c.in, n.Output(0).Type)
				}
				if !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), n.Op) {
					t.Fatalf("error %q names not %q and %q", err, n.Op, text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for k, w := range c.want {
				if got := n.Output(k).Type.String(); got != w {
					t.Errorf("output %d of %s(%v) is %s, want %s", k, c.op, c.in, got, w)
				}
			}
		})
	}
}

var (
	aInt   = ir.AInt
	aInts  = ir.AInts
	aStr   = ir.AString
	aFloat = ir.AFloat
)

func attrs(a ...ir.Attr) []ir.Attr { return a }
