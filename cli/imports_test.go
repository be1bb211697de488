package cli

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed says which top-level folders the packages of a folder may import, their own always included.
var allowed = map[string][]string{
	"onnx":       {},
	"passes":     {"onnx"},
	"runtime":    {"onnx"},
	"compiler":   {"onnx", "passes", "runtime"},
	"testmodels": {"onnx", "runtime"},
	"cli":        {"onnx", "passes", "runtime", "compiler", "testmodels"},
	"bench":      {"onnx", "passes", "runtime", "compiler", "testmodels", "cli"},
}

// ownFree lists inner packages that import nothing else of the module.
var ownFree = []string{"mqatc/onnx/ir", "mqatc/onnx/pb"}

func TestImportsGoOneWay(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "mqatc/...")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(out)
	count := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		count++
		parts := strings.Split(p.ImportPath, "/")
		if len(parts) < 2 {
			t.Errorf("%s: no Go package stands in the root", p.ImportPath)
			continue
		}
		folder := parts[1]
		if _, ok := allowed[folder]; !ok {
			t.Errorf("%s: folder %s is not part of the house", p.ImportPath, folder)
		}
		if folder == "runtime" && len(parts) == 2 {
			t.Errorf("%s would shadow the standard library's package", p.ImportPath)
		}
		for _, imp := range p.Imports {
			rest, ok := strings.CutPrefix(imp, "mqatc/")
			if !ok {
				continue
			}
			to, _, _ := strings.Cut(rest, "/")
			if to != folder && !slices.Contains(allowed[folder], to) {
				t.Errorf("%s imports %s: %s may not import %s", p.ImportPath, imp, folder, to)
			}
			if slices.Contains(ownFree, p.ImportPath) {
				t.Errorf("%s imports %s, it must import nothing of this module", p.ImportPath, imp)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if count < 10 {
		t.Fatalf("go list found %d packages", count)
	}
}
