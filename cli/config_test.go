package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestConfigFile(t *testing.T) {
	var out, errs bytes.Buffer
	app := newApp(&out, &errs)
	path := filepath.Join(t.TempDir(), "mqat.yaml")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("compress: 8x\ndata: images\nassign: [backbone=8, fpn=2]\nseed: 7\n")
	got, err := withConfig(app, []string{"mqatc", "quantize", "--config", path, "--seed", "3", "--", "net.onnx"})
	want := []string{"mqatc", "quantize", "--compress=8x", "--data=images", "--assign=backbone=8", "--assign=fpn=2", "--config", path, "--seed", "3", "--", "net.onnx"}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v\n%q\n%q", err, got, want)
	}
	for text, says := range map[string]string{
		"compres: 8x\n": `no flag "compres"`, "compress: {a: 1}\n": "neither a word", "- 1\n": "no list of flags", "config: x\n": `no flag "config"`,
	} {
		write(text)
		if _, err := withConfig(app, []string{"mqatc", "quantize", "--config=" + path}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if code := Main([]string{"mqatc", "quantize", "net.onnx", "--config", path + ".missing"}, &out, &errs); code != 2 || out.Len() > 0 {
		t.Errorf("missing file: exit %d, stdout %q", code, out.String())
	}
}
