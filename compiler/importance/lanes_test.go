package importance

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mqatc/compiler/fit"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/runtime/ort/orttest"
)

func TestLanesFor(t *testing.T) {
	for _, c := range []struct {
		threads, probes int
		bytes           int64
		lanes, each     int
	}{
		{1, 64, 1, 1, 1},
		{2, 64, 1, 2, 1},
		{3, 64, 0, 3, 1},
		{8, 64, 1, 4, 2},
		{7, 64, 1, 4, 1},
		{8, 1, 1, 1, 8},
		{8, 3, 1, 3, 2},
		{8, 64, laneBytes / 4, 4, 2},
		{8, 64, laneBytes/4 + 1, 3, 2},
		{8, 64, laneBytes/2 + 1, 1, 8},
		{8, 64, 5 * laneBytes, 1, 8},
	} {
		if lanes, each := lanesFor(c.threads, c.probes, c.bytes); lanes != c.lanes || each != c.each {
			t.Errorf("%d threads, %d probes of %d bytes: %d lanes of %d, want %d of %d", c.threads, c.probes, c.bytes, lanes, each, c.lanes, c.each)
		}
	}
}

// TestTakenByNumber: lanes that end in any order are taken in one by one by number until the stop, and none begins after it.
func TestTakenByNumber(t *testing.T) {
	for lanes := 1; lanes <= 4; lanes++ {
		const most, stop = 40, 17
		var began, busy atomic.Int64
		var lane [4]atomic.Bool
		var order []int
		before := runtime.NumGoroutine()
		err := sideBySide(lanes, most, func(l, p int) ([]float64, error) {
			began.Add(1)
			busy.Add(1)
			defer busy.Add(-1)
			if lane[l].Swap(true) {
				t.Errorf("lane %d has two probes at a time", l)
			}
			time.Sleep(time.Duration(p*7%5) * time.Millisecond)
			lane[l].Store(false)
			return []float64{float64(p)}, nil
		}, func(p int, got []float64) (bool, error) {
			if got[0] != float64(p) {
				t.Errorf("probe %d has the values of %v", p, got)
			}
			order = append(order, p)
			return p == stop, nil
		})
		if err != nil || len(order) != stop+1 || !slices.IsSorted(order) || order[stop] != stop {
			t.Errorf("%d lanes: %v, %v", lanes, order, err)
		}
		if lanes == 1 && began.Load() != stop+1 || began.Load() == most {
			t.Errorf("%d lanes: %d probes began", lanes, began.Load())
		}
		if busy.Load() != 0 {
			t.Errorf("%d lanes: %d probes still run", lanes, busy.Load())
		}
		for range 1000 {
			if runtime.NumGoroutine() <= before {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d lanes: %d goroutines, %d before", lanes, n, before)
		}
	}
}

func TestLowestFailure(t *testing.T) {
	for lanes := 1; lanes <= 4; lanes++ {
		for _, c := range []struct {
			stop, refused int // by take; -1 never
			want          string
			taken         int
		}{
			{-1, -1, "ran 5", 5},  // probe 6 fails sooner
			{4, -1, "", 5},        // failures beyond the stop do not count
			{5, -1, "ran 5", 5},   // nor does a stop that is not reached
			{-1, 3, "taken 3", 3}, // a refusal stops like a failure
		} {
			taken := 0
			err := sideBySide(lanes, 30, func(_, p int) ([]float64, error) {
				switch p {
				case 5:
					time.Sleep(20 * time.Millisecond)
					return nil, errors.New("ran 5")
				case 6:
					return nil, errors.New("ran 6")
				}
				return []float64{0}, nil
			}, func(p int, _ []float64) (bool, error) {
				if p == c.refused {
					return false, fmt.Errorf("taken %d", p)
				}
				taken++
				return p == c.stop, nil
			})
			if got := fmt.Sprint(err); taken != c.taken || c.want != "" && got != c.want || c.want == "" && err != nil {
				t.Errorf("%d lanes, %+v: %d taken, %v", lanes, c, taken, err)
			}
		}
	}
}

// TestLanesChangeNothing compares samples, their number, and what progress was told, bit by bit; eight threads are four lanes of two.
func TestLanesChangeNothing(t *testing.T) {
	orttest.TestLibrary(t)
	m, layers, feeds := wide(t)
	other := map[string]*ir.Tensor{"x": tensor(t, slices.Repeat([]float64{0.3, -1, 0.7}, 2*12*12), 2, 3, 12, 12)}
	var want string
	for _, threads := range []int{1, 2, 3, 8} {
		told := ""
		r, err := Trace(m, "loss", layers, []map[string]*ir.Tensor{feeds, other}, Options{MaxProbes: 200, Tolerance: 0.15, Seed: 9, Threads: threads,
			Progress: func(done, most int, rel float64) { told += fmt.Sprint(done, most, rel, " ") }})
		if err != nil {
			t.Fatal(err)
		}
		if r.Probes == 200 || r.Probes <= 8 {
			t.Fatalf("%d probes: none tells when to stop", r.Probes)
		}
		got := told
		for _, l := range r.Layers {
			if len(l.Samples) != r.Probes {
				t.Errorf("%d threads: %s has %d samples of %d probes", threads, l.Name, len(l.Samples), r.Probes)
			}
			got += fmt.Sprint(l.Name, l.Trace, l.StdErr, l.Samples)
		}
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%d threads give other values than one", threads)
		}
	}
}

func TestLanesOfANetwork(t *testing.T) {
	orttest.TestLibrary(t)
	m, layers, _ := wide(t)
	mach, err := fit.Machine("")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ threads, probes, lanes, sessions int }{{1, 9, 1, 1}, {3, 9, 3, 1}, {3, 1, 1, 1}, {8, 9, 4, 4}} {
		p, err := newProducts(m, "loss", layers, mach, 1, Options{Threads: c.threads, MaxProbes: c.probes})
		if err != nil {
			t.Fatal(err)
		}
		if own := len(slices.Compact(slices.Clone(p.lanes))); len(p.lanes) != c.lanes || own != c.sessions {
			t.Errorf("%+v: %d lanes with %d sessions", c, len(p.lanes), own)
		}
		p.close()
	}
}

// TestProbeBytes: what a batch decides counts for each lane where there is no room to keep it for all batches.
func TestProbeBytes(t *testing.T) {
	m, layers, _ := wide(t)
	h, err := curvatures(m, "loss", layers)
	if err != nil {
		t.Fatal(err)
	}
	models, err := divide(h, layers)
	if err != nil {
		t.Fatal(err)
	}
	least := int64(0)
	for _, l := range layers {
		least += int64(len(m.Graph.Value(l).Init().Raw()))
	}
	few, many := probeBytes(models, 1), probeBytes(models, keepBytes)
	if few <= least || many <= few {
		t.Errorf("a probe takes %d bytes, %d with a batch of its own; its signs alone take %d", few, many, least)
	}
}

func TestFailuresInLanes(t *testing.T) {
	orttest.TestLibrary(t)
	m, layers, feeds := wide(t)
	nan := slices.Repeat([]float64{1}, 2*3*12*12)
	nan[5] = math.NaN()
	for _, c := range []struct {
		bad  map[string]*ir.Tensor
		want []string
	}{
		{map[string]*ir.Tensor{"x": tensor(t, nan, 2, 3, 12, 12)}, []string{"hessian: layer ", "probe 2 gave NaN"}},
		{map[string]*ir.Tensor{}, []string{"hessian: probe 2: ", `"x"`}},
	} {
		for threads := 1; threads <= 4; threads++ {
			_, err := Trace(m, "loss", layers, []map[string]*ir.Tensor{feeds, feeds, c.bad, c.bad}, Options{MaxProbes: 30, Threads: threads})
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%d threads: %v, want %s", threads, err, want)
				}
			}
		}
	}
}

// TestNoSession: a graph with an operator that onnxruntime lacks, off the gradients' way, loads in part only.
func TestNoSession(t *testing.T) {
	orttest.TestLibrary(t)
	m, layers, feeds := wide(t)
	g := m.Graph
	b := ir.NewBuilder(g, "", op.InferNode)
	loss := g.Value("loss")
	odd := b.Op("Abs", []*ir.Value{g.Value("x")})
	odd.Producer().Op, odd.Producer().Domain = "Odd", "com.example"
	all := b.Op("Mul", []*ir.Value{loss, b.Op("ReduceMax", []*ir.Value{odd}, ir.AInt("keepdims", 0))})
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := g.SetOutputs(all); err != nil {
		t.Fatal(err)
	}
	_, err := Trace(m, all.Name(), layers, []map[string]*ir.Tensor{feeds}, Options{MaxProbes: 2, Threads: 2})
	if err == nil || !strings.Contains(err.Error(), "hessian: onnxruntime: load model") || !strings.Contains(err.Error(), "Odd") {
		t.Errorf("%v", err)
	}
}

// A lane that starts late may find few probes left: there are many.
func TestProfile(t *testing.T) {
	orttest.TestLibrary(t)
	m, layers, feeds := wide(t)
	for _, threads := range []int{2, 8} {
		dir := t.TempDir()
		o := Options{MaxProbes: 300, MinProbes: 300, Threads: threads, Profile: filepath.Join(dir, "p")}
		if _, err := Trace(m, "loss", layers, []map[string]*ir.Tensor{feeds}, o); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "p*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%d threads: %v %v", threads, files, err)
		}
		raw, err := os.ReadFile(files[0])
		if err != nil || !strings.Contains(string(raw), "_kernel_time") {
			t.Errorf("%d threads: %d bytes, %v", threads, len(raw), err)
		}
	}
}
