package bop

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Options narrow what Open reads.
type Options struct {
	// Split keeps only the scenes below a folder whose name is Split or starts
	// with it and '_' (test, test_primesense); empty keeps all.
	Split string
}

// Dataset is an opened folder.
type Dataset struct {
	dir     string
	samples []*Sample
	models  []*Model
}

// scanDepth is how deep below the folder scenes are looked for: split/scene.
const scanDepth = 2

// Open reads the truth of a data set. dir is the data set (models/ beside
// splits), a split, or one scene; models/ is looked for in dir and up to two
// folders above. A scene is a folder with scene_camera.json or scene_gt.json and its
// images in rgb/ or gray/. Images without truth are kept, without instances.
func Open(dir string, opt Options) (*Dataset, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("bop: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("bop: %s is not a folder", dir)
	}
	scenes, err := findScenes(dir, scanDepth)
	if err != nil {
		return nil, fmt.Errorf("bop: %w", err)
	}
	d := &Dataset{dir: dir}
	for _, scene := range scenes {
		if !inSplit(dir, scene, opt.Split) {
			continue
		}
		s, err := openScene(dir, scene)
		if err != nil {
			return nil, fmt.Errorf("bop: %w", err)
		}
		d.samples = append(d.samples, s...)
	}
	if len(d.samples) == 0 {
		what := "no images"
		if opt.Split != "" {
			what = fmt.Sprintf("no images of split %q", opt.Split)
		}
		return nil, fmt.Errorf("bop: %s in %s: expected scene folders with scene_camera.json, scene_gt.json and rgb/", what, dir)
	}
	if d.models, err = openModels(dir); err != nil {
		return nil, fmt.Errorf("bop: %w", err)
	}
	return d, nil
}

// Is reports whether dir looks like a BOP data set, split or scene.
func Is(dir string) bool {
	scenes, err := findScenes(dir, scanDepth)
	return err == nil && len(scenes) > 0
}

// Dir is the folder the data set was opened from.
func (d *Dataset) Dir() string { return d.dir }

// Len is the number of images.
func (d *Dataset) Len() int { return len(d.samples) }

// Sample is image i in the order of scene and image number.
func (d *Dataset) Sample(i int) (*Sample, error) {
	if i < 0 || i >= len(d.samples) {
		return nil, fmt.Errorf("bop: sample %d of %d", i, len(d.samples))
	}
	return d.samples[i], nil
}

// Models are those of models_info.json; empty without one.
func (d *Dataset) Models() []*Model { return d.models }

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func findScenes(dir string, depth int) ([]string, error) {
	if isFile(filepath.Join(dir, "scene_camera.json")) || isFile(filepath.Join(dir, "scene_gt.json")) {
		return []string{dir}, nil
	}
	if depth == 0 {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") || !isDir(sub) {
			continue
		}
		s, err := findScenes(sub, depth-1)
		if err != nil {
			return nil, err
		}
		out = append(out, s...)
	}
	return out, nil
}

func inSplit(dir, scene, split string) bool {
	if split == "" {
		return true
	}
	rel, err := filepath.Rel(dir, scene)
	if err != nil {
		return false
	}
	for _, part := range append(strings.Split(filepath.ToSlash(rel), "/"), filepath.Base(dir)) {
		if part == split || strings.HasPrefix(part, split+"_") {
			return true
		}
	}
	return false
}

// numbered lists the files of dir whose stem is a number, by that number.
func numbered(dir string, exts ...string) (map[int]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	out := map[int]string{}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		id, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ext))
		if err != nil || id < 0 || !slices.Contains(exts, strings.ToLower(ext)) {
			continue
		}
		if old, twice := out[id]; twice {
			return nil, fmt.Errorf("%s: %s and %s are the same image", dir, filepath.Base(old), e.Name())
		}
		out[id] = filepath.Join(dir, e.Name())
	}
	return out, nil
}

// optional reads a keyed file, or nothing where there is none.
func optional[T any](path string) (map[int]T, error) {
	m, err := readKeyed[T](path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return m, err
}

func openScene(root, scene string) ([]*Sample, error) {
	cameras, err := optional[cameraJSON](filepath.Join(scene, "scene_camera.json"))
	if err != nil {
		return nil, err
	}
	gt, err := optional[[]gtJSON](filepath.Join(scene, "scene_gt.json"))
	if err != nil {
		return nil, err
	}
	info, err := optional[[]infoJSON](filepath.Join(scene, "scene_gt_info.json"))
	if err != nil {
		return nil, err
	}
	var images map[int]string
	for _, sub := range []string{"rgb", "gray"} {
		if images, err = numbered(filepath.Join(scene, sub), ".png", ".jpg", ".jpeg"); err != nil {
			return nil, err
		}
		if len(images) > 0 {
			break
		}
	}
	masks, err := maskFiles(scene)
	if err != nil {
		return nil, err
	}
	fixed, err := fixedCamera(root, scene)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, scene)
	if err != nil || rel == "." {
		rel = ""
	}
	var out []*Sample
	for _, id := range slices.Sorted(maps.Keys(images)) {
		path := images[id]
		fail := func(err error) ([]*Sample, error) {
			return nil, fmt.Errorf("%s, image %d: %w", scene, id, err)
		}
		s := &Sample{
			Name: filepath.ToSlash(filepath.Join(rel, filepath.Base(filepath.Dir(path)), filepath.Base(path))), DepthScale: 1,
			pixels: func() (*Pixels, error) { return decodeRGB(path) },
		}
		switch c, ok := cameras[id]; {
		case ok:
			if s.K, err = c.matrix(); err != nil {
				return fail(err)
			}
			if c.DepthScale != nil {
				s.DepthScale = *c.DepthScale
			}
		case fixed != nil:
			s.K, s.DepthScale = fixed.K, fixed.DepthScale
		default:
			return fail(errors.New("scene_camera.json has no camera for it, and there is no camera.json"))
		}
		if n := len(info[id]); info != nil && n != 0 && n != len(gt[id]) {
			return fail(fmt.Errorf("scene_gt_info.json has %d instances, scene_gt.json %d", n, len(gt[id])))
		}
		for j, g := range gt[id] {
			in, err := g.instance()
			if err != nil {
				return fail(fmt.Errorf("instance %d: %w", j, err))
			}
			if len(info[id]) > 0 {
				if err := info[id][j].addTo(&in); err != nil {
					return fail(fmt.Errorf("instance %d: %w", j, err))
				}
			}
			if m, ok := masks[[2]int{id, j}]; ok {
				in.mask = func() (*Mask, error) { return decodeMask(m) }
			}
			s.Instances = append(s.Instances, in)
		}
		out = append(out, s)
	}
	return out, nil
}

// fixedCamera reads camera.json of the data set, if there is one at or above the scene.
func fixedCamera(root, scene string) (*Sample, error) {
	for _, dir := range []string{scene, filepath.Dir(scene), root, filepath.Dir(root), filepath.Dir(filepath.Dir(root))} {
		path := filepath.Join(dir, "camera.json")
		if !isFile(path) {
			continue
		}
		c, err := readObject[fixedCameraJSON](path)
		if err != nil {
			return nil, err
		}
		s := &Sample{K: [9]float64{c.Fx, 0, c.Cx, 0, c.Fy, c.Cy, 0, 0, 1}, DepthScale: 1}
		if c.DepthScale != nil {
			s.DepthScale = *c.DepthScale
		}
		if err := checkK(s.K); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return s, nil
	}
	return nil, nil
}

// maskFiles finds NNNNNN_MMMMMM.png of mask_visib/, or of mask/ without it.
func maskFiles(scene string) (map[[2]int]string, error) {
	for _, sub := range []string{"mask_visib", "mask"} {
		dir := filepath.Join(scene, sub)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out := make(map[[2]int]string, len(entries))
		for _, e := range entries {
			a, b, ok := strings.Cut(strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())), "_")
			im, err1 := strconv.Atoi(a)
			in, err2 := strconv.Atoi(b)
			if ok && err1 == nil && err2 == nil && im >= 0 && in >= 0 {
				out[[2]int{im, in}] = filepath.Join(dir, e.Name())
			}
		}
		return out, nil
	}
	return nil, nil
}

func openModels(dir string) ([]*Model, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, base := range []string{abs, filepath.Dir(abs), filepath.Dir(filepath.Dir(abs))} {
		folder := filepath.Join(base, "models")
		infoPath := filepath.Join(folder, "models_info.json")
		if !isFile(infoPath) {
			continue
		}
		info, err := readKeyed[modelJSON](infoPath)
		if err != nil {
			return nil, err
		}
		var out []*Model
		for _, id := range slices.Sorted(maps.Keys(info)) {
			j := info[id]
			m, err := j.model(id)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", infoPath, err)
			}
			path := filepath.Join(folder, fmt.Sprintf("obj_%06d.ply", id))
			if isFile(path) {
				m.mesh = func() (*Mesh, error) { return ReadPLY(path) }
			}
			out = append(out, m)
		}
		return out, nil
	}
	return nil, nil
}
