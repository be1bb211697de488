package zoo_test

import (
	"math"
	"testing"

	"mqatc/compiler/frontend"
	"mqatc/compiler/plan"
	"mqatc/onnx/ir"
	"mqatc/passes"
	"mqatc/passes/clean"
	"mqatc/passes/partition"
	"mqatc/passes/pass"
	"mqatc/passes/target"
	"mqatc/passes/weights"
	"mqatc/testmodels/zoo"
)

// truth divides a network as its authors do.
func truth(t *testing.T, a zoo.Architecture, m *ir.Model) *partition.Partition {
	t.Helper()
	f := &partition.File{}
	for _, mod := range a.Modules {
		fm := partition.FileModule{Name: mod.Name, Role: mod.Role}
		for _, p := range mod.Prefixes {
			fm.Initializers = append(fm.Initializers, p+".*")
		}
		f.Modules = append(f.Modules, fm)
	}
	p, err := partition.Find(m, partition.Options{File: f})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// blank takes the numbers out of all weights, which the nominal figure does not depend on, so that no scales are searched.
func blank(t *testing.T, m *ir.Model) {
	t.Helper()
	var zeros []byte
	for _, v := range m.Graph.Initializers() {
		if !trained(v.Name()) {
			continue
		}
		n := len(v.Init().Raw())
		if n > len(zeros) {
			zeros = make([]byte, n)
		}
		z, err := ir.NewTensor(ir.Float32, v.Init().Dims(), zeros[:n])
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Graph.SetInit(v, z); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNominalCompression holds plans with given widths against the compressions of the paper as SEEDS.md recomputes them.
func TestNominalCompression(t *testing.T) {
	type row struct {
		widths map[string]int
		perUse bool
		want   float64
	}
	widths := func(names [3]string, b ...int) map[string]int {
		w := map[string]int{}
		for i, x := range b {
			w[names[i]] = x
		}
		return w
	}
	pyramid := [3]string{"backbone", "fpn", "head"}
	gdr := [3]string{"backbone", "rotation", "pnp"}
	for _, c := range []struct {
		name string
		rows []row
	}{
		{"zebrapose", []row{{widths([3]string{"backbone", "decoder"}, 8, 4), false, 4.621}}},
		{"gdrnet", []row{{widths(gdr, 8, 4, 4), false, 4.978}, {widths(gdr, 7, 7, 7), false, 4.571}}},
		{"wdr", []row{{widths(pyramid, 8, 2, 8), false, 4.33}, {widths(pyramid, 4, 2, 4), false, 8.43}}},
		{"caspacenet", []row{
			{widths(pyramid, 8, 2, 8), false, 4.47},
			{widths(pyramid, 8, 32, 32), true, 2.205}, {widths(pyramid, 8, 8, 32), true, 3.183}, {widths(pyramid, 3, 32, 32), true, 2.943},
			{widths(pyramid, 8, 8, 8), true, 4}, {widths(pyramid, 3, 3, 3), true, 10.67}, {widths(pyramid, 8, 2, 8), true, 4.65}, {widths(pyramid, 3, 3, 32), true, 5.84},
			{widths(pyramid, 4, 2, 4), true, 8.82},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := zoo.Find(c.name)
			m := build(t, c.name, zoo.Options{})
			blank(t, m)
			tgt, err := target.Find("weights")
			if err != nil {
				t.Fatal(err)
			}
			copies := weights.Copies(m.Graph)
			if _, err := (&passes.Pipeline{Passes: []pass.Pass{clean.New()}}).Run(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			in := plan.Input{Model: m, Partition: truth(t, a, m), Copies: copies, PayloadBefore: frontend.Payload(m), Target: tgt}
			for _, r := range c.rows {
				d, err := plan.Make(in, plan.Sensitivity{}, plan.Request{Compress: 1, Basis: plan.Nominal, Assign: r.widths, CountSharedPerUse: r.perUse})
				if err != nil {
					t.Fatal(err)
				}
				if half := math.Pow10(-places(r.want)) / 2; math.Abs(d.Compress.Nominal-r.want) > half {
					t.Errorf("%v, per use %v: %.4f, want %v", r.widths, r.perUse, d.Compress.Nominal, r.want)
				}
			}
		})
	}
}

// places counts the decimals of a figure.
func places(x float64) int {
	for n := range 6 {
		if y := x * math.Pow10(n); math.Abs(y-math.Round(y)) < 1e-6 {
			return n
		}
	}
	return 6
}
