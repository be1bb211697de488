package pose

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func shared(t *testing.T, rel string) string {
	t.Helper()
	base := os.Getenv("MQATC_SHARED")
	if base == "" {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				break
			}
			up := filepath.Dir(dir)
			if up == dir {
				t.Skip("skipped: no go.mod above the test")
			}
			dir = up
		}
		base = filepath.Join(filepath.Dir(dir), "shared")
	}
	path := filepath.Join(base, rel)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("skipped: %s is missing (set MQATC_SHARED)", path)
	}
	return path
}

// The bounds are what PoseLib reaches on these frames, refined by the
// confidences in the second case.
func TestSpeedFrames(t *testing.T) {
	l, err := ReadLandmarks(shared(t, "data/speed"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		weighted   bool
		add, score float64
	}{{false, 0.970, 0.0093}, {true, 0.9775, 0.0081}} {
		r, err := l.Evaluate(Options{}, c.weighted)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("weighted %v: %+v", c.weighted, *r)
		if r.Frames != 6000 || r.ADD01 < c.add || r.SpeedScore > c.score || r.ADD05 < r.ADD01 {
			t.Errorf("weighted %v: %+v, want ADD-0.1d %v and score %v", c.weighted, *r, c.add, c.score)
		}
	}
}

// writeLandmarks makes a folder of 2 frames with 5 landmarks.
func writeLandmarks(t *testing.T, dir string) {
	t.Helper()
	model := [][3]float64{{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 0.5}}
	var text string
	for _, p := range model {
		text += fmt.Sprintln(p[0], p[1], p[2])
	}
	k := [9]float64{100, 0, 50, 0, 100, 40, 0, 0, 1}
	frames := [][7]float64{{1, 0, 0, 0, 0.1, -0.2, 5}, {0.5, 0.5, -0.5, 0.5, 0, 0.3, 7}}
	var px, truth []byte
	for _, f := range frames {
		r, err := RotationOf([4]float64(f[:4]))
		if err != nil {
			t.Fatal(err)
		}
		p := Pose{R: r, T: [3]float64(f[4:])}
		for _, x := range model {
			u, v, _ := p.Project(k, x)
			for _, n := range []float64{u, v, 0.9} {
				px = binary.LittleEndian.AppendUint64(px, math.Float64bits(n))
			}
		}
		for _, n := range f {
			truth = binary.LittleEndian.AppendUint64(truth, math.Float64bits(n))
		}
	}
	array := func(shape string, body []byte) string {
		dict := "{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + ", }\n"
		return "\x93NUMPY\x01\x00" + string([]byte{byte(len(dict)), 0}) + dict + string(body)
	}
	for name, data := range map[string]string{
		"K.txt": "100 0 50\n0 100 40\n0 0 1\n", "landmarks_3d_m.txt": text,
		"landmarks_px_conf.npy": array("(2, 5, 3)", px), "poses_qwxyz_txyz.npy": array("(2, 7)", truth),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpeedDir(t *testing.T) {
	dir := t.TempDir()
	if _, err := SpeedDir(dir, Options{}, false); err == nil || !strings.Contains(err.Error(), "no landmark folder") {
		t.Errorf("empty folder: %v", err)
	}
	writeLandmarks(t, dir)
	for _, weighted := range []bool{false, true} {
		r, err := SpeedDir(dir, Options{}, weighted)
		if err != nil {
			t.Fatal(err)
		}
		if r.Frames != 2 || r.ADD01 != 1 || r.ADD05 != 1 || r.SpeedScore > 1e-6 || r.MicrosPerFrame <= 0 {
			t.Errorf("%+v", *r)
		}
	}
	for file, data := range map[string]string{
		"K.txt": "1 2 3\n", "landmarks_3d_m.txt": "1 2 x\n", "landmarks_px_conf.npy": "x", "poses_qwxyz_txyz.npy": "",
	} {
		writeLandmarks(t, dir)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := SpeedDir(dir, Options{}, false); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
