package fit

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"mqatc/compiler/problem"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/lower"
	"mqatc/passes/memory"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/train"
	"mqatc/testmodels/cubesat"
	"mqatc/testmodels/zoo"
)

// towards is the problem of coming near random outputs.
type towards struct {
	problem.Problem
	loss *ir.Model
}

func (p towards) Loss() *ir.Model { return p.loss }

// resident reads a figure of /proc/self/status in bytes.
func resident(t *testing.T, key string) int64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("needs /proc/self/status")
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			var kb int64
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb << 10
			}
		}
	}
	t.Skip("needs VmRSS and VmHWM in /proc/self/status")
	return 0
}

// first takes the first form of each operator.
type first struct{}

func (first) Cheapest(s lower.Site) (string, error) { return s.Forms[0], nil }
func (first) Survey() lower.Costs                   { return first{} }
func (first) With(int) Forms                        { return first{} }
func (first) Keep(_, value string) string           { return value }
func (first) Flush() error                          { return nil }

// taken trains m for some steps and returns what was foreseen and what the process took beyond what it had.
func taken(t *testing.T, m *ir.Model, batch, recompute int, lowered bool, threads int) (foreseen Memory, took int64) {
	t.Helper()
	if err := op.InferModel(m, nil); err != nil {
		t.Fatal(err)
	}
	loss, err := distill.Loss(m.Graph.Outputs())
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Model: m, Problem: towards{loss: loss}, Params: step.Trainable(m), Batch: batch, Threads: threads, Recompute: recompute, Lower: lowered,
		Optimizer: step.Optimizer{Name: "adam"}, Foreseen: func(m Memory) { foreseen = m }}
	if threads > 1 {
		o.Steps, o.Forms = LeastMeasured, first{}
	}
	ort.Trim()
	debug.FreeOSMemory()
	before := resident(t, "VmRSS")
	e, err := o.engine(1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	so, _, err := o.stepOptions()
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := o.graphs(so)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	feeds := train.Feeds{}
	for _, v := range s.Graph.Inputs() {
		dims, _ := v.StaticDims()
		if v.Name() == step.LR || v.Name() == step.StepNumber || v.IsInitializer() || e.IsState(v.Name()) {
			continue
		}
		n, _ := ir.NumElements(dims)
		x := make([]float32, n)
		for i := range x {
			x[i] = rng.Float32()
		}
		if feeds[v.Name()], err = ir.FromFloat32s(x, dims...); err != nil {
			t.Fatal(err)
		}
	}
	fed := int64(0)
	for _, f := range feeds {
		fed += int64(len(f.Raw()))
	}
	s = nil
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skip("needs a writable /proc/self/clear_refs")
	}
	for range 3 {
		if _, err := e.Step(1e-5, feeds); err != nil {
			t.Fatal(err)
		}
	}
	took = resident(t, "VmHWM") - before - fed
	runtime.KeepAlive(m) // its weights are in before
	return foreseen, took
}

func TestMemoryIsForeseen(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute: runs without -short")
	}
	orttest.TestLibrary(t)
	build := func(name string, size int, width float64) func() (*ir.Model, error) {
		return func() (*ir.Model, error) {
			a, _ := zoo.Find(name)
			return a.Build(zoo.Options{Seed: 1, Height: size, Width: size, Factor: width})
		}
	}
	warm, err := cubesat.Network(1, 64, 0.25)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		name      string
		model     func() (*ir.Model, error)
		batch     int
		recompute int
		lower     bool
		threads   int
	}{
		{"cubesat", func() (*ir.Model, error) { return cubesat.Network(1, 96, 1) }, 48, 0, false, 1},
		{"cubesat", func() (*ir.Model, error) { return cubesat.Network(1, 96, 1) }, 48, 0, true, 1},
		{"cubesat", func() (*ir.Model, error) { return cubesat.Network(1, 96, 1) }, 48, memory.Auto, false, 1},
		{"cubesat", func() (*ir.Model, error) { return cubesat.Network(1, 96, 1) }, 48, memory.Auto, true, 1},
		{"cubesat", func() (*ir.Model, error) { return cubesat.Network(1, 96, 1) }, 48, 0, true, 2},
		{"wdr", build("wdr", 128, 0.25), 8, 0, false, 1},
		{"wdr", build("wdr", 128, 0.25), 8, 0, true, 1},
		{"wdr", build("wdr", 128, 0.25), 8, memory.Auto, true, 1},
		{"zebrapose", build("zebrapose", 64, 0.5), 4, 0, false, 1},
		{"zebrapose", build("zebrapose", 64, 0.5), 4, 0, true, 1},
		{"nanodet", func() (*ir.Model, error) { return shared("nanodet_m_416.onnx") }, 1, 0, false, 1},
	} {
		switch os.Getenv(caseVariable) {
		case "":
			// Each in a process of its own: what one leaves behind in the heap would hide what the next one takes.
			again := exec.Command(os.Args[0], "-test.run=^TestMemoryIsForeseen$", "-test.v")
			again.Env = append(os.Environ(), fmt.Sprintf("%s=%d", caseVariable, i))
			out, err := again.CombinedOutput()
			for _, line := range strings.Split(string(out), "\n") {
				if strings.Contains(line, c.name) {
					t.Log(strings.TrimSpace(line))
				}
			}
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		default:
			continue
		case fmt.Sprint(i):
		}
		taken(t, warm, 2, 0, c.lower, c.threads) // what the library takes once
		m, err := c.model()
		if os.IsNotExist(err) {
			t.Skipf("%s: there is no ../shared/models", c.name)
		}
		if err != nil {
			t.Fatal(err)
		}
		f, took := taken(t, m, c.batch, c.recompute, c.lower, c.threads)
		off := float64(f.Total())/float64(took) - 1
		t.Logf("%s, batch %d, recompute %d, lower %v, parts %d: foreseen %.1f MB (values %.1f, states %.1f, feeds %.1f, constants %.1f), took %.1f, %+.1f %%",
			c.name, c.batch, c.recompute, c.lower, f.Parts, mb(f.Total()), mb(f.Values), mb(f.States), mb(f.Feeds), mb(f.Constants), mb(took), 100*off)
		if off < -0.2 || off > 0.2 {
			t.Errorf("%s, batch %d, recompute %d, lower %v: foreseen %.1f MB, took %.1f", c.name, c.batch, c.recompute, c.lower, mb(f.Total()), mb(took))
		}
	}
}

// caseVariable tells a test process which case it is to measure.
const caseVariable = "MQATC_MEMORY_CASE"

func mb(n int64) float64 { return float64(n) / 1e6 }

// shared loads one of the networks beside the repository.
func shared(name string) (*ir.Model, error) {
	path := filepath.Join("..", "..", "..", "shared", "models", name)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return format.Load(path)
}
