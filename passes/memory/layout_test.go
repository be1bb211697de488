package memory

import (
	"math/rand/v2"
	"slices"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// chain builds x -> Exp -> ... with a state w that is read by the first and, where late, by the last node too, and updated in between.
func chain(t *testing.T, late bool) (*ir.Model, *ir.Builder) {
	t.Helper()
	m := ir.NewModel("chain", 17)
	typ := ir.TensorType(ir.Float32, ir.StaticShape(64, 1024))
	x, err := m.Graph.AddInput("x", typ)
	if err != nil {
		t.Fatal(err)
	}
	w, err := m.Graph.AddInput("w", typ.Clone())
	if err != nil {
		t.Fatal(err)
	}
	b := ir.NewBuilder(m.Graph, "test", op.InferNode)
	a := b.Op("Exp", []*ir.Value{b.Op("Mul", []*ir.Value{x, w})})
	next := b.Node(ir.NodeSpec{Op: "Sub", Inputs: []*ir.Value{w, a}, Outputs: []string{"w.new"}}, 1)[0]
	c := b.Op("MatMul", []*ir.Value{b.Op("Transpose", []*ir.Value{a}), a})
	if late {
		c = b.Op("MatMul", []*ir.Value{w, c})
	}
	y := b.Node(ir.NodeSpec{Op: "ReduceSum", Inputs: []*ir.Value{c}, Outputs: []string{"y"}}, 1)[0]
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.SetOutputs(y, next); err != nil {
		t.Fatal(err)
	}
	return m, b
}

func TestStatesAreOverwrittenOnlyWhenRead(t *testing.T) {
	for _, late := range []bool{false, true} {
		m, _ := chain(t, late)
		l, err := Arrange(m.Graph, ".new")
		if err != nil {
			t.Fatal(err)
		}
		order := Order(m.Graph)
		at := func(v string) int { return slices.Index(order, m.Graph.Value(v).Producer()) }
		last := -1
		for _, u := range m.Graph.Value("w").Uses() {
			last = max(last, slices.Index(order, u.Node))
		}
		if got, want := slices.Contains(l.InPlace, "w"), last == at("w.new"); got != want || !want {
			t.Errorf("late %v: in place %v; last read at %d, written at %d", late, got, last, at("w.new"))
		}
	}
	// Read by what the update itself cannot wait for.
	m, b := chain(t, false)
	w, next := m.Graph.Value("w"), m.Graph.Value("w.new")
	z := b.Op("Sub", []*ir.Value{w, next})
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.SetOutputs(append(slices.Clone(m.Graph.Outputs()), z)...); err != nil {
		t.Fatal(err)
	}
	l, err := Arrange(m.Graph, ".new")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(l.InPlace, "w") {
		t.Error("w is overwritten before its last reader has run")
	}
}

// TestPlacesDoNotOverlap plays runs of random graphs through: what a node writes is there until its last reader has run.
func TestPlacesDoNotOverlap(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		m := ir.NewModel("random", 17)
		x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(32, 32)))
		if err != nil {
			t.Fatal(err)
		}
		b := ir.NewBuilder(m.Graph, "test", op.InferNode)
		all := []*ir.Value{x}
		pick := func() *ir.Value { return all[len(all)-1-rng.IntN(min(len(all), 6))] }
		for range 40 {
			var v *ir.Value
			switch rng.IntN(5) {
			case 0:
				v = b.Op("Relu", []*ir.Value{pick()})
			case 1:
				v = b.Op("Add", []*ir.Value{pick(), pick()})
			case 2:
				v = b.Op("Reshape", []*ir.Value{b.Op("Reshape", []*ir.Value{pick(), b.Int64s(1024)}), b.Int64s(32, 32)})
			case 3:
				v = b.Op("MatMul", []*ir.Value{pick(), pick()})
			case 4:
				v = b.Op("Mul", []*ir.Value{pick(), b.Op("Transpose", []*ir.Value{pick()})})
			}
			all = append(all, v)
		}
		if err := b.Err(); err != nil {
			t.Fatal(err)
		}
		if err := m.Graph.SetOutputs(all[len(all)-1]); err != nil {
			t.Fatal(err)
		}
		l, err := Arrange(m.Graph, ".new")
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Verify(); err != nil {
			t.Fatal(err)
		}
		// Whose content stands where; a renamed value is what it renames.
		root := map[*ir.Value]*ir.Value{}
		of := func(v *ir.Value) *ir.Value {
			for root[v] != nil {
				v = root[v]
			}
			return v
		}
		holds := map[int64]*ir.Value{}
		for _, n := range Order(m.Graph) {
			for _, v := range n.Inputs() {
				v = of(v)
				at, ok := l.At[v.Name()]
				if ok && holds[at] != v {
					t.Fatalf("seed %d: %v reads %q, where %v stands", seed, n, v.Name(), holds[at])
				}
			}
			out := n.Output(0)
			if n.Op == "Reshape" {
				root[out] = n.Input(0)
				if _, ok := l.At[out.Name()]; ok {
					t.Fatalf("seed %d: a renamed value has a place of its own", seed)
				}
				continue
			}
			if at, ok := l.At[out.Name()]; ok {
				if at%64 != 0 || at+Size(out) > l.Bytes {
					t.Fatalf("seed %d: %q at %d of %d", seed, out.Name(), at, l.Bytes)
				}
				holds[at] = out // all are of one size, so that places overlap wholly or not at all
			}
		}
	}
}

func TestSpansAreApart(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var spans []*span
		for range 60 {
			first := rng.IntN(50)
			spans = append(spans, &span{bytes: alignment * (1 + rng.Int64N(40)), first: first, last: first + rng.IntN(20)})
		}
		end := pack(spans)
		most, _ := live(spans, 70)
		for i, a := range spans {
			if a.at < 0 || a.at+a.bytes > end {
				t.Fatalf("seed %d: outside", seed)
			}
			for _, b := range spans[:i] {
				if a.first <= b.last && b.first <= a.last && a.at < b.at+b.bytes && b.at < a.at+a.bytes {
					t.Fatalf("seed %d: %+v and %+v overlap", seed, *a, *b)
				}
			}
		}
		if end < most || end > most+most/2 {
			t.Errorf("seed %d: %d bytes for %d in use", seed, end, most)
		}
	}
}
