package zoo_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/partition"
	"mqatc/testmodels/zoo"
)

// TestModulesAreFound divides every network, with its names and with none, and wants the authors' modules: their roles and each of
// their trained tensors. An odd size makes the scales of enlargements uneven.
func TestModulesAreFound(t *testing.T) {
	for _, a := range zoo.Table {
		for _, o := range []zoo.Options{{Factor: 0.25}, {Factor: 1. / 8, Height: 100, Width: 75}, {}} {
			if a.Check(o) != nil || o.Factor == 0 && testing.Short() || o.Height != o.Width && a.Name == "cubesat" {
				continue
			}
			t.Run(fmt.Sprintf("%s/%v-%dx%d", a.Name, o.Factor, o.Height, o.Width), func(t *testing.T) {
				m := build(t, a.Name, o)
				modules(t, a, m, nil)
				modules(t, a, m, anonymize(t, m))
			})
		}
	}
}

// anonymize takes the names away and returns them by the new ones.
func anonymize(t *testing.T, m *ir.Model) map[string]string {
	t.Helper()
	old, err := m.Anonymize()
	if err != nil {
		t.Fatal(err)
	}
	return old
}

// modules checks what is found against what tensors were called, by old where their names are gone.
func modules(t *testing.T, a zoo.Architecture, m *ir.Model, old map[string]string) {
	t.Helper()
	p, err := partition.Find(m, partition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if (p.Method == "structure") != (old != nil) || p.Note != "" || len(p.Outside) > 0 {
		t.Errorf("by %s, note %q, %d tensors in no module; names kept: %v", p.Method, p.Note, len(p.Outside), old == nil)
	}
	var roles, want []string
	for _, mod := range a.Modules {
		want = append(want, mod.Role)
	}
	was := func(v *ir.Value) string {
		if old != nil {
			return old[v.Name()]
		}
		return v.Name()
	}
	seen := 0
	for _, mod := range p.Modules {
		roles = append(roles, mod.Role)
		for _, v := range mod.Initializers {
			if role := roleOf(a, was(v)); role != mod.Role {
				t.Errorf("by %s: %s of %s is in %s", p.Method, was(v), role, mod.Role)
			}
			seen++
		}
	}
	if !slices.Equal(roles, want) {
		t.Errorf("by %s: modules %v, want %v", p.Method, roles, want)
	}
	all := 0
	for _, v := range m.Graph.Initializers() {
		if trained(was(v)) {
			all++
		}
	}
	all -= map[string]int{"efficientdet": 24}[a.Name] // the shares of its sums are no layer's weights
	if seen != all {
		t.Errorf("by %s: %d trained tensors in modules, the network has %d", p.Method, seen, all)
	}
}

func roleOf(a zoo.Architecture, tensor string) string {
	owner := a.Owner(tensor)
	for _, mod := range a.Modules {
		if mod.Name == owner {
			return mod.Role
		}
	}
	return ""
}

// TestHeadsSplit wants one module for each kind of output, what is between its last layer and the output included.
func TestHeadsSplit(t *testing.T) {
	for name, tower := range map[string][]string{
		"wdr":          {"head.cls_", "head.pose_", "head.scales."},
		"pyrapose":     {"box3d.", "cls.", "mask."},
		"efficientdet": {"regressor.", "classifier."},
		"fasterrcnn":   {"rpn.head.conv.", "rpn.head.objectness_", "rpn.head.anchor_", "roi_heads.box_head.", "roi_heads.box_predictor.cls_", "roi_heads.box_predictor.bbox_"},
	} {
		m := build(t, name, zoo.Options{Factor: 1. / 8, Height: 128, Width: 128})
		old := anonymize(t, m)
		p, err := partition.Find(m, partition.Options{Split: true})
		if err != nil {
			t.Fatal(err)
		}
		kind := func(tensor string) string {
			for _, k := range tower {
				if strings.HasPrefix(tensor, k) {
					return strings.Replace(k, "scales.", "pose_", 1)
				}
			}
			return ""
		}
		of := map[string]string{}
		for _, mod := range p.Modules {
			for _, v := range mod.Initializers {
				k := kind(old[v.Name()])
				if k == "" {
					k = mod.Role
				}
				if was, ok := of[k]; ok && was != mod.Name {
					t.Errorf("%s: %s in %s and %s", name, k, was, mod.Name)
				}
				of[k] = mod.Name
			}
		}
		if len(of) != len(p.Modules) {
			t.Errorf("%s: %d modules for %v", name, len(p.Modules), of)
		}
	}
}
