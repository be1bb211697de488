package train

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mqatc/onnx/ir"
)

// jitter gives its index and a random number, after a random wait.
type jitter int

func (j jitter) Len() int { return int(j) }

func (j jitter) Sample(i int, rng *rand.Rand) (Feeds, error) {
	time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
	t, err := ir.FromFloat32s([]float32{float32(i), rng.Float32()}, 1, 2)
	return Feeds{"x": t}, err
}

func batches(t *testing.T, o LoaderOptions, from, n int) [][]float32 {
	t.Helper()
	l, err := NewLoader(jitter(23), o, from)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out [][]float32
	for range n {
		b, err := l.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var all []float32
		for _, f := range b {
			v, _ := f["x"].Float32s()
			all = append(all, v...)
		}
		out = append(out, all)
	}
	return out
}

func TestBatchesDoNotDependOnWorkers(t *testing.T) {
	want := batches(t, LoaderOptions{Batch: 4, Seed: 3, Workers: 1}, 0, 20)
	seen := map[float32]int{}
	for _, b := range want[:5] {
		for i := 0; i < len(b); i += 2 {
			seen[b[i]]++
		}
	}
	if len(seen) != 20 {
		t.Errorf("an epoch of five batches of four shows %d samples", len(seen))
	}
	for _, o := range []LoaderOptions{{Batch: 4, Seed: 3, Workers: 4}, {Batch: 4, Seed: 3, Workers: 3, Ahead: 1}, {Batch: 4, Micro: 1, Seed: 3, Workers: 2}} {
		if got := batches(t, o, 0, 20); !equal(got, want) {
			t.Errorf("%+v gives other batches", o)
		}
	}
	if got := batches(t, LoaderOptions{Batch: 4, Seed: 3, Workers: 2}, 7, 13); !equal(got, want[7:]) {
		t.Error("starting at step 7 gives other batches")
	}
	if got := batches(t, LoaderOptions{Batch: 4, Seed: 4, Workers: 1}, 0, 20); equal(got, want) {
		t.Error("another seed gives the same batches")
	}
	if b := batches(t, LoaderOptions{Batch: 30, Seed: 1}, 0, 1); len(b[0]) != 60 {
		t.Error("a set smaller than a batch does not fill it")
	}
}

func equal(a, b [][]float32) bool {
	return slices.EqualFunc(a, b, func(x, y []float32) bool { return slices.Equal(x, y) })
}

type failing struct{ jitter }

func (failing) Sample(i int, _ *rand.Rand) (Feeds, error) {
	return nil, errors.New("cannot read it")
}

func TestLoaderPassesErrorsOnAndStops(t *testing.T) {
	l, err := NewLoader(failing{9}, LoaderOptions{Batch: 2, Workers: 2}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Next(context.Background()); err == nil {
		t.Error("no error")
	}
	l.Close()
	if _, err := NewLoader(jitter(0), LoaderOptions{Batch: 2}, 0); err == nil {
		t.Error("an empty source was accepted")
	}
	if _, err := NewLoader(jitter(5), LoaderOptions{Batch: 4, Micro: 3}, 0); err == nil {
		t.Error("a batch of 4 in parts of 3 was accepted")
	}
}

func TestCheckpointRoundTripAndDamage(t *testing.T) {
	a, _ := ir.FromFloat32s([]float32{1, 2, 3}, 3)
	b, _ := ir.FromBools([]bool{true, false}, 2)
	c := &Checkpoint{Key: "k", Step: 7, Values: map[string]float64{"best": 0.1}, Tensors: map[string]*ir.Tensor{"w": a, "w.mask": b}}
	path := filepath.Join(t.TempDir(), "ck")
	if _, err := ReadCheckpoint(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	for range 2 {
		if err := c.Write(path); err != nil {
			t.Fatal(err)
		}
	}
	raw, _ := os.ReadFile(path)
	d, err := ReadCheckpoint(path)
	if err != nil || d.Step != 7 || d.Key != "k" || d.Values["best"] != 0.1 || !bytes.Equal(d.Tensors["w"].Raw(), a.Raw()) || d.Tensors["w.mask"].DType() != ir.Bool {
		t.Fatalf("%+v, %v", d, err)
	}
	for _, n := range []int{0, 10, len(raw) / 2, len(raw) - 1} {
		if _, err := parseCheckpoint(raw[:n]); err == nil {
			t.Errorf("the first %d bytes were accepted", n)
		}
	}
	for i := range raw {
		broken := slices.Clone(raw)
		broken[i] ^= 4
		if _, err := parseCheckpoint(broken); err == nil {
			t.Fatalf("a changed byte %d was accepted", i)
		}
	}
}

func TestSchedules(t *testing.T) {
	near := func(s Schedule, step int, want float64) {
		t.Helper()
		if got := s(step, 1000); math.Abs(got-want) > 1e-9 {
			t.Errorf("step %d: %v, want %v", step, got, want)
		}
	}
	c := Cosine(0.3, 0.1, 0)
	near(c, 0, 0.003)
	near(c, 99, 0.3)
	near(c, 550, 0.15)
	if c(999, 1000) > 1e-4 {
		t.Errorf("the cosine ends at %v", c(999, 1000))
	}
	d := Decay(1, 0.1, 1.0/3, 2.0/3)
	near(d, 333, 1)
	near(d, 334, 0.1)
	near(d, 900, 0.01)
	tab, err := Table(0.01, []Point{{0, 1}, {0.1, 0.1}, {0.5, 1}})
	if err != nil {
		t.Fatal(err)
	}
	near(tab, 99, 0.01)
	near(tab, 100, 0.001)
	near(tab, 999, 0.01)
	near(Warm(Constant(1), 10), 4, 0.5)
	if _, err := Table(1, []Point{{0.5, 1}}); err == nil {
		t.Error("a table that starts late was accepted")
	}
	every, err := ParseSchedule("step:300,0.5", 0.1)
	if err != nil {
		t.Fatal(err)
	}
	near(every, 299, 0.1)
	near(every, 300, 0.05)
	near(every, 900, 0.0125)
	rows, err := ParseSchedule("table:0:0.01,500:0.001, 900:0", 7)
	if err != nil {
		t.Fatal(err)
	}
	near(rows, 499, 0.01)
	near(rows, 500, 0.001)
	near(rows, 950, 0)
	for _, text := range []string{"constant", "cosine", "cosine:0.1", "decay:0.3,0.6", "step:10"} {
		if _, err := ParseSchedule(text, 0.1); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "linear", "cosine:2", "decay", "decay:x", "constant:1", "step", "step:0", "step:1.5", "step:5,2", "table", "table:", "table:5:1", "table:0:1,0:2",
		"table:0:x", "table:0:-1", "table:0:NaN", "table:0"} {
		if _, err := ParseSchedule(text, 0.1); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
