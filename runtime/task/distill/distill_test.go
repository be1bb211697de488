package distill

import (
	"context"
	"math"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func outputs(t *testing.T) []*ir.Value {
	t.Helper()
	g := ir.NewGraph("net")
	var out []*ir.Value
	for _, o := range []struct {
		name string
		d    ir.DType
		s    ir.Shape
	}{
		{"map", ir.Float32, ir.Shape{ir.Sym("N"), ir.D(2), ir.D(50)}},
		{"score", ir.Float32, ir.Shape{ir.Sym("N"), ir.D(1)}},
		{"index", ir.Int64, ir.Shape{ir.Sym("N"), ir.D(4)}},
	} {
		v, err := g.AddInput(o.name, ir.TensorType(o.d, o.s))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func tensor(t *testing.T, v []float32, dims ...int64) *ir.Tensor {
	t.Helper()
	x, err := ir.FromFloat32s(v, dims...)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestLossAgainstFormula(t *testing.T) {
	orttest.TestLibrary(t)
	m, err := Loss(outputs(t))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// Two images of 2x50 and of 1 element; the second image of the map is quiet.
	y, want := make([]float32, 200), make([]float32, 200)
	for i := range y {
		want[i] = (10 + float32(i%7)) / float32(1+99*(i/100))
		y[i] = want[i] + float32(i%3)*0.1
	}
	r, err := s.Run(map[string]*ir.Tensor{
		"map": tensor(t, y, 2, 2, 50), "map.teacher": tensor(t, want, 2, 2, 50),
		"score": tensor(t, []float32{3, 4}, 2, 1), "score.teacher": tensor(t, []float32{3, 5}, 2, 1),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := r["loss"].Float32s()
	var size, diff [2]float64
	for n := range 2 {
		mean := 0.0
		for _, v := range want[100*n : 100*n+100] {
			mean += float64(v) / 100
		}
		for i := 100 * n; i < 100*n+100; i++ {
			w, d := float64(want[i]), float64(y[i]-want[i])
			size[n] += (w-mean)*(w-mean) + 0.05*w*w
			diff[n] += d * d
		}
	}
	floor := 0.02*(size[0]+size[1])/2 + 1e-4
	maps := (diff[0]/(size[0]+floor) + diff[1]/(size[1]+floor)) / 2
	scores := 1 / (25 + 0.02*17 + 1e-6) / 2
	if expect := (maps + scores) / 2; math.Abs(float64(got[0])-expect) > 1e-4*expect {
		t.Errorf("loss %v, formula %v", got[0], expect)
	}
	if _, err := Loss(outputs(t)[2:]); err == nil {
		t.Error("a network of integer outputs was accepted")
	}
}

func TestAgreement(t *testing.T) {
	if c, r := Agree([]Sums{sums(t, []float32{3, 4}, []float32{4, 3})}); math.Abs(c-0.96) > 1e-12 || math.Abs(r-math.Sqrt2/5) > 1e-12 {
		t.Errorf("%v %v", c, r)
	}
	if c, _ := Agree([]Sums{sums(t, []float32{0, 0}, []float32{0, 0})}); c != 1 {
		t.Error("two zeros do not agree")
	}
	if _, err := SumsOf([]float32{float32(math.NaN())}, []float32{1}); err == nil {
		t.Error("NaN was compared")
	}
	feed := func(i int) (map[string]*ir.Tensor, error) {
		return map[string]*ir.Tensor{"x": tensor(t, []float32{1, float32(i)}, 1, 2)}, nil
	}
	net := func(by float32) func(map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
		return func(f map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
			v, _ := f["x"].Float32s()
			return map[string]*ir.Tensor{"b": tensor(t, []float32{v[0], v[1] * by}, 1, 2), "a": tensor(t, []float32{v[0] * by}, 1, 1)}, nil
		}
	}
	teacher := func(_ int, f map[string]*ir.Tensor) (map[string]*ir.Tensor, error) { return net(1)(f) }
	s, err := Measure(context.Background(), 5, feed, net(1), teacher, 3, nil, nil)
	if err != nil || s.Main < 1-1e-12 || s.Images != 5 {
		t.Fatalf("%+v, %v", s, err)
	}
	s, err = Measure(context.Background(), 5, feed, net(-1), teacher, 3, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := s.Detail.(*Agreement)
	if a.Outputs[0].Output != "a" || a.Outputs[0].Cosine != -1 || a.Outputs[0].RelativeError != 2 {
		t.Errorf("%+v", a)
	}
	want := 0.0
	for i := range 5 {
		want += float64(1-i*i) / float64(1+i*i) / 5
	}
	if math.Abs(a.Outputs[1].Cosine-want) > 1e-9 || math.Abs(a.Cosine-(want-1)/2) > 1e-9 {
		t.Errorf("cosine %v, want %v", a.Outputs[1].Cosine, want)
	}
}

func sums(t *testing.T, y, want []float32) Sums {
	t.Helper()
	s, err := SumsOf(y, want)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Where there is nothing, what is left of a map is noise of the float format; a map that finds something there does not agree.
func TestNothingAgreesWithNothing(t *testing.T) {
	something := sums(t, []float32{0.9, 0.1}, []float32{1, 0})
	alone, _ := Agree([]Sums{something})
	if got, _ := Agree([]Sums{something, sums(t, []float32{0, 6e-8}, []float32{6e-8, 0})}); math.Abs(got-(alone+1)/2) > 1e-9 {
		t.Errorf("%v, want %v", got, (alone+1)/2)
	}
	if got, _ := Agree([]Sums{something, sums(t, []float32{0, 0.5}, []float32{6e-8, 0})}); got > 0.6 {
		t.Errorf("%v where the network finds what is not there", got)
	}
	if got, _ := Agree([]Sums{sums(t, []float32{0, 6e-8}, []float32{6e-8, 0})}); got != 0 {
		t.Errorf("%v where all of an output is small", got)
	}
}

func TestSingleNumbersAreComparedBySize(t *testing.T) {
	for _, c := range []struct {
		y, t float32
		want float64
	}{{0, 0, 1}, {1e-6, 1e-9, 1 - 2e-5}, {0.2, 1e-6, 0}, {0.9, 1, 0.9}, {-1, 1, -1}} {
		if got, _ := Agree([]Sums{sums(t, []float32{c.y}, []float32{c.t})}); math.Abs(got-c.want) > 1e-4 {
			t.Errorf("%g and %g: %g, want %g", c.y, c.t, got, c.want)
		}
	}
}
