package pose_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"mqatc/runtime/data/bop"
	"mqatc/runtime/pose"
)

// Another method's predictions on a real image of 18 objects: most lie within
// 0.1 d of the annotations if conventions and units are read right.
func TestHopePredictions(t *testing.T) {
	dir := sharedDir(t, "data/hope")
	d, err := bop.Open(dir, bop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	objects := map[int]*pose.Object{}
	for _, m := range d.Models() {
		mesh, err := m.Mesh()
		if err != nil {
			t.Fatal(err)
		}
		pts := mesh.Vertices[:min(len(mesh.Vertices), 500)]
		objects[m.ID] = &pose.Object{ID: m.ID, Surface: pose.NewSurface(pts), Diameter: m.Diameter, Symmetric: m.Symmetric()}
	}
	data, err := os.ReadFile(filepath.Join(dir, "diff_dope.json"))
	if err != nil {
		t.Fatal(err)
	}
	var predicted map[string][]struct {
		R     [9]float64 `json:"cam_R_m2c"`
		T     [3]float64 `json:"cam_t_m2c"`
		ObjID int        `json:"obj_id"`
	}
	if err := json.Unmarshal(data, &predicted); err != nil {
		t.Fatal(err)
	}
	var results []pose.Result
	for i := range d.Len() {
		s, err := d.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		if predicted[strconv.Itoa(i)] == nil {
			continue
		}
		for j, in := range s.Instances {
			truth := pose.Pose{R: in.R, T: in.T}
			var est *pose.Pose
			if p := predicted[strconv.Itoa(i)][j]; p.ObjID == in.ObjID {
				est = &pose.Pose{R: p.R, T: p.T}
			}
			results = append(results, objects[in.ObjID].Measure(est, truth))
		}
	}
	s, err := pose.Summarize(d.Len(), results, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", s.Score)
	if s.Poses != 18 || s.Found != 18 || s.ADI01 < 0.9 || s.ADD05 < 0.9 || s.ADI01 < s.ADD01 {
		t.Errorf("%+v", s.Score)
	}
	if len(s.Objects) != 15 || len(s.Depths) != 3 {
		t.Errorf("%d objects, %d depth ranges", len(s.Objects), len(s.Depths))
	}
}

// sharedDir is a folder of data that is not part of the repository.
func sharedDir(t *testing.T, rel string) string {
	t.Helper()
	base := os.Getenv("MQATC_SHARED")
	if base == "" {
		base = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(base, rel)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("skipped: %s is missing (set MQATC_SHARED)", path)
	}
	return path
}
