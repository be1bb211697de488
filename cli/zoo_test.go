package cli

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/ort/orttest"
	"mqatc/testmodels/zoo"
)

// A network without names computes what the one with names does, and a modules file divides as what it was written from.
func TestZooWithoutNamesAndByModulesFile(t *testing.T) {
	orttest.TestLibrary(t)
	for _, a := range zoo.Table {
		t.Run(a.Name, func(t *testing.T) {
			tmp := t.TempDir()
			named, nameless := filepath.Join(tmp, "named.onnx"), filepath.Join(tmp, "nameless.onnx")
			args := []string{"zoo", a.Name, "--size", "32", "--width", "0.0625", "-o"}
			command(t, append(slices.Clone(args), named)...)
			command(t, append(slices.Clone(args), nameless, "--anonymous")...)
			var outs [2][]*ir.Tensor
			for i, path := range []string{named, nameless} {
				m, err := format.Load(path)
				if err != nil {
					t.Fatal(err)
				}
				r := rand.New(rand.NewPCG(1, 2))
				feeds := map[string]*ir.Tensor{}
				for _, v := range m.Graph.Inputs() {
					feeds[v.Name()] = randomInput(t, r, v)
				}
				got := runFile(t, path, feeds)
				for _, o := range m.Graph.Outputs() {
					outs[i] = append(outs[i], got[o.Name()])
				}
			}
			for i, x := range outs[0] {
				if y := outs[1][i]; !slices.Equal(x.Dims(), y.Dims()) || !bytes.Equal(x.Raw(), y.Raw()) {
					t.Errorf("output %d differs", i)
				}
			}
			file := filepath.Join(tmp, "modules.yaml")
			var docs [2]partitionDoc
			for i, out := range []string{command(t, "partition", named, "-o", file, "--json"), command(t, "partition", named, "--modules", file, "--json")} {
				if err := json.Unmarshal([]byte(out), &docs[i]); err != nil {
					t.Fatal(err)
				}
				docs[i].Method = ""
			}
			x, err := json.Marshal(docs[0])
			if err != nil {
				t.Fatal(err)
			}
			if y, err := json.Marshal(docs[1]); err != nil || !bytes.Equal(x, y) {
				t.Errorf("%v: by file\n%s\nfound\n%s", err, y, x)
			}
		})
	}
}
