package op_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// source hands out choices from fuzzer bytes, zeros when they run out.
type source struct{ data []byte }

func (s *source) byte() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

func (s *source) n(n int) int { return int(s.byte()) % n }

var nasty = []int64{0, 1, 2, 3, 4, 7, 8, 64, -1, -2, -3, 1 << 20, 1 << 31, 1 << 40, 1<<62 + 5, 1<<63 - 1, -1 << 63, -1 << 40, 5, 16}

func (s *source) int() int64 { return nasty[s.n(len(nasty))] }

func (s *source) small() int64 { return nasty[s.n(8)] }

func (s *source) ints(k int) []int64 {
	out := make([]int64, s.n(k))
	for i := range out {
		out[i] = s.int()
	}
	return out
}

func (s *source) typ() ir.Type {
	elems := []ir.DType{ir.Float32, ir.Float32, ir.Int64, ir.Int64, ir.Bool, ir.Uint8, ir.Int8, ir.Float16, ir.Int4, ir.String}
	if s.n(16) == 0 {
		return ir.Type{}
	}
	elem := elems[s.n(len(elems))]
	if s.n(12) == 0 {
		return ir.TensorType(elem, nil)
	}
	shape := ir.Shape{}
	for i := s.n(6); i > 0; i-- {
		switch s.n(8) {
		case 0:
			shape = append(shape, ir.UnknownDim())
		case 1:
			shape = append(shape, ir.Sym([]string{"N", "2*H - 3", "((", "H + 9223372036854775807", "*", " - 1"}[s.n(6)]))
		case 2:
			shape = append(shape, ir.D(max(s.int(), 0)))
		default:
			shape = append(shape, ir.D(s.small()))
		}
	}
	return ir.TensorType(elem, shape)
}

func (s *source) tensor() *ir.Tensor {
	v := s.ints(6)
	if s.n(3) == 0 {
		f := make([]float32, len(v))
		for i, x := range v {
			f[i] = float32(x) / 2
		}
		t, _ := ir.FromFloat32s(f, int64(len(f)))
		return t
	}
	if len(v) == 1 && s.n(2) == 0 {
		return ir.ScalarInt64(v[0])
	}
	return ir.VectorInt64(v...)
}

func (s *source) attr(spec op.AttrSpec, g *ir.Graph) ir.Attr {
	kind := spec.Kind
	if s.n(40) == 0 {
		kind = ir.AttrKind(s.n(14))
	}
	switch kind {
	case ir.AttrInt:
		return ir.AInt(spec.Name, s.int())
	case ir.AttrInts:
		return ir.AInts(spec.Name, s.ints(7)...)
	case ir.AttrFloat:
		return ir.AFloat(spec.Name, float32(s.int()))
	case ir.AttrFloats:
		return ir.AFloats(spec.Name, float32(s.int()), 2)
	case ir.AttrString:
		return ir.AString(spec.Name, []string{"", "SAME_UPPER", "VALID", "ij,jk->ik", "...i,i", "not_larger", "bidirectional", "ab->"}[s.n(8)])
	case ir.AttrTensor:
		return ir.ATensor(spec.Name, s.tensor())
	case ir.AttrGraph:
		sub := ir.NewSubgraph("sub", g)
		for i := s.n(4); i > 0; i-- {
			if _, err := sub.AddInput(fmt.Sprintf("b%d", i), s.typ()); err != nil {
				return ir.Attr{Name: spec.Name, Kind: kind}
			}
		}
		_ = sub.SetOutputs(sub.Inputs()...)
		return ir.AGraph(spec.Name, sub)
	}
	return ir.Attr{Name: spec.Name, Kind: kind}
}

// inferRandom builds a graph of nodes that the bytes choose, each inferred as it is made, and infers the whole. Nothing may panic,
// and no inferred size may be negative or overflow.
func inferRandom(t *testing.T, data []byte) (nodes, accepted int) {
	s := &source{data}
	rows := op.All()
	m := ir.NewModel("m", int64(7+s.n(22)))
	g := m.Graph
	var values []*ir.Value
	for i := 0; i < 4; i++ {
		v, err := g.AddInput(fmt.Sprintf("x%d", i), s.typ())
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	for i := 0; i < 3; i++ {
		v, err := g.AddInitializer(fmt.Sprintf("c%d", i), s.tensor())
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	for len(s.data) > 0 && nodes < 24 {
		row := rows[(int(s.byte())<<8|int(s.byte()))%len(rows)]
		spec := ir.NodeSpec{Op: row.Name, Domain: row.Domain}
		for i := row.MinIn + s.n(min(row.MaxIn-row.MinIn, 3)+1); i > 0; i-- {
			if s.n(20) == 0 {
				spec.Inputs = append(spec.Inputs, nil)
				continue
			}
			spec.Inputs = append(spec.Inputs, values[len(values)-1-s.n(len(values))])
		}
		for i := row.MinOut + s.n(min(row.MaxOut-row.MinOut, 3)+1); i > 0; i-- {
			spec.Outputs = append(spec.Outputs, fmt.Sprintf("n%d_%d", nodes, i))
		}
		for _, a := range row.Attrs {
			if a.Required || s.n(3) == 0 {
				spec.Attrs = append(spec.Attrs, s.attr(a, g))
			}
		}
		nodes++
		n, err := g.Append(spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := op.InferNode(n); err != nil {
			if err := g.Remove(n); err != nil {
				t.Fatal(err)
			}
			continue
		}
		accepted++
		for _, o := range n.Outputs() {
			dims := make([]int64, 0, len(o.Shape()))
			for _, d := range o.Shape() {
				if d.Symbol == "" && d.Size < -1 {
					t.Fatalf("%v: %s is %v", n, o.Name(), o.Type)
				}
				if d.Known() {
					dims = append(dims, d.Size)
				}
			}
			if len(dims) == len(o.Shape()) {
				if _, err := ir.NumElements(dims); err != nil {
					t.Fatalf("%v: %s is %v", n, o.Name(), o.Type)
				}
			}
			op.ConstFloats(o)
			values = append(values, o)
		}
	}
	_ = op.InferModel(m, map[string][]int64{"x0": s.ints(5)})
	_ = op.InferModel(m, nil)
	return nodes, accepted
}

func TestRandomNodesNeverPanic(t *testing.T) {
	var all, ok int
	r := rand.New(rand.NewPCG(3, 4))
	for i := 0; i < 3000; i++ {
		data := make([]byte, 40+r.IntN(600))
		for k := 0; k+8 <= len(data); k += 8 {
			binary.LittleEndian.PutUint64(data[k:], r.Uint64())
		}
		n, a := inferRandom(t, data)
		all, ok = all+n, ok+a
	}
	if ok < all/20 {
		t.Errorf("only %d of %d nodes were accepted: the generator tests nothing", ok, all)
	}
	t.Logf("%d of %d nodes accepted", ok, all)
}

func FuzzInfer(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := 0; i < 8; i++ {
		data := make([]byte, 300)
		for k := range data {
			data[k] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { inferRandom(t, data) })
}
