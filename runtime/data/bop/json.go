package bop

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
)

const maxJSON = 512 << 20

// readKeyed decodes a JSON object whose keys are numbers, "12" or "000012".
func readKeyed[T any](path string) (map[int]T, error) {
	data, err := readBounded(path, maxJSON)
	if err != nil {
		return nil, err
	}
	var raw map[string]T
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := make(map[int]T, len(raw))
	for k, v := range raw {
		id, err := strconv.Atoi(k)
		if err != nil || id < 0 {
			return nil, fmt.Errorf("%s: key %q is not a number", path, k)
		}
		if _, twice := out[id]; twice {
			return nil, fmt.Errorf("%s: key %d occurs twice", path, id)
		}
		out[id] = v
	}
	return out, nil
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, the limit is %d", path, st.Size(), limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

type cameraJSON struct {
	K          []float64 `json:"cam_K"`
	DepthScale *float64  `json:"depth_scale"`
}

func (c *cameraJSON) matrix() (k [9]float64, err error) {
	if err := fill(k[:], c.K, "cam_K"); err != nil {
		return k, err
	}
	return k, checkK(k)
}

func checkK(k [9]float64) error {
	if !(k[0] > 0 && k[4] > 0) || k[3] != 0 || k[6] != 0 || k[7] != 0 || k[8] != 1 {
		return fmt.Errorf("%v is not a camera matrix (fx s cx 0 fy cy 0 0 1)", k)
	}
	return nil
}

// fixedCameraJSON is the data set's camera.json.
type fixedCameraJSON struct {
	Fx         float64  `json:"fx"`
	Fy         float64  `json:"fy"`
	Cx         float64  `json:"cx"`
	Cy         float64  `json:"cy"`
	DepthScale *float64 `json:"depth_scale"`
}

type gtJSON struct {
	R     []float64 `json:"cam_R_m2c"`
	T     []float64 `json:"cam_t_m2c"`
	ObjID int       `json:"obj_id"`
}

func (g *gtJSON) instance() (Instance, error) {
	in := Instance{ObjID: g.ObjID, Visible: -1}
	if err := fill(in.R[:], g.R, "cam_R_m2c"); err != nil {
		return in, err
	}
	if err := fill(in.T[:], g.T, "cam_t_m2c"); err != nil {
		return in, err
	}
	return in, checkRotation(in.R)
}

// rotationTolerance bounds the entries of R R' - I: files hold rounded matrices.
const rotationTolerance = 1e-2

func checkRotation(r [9]float64) error {
	for a := range 3 {
		for b := range 3 {
			d := r[3*a]*r[3*b] + r[3*a+1]*r[3*b+1] + r[3*a+2]*r[3*b+2]
			if a == b {
				d--
			}
			if math.Abs(d) > rotationTolerance {
				return fmt.Errorf("cam_R_m2c %v is not a rotation", r)
			}
		}
	}
	det := r[0]*(r[4]*r[8]-r[5]*r[7]) - r[1]*(r[3]*r[8]-r[5]*r[6]) + r[2]*(r[3]*r[7]-r[4]*r[6])
	if det < 0 {
		return fmt.Errorf("cam_R_m2c %v is a reflection", r)
	}
	return nil
}

type infoJSON struct {
	BoxAll     []float64 `json:"bbox_obj"`
	BoxVisible []float64 `json:"bbox_visib"`
	Visible    *float64  `json:"visib_fract"`
}

func (f *infoJSON) addTo(in *Instance) error {
	if f.BoxAll != nil {
		if err := fill(in.BoxAll[:], f.BoxAll, "bbox_obj"); err != nil {
			return err
		}
	}
	if f.BoxVisible != nil {
		if err := fill(in.BoxVisible[:], f.BoxVisible, "bbox_visib"); err != nil {
			return err
		}
	}
	if f.Visible != nil {
		in.Visible = *f.Visible
	}
	return nil
}

type modelJSON struct {
	Diameter   float64     `json:"diameter"`
	MinX       float64     `json:"min_x"`
	MinY       float64     `json:"min_y"`
	MinZ       float64     `json:"min_z"`
	SizeX      float64     `json:"size_x"`
	SizeY      float64     `json:"size_y"`
	SizeZ      float64     `json:"size_z"`
	Discrete   [][]float64 `json:"symmetries_discrete"`
	Continuous []struct {
		Axis   []float64 `json:"axis"`
		Offset []float64 `json:"offset"`
	} `json:"symmetries_continuous"`
}

func (j *modelJSON) model(id int) (*Model, error) {
	m := &Model{ID: id, Diameter: j.Diameter, Min: [3]float64{j.MinX, j.MinY, j.MinZ}, Size: [3]float64{j.SizeX, j.SizeY, j.SizeZ}}
	if !(m.Diameter > 0) || m.Size[0] < 0 || m.Size[1] < 0 || m.Size[2] < 0 {
		return nil, fmt.Errorf("diameter %v and size %v of object %d must be positive", m.Diameter, m.Size, id)
	}
	for _, d := range j.Discrete {
		var s [16]float64
		if err := fill(s[:], d, "symmetries_discrete"); err != nil {
			return nil, fmt.Errorf("object %d: %w", id, err)
		}
		m.Discrete = append(m.Discrete, s)
	}
	for _, c := range j.Continuous {
		var a Axis
		if err := fill(a.Direction[:], c.Axis, "symmetries_continuous axis"); err != nil {
			return nil, fmt.Errorf("object %d: %w", id, err)
		}
		if c.Offset != nil {
			if err := fill(a.Offset[:], c.Offset, "symmetries_continuous offset"); err != nil {
				return nil, fmt.Errorf("object %d: %w", id, err)
			}
		}
		m.Continuous = append(m.Continuous, a)
	}
	return m, nil
}

// fill copies src into dst, which it must match in length. encoding/json has
// refused what is not finite.
func fill(dst, src []float64, what string) error {
	if len(src) != len(dst) {
		return fmt.Errorf("%s has %d numbers, not %d", what, len(src), len(dst))
	}
	copy(dst, src)
	return nil
}

func readObject[T any](path string) (T, error) {
	var v T
	data, err := readBounded(path, maxJSON)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}
