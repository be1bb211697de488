package partition_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/clean"
	"mqatc/passes/partition"
	"mqatc/passes/pass"
)

func shared(t *testing.T, file string) string {
	t.Helper()
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(dir, "models", file)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs the outside model %s: %v", file, err)
	}
	return path
}

func load(t *testing.T, file string) *ir.Model {
	t.Helper()
	m, err := format.Load(shared(t, file))
	if err != nil {
		t.Fatal(err)
	}
	if err := op.InferModel(m, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := clean.New().Run(pass.NewCtx(context.Background(), pass.Env{}, clean.Info.Name), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func sets(p *partition.Partition, name func(*ir.Value) string) []string {
	var out []string
	for _, m := range p.Modules {
		var ws []string
		for _, v := range m.Initializers {
			ws = append(ws, name(v))
		}
		sort.Strings(ws)
		out = append(out, strings.Join(ws, " "))
	}
	return out
}

func TestYuNetByNameAndAnonymous(t *testing.T) {
	m := load(t, "yunet_n_320_320.onnx")
	p, err := partition.Find(m, partition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Method != "names" {
		t.Errorf("method %s", p.Method)
	}
	var names []string
	for _, mod := range p.Modules {
		names = append(names, mod.Name)
		for _, v := range mod.Initializers {
			if dot := strings.Index(v.Name(), "."); dot > 0 && v.Name()[:dot] != mod.Name {
				t.Errorf("%s is in module %s", v.Name(), mod.Name)
			}
		}
	}
	if !slices.Equal(names, []string{"backbone", "neck", "bbox_head"}) {
		t.Errorf("modules %v", names)
	}
	known := sets(p, (*ir.Value).Name)
	old, err := m.Anonymize()
	if err != nil {
		t.Fatal(err)
	}
	q, err := partition.Find(m, partition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if q.Method != "structure" {
		t.Errorf("anonymous: method %s", q.Method)
	}
	if got := sets(q, func(v *ir.Value) string { return old[v.Name()] }); !slices.Equal(got, known) {
		t.Errorf("anonymous sets differ:\n%s\n%s", strings.Join(got, "\n"), strings.Join(known, "\n"))
	}
}

// TestRealNetworks holds the modules found against what is known of networks nobody here wrote. Parameters include biases and
// normalizations.
func TestRealNetworks(t *testing.T) {
	type module struct {
		role   string
		params int64
	}
	for _, c := range []struct {
		file, method string
		modules      []module
	}{
		// ShuffleNetV2 to the last Concat, the three lateral convolutions of the PAN, the GFL heads of three levels.
		{"nanodet_m_416.onnx", "names", []module{{partition.Backbone, 769354}, {partition.FPN, 78240}, {partition.Head, 94224}}},
		// base_net and extras, the class and box headers of four levels.
		{"ultraface-version-RFB-320.onnx", "names", []module{{partition.Backbone, 220040}, {partition.Head, 56252}}},
		// MobileNet-like trunk to the global pooling, the keypoint and presence matrices.
		{"objectron_cup.onnx", "structure", []module{{partition.Backbone, 2568096}, {partition.Head, 21907}}},
		// Encoder, the five laterals and the U-shaped decoder to its last merge, heat map and landmark regression.
		{"blazepose_landmark_lite.onnx", "structure", []module{{partition.Backbone, 701960}, {partition.FPN, 29544}, {partition.Head, 631585}}},
		// LCNet, all weights of which are Constant nodes; laterals and smoothing of four levels with their squeeze blocks; the DB head.
		{"ch_PP-OCRv4_det_infer.onnx", "structure", []module{{partition.Backbone, 854696}, {partition.FPN, 293640}, {partition.Head, 23257}}},
	} {
		t.Run(c.file, func(t *testing.T) {
			p, err := partition.Find(load(t, c.file), partition.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []module
			for _, mod := range p.Modules {
				got = append(got, module{mod.Role, mod.Params})
			}
			if !slices.Equal(got, c.modules) || p.Method != c.method || len(p.Outside) != 0 {
				t.Errorf("by %s: %v, %d outside; want by %s: %v", p.Method, got, len(p.Outside), c.method, c.modules)
			}
		})
	}
}

func TestSplitHeadsKeepsNamesAndTensors(t *testing.T) {
	m := load(t, "yunet_n_320_320.onnx")
	joined, err := partition.Find(m, partition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		split, err := partition.Find(m, partition.Options{Split: true})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		heads := int64(0)
		for _, mod := range split.Modules {
			names = append(names, mod.Name)
			if mod.Role == partition.Head {
				heads += mod.Params
			}
		}
		if !slices.Equal(names, []string{"backbone", "neck", "bbox_head1", "bbox_head2", "bbox_head3", "bbox_head4"}) {
			t.Fatalf("modules %v", names)
		}
		if want := joined.Modules[2].Params; heads != want {
			t.Errorf("the heads have %d parameters, joined %d", heads, want)
		}
	}
}
