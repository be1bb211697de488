package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/text"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/pack"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"mqatc": func() { os.Exit(Main(os.Args, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/script. Beside testscript's own commands there are
//
//	exits CODE COMMAND...    run a command that must end with this exit code
//	onnx IN.onnxtxt OUT.onnx make an ONNX file of a text; WIDE as a third argument puts its tensors into OUT.onnx.data
//	cut N IN OUT             keep the first N bytes
//	packed DIR               write a folder with weights.bin, .json and .h: "a" in 2 bits, "b" in 3
//	fails                    the last stderr is an error line and a hint, and stdout is empty
func TestScripts(t *testing.T) {
	lib := orttest.TestLibrary(t)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("ONNXRUNTIME_SHARED_LIBRARY_PATH", lib.Path)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "onnx": scriptONNX, "cut": scriptCut, "packed": scriptPacked, "fails": scriptFails,
		},
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func scriptONNX(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: onnx IN.onnxtxt OUT.onnx [WIDE]")
	}
	m, err := text.Load(ts.MkAbs(args[0]))
	ts.Check(err)
	o := format.SaveOptions{}
	if len(args) > 2 {
		o = format.SaveOptions{ExternalFile: filepath.Base(args[1]) + ".data", Threshold: 1}
	}
	_, err = format.Save(m, ts.MkAbs(args[1]), o)
	ts.Check(err)
}

func scriptCut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: cut N IN OUT")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	raw, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if n >= len(raw) {
		ts.Fatalf("%s has only %d bytes", args[1], len(raw))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), raw[:n], 0o644))
}

func scriptPacked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: packed DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	m := ir.NewModel("packed", 25)
	for _, w := range []struct {
		name string
		d    ir.DType
		v    []int64
	}{{"a", ir.Int2, []int64{-1, 0, 1, 1, 1, -1}}, {"b", ir.Int4, []int64{-4, 3, 2, 0, 0, 1}}} {
		t, err := ir.PackInts(w.d, w.v, 2, 3)
		ts.Check(err)
		_, err = m.Graph.AddInitializer(w.name, t)
		ts.Check(err)
	}
	placed, err := format.Save(m, filepath.Join(dir, "model.onnx"), format.SaveOptions{ExternalFile: "weights.bin", External: func(*ir.Value) bool { return true }})
	ts.Check(err)
	_, err = pack.Write(filepath.Join(dir, "weights.bin"), []pack.Tensor{
		{Name: "a", Module: "backbone", Shape: []int64{2, 3}, Bits: 2, Packing: "int2", Axis: 0, Scales: []float32{0.5, 0.25}},
		{Name: "b", Module: "head", Shape: []int64{2, 3}, Bits: 3, Packing: "int4", Axis: -1, Scales: []float32{0.125}},
	}, placed)
	ts.Check(err)
}

func scriptFails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: fails")
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("stdout of a failure: %q", out)
	}
	if e := ts.ReadFile("stderr"); !twoLines.MatchString(e) {
		ts.Fatalf("stderr does not end with an error line and a hint:\n%s", e)
	}
}
