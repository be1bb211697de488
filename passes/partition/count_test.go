package partition_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/partition"
)

// detector has a backbone of five resolutions, a pyramid of three levels and heads of 5 and 4 channels at each.
func detector(t *testing.T) *ir.Model {
	n, x := newNet(t)
	for _, p := range n.pyramid(n.backbone(x)) {
		n.part = partition.Head
		n.outputs(n.conv(n.conv(p, 12, 3, 1), 5, 3, 1), n.conv(n.conv(p, 12, 3, 1), 4, 3, 1))
	}
	return n.m
}

func modules(p *partition.Partition) string {
	var out []string
	for _, m := range p.Modules {
		out = append(out, m.Name+":"+m.Role)
	}
	return strings.Join(out, " ")
}

func TestExactlySoManyModules(t *testing.T) {
	m := detector(t)
	found, err := partition.Find(m, partition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	home := map[string]string{}
	for _, mod := range found.Modules {
		for _, v := range mod.Initializers {
			home[v.Name()] = mod.Name
		}
	}
	for k, want := range map[int]string{
		1:  "backbone+fpn+head:backbone",
		2:  "backbone:backbone fpn+head:head",
		3:  "backbone:backbone fpn:fpn head:head",
		4:  "backbone1:backbone backbone2:backbone fpn:fpn head:head",
		5:  "backbone1:backbone backbone2:backbone backbone3:backbone fpn:fpn head:head",
		10: "backbone1:backbone backbone2:backbone backbone3:backbone backbone4:backbone backbone5:backbone fpn1:fpn fpn2:fpn fpn3:fpn head1:head head2:head",
	} {
		p, err := partition.Find(m, partition.Options{Count: k})
		if err != nil {
			t.Fatal(err)
		}
		if got := modules(p); got != want {
			t.Errorf("%d modules: %s, want %s", k, got, want)
		}
	}
	for k := 1; k <= 10; k++ {
		p, err := partition.Find(m, partition.Options{Count: k})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Modules) != k {
			t.Errorf("%d modules for %d", len(p.Modules), k)
		}
		again, seen := 0, map[string]bool{}
		for _, mod := range p.Modules {
			if seen[mod.Name] {
				t.Errorf("%d modules: %s stands twice", k, mod.Name)
			}
			seen[mod.Name] = true
			from := map[string]bool{}
			for _, v := range mod.Initializers {
				from[home[v.Name()]] = true
				again++
			}
			if k >= len(found.Modules) && len(from) != 1 {
				t.Errorf("%d modules: %s is of %v", k, mod.Name, slices.Sorted(maps.Keys(from)))
			}
		}
		if again != len(home) || p.Params != found.Params {
			t.Errorf("%d modules: %d trained tensors of %d", k, again, len(home))
		}
	}
}

func TestMoreModulesThanThereAre(t *testing.T) {
	_, err := partition.Find(detector(t), partition.Options{Count: 11})
	var h interface{ Hint() string }
	if err == nil || !errors.As(err, &h) || !strings.Contains(err.Error(), "give 10") || !strings.Contains(h.Hint(), "10 at most") {
		t.Errorf("error %v", err)
	}
}

// A chain without structure is one module per resolution stage; neighbouring stages are merged, smallest first.
func TestStagesAreMergedWithNeighbours(t *testing.T) {
	n, x := newNet(t)
	for _, c := range []int64{4, 8, 8, 16, 32} {
		x = n.conv(x, c, 3, 2)
	}
	n.outputs(x)
	p, err := partition.Find(n.m, partition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Note == "" || len(p.Modules) != 5 {
		t.Fatalf("%d modules, note %q", len(p.Modules), p.Note)
	}
	for k, want := range map[int]string{4: "stage1+stage2 stage3 stage4 stage5", 3: "stage1+stage2+stage3 stage4 stage5", 2: "stage1+stage2+stage3+stage4 stage5"} {
		p, err := partition.Find(n.m, partition.Options{Count: k})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range p.Modules {
			got = append(got, m.Name)
		}
		if strings.Join(got, " ") != want || p.Note == "" {
			t.Errorf("%d modules: %v, note %q; want %s", k, got, p.Note, want)
		}
	}
}

func TestModulesFileByNodes(t *testing.T) {
	n, x := newNet(t)
	w1, w2 := n.weight(4, 3, 3, 3), n.weight(4, 4, 3, 3)
	add := func(name, out string, x, w *ir.Value) *ir.Value {
		return n.b.Node(ir.NodeSpec{Op: "Conv", Name: name, Inputs: []*ir.Value{x, w}, Outputs: []string{out}}, 1)[0]
	}
	n.outputs(add("/head/conv/Conv", "second", add("/body/conv/Conv", "first", x, w1), w2))
	for _, c := range []struct {
		one, two []string
		want     string // modules, or a part of the error
	}{
		{[]string{"/body/*"}, []string{"/head/*"}, "w1 | w2"},
		{[]string{"first"}, []string{"sec*"}, "w1 | w2"},
		{[]string{"*"}, []string{"/head/*"}, `tensor "w2" of node Conv /head/conv/Conv is in two modules, one and two`},
		{[]string{"/body/*"}, nil, `tensor "w2" of node Conv /head/conv/Conv is in no module`},
		{[]string{"*"}, []string{"/neck/*"}, `module two: "/neck/*" fits no node with a trained tensor`},
	} {
		f := &partition.File{Modules: []partition.FileModule{{Name: "one", Nodes: c.one}, {Name: "two", Nodes: c.two}}}
		p, err := partition.Find(n.m, partition.Options{File: f})
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: %v, want %s", c, err, c.want)
			}
			continue
		}
		if got := strings.Join(sets(p, (*ir.Value).Name), " | "); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
	raw := fmt.Sprintf("modules:\n- name: one\n  nodes: [%q]\n- name: two\n  initializers: [w2]\n", "/body/*")
	f, err := partition.ParseFile([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := partition.Find(n.m, partition.Options{File: f}); err != nil || len(p.Modules) != 2 {
		t.Errorf("%v", err)
	}
}
