package cubesat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strconv"

	"mqatc/onnx/format"
)

// maxWritten is what six digits of a BOP image name allow.
const maxWritten = 1_000_000

// split and scene name the folder of the images inside the data set.
const (
	split = "train"
	scene = "000001"
)

// Write makes a data set of n images in the BOP layout: models/, camera.json and
// train/000001/ with rgb/, mask_visib/, scene_camera.json, scene_gt.json and
// scene_gt_info.json. Units are mm, object 1 is the satellite. The folder must
// be absent or empty; it appears whole, by a rename, or not at all. Its bytes
// depend on cfg and n alone. progress, if not nil, is called from several goroutines.
func Write(dir string, cfg Config, n, workers int, progress func(done, total int)) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if n < 1 || n > maxWritten {
		return fmt.Errorf("cubesat: number of images %d is outside 1..%d", n, maxWritten)
	}
	err = format.WriteFolder(dir, func(tmp string) error {
		if err := writeModels(tmp); err != nil {
			return err
		}
		if err := writeCamera(tmp, cfg); err != nil {
			return err
		}
		return writeScene(tmp, cfg, n, workers, progress)
	})
	if err != nil {
		return fmt.Errorf("cubesat: %w", err)
	}
	return nil
}

func writeFile(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func writeModels(dir string) error {
	dir = filepath.Join(dir, "models")
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	var b bytes.Buffer
	m := Model()
	fmt.Fprintf(&b, "ply\nformat ascii 1.0\ncomment lengths in mm\nelement vertex %d\n", len(m.Vertices))
	for _, p := range []string{"x", "y", "z", "nx", "ny", "nz"} {
		fmt.Fprintf(&b, "property float %s\n", p)
	}
	for _, p := range []string{"red", "green", "blue"} {
		fmt.Fprintf(&b, "property uchar %s\n", p)
	}
	fmt.Fprintf(&b, "element face %d\nproperty list uchar int vertex_indices\nend_header\n", len(m.Triangles))
	for i, v := range m.Vertices {
		n, c := m.Normals[i], m.Colors[i]
		for _, x := range v {
			b.WriteString(strconv.FormatFloat(x, 'g', -1, 32))
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%g %g %g %d %d %d\n", n[0], n[1], n[2], c[0], c[1], c[2])
	}
	for _, t := range m.Triangles {
		fmt.Fprintf(&b, "3 %d %d %d\n", t[0], t[1], t[2])
	}
	if err := writeFile(filepath.Join(dir, "obj_000001.ply"), b.Bytes()); err != nil {
		return err
	}
	lo, hi := Bounds()
	info := map[string]map[string]float64{"1": {
		"diameter": Diameter(),
		"min_x":    lo[0], "min_y": lo[1], "min_z": lo[2],
		"size_x": hi[0] - lo[0], "size_y": hi[1] - lo[1], "size_z": hi[2] - lo[2],
	}}
	return writeJSON(filepath.Join(dir, "models_info.json"), info)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

func writeCamera(dir string, cfg Config) error {
	k := Intrinsics(cfg.Size)
	return writeJSON(filepath.Join(dir, "camera.json"), map[string]float64{
		"fx": k[0], "fy": k[4], "cx": k[2], "cy": k[5], "depth_scale": 1,
		"width": float64(cfg.Size), "height": float64(cfg.Size),
	})
}

type sceneCamera struct {
	K          [9]float64 `json:"cam_K"`
	DepthScale float64    `json:"depth_scale"`
}

type sceneGT struct {
	R     [9]float64 `json:"cam_R_m2c"`
	T     [3]float64 `json:"cam_t_m2c"`
	ObjID int        `json:"obj_id"`
}

type sceneInfo struct {
	BoxAll      [4]int  `json:"bbox_obj"`
	Box         [4]int  `json:"bbox_visib"`
	PixelsAll   int     `json:"px_count_all"`
	PixelsValid int     `json:"px_count_valid"`
	Pixels      int     `json:"px_count_visib"`
	Visible     float64 `json:"visib_fract"`
}

func writeScene(dir string, cfg Config, n, workers int, progress func(done, total int)) error {
	dir = filepath.Join(dir, split, scene)
	for _, sub := range []string{"rgb", "mask_visib"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o777); err != nil {
			return err
		}
	}
	camera := sceneCamera{K: Intrinsics(cfg.Size), DepthScale: 1}
	gt, info := make([][]sceneGT, n), make([][]sceneInfo, n)
	err := each(cfg, n, workers, progress, func(w *worker, i int, s *Sample) error {
		if s.RGB == nil {
			s.RGB = make([]uint8, 3*cfg.Size*cfg.Size)
		}
		w.render(cfg, i, s)
		gt[i] = []sceneGT{{R: s.R, T: s.T, ObjID: 1}}
		info[i] = []sceneInfo{{
			BoxAll: s.BoxAll, Box: s.Box, PixelsAll: s.PixelsAll, PixelsValid: s.Pixels, Pixels: s.Pixels,
			Visible: float64(s.Pixels) / float64(max(s.PixelsAll, 1)),
		}}
		rect := image.Rect(0, 0, cfg.Size, cfg.Size)
		rgb := image.NewNRGBA(rect)
		for k := range cfg.Size * cfg.Size {
			copy(rgb.Pix[4*k:4*k+3], s.RGB[3*k:])
			rgb.Pix[4*k+3] = 255
		}
		if err := writePNG(filepath.Join(dir, "rgb", fmt.Sprintf("%06d.png", i)), rgb); err != nil {
			return err
		}
		mask := &image.Gray{Pix: s.Mask, Stride: cfg.Size, Rect: rect}
		return writePNG(filepath.Join(dir, "mask_visib", fmt.Sprintf("%06d_%06d.png", i, 0)), mask)
	})
	if err != nil {
		return err
	}
	files := []struct {
		name string
		at   func(i int) any
	}{
		{"scene_camera.json", func(int) any { return camera }},
		{"scene_gt.json", func(i int) any { return gt[i] }},
		{"scene_gt_info.json", func(i int) any { return info[i] }},
	}
	for _, f := range files {
		if err := writeKeyed(filepath.Join(dir, f.name), n, f.at); err != nil {
			return err
		}
	}
	return nil
}

// writeKeyed writes a JSON object with keys 0..n-1 in numeric order, one per line.
func writeKeyed(path string, n int, at func(i int) any) error {
	var b bytes.Buffer
	b.WriteString("{\n")
	for i := range n {
		v, err := json.Marshal(at(i))
		if err != nil {
			return err
		}
		comma := ","
		if i == n-1 {
			comma = ""
		}
		fmt.Fprintf(&b, "  \"%d\": %s%s\n", i, v, comma)
	}
	b.WriteString("}\n")
	return writeFile(path, b.Bytes())
}

func writePNG(path string, img image.Image) error {
	var b bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := enc.Encode(&b, img); err != nil {
		return err
	}
	return writeFile(path, b.Bytes())
}
