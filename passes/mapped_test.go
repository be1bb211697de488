package passes_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/mapped"
	"mqatc/onnx/text"
	"mqatc/passes"
	"mqatc/passes/pass"
	"mqatc/passes/quant"
)

// lost is a model, read from a file by load, whose weight is a view of a file that has become shorter.
func lost(t *testing.T, asText bool) *ir.Model {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("files are mapped, and can be cut short meanwhile, on Linux")
	}
	m := ir.NewModel("large", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(17<<20)))
	if err != nil {
		t.Fatal(err)
	}
	data, err := ir.FromFloat32s(make([]float32, 17<<20), 17<<20)
	if err != nil {
		t.Fatal(err)
	}
	w, err := m.Graph.AddInitializer("w", data)
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Graph.Append(ir.NodeSpec{Op: "Add", Inputs: []*ir.Value{x, w}, Outputs: []string{"y"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.AddOutput(n.Output(0)); err != nil {
		t.Fatal(err)
	}
	path, cut := filepath.Join(t.TempDir(), "large.onnx"), ""
	if asText {
		path, cut = filepath.Join(filepath.Dir(path), "large.onnxtxt"), filepath.Join(filepath.Dir(path), "weights.bin")
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		blob, err := os.Create(cut)
		if err != nil {
			t.Fatal(err)
		}
		defer blob.Close()
		if err := text.Write(out, m, text.NewWeights("weights.bin", blob)); err != nil {
			t.Fatal(err)
		}
		m, err = text.Load(path)
		if err != nil {
			t.Fatal(err)
		}
	} else {
		cut = path
		if _, err := format.Save(m, path, format.SaveOptions{}); err != nil {
			t.Fatal(err)
		}
		if m, err = format.Load(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(cut, 1000); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAMappedFileThatIsCutShort(t *testing.T) {
	reads := pass.Pass{Info: passes.Table[0], Run: func(_ *pass.Ctx, m *ir.Model) (bool, error) {
		w, err := m.Graph.Value("w").Init().Float32s()
		if err != nil {
			return false, err
		}
		return w[len(w)-1] == 5, nil
	}}
	for name, asText := range map[string]bool{"onnx": false, "text": true} {
		t.Run(name, func(t *testing.T) {
			m := lost(t, asText)
			var cut *mapped.CutShort
			_, err := (&passes.Pipeline{Passes: []pass.Pass{reads}}).Run(context.Background(), m)
			var where *passes.Error
			if !errors.As(err, &cut) || !errors.As(err, &where) {
				t.Errorf("the pass gave %v", err)
			}
			d, err := passes.NewDump(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if _, err = (&passes.Pipeline{Dump: d}).Run(context.Background(), m); !errors.As(err, &cut) {
				t.Errorf("the dump gave %v", err)
			}
		})
	}
}

func TestScalesOfAFileThatIsCutShort(t *testing.T) {
	w, err := lost(t, true).Graph.Value("w").Init().Float32s()
	if err != nil {
		t.Fatal(err)
	}
	var cut *mapped.CutShort
	if _, err = quant.Scales(w, []int64{17, 1 << 20}, 0, quant.Grid{Lo: -7, Hi: 7}); !errors.As(err, &cut) {
		t.Errorf("scales gave %v", err)
	}
}
