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
		end := pack(spans, 70)
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

// TestConcatsAreWrittenPieceByPiece: pieces stand in the whole, whatever else is in use meanwhile stands elsewhere.
func TestConcatsAreWrittenPieceByPiece(t *testing.T) {
	m := ir.NewModel("pieces", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(64, 64)))
	if err != nil {
		t.Fatal(err)
	}
	b := ir.NewBuilder(m.Graph, "test", op.InferNode)
	var parts []*ir.Value
	for range 4 {
		parts = append(parts, b.Op("Reshape", []*ir.Value{b.Op("Transpose", []*ir.Value{b.Op("MatMul", []*ir.Value{x, x})}), b.Int64s(-1)}))
	}
	whole := b.Op("Concat", parts, ir.AInt("axis", 0))
	twice := b.Op("Concat", []*ir.Value{whole, whole}, ir.AInt("axis", 0)) // what is read twice cannot stand in both places
	y := b.Op("ReduceSum", []*ir.Value{twice})
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.SetOutputs(y); err != nil {
		t.Fatal(err)
	}
	l, err := Arrange(m.Graph, ".new")
	if err != nil {
		t.Fatal(err)
	}
	at := l.At[whole.Name()]
	for i, p := range parts {
		if got, want := l.At[p.Producer().Input(0).Name()], at+int64(i)*64*64*4; got != want {
			t.Errorf("piece %d at %d, want %d", i, got, want)
		}
	}
	if d := l.At[twice.Name()]; d < at+Size(whole) && at < d+Size(twice) {
		t.Errorf("the second Concat is written over what it reads")
	}
}

// TestStatesHoldWhatIsMadeOfThem: a momentum's decayed content needs no memory of its own, unless the momentum is read again.
func TestStatesHoldWhatIsMadeOfThem(t *testing.T) {
	for _, again := range []bool{false, true} {
		m := ir.NewModel("momentum", 17)
		typ := ir.TensorType(ir.Float32, ir.StaticShape(64, 64))
		x, err := m.Graph.AddInput("x", typ)
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.Graph.AddInput("s", typ.Clone())
		if err != nil {
			t.Fatal(err)
		}
		b := ir.NewBuilder(m.Graph, "test", op.InferNode)
		g := b.Op("MatMul", []*ir.Value{x, x})
		decayed := b.Op("Mul", []*ir.Value{s, b.Float(0.9)})
		if again {
			g = b.Op("MatMul", []*ir.Value{b.Op("MatMul", []*ir.Value{g, decayed}), s})
		}
		next := b.Node(ir.NodeSpec{Op: "Add", Inputs: []*ir.Value{decayed, g}, Outputs: []string{"s.new"}}, 1)[0]
		if err := b.Err(); err != nil {
			t.Fatal(err)
		}
		if err := m.Graph.SetOutputs(next); err != nil {
			t.Fatal(err)
		}
		l, err := Arrange(m.Graph, ".new")
		if err != nil {
			t.Fatal(err)
		}
		if got := l.In[decayed.Name()] == "s"; got == again {
			t.Errorf("read again %v: in %v, places %v", again, l.In, l.At)
		}
	}
}

// TestSumsRunEarly: sums of large values, added up at the end, do not keep the values.
func TestSumsRunEarly(t *testing.T) {
	m := ir.NewModel("sums", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(128, 128)))
	if err != nil {
		t.Fatal(err)
	}
	b := ir.NewBuilder(m.Graph, "test", op.InferNode)
	var total *ir.Value
	v := x
	for range 8 {
		v = b.Op("MatMul", []*ir.Value{v, x})
		s := b.Op("ReduceSum", []*ir.Value{v, b.Int64s(0)}, ir.AInt("keepdims", 0))
		if total == nil {
			total = s
		} else {
			total = b.Op("Add", []*ir.Value{total, s})
		}
	}
	for range 3 { // the sums' total comes last
		total = b.Op("Exp", []*ir.Value{total})
	}
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.SetOutputs(total); err != nil {
		t.Fatal(err)
	}
	l, err := Arrange(m.Graph, ".new")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	if most := 3 * Size(x); l.Bytes > most {
		t.Errorf("%d bytes, want at most %d", l.Bytes, most)
	}
}
