package text_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/text"
)

// sharedModels lists the real networks that stand beside the repository.
func sharedModels(t *testing.T) []string {
	t.Helper()
	dir := os.Getenv("MQATC_SHARED")
	if dir == "" {
		dir, _ = os.Getwd()
		for {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				break
			}
			if up := filepath.Dir(dir); up != dir {
				dir = up
				continue
			}
			break
		}
		dir = filepath.Join(dir, "..", "shared")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "models", "*.onnx"))
	if len(files) == 0 {
		t.Skipf("no *.onnx in %s/models: set MQATC_SHARED to the folder that has them", dir)
	}
	return files
}

func load(t *testing.T, path string) *ir.Model {
	t.Helper()
	m, err := format.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func marshal(t *testing.T, m *ir.Model) []byte {
	t.Helper()
	b, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRealModelsReadBackEqual(t *testing.T) {
	for _, path := range sharedModels(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m := load(t, path)
			dir := t.TempDir()
			weights, err := os.Create(filepath.Join(dir, "weights.bin"))
			if err != nil {
				t.Fatal(err)
			}
			defer weights.Close()
			var once bytes.Buffer
			if err := text.Write(&once, m, text.NewWeights("weights.bin", weights)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "m.onnxtxt")
			if err := os.WriteFile(file, once.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			back, err := text.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(marshal(t, m), marshal(t, back)) {
				t.Error("the protobuf bytes differ after a round trip with a weights file")
			}
			inline, err := text.Format(m)
			if err != nil {
				t.Fatal(err)
			}
			if back, err = text.Parse(path, []byte(inline), nil); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(marshal(t, m), marshal(t, back)) {
				t.Error("the protobuf bytes differ after a round trip with all tensors written out")
			}
			var again bytes.Buffer
			if err := text.Write(&again, back, text.NewWeights("weights.bin", new(bytes.Buffer))); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(once.Bytes(), again.Bytes()) {
				t.Error("the text differs after a round trip")
			}
		})
	}
}

func TestEqualBytesAreStoredOnce(t *testing.T) {
	var b bytes.Buffer
	w := text.NewWeights("w", &b)
	one := bytes.Repeat([]byte{1}, 100)
	for i, want := range []int64{0, 0, 128} {
		raw := one
		if i == 2 {
			raw = bytes.Repeat([]byte{2}, 10)
		}
		if off, err := w.Add(raw); err != nil || off != want {
			t.Errorf("tensor %d at %d (%v), want %d", i, off, err, want)
		}
	}
	if b.Len() != 138 {
		t.Errorf("%d bytes written, want 138", b.Len())
	}
}

func TestReferencesStayInsideTheFolder(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "in")
	if err := os.Mkdir(inner, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{filepath.Join(dir, "w.bin"): 400, filepath.Join(inner, "w.bin"): 400} {
		if err := os.WriteFile(name, make([]byte, size), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../w.bin", filepath.Join(inner, "link.bin")); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	for _, c := range []struct {
		ref string
		ok  bool
	}{
		{`"location": "w.bin"`, true},
		{`"location": "w.bin", "offset": "1"`, false},
		{`"location": "w.bin", "offset": "-4"`, false},
		{`"location": "w.bin", "length": "8"`, false},
		{`"location": "../w.bin"`, false},
		{`"location": "link.bin"`, false},
		{`"location": "` + dir + `/w.bin"`, false},
		{`"location": "."`, false},
		{`"location": ""`, false},
	} {
		src := "<ir_version: 8, opset_import: [\"\": 17]>\ng () => ()\n<float[100] w = [" + c.ref + "]>\n{}"
		file := filepath.Join(inner, "m.onnxtxt")
		if err := os.WriteFile(file, []byte(src), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := text.Load(file); (err == nil) != c.ok {
			t.Errorf("%s: error %v", c.ref, err)
		}
	}
}
