package grad

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/gradients.md")

const gradientTable = "../../docs/gradients.md"

// columns are the kinds of differences that the table shows.
var columns = []string{"Jacobian", "Hessian", "onnxruntime,"}

// writeTable writes what TestRules measured as a table of operators.
func (r *record) writeTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Gradient rules\n\nEach operator with a gradient, and the largest relative differences over its test cases, in the norm of a tensor: of the product of its\n" +
		"Jacobian with a random direction from central differences in double precision (step 1e-5), of the product of its Hessian from central\n" +
		"differences of the gradient, and of all these values between double precision and what onnxruntime computes in float32. The tests allow\n" +
		"1e-3, 5e-3 and 2e-4. A dash is where there is nothing to compare: a derivative that is zero, or an operator that onnxruntime does not have.\n" +
		"`go test ./passes/grad -run TestRules -update` writes this file.\n\n| operator | cases | first order | second order | onnxruntime |\n| --- | --- | --- | --- | --- |\n")
	cases := map[string]int{}
	for _, c := range ruleCases {
		cases[c.op]++
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if table[name].vjp == nil || strings.HasPrefix(name, Domain) {
			continue
		}
		fmt.Fprintf(&b, "| %s | %d |", name, cases[name])
		for _, kind := range columns {
			if e, ok := r.byOp[kind][name]; ok {
				fmt.Fprintf(&b, " %.0e |", e)
			} else {
				b.WriteString(" - |")
			}
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\nWithout gradient, because their results are piecewise constant, integer, boolean or random: %s.\n", strings.Join(withoutGradient(), ", "))
	tmp := gradientTable + ".tmp"
	if err := os.WriteFile(tmp, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, gradientTable); err != nil {
		t.Fatal(err)
	}
}

func withoutGradient() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if table[name].vjp == nil {
			out = append(out, name)
		}
	}
	return out
}

// TestGradientTable: the document lists every row, and its errors are within what the tests allow.
func TestGradientTable(t *testing.T) {
	raw, err := os.ReadFile(filepath.FromSlash(gradientTable))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for name, r := range table {
		if r.vjp != nil && !strings.HasPrefix(name, Domain) && !strings.Contains(text, "\n| "+name+" | ") {
			t.Errorf("docs/gradients.md has no line for %s: go test ./passes/grad -run TestRules -update", name)
		}
	}
	if !strings.Contains(text, strings.Join(withoutGradient(), ", ")+".") {
		t.Error("docs/gradients.md lists other operators without gradient: go test ./passes/grad -run TestRules -update")
	}
}
