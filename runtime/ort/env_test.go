package ort_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
)

func TestInfo(t *testing.T) {
	l := orttest.TestLibrary(t)
	inf, err := ort.Info()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", inf)
	if inf.Library.Path != l.Path || inf.Version == "" || inf.Build == "" || len(inf.SHA256) != 64 {
		t.Errorf("incomplete: %+v", inf)
	}
	if inf.MaxOpset < 25 || inf.MaxOpset > 60 || inf.MaxIR < 11 || inf.MaxIR > 40 {
		t.Errorf("opset %d, IR %d", inf.MaxOpset, inf.MaxIR)
	}
	if !slices.Contains(inf.Providers, "CPUExecutionProvider") || !slices.Contains(inf.Devices, "cpu") {
		t.Errorf("providers %v, devices %v", inf.Providers, inf.Devices)
	}
	for _, d := range []string{"cuda", "tensorrt", "directml", "coreml"} {
		_, err := ort.NewSession(sumAndProduct(t), ort.SessionOptions{Device: d})
		if usable := slices.Contains(inf.Devices, d); usable && err != nil {
			t.Errorf("%s is listed, but: %v", d, err)
		} else if !usable && (err == nil || !strings.Contains(err.Error(), "device "+d) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s is not listed, but: %v", d, err)
		} else {
			t.Log(err)
		}
	}
}

// The library must not leave an identifier or a telemetry database in the user's folders.
func TestNothingLeftAtHome(t *testing.T) {
	l := orttest.TestLibrary(t)
	home := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestInfo$")
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS", "TF_BUILD":
		default:
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+home, ort.EnvLibrary+"="+l.Path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	err := filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
