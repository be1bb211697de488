package fit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/memory"
	"mqatc/runtime/ort"
)

// orderKnown reports whether the library that is loaded runs nodes in the order that memory.Order says, on which layouts rest: it is
// asked for the profile of a graph with many orders.
var orderKnown = sync.OnceValue(func() bool {
	m, err := tangle(80)
	if err != nil {
		return false
	}
	ran, err := runOrder(m)
	if err != nil {
		return false
	}
	want := memory.Order(m.Graph)
	if len(ran) != len(want) {
		return false
	}
	for i, n := range want {
		if n.Name != ran[i] {
			return false
		}
	}
	return true
})

// tangle is a graph of so many nodes with some that none reads.
func tangle(nodes int) (*ir.Model, error) {
	rng := rand.New(rand.NewPCG(1, 1))
	m := ir.NewModel("tangle", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1)))
	if err != nil {
		return nil, err
	}
	b := ir.NewBuilder(m.Graph, "tangle", op.InferNode)
	all := []*ir.Value{x}
	for range nodes {
		near := all[len(all)-1-rng.IntN(min(len(all), 8))]
		all = append(all, b.Op("Add", []*ir.Value{near, all[rng.IntN(len(all))]}))
	}
	if err := b.Err(); err != nil {
		return nil, err
	}
	var ends []*ir.Value
	for i, n := range m.Graph.Nodes() {
		n.Name = fmt.Sprintf("n%d", i)
		if !n.Output(0).Used() {
			ends = append(ends, n.Output(0))
		}
	}
	return m, m.Graph.SetOutputs(ends...)
}

// runOrder runs m on zeros as it stands and lists its nodes' names in the order in which they ran.
func runOrder(m *ir.Model) ([]string, error) {
	dir, err := os.MkdirTemp("", "mqatc-order-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	raw, err := format.Marshal(m)
	if err != nil {
		return nil, err
	}
	s, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1, OptLevel: ort.DisableAll, Profile: filepath.Join(dir, "run")})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	x, err := ir.FromFloat32s(make([]float32, 1), 1)
	if err != nil {
		return nil, err
	}
	if _, err := s.Run(map[string]*ir.Tensor{"x": x}, nil); err != nil {
		return nil, err
	}
	path, err := s.EndProfile()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	var events []struct {
		Name     string `json:"name"`
		Category string `json:"cat"`
	}
	if err := json.Unmarshal(text, &events); err != nil {
		return nil, err
	}
	var out []string
	for _, e := range events {
		if name, ok := strings.CutSuffix(e.Name, "_kernel_time"); ok && e.Category == "Node" {
			out = append(out, name)
		}
	}
	return out, nil
}
