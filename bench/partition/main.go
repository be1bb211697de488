// Command partition reads what export.py made three ways (as exported; without metadata; with every name replaced by t1, t2, ...) and
// prints per cent of the weights' elements that are put into the module that owns them in PyTorch.
//
// usage: go run ./bench/partition [-misses] OUT [NETWORK...]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"mqatc/compiler/frontend"
	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/clean"
	"mqatc/passes/partition"
	"mqatc/passes/pass"
)

// row is a file of index.json.
type row struct {
	File     string            `json:"file"`
	Network  string            `json:"network"`
	Exporter string            `json:"exporter"`
	Truth    map[string]string `json:"truth"`
	Error    string            `json:"error"`
}

func main() {
	misses := flag.Bool("misses", false, "list what is in the wrong module")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: partition [-misses] OUT [NETWORK...]")
		os.Exit(2)
	}
	if err := table(flag.Arg(0), flag.Args()[1:], *misses); err != nil {
		fmt.Fprintln(os.Stderr, "partition:", err)
		os.Exit(1)
	}
}

func table(dir string, only []string, misses bool) error {
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return err
	}
	var index struct {
		Torch string `json:"torch"`
		Rows  []row  `json:"rows"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "torch %s\texporter\tby\tas exported\tno metadata\tanonymous\tmodules\tanonymous modules\n", index.Torch)
	var wrong []string
	for _, r := range index.Rows {
		if len(only) > 0 && !slices.Contains(only, r.Network) {
			continue
		}
		if r.Error != "" {
			fmt.Fprintf(w, "%s\t%s\trefuses\n", r.Network, r.Exporter)
			continue
		}
		var scores [3]score
		for i := range scores {
			if scores[i], err = look(filepath.Join(dir, r.File), r.Truth, i); err != nil {
				return fmt.Errorf("%s: %w", r.File, err)
			}
			for _, s := range scores[i].wrong {
				wrong = append(wrong, fmt.Sprintf("%s, %s: %s", r.File, [...]string{"as exported", "no metadata", "anonymous"}[i], s))
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Network, r.Exporter, scores[0].method, scores[0].percent(), scores[1].percent(),
			scores[2].percent(), scores[0].modules, scores[2].modules)
	}
	if err := w.Flush(); err != nil || !misses {
		return err
	}
	for _, s := range wrong {
		fmt.Println(s)
	}
	return nil
}

// score is how a division agrees with the truth.
type score struct {
	right, total    int64
	method, modules string
	wrong           []string
}

func (s score) percent() string {
	if s.right == s.total {
		return "100"
	}
	return fmt.Sprintf("%.2f", 100*float64(s.right)/float64(s.total))
}

// look divides the model at path: 0 as it is, 1 without metadata, 2 without any name.
func look(path string, truth map[string]string, blind int) (score, error) {
	m, err := format.Load(path)
	if err != nil {
		return score{}, err
	}
	if _, err := frontend.Infer(m, nil); err != nil {
		return score{}, err
	}
	if _, err := clean.New().Run(pass.NewCtx(context.Background(), pass.Env{}, clean.Info.Name), m); err != nil {
		return score{}, err
	}
	old := func(v *ir.Value) string { return v.Name() }
	if blind > 0 {
		forget(m)
	}
	if blind > 1 {
		names, err := m.Anonymize()
		if err != nil {
			return score{}, err
		}
		old = func(v *ir.Value) string { return names[v.Name()] }
	}
	p, err := partition.Find(m, partition.Options{})
	if err != nil {
		return score{}, err
	}
	return compare(p, truth, old), nil
}

// forget removes what exporters write beside names.
func forget(m *ir.Model) {
	m.Meta, m.Graph.Meta = nil, nil
	for _, n := range m.Graph.Nodes() {
		n.Doc, n.Meta = "", nil
		for _, o := range n.Outputs() {
			o.Meta, o.Doc = nil, ""
		}
	}
	for _, v := range m.Graph.Initializers() {
		v.Meta, v.Doc = nil, ""
	}
}

// compare pairs modules found with modules known so that the most elements agree, each with one at most.
func compare(p *partition.Partition, truth map[string]string, name func(*ir.Value) string) score {
	s := score{method: p.Method}
	overlap := map[string][]int64{}
	of := map[*ir.Value]int{}
	for i, m := range p.Modules {
		s.modules += fmt.Sprintf("%s:%d ", m.Name, m.Elements())
		for _, w := range m.Quantizable() {
			of[w.Value] = i
			t := truth[name(w.Value)]
			if t == "" {
				continue
			}
			if overlap[t] == nil {
				overlap[t] = make([]int64, len(p.Modules))
			}
			overlap[t][i] += w.Elements()
			s.total += w.Elements()
		}
	}
	for _, w := range p.Outside {
		if t := truth[name(w.Value)]; t != "" && len(w.Value.Init().Dims()) > 1 {
			s.total += w.Elements()
			s.wrong = append(s.wrong, fmt.Sprintf("%s of %s is in no module", name(w.Value), t))
		}
	}
	var known []string
	for t := range overlap {
		known = append(known, t)
	}
	slices.Sort(known)
	best, pair := int64(-1), map[string]int{}
	var try func(k int, used map[int]bool, sum int64, at map[string]int)
	try = func(k int, used map[int]bool, sum int64, at map[string]int) {
		if k == len(known) {
			if sum > best {
				best, pair = sum, map[string]int{}
				for t, i := range at {
					pair[t] = i
				}
			}
			return
		}
		at[known[k]] = -1
		try(k+1, used, sum, at)
		for i := range p.Modules {
			if !used[i] {
				used[i], at[known[k]] = true, i
				try(k+1, used, sum+overlap[known[k]][i], at)
				used[i] = false
			}
		}
		delete(at, known[k])
	}
	try(0, map[int]bool{}, 0, map[string]int{})
	s.right = best
	for _, t := range known {
		if i := pair[t]; i >= 0 && p.Modules[i].Role != t {
			s.wrong = append(s.wrong, fmt.Sprintf("%s has the role %s, not %s", p.Modules[i].Name, p.Modules[i].Role, t))
		}
	}
	for _, m := range p.Modules {
		for _, w := range m.Quantizable() {
			if t := truth[name(w.Value)]; t != "" && pair[t] != of[w.Value] {
				s.wrong = append(s.wrong, fmt.Sprintf("%s %d of %s is in %s, read by %v", name(w.Value), w.Elements(), t, m.Name, w.Nodes[0]))
			}
		}
	}
	return s
}
