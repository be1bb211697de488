package bop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func shared(t *testing.T, rel string) string {
	t.Helper()
	base := os.Getenv("MQATC_SHARED")
	if base == "" {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for !isFile(filepath.Join(dir, "go.mod")) {
			up := filepath.Dir(dir)
			if up == dir {
				t.Fatal("no go.mod above the test")
			}
			dir = up
		}
		base = filepath.Join(filepath.Dir(dir), "shared")
	}
	path := filepath.Join(base, rel)
	if !isDir(path) {
		t.Skipf("skipped: %s is missing (set MQATC_SHARED)", path)
	}
	return path
}

func TestHope(t *testing.T) {
	d, err := Open(shared(t, "data/hope"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Len() != 5 || len(d.Models()) != 28 {
		t.Fatalf("%d images, %d models", d.Len(), len(d.Models()))
	}
	byID := map[int]*Model{}
	for _, m := range d.Models() {
		byID[m.ID] = m
		mesh, err := m.Mesh()
		if err != nil {
			t.Fatal(err)
		}
		lo, hi := mesh.Vertices[0], mesh.Vertices[0]
		for _, v := range mesh.Vertices {
			for a := range 3 {
				lo[a], hi[a] = min(lo[a], v[a]), max(hi[a], v[a])
			}
		}
		for a := range 3 {
			if math.Abs(lo[a]-m.Min[a]) > 0.5 || math.Abs(hi[a]-lo[a]-m.Size[a]) > 0.5 {
				t.Errorf("object %d: mesh spans %v..%v, models_info %v + %v", m.ID, lo, hi, m.Min, m.Size)
			}
		}
		if len(mesh.Triangles) == 0 {
			t.Errorf("object %d has no triangles", m.ID)
		}
	}
	for i := range d.Len() {
		s, err := d.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Instances) != 18 || s.K[0] != 1390.53 {
			t.Errorf("%s: %d instances, K %v", s.Name, len(s.Instances), s.K)
		}
		for _, in := range s.Instances {
			if in.HasMask() || byID[in.ObjID] == nil {
				t.Errorf("%s: object %d", s.Name, in.ObjID)
			}
			// The projected bounding box of the model surrounds the annotated box.
			x0, x1 := math.Inf(1), math.Inf(-1)
			for _, c := range byID[in.ObjID].Corners() {
				x := in.R[0]*c[0] + in.R[1]*c[1] + in.R[2]*c[2] + in.T[0]
				z := in.R[6]*c[0] + in.R[7]*c[1] + in.R[8]*c[2] + in.T[2]
				u := s.K[0]*x/z + s.K[2]
				x0, x1 = min(x0, u), max(x1, u)
			}
			if in.BoxAll[0] < x0-3 || in.BoxAll[0]+in.BoxAll[2] > x1+3 {
				t.Errorf("%s: object %d at %v..%v, annotated %v", s.Name, in.ObjID, x0, x1, in.BoxAll)
			}
		}
	}
	s, _ := d.Sample(2)
	p, err := s.Pixels()
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "rgb/000002.jpg" || p.W != 1920 || p.H != 1080 || len(p.RGB) != 1920*1080*3 {
		t.Errorf("%s is %dx%d", s.Name, p.W, p.H)
	}
}

// put writes files below dir.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func pngOf(t *testing.T, img image.Image) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const (
	testCamera = `{"cam_K": [100, 0, 2, 0, 110, 1, 0, 0, 1], "depth_scale": 0.5}`
	testGT     = `{"cam_R_m2c": [0,-1,0, 1,0,0, 0,0,1], "cam_t_m2c": [1,2,300], "obj_id": 7}`
	testInfo   = `{"bbox_obj": [1,2,3,4], "bbox_visib": [1,2,2,2], "px_count_all": 12, "visib_fract": 0.25}`
	testPLY    = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n"
	testModels = `{"000007": {"diameter": 1.5, "min_x": 0, "min_y": 0, "min_z": 0, "size_x": 1, "size_y": 1, "size_z": 0,
		"symmetries_discrete": [[-1,0,0,1, 0,-1,0,1, 0,0,1,0, 0,0,0,1]], "symmetries_continuous": [{"axis": [0,0,1], "offset": [0.5,0.5,0]}]}}`
)

func writeDataset(t *testing.T, dir string) {
	img := image.NewNRGBA(image.Rect(0, 0, 4, 3))
	img.SetNRGBA(1, 2, color.NRGBA{10, 20, 30, 0})
	mask := image.NewGray(image.Rect(0, 0, 4, 3))
	mask.SetGray(3, 1, color.Gray{255})
	put(t, dir, map[string]string{
		"models/models_info.json": testModels, "models/obj_000007.ply": testPLY,
		"camera.json":                        `{"fx": 50, "fy": 51, "cx": 2, "cy": 1.5, "depth_scale": 1}`,
		"train/000001/scene_camera.json":     `{"3": ` + testCamera + `}`,
		"train/000001/scene_gt.json":         `{"000003": [` + testGT + `, ` + testGT + `], "5": [` + testGT + `]}`,
		"train/000001/scene_gt_info.json":    `{"3": [` + testInfo + `, ` + testInfo + `]}`,
		"train/000001/rgb/000003.png":        pngOf(t, img),
		"train/000001/mask_visib/3_0.png":    pngOf(t, mask),
		"test_real/000002/scene_gt.json":     `{}`,
		"test_real/000002/rgb/000011.png":    pngOf(t, img),
		"test_real/000002/rgb/thumbnail.png": "not an image",
	})
}

func TestLayoutsAndKeys(t *testing.T) {
	dir := t.TempDir()
	writeDataset(t, dir)
	for _, c := range []struct {
		at, split string
		names     []string
	}{
		{"", "", []string{"test_real/000002/rgb/000011.png", "train/000001/rgb/000003.png"}},
		{"", "test", []string{"test_real/000002/rgb/000011.png"}},
		{"", "train", []string{"train/000001/rgb/000003.png"}},
		{"train", "", []string{"000001/rgb/000003.png"}},
		{"train/000001", "", []string{"rgb/000003.png"}},
	} {
		d, err := Open(filepath.Join(dir, c.at), Options{Split: c.split})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for i := range d.Len() {
			s, err := d.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, s.Name)
		}
		if diff := cmp.Diff(c.names, names); diff != "" {
			t.Errorf("%s %q: %s", c.at, c.split, diff)
		}
		if len(d.Models()) != 1 || !d.Models()[0].Symmetric() || d.Models()[0].ID != 7 {
			t.Errorf("%s: models %v", c.at, d.Models())
		}
	}
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	bare, _ := d.Sample(0)
	if bare.K != [9]float64{50, 0, 2, 0, 51, 1.5, 0, 0, 1} || len(bare.Instances) != 0 {
		t.Errorf("camera.json was not used: %v", bare)
	}
	s, _ := d.Sample(1)
	if s.DepthScale != 0.5 || s.K != [9]float64{100, 0, 2, 0, 110, 1, 0, 0, 1} || len(s.Instances) != 2 {
		t.Fatalf("%+v", s)
	}
	in := s.Instances[0]
	if in.ObjID != 7 || in.T != [3]float64{1, 2, 300} || in.R[1] != -1 || in.BoxVisible != [4]float64{1, 2, 2, 2} || in.Visible != 0.25 {
		t.Errorf("%+v", in)
	}
	m, err := in.Mask()
	if err != nil {
		t.Fatal(err)
	}
	if !m.On(3, 1) || m.On(2, 1) || m.On(4, 1) || m.On(-1, 0) {
		t.Error("mask")
	}
	if s.Instances[1].HasMask() {
		t.Error("instance 1 has a mask")
	}
	p, err := s.Pixels()
	if err != nil {
		t.Fatal(err)
	}
	if got := p.RGB[3*(2*4+1):][:3]; !bytes.Equal(got, []uint8{10, 20, 30}) {
		t.Errorf("pixel %v", got)
	}
	mesh, err := d.Models()[0].Mesh()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][3]int{{0, 1, 2}, {0, 2, 3}}, mesh.Triangles); diff != "" {
		t.Error(diff)
	}
	if c := d.Models()[0].Corners(); c[4] != [3]float64{1, 0, 0} || c[3] != [3]float64{0, 1, 0} {
		t.Errorf("corners %v", c)
	}
}

func TestBrokenDatasetsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		file, data, want string
	}{
		"bad json":       {"train/000001/scene_gt.json", `{"3": [`, "scene_gt.json"},
		"bad key":        {"train/000001/scene_gt.json", `{"x": []}`, `"x" is not a number`},
		"twice":          {"train/000001/scene_gt.json", `{"3": [], "03": []}`, "occurs twice"},
		"reflection":     {"train/000001/scene_gt.json", `{"3": [{"cam_R_m2c": [-1,0,0,0,1,0,0,0,1], "cam_t_m2c": [0,0,1], "obj_id": 1}, {"cam_R_m2c": [-1,0,0,0,1,0,0,0,1], "cam_t_m2c": [0,0,1], "obj_id": 1}]}`, "reflection"},
		"no rotation":    {"train/000001/scene_gt.json", `{"3": [{"cam_R_m2c": [2,0,0,0,1,0,0,0,1], "cam_t_m2c": [0,0,1], "obj_id": 1}, {"cam_R_m2c": [2,0,0,0,1,0,0,0,1], "cam_t_m2c": [0,0,1], "obj_id": 1}]}`, "not a rotation"},
		"short":          {"train/000001/scene_gt.json", `{"3": [{"cam_R_m2c": [2,0,0,0,1,0,0,0], "cam_t_m2c": [0,0,1], "obj_id": 1}, {"cam_R_m2c": [2,0,0,0,1,0,0,0], "cam_t_m2c": [0,0,1], "obj_id": 1}]}`, "8 numbers, not 9"},
		"infos":          {"train/000001/scene_gt_info.json", `{"3": [` + testInfo + `]}`, "1 instances"},
		"camera":         {"train/000001/scene_camera.json", `{"3": {"cam_K": [0,0,0,0,0,0,0,0,0]}}`, "not a camera matrix"},
		"models":         {"models/models_info.json", `{"1": {"diameter": 0}}`, "diameter"},
		"same image":     {"train/000001/rgb/3.jpg", ``, "same image"},
		"fixed camera":   {"camera.json", `[]`, "camera.json"},
		"short symmetry": {"models/models_info.json", `{"1": {"diameter": 1, "symmetries_discrete": [[1]]}}`, "symmetries_discrete"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeDataset(t, dir)
			put(t, dir, map[string]string{c.file: c.data})
			_, err := Open(dir, Options{})
			if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), dir, ""), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	empty := t.TempDir()
	if _, err := Open(empty, Options{}); err == nil || !strings.Contains(err.Error(), "no images in "+empty) {
		t.Errorf("empty folder: %v", err)
	}
	if _, err := Open(filepath.Join(empty, "absent"), Options{}); err == nil {
		t.Error("absent folder opened")
	}
}

func TestHostileImages(t *testing.T) {
	dir := t.TempDir()
	writeDataset(t, dir)
	// A PNG header that promises 2^31 x 2^31 pixels.
	big := []byte(pngOf(t, image.NewGray(image.Rect(0, 0, 1, 1))))
	put(t, dir, map[string]string{"train/000001/rgb/000003.png": string(hugePNG(big))})
	d, err := Open(dir, Options{Split: "train"})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := d.Sample(0)
	if _, err := s.Pixels(); err == nil || !strings.Contains(err.Error(), "000003.png") {
		t.Errorf("huge image: %v", err)
	}
}

// hugePNG rewrites width and height of a PNG to 100,000 each, with the right checksum.
func hugePNG(b []byte) []byte {
	ihdr := b[12:29]
	binary.BigEndian.PutUint32(ihdr[4:], 100000)
	binary.BigEndian.PutUint32(ihdr[8:], 100000)
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(ihdr))
	return b
}

func TestPLYBinaryEqualsASCII(t *testing.T) {
	want, err := parsePLY([]byte(testPLY))
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		name := "binary_little_endian"
		if order == binary.AppendByteOrder(binary.BigEndian) {
			name = "binary_big_endian"
		}
		b := []byte("ply\r\nformat " + name + " 1.0\r\ncomment x\r\nelement vertex 4\r\nproperty uchar red\r\nproperty double x\r\nproperty float32 y\r\nproperty short z\r\nelement face 1\r\nproperty list uint8 uint32 vertex_index\r\nend_header\r\n")
		for _, v := range want.Vertices {
			b = append(b, 9)
			b = order.AppendUint64(b, math.Float64bits(v[0]))
			b = order.AppendUint32(b, math.Float32bits(float32(v[1])))
			b = order.AppendUint16(b, uint16(int16(v[2])))
		}
		b = append(b, 4)
		for k := range uint32(4) {
			b = order.AppendUint32(b, k)
		}
		got, err := parsePLY(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		for n := range b {
			if _, err := parsePLY(b[:n]); err == nil {
				t.Fatalf("%s cut to %d of %d bytes is read", name, n, len(b))
			}
		}
	}
}

func FuzzPLY(f *testing.F) {
	f.Add([]byte(testPLY))
	f.Add([]byte("ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nproperty float y\nproperty float z\nend_header\n"))
	f.Add([]byte("ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty list double char q\nproperty float x\nproperty float y\nproperty float z\nend_header\n\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parsePLY(data)
		if err == nil && (len(m.Vertices) == 0 || len(m.Vertices) > len(data)) {
			t.Errorf("%d vertices from %d bytes", len(m.Vertices), len(data))
		}
	})
}

func FuzzSceneJSON(f *testing.F) {
	f.Add([]byte(`{"3": [` + testGT + `]}`))
	f.Add([]byte(`{"3": [null, {"cam_R_m2c": null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "scene_gt.json")
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		m, err := readKeyed[[]gtJSON](path)
		if err != nil {
			return
		}
		for _, gts := range m {
			for _, g := range gts {
				if in, err := g.instance(); err == nil {
					if e := checkRotation(in.R); e != nil {
						t.Error(e)
					}
				}
			}
		}
	})
}

func ExampleOpen() {
	_, err := Open("testdata/absent", Options{})
	fmt.Println(err)
	// Output: bop: stat testdata/absent: no such file or directory
}
